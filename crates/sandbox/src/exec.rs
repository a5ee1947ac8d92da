//! A further process in a running sandbox, as its agent holds it. Dropping the handle hangs
//! up: the process gets SIGHUP, as if its terminal were closed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Context;
use crate::wire::{self, Command, Ended, Reply};
use crate::{Error, ExecSpec, Result, users};

const ANSWER: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug)]
pub struct Exec {
    id: String,
    socket: OwnedFd,
    pidfd: OwnedFd,
    ended: Mutex<Option<Ended>>,
    /// Its terminal, if it was given one: read for output, written for input.
    pub terminal: Option<OwnedFd>,
    /// Its standard input, unless it has a terminal; drop it to signal the end of input.
    pub stdin: Option<OwnedFd>,
    /// Its standard output, unless it has a terminal.
    pub stdout: Option<OwnedFd>,
    /// Its standard error, unless it has a terminal.
    pub stderr: Option<OwnedFd>,
}

/// Asks the init behind `socket` to start it.
pub fn start(id: &str, socket: OwnedFd, spec: &ExecSpec, uid_base: u32) -> Result<Exec> {
    let body = wire::to_memfd(spec).on("describe a process", id)?;
    let mut ours = Vec::new();
    let mut theirs = vec![body];
    if spec.tty.is_none() {
        for stream in 0..3 {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).on("make pipes", id)?;
            let (mine, its) = if stream == 0 { (write, read) } else { (read, write) };
            // So that it may open /dev/stdout again.
            let owner = users::outer(uid_base, spec.uid);
            std::os::unix::fs::fchown(&its, Some(owner), Some(owner)).on("make pipes", id)?;
            ours.push(mine);
            theirs.push(its);
        }
    }
    let fds: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
    wire::send(socket.as_fd(), &Command::Exec, &fds).on("start a process", id)?;
    drop(theirs);
    let reply = wire::receive_until::<Reply>(socket.as_fd(), Instant::now() + ANSWER).on("start a process", id)?;
    let mut fds = match reply {
        Some((Reply::Running, fds)) => fds.into_iter(),
        Some((Reply::Failed { stage, errno, program }, _)) => {
            let (id, source) = (id.to_owned(), io::Error::from_raw_os_error(errno));
            let name = spec.argv.first().cloned().unwrap_or_default();
            return Err(if program {
                Error::Program {
                    id,
                    program: name,
                    source,
                }
            } else {
                Error::Start { id, stage, source }
            });
        }
        Some(_) => return Err(io::ErrorKind::InvalidData).on("start a process", id),
        None => return Err(Error::NotRunning { id: id.to_owned() }),
    };
    let pidfd = fds.next().ok_or(io::ErrorKind::InvalidData).on("start a process", id)?;
    let mut ours = ours.into_iter();
    Ok(Exec {
        id: id.to_owned(),
        socket,
        pidfd,
        ended: Mutex::new(None),
        terminal: fds.next(),
        stdin: ours.next(),
        stdout: ours.next(),
        stderr: ours.next(),
    })
}

impl Exec {
    /// Readable when the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended; waits for it until `deadline`, `None` if it still runs then.
    pub fn wait(&self, deadline: Instant) -> Result<Option<Ended>> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while ended.is_none() {
            match wire::receive_until::<Reply>(self.socket.as_fd(), deadline) {
                Ok(Some((Reply::Ended(how), _))) => *ended = Some(how),
                Ok(Some(_)) => {}
                // Init is gone, and everything with it.
                Ok(None) => {
                    *ended = Some(Ended {
                        code: None,
                        signal: Some(libc::SIGKILL),
                    })
                }
                Err(e) if e.kind() == io::ErrorKind::TimedOut => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    *ended = Some(Ended {
                        code: None,
                        signal: Some(libc::SIGKILL),
                    });
                }
                Err(e) => return Err(e).on("wait for a process", &self.id),
            }
        }
        Ok(*ended)
    }

    /// Sends `signal` to its process group; one that has ended is no error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        match wire::send(self.socket.as_fd(), &Command::Signal { signal }, &[]) {
            Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            other => other.on("signal a process", &self.id),
        }
    }

    /// Tells it the size of its terminal's window.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(terminal, size).on("resize a terminal", &self.id)
    }
}
