//! Messages with descriptors over unix sequenced-packet sockets, and the messages the
//! agent, the spawner and the inits exchange. All ends are ours; nothing here is reachable
//! from inside a sandbox.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::copy::CopyOrder;

/// Spoken by agent and spawner; raised with every incompatible change.
pub const PROTOCOL: u32 = 4;
/// Largest message; bigger things travel in a memfd.
const MAX_MESSAGE: usize = 32 << 10;
/// Most descriptors in one message.
const MAX_FDS: usize = 8;

/// Agent to spawner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// First message on a connection.
    Hello { protocol: u32 },
    /// Start an init. Descriptors: plan, report socket, control listener, the socket of the app's
    /// first process, the other end of that, then the v2 group, the network namespace and the private layer's root (as
    /// with `Keep`) where announced.
    Create {
        id: String,
        uid_base: u32,
        /// The app's user inside, for the agent that has one id alone to give it.
        uid: u32,
        group: bool,
        netns: bool,
        upper: bool,
    },
    /// Keep the descriptor given (the private layer's root) for a later agent.
    Keep { id: String },
    /// The descriptor kept, if any.
    Upper { id: String },
    /// What became of the init.
    Status { id: String },
    /// Forget everything about it.
    Forget { id: String },
    /// Take no more connections and end.
    Retire,
}

/// Spawner to agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `Hello`; with which program it is.
    Hello { protocol: u32, pid: i32, program: Program },
    /// To `Create`; with the user namespace and the pidfd.
    Created { pid: i32 },
    /// To `Status`: unknown, running, or how it ended.
    Status { known: bool, ended: Option<Ended> },
    /// To the others; `Upper` and `Forget` have a descriptor if there is one.
    Done,
    /// The request failed.
    Failed { stage: String, errno: i32 },
}

/// Which build of `paas-init` a file or a process is: (device, inode, bytes, nanoseconds of
/// the last change).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program(u64, u64, u64, i64);

impl Program {
    /// Of the file at `path`, or of the process that asks for its `/proc/self/exe`.
    pub fn of(path: &Path) -> io::Result<Program> {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(path)?;
        Ok(Program(
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
        ))
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Exit code, if it exited.
    pub code: Option<i32>,
    /// Signal, if one killed it.
    pub signal: Option<i32>,
}

/// Agent to init and to the app's first process while they set themselves up. Besides it they
/// get, as large messages, init its [`crate::Spec`] and the app's process its [`crate::Process`].
/// Either ends if the agent goes away before.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Take what comes along: init the private layer as a detached mount, and perhaps the whole root with it as
    /// another; the app's process its terminal.
    Take,
    /// To init: the group in which the sidecar with this number in its list is to run. Descriptors: where it joins, two
    /// counters (kills for memory, times its limit was reached), and if there are such its peak and an event.
    Share { sidecar: usize, peak: bool, event: bool },
    /// To init: its groups are there, join them.
    Join,
    /// To init: the parts of `/dev`, three mounts.
    Dev,
    /// To the app's process: its root is up, with all that is written into it.
    Rooted,
    /// To init: let the app go as soon as it can; then, where there are sidecars, to start them. To the app's process:
    /// nothing is missing any more, execute.
    Go,
}

/// Init (and the app's first process) to agent while they set themselves up.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// All that can be done without knowing the app is done; with the root, if that is up.
    Parked,
    /// The app was let go; with when each step inside was done, monotonic nanoseconds.
    Ready { steps: Vec<(String, u64)> },
    /// The same from the app's process; all that follows is its program, or a failure.
    Steps { steps: Vec<(String, u64)> },
    /// A step failed; `program` if it was the app's own program that could not be executed.
    Failed { stage: String, errno: i32, program: bool },
}

/// Agent to init over the control socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Signal the app's process group (or, on the connection of an exec, that one's).
    Signal { signal: i32 },
    /// Kill everything, write out the log and the exit record, end.
    Kill,
    /// Start a further process. Descriptors: its [`crate::ExecSpec`] in a memfd, then its
    /// standard input, output and error unless it gets a terminal.
    Exec,
    /// Copy files, or open one. Descriptors: a socket for the result, and the stream.
    Copy(CopyOrder),
}

/// Init to agent over the control socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Done,
    /// To `Exec` and `Copy`: with its pidfd and, if asked for, the terminal.
    Running,
    /// The process of an exec ended.
    Ended(Ended),
    /// The command failed.
    Failed { stage: String, errno: i32, program: bool },
}

/// A message of any size: what is too large for a socket comes in a memfd.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Large<T> {
    Here(T),
    Beside,
}

/// Sends a message of any size.
pub fn send_large<T: Serialize>(socket: BorrowedFd<'_>, message: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(&Large::Here(message))?;
    if bytes.len() <= MAX_MESSAGE {
        return send_bytes(socket, &bytes, &[]);
    }
    drop(bytes);
    let memfd = to_memfd(message)?;
    send(socket, &Large::<()>::Beside, &[memfd.as_fd()])
}

/// Receives what [`send_large`] sent; `None` when the other end is closed.
pub fn receive_large<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<T>> {
    match receive::<Large<T>>(socket)? {
        None => Ok(None),
        Some((Large::Here(message), _)) => Ok(Some(message)),
        Some((Large::Beside, mut fds)) => from_memfd(fds.pop().ok_or(io::ErrorKind::InvalidData)?).map(Some),
    }
}

/// A connected pair.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Binds and listens at `dir/name`, whatever the length of `dir`; replaces what is there.
pub fn listen(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    let socket = socket()?;
    listen_at(&socket, dir, name)?;
    Ok(socket)
}

/// The same with a socket that somebody else may have a descriptor of already.
pub fn listen_at(socket: &OwnedFd, dir: &Path, name: &str) -> io::Result<()> {
    let _ = std::fs::remove_file(dir.join(name));
    let folder = std::fs::File::open(dir)?;
    rustix::net::bind(socket, &SocketAddrUnix::new(short_path(folder.as_fd(), name))?)?;
    Ok(rustix::net::listen(socket, 64)?)
}

/// Connects to `dir/name`.
pub fn connect(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let folder = std::fs::File::open(dir)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(short_path(folder.as_fd(), name))?)?;
    Ok(socket)
}

/// One that is neither connected nor named.
pub fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Socket addresses hold 107 bytes; the way over the descriptor is always short.
fn short_path(folder: BorrowedFd<'_>, name: &str) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

/// Sends one message with descriptors.
pub fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_bytes(socket, &serde_json::to_vec(message)?, fds)
}

fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(drop).map_err(Into::into),
        }
    }
}

/// Receives one message; `None` when the other end is closed.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; waiting(socket)?];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes[..got.bytes])?, fds)))
}

/// How long the next message is, once there is one: nearly all are short, and memory that is touched for the first time
/// costs a process more than a look.
fn waiting(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    loop {
        match rustix::net::recv(socket, &mut [0; 1][..], flags) {
            Err(rustix::io::Errno::INTR) => {}
            Ok((_, length)) => return Ok(length.min(MAX_MESSAGE)),
            Err(e) => return Err(e.into()),
        }
    }
}

/// As [`receive`], with a deadline (`TimedOut`).
pub fn receive_until<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    deadline: Instant,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    if !wait_readable(socket, deadline)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    receive(socket)
}

/// Waits until `fd` is readable; false at the deadline.
pub fn wait_readable(fd: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = timespec(left);
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Waits until the other end of `fd` is closed, whatever it says before; false at the deadline.
pub fn wait_closed(fd: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = timespec(left);
        // Both ends at once are told without being asked for; what is said wakes nobody.
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(e.into()),
        }
    }
}

/// A duration in the kernel's form.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs() as i64,
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// A value in an anonymous file, for what is too large (or too secret) for a message.
pub fn to_memfd<T: Serialize>(value: &T) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("plan", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    io::Write::write_all(&mut file, &serde_json::to_vec(value)?)?;
    Ok(file.into())
}

/// The value back.
pub fn from_memfd<T: DeserializeOwned>(fd: OwnedFd) -> io::Result<T> {
    let mut file = std::fs::File::from(fd);
    io::Seek::rewind(&mut file)?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_with_their_descriptors() {
        let (a, b) = pair().unwrap();
        let memfd = to_memfd(&vec!["x".repeat(100_000)]).unwrap();
        send(a.as_fd(), &Ask::Keep { id: "i".into() }, &[memfd.as_fd()]).unwrap();
        let (ask, mut fds) = receive::<Ask>(b.as_fd()).unwrap().unwrap();
        assert!(matches!(ask, Ask::Keep { id } if id == "i"));
        let back: Vec<String> = from_memfd(fds.remove(0)).unwrap();
        assert_eq!(back[0].len(), 100_000);
        drop(a);
        assert!(receive::<Ask>(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn what_is_said_wakes_nobody_who_waits_for_the_end() {
        let (a, b) = pair().unwrap();
        send(b.as_fd(), &Order::Go, &[]).unwrap();
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(!wait_closed(a.as_fd(), soon).unwrap());
        drop(b);
        let late = Instant::now() + Duration::from_secs(60);
        assert!(wait_closed(a.as_fd(), late).unwrap());
        assert!(
            matches!(receive::<Order>(a.as_fd()), Ok(Some((Order::Go, _)))),
            "it can still be heard"
        );
    }

    #[test]
    fn long_folders_can_hold_sockets_and_waits_end() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let _listener = listen(&deep, "s").unwrap();
        let client = connect(&deep, "s").unwrap();
        let soon = Instant::now() + Duration::from_millis(5);
        let error = receive_until::<Answer>(client.as_fd(), soon).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
