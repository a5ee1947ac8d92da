//! Terminals of containers: handed over to whoever listens for them, or carried on by the runtime itself.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    sendmsg,
};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Bytes carried at once.
const CHUNK: usize = 16 << 10;

/// Sends the terminal to the socket at `path`, with a name for it as the message.
pub fn send(path: &Path, terminal: &OwnedFd) -> io::Result<()> {
    send_with(path, b"/dev/ptmx", terminal)
}

/// Sends a descriptor with a message to the socket at `path`.
pub fn send_with(path: &Path, message: &[u8], fd: &OwnedFd) -> io::Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // The descriptor goes with the first byte; what does not fit at once follows.
    let mut sent = sendmsg(&socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
    while sent < message.len() {
        sent += rustix::net::send(&socket, &message[sent..], SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// The runtime's own terminal, passing everything on while this lives.
pub struct Relay {
    terminal: OwnedFd,
    before: Option<Termios>,
    input_open: bool,
}

impl Relay {
    /// Makes standard input raw, if it is a terminal.
    pub fn new(terminal: OwnedFd) -> io::Result<Relay> {
        let input = rustix::stdio::stdin();
        let before = tcgetattr(input).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(input, OptionalActions::Now, &raw)?;
        }
        let relay = Relay {
            terminal,
            before,
            input_open: true,
        };
        relay.resize();
        Ok(relay)
    }

    /// Takes over the size of the runtime's own terminal.
    pub fn resize(&self) {
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
            let _ = tcsetwinsize(&self.terminal, size);
        }
    }

    /// What to wait for.
    pub fn watched(&self) -> Vec<BorrowedFd<'_>> {
        let mut all = vec![self.terminal.as_fd()];
        if self.input_open {
            all.push(rustix::stdio::stdin());
        }
        all
    }

    /// Carries what is there; in the order of [`Relay::watched`].
    pub fn carry(&mut self, ready: &[bool]) {
        if ready.first() == Some(&true) {
            let _ = copy(self.terminal.as_fd(), rustix::stdio::stdout());
        }
        if ready.get(1) == Some(&true) && !copy(rustix::stdio::stdin(), self.terminal.as_fd()).unwrap_or(false) {
            self.input_open = false;
        }
    }

    /// What the container wrote before its end.
    pub fn finish(&mut self) {
        loop {
            let mut fds = [PollFd::new(&self.terminal, PollFlags::IN)];
            let now = crate::wire::timespec(std::time::Duration::ZERO);
            let ready = poll(&mut fds, Some(&now)).unwrap_or(0) > 0 && fds[0].revents().contains(PollFlags::IN);
            if !ready || !copy(self.terminal.as_fd(), rustix::stdio::stdout()).unwrap_or(false) {
                return;
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// One chunk; false at the end.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<bool> {
    let mut buffer = [0; CHUNK];
    let length = match rustix::io::read(from, &mut buffer[..]) {
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(true),
        other => other?,
    };
    let mut rest = &buffer[..length];
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Err(rustix::io::Errno::INTR) => {}
            other => rest = &rest[other?..],
        }
    }
    Ok(length > 0)
}
