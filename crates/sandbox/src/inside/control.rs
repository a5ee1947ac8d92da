//! Connections of the agent to init: signals, kill, further processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::launch::{self, Launch};
use super::{Failure, Stage, copy};
use crate::wire::{self, Command, Ended, Reply};
use crate::{ExecSpec, Rlimit, sys};

/// Connections at once; further ones are closed.
pub const MAX_CONNECTIONS: usize = 64;

/// One connection, perhaps that of a further process.
pub struct Connection {
    socket: OwnedFd,
    process: Option<i32>,
}

/// What init is to do after a message.
pub enum Next {
    /// Nothing more.
    Stay,
    /// The same, but the app was told to end.
    Stopping,
    /// The connection is at its end.
    Close,
    /// Kill everything.
    KillAll,
}

/// What became of the first counts; the others may have ended before.
fn signal_all(groups: &[i32], signal: i32) -> std::io::Result<()> {
    let mut results = groups.iter().map(|group| sys::kill(-group, signal));
    let first = results.next().unwrap_or(Ok(()));
    results.for_each(drop);
    first
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Connection {
    pub fn new(socket: OwnedFd) -> Connection {
        Connection { socket, process: None }
    }

    /// Takes one message; `groups` are the process groups that signals go to, the app's first.
    pub fn serve(&mut self, groups: &[i32], rlimits: &[Rlimit]) -> Next {
        let mut next = Next::Stay;
        let Ok(Some((command, fds))) = wire::receive::<Command>(self.socket.as_fd()) else {
            // The user at the other end is gone, as with a terminal that is closed.
            if let Some(process) = self.process {
                let _ = sys::kill(-process, libc::SIGHUP);
            }
            return Next::Close;
        };
        let reply = match command {
            Command::Kill => return Next::KillAll,
            Command::Signal { signal } => {
                if self.process.is_none()
                    && matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGKILL)
                {
                    next = Next::Stopping;
                }
                let own = self.process.map(|process| [process]);
                signal_all(own.as_ref().map_or(groups, |own| own.as_slice()), signal)
                    .map(|()| (Reply::Done, Vec::new()))
                    .stage("signal")
            }
            Command::Exec => self.exec(fds, rlimits),
            Command::Copy(order) => copy::start(order, fds, rlimits).map(|(pid, pidfd)| {
                self.process = Some(pid);
                (Reply::Running, vec![pidfd])
            }),
        };
        let sent = match reply {
            Ok((reply, fds)) => {
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                wire::send(self.socket.as_fd(), &reply, &fds)
            }
            Err(failure) => {
                let errno = failure.errno();
                let reply = Reply::Failed {
                    stage: failure.stage,
                    errno,
                    program: failure.program,
                };
                wire::send(self.socket.as_fd(), &reply, &[])
            }
        };
        if sent.is_ok() || matches!(next, Next::Stopping) {
            next
        } else {
            Next::Close
        }
    }

    fn exec(&mut self, fds: Vec<OwnedFd>, rlimits: &[Rlimit]) -> Result<(Reply, Vec<OwnedFd>), Failure> {
        let mut fds = fds.into_iter();
        let spec = fds
            .next()
            .ok_or(std::io::ErrorKind::InvalidInput)
            .stage("read command")?;
        let spec: ExecSpec = wire::from_memfd(spec).stage("read command")?;
        let mut streams: Vec<OwnedFd> = fds.collect();
        let mut ours = None;
        if let Some((rows, columns)) = spec.tty {
            let (master, slave) = launch::terminal(spec.uid, rows, columns).stage("open a terminal")?;
            streams = vec![slave];
            ours = Some(master);
        }
        let stdio = match &streams[..] {
            [one] => [one, one, one],
            [input, output, error] => [input, output, error],
            _ => return Err(std::io::ErrorKind::InvalidInput).stage("read command"),
        };
        let (pid, pidfd) = launch::launch(&Launch {
            argv: &spec.argv,
            env: &spec.env,
            cwd: &spec.cwd,
            uid: spec.uid,
            gid: spec.uid,
            rlimits,
            stdio: stdio.map(AsFd::as_fd),
            terminal: spec.tty.is_some(),
            group: None,
        })?;
        self.process = Some(pid);
        let mut back = vec![pidfd];
        back.extend(ours);
        Ok((Reply::Running, back))
    }

    /// Tells the other end if `pid` was its process.
    pub fn notice(&mut self, pid: i32, ended: Ended) {
        if self.process == Some(pid) {
            self.process = None;
            let _ = wire::send(self.socket.as_fd(), &Reply::Ended(ended), &[]);
        }
    }
}
