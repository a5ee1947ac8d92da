//! The agent's end: starts a spawner if there is none, asks it one thing at a time.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{LOG, SOCKET};
use crate::wire::{self, Answer, Ask, PROTOCOL, Program};
use crate::{Error, Result};

/// No answer takes longer, unless the host is in trouble.
const ANSWER_SECONDS: u64 = 20;

/// A connection to the spawner of one state folder.
#[derive(Debug)]
pub struct Client {
    state_dir: PathBuf,
    init_path: PathBuf,
    connection: Mutex<Option<OwnedFd>>,
    started: AtomicBool,
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Spawner { operation, source }
}

impl Client {
    /// For the spawner of `state_dir`; nothing is started before the first question.
    pub fn new(state_dir: &Path, init_path: &Path) -> Client {
        Client {
            state_dir: state_dir.to_owned(),
            init_path: init_path.to_owned(),
            connection: Mutex::new(None),
            started: AtomicBool::new(false),
        }
    }

    /// Asks and waits for the answer, with the descriptors that come with it. Starts a
    /// spawner if need be.
    pub fn ask(&self, ask: &Ask, fds: &[BorrowedFd<'_>]) -> Result<(Answer, Vec<OwnedFd>)> {
        self.ask_and(ask, fds, || ())
    }

    /// The same, with something to do once it is asked and before the answer is waited for; not done if it cannot be
    /// asked.
    pub fn ask_and(
        &self,
        ask: &Ask,
        fds: &[BorrowedFd<'_>],
        meanwhile: impl FnOnce(),
    ) -> Result<(Answer, Vec<OwnedFd>)> {
        let mut connection = self.lock();
        if connection.is_none() {
            *connection = Some(self.connect_or_start()?);
        }
        let answer = match &*connection {
            Some(socket) => exchange_and(socket.as_fd(), ask, fds, meanwhile),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match answer {
            Ok((Answer::Failed { stage, errno }, _)) => {
                tracing::debug!(%stage, errno, "spawner refused");
                Err(failed("carry out a request")(io::Error::from_raw_os_error(errno)))
            }
            Ok(answer) => Ok(answer),
            // The next question finds or starts another one. This one is not repeated: it may
            // have been carried out.
            Err(source) => {
                *connection = None;
                Err(failed("ask")(source))
            }
        }
    }

    /// As [`Client::ask`], but an absent spawner is `None` and stays absent.
    pub fn ask_if_running(&self, ask: &Ask) -> Option<(Answer, Vec<OwnedFd>)> {
        let mut connection = self.lock();
        if connection.is_none() {
            *connection = self.connect().ok();
        }
        let answer = exchange(connection.as_ref()?.as_fd(), ask, &[]);
        if answer.is_err() {
            *connection = None;
        }
        answer
            .ok()
            .filter(|(answer, _)| !matches!(answer, Answer::Failed { .. }))
    }

    /// Ends the spawner, if there is one.
    pub fn retire(&self) {
        let mut connection = self.lock();
        let socket = connection.take().or_else(|| self.connect().ok());
        if let Some(socket) = socket {
            let _ = exchange(socket.as_fd(), &Ask::Retire, &[]);
            // It closes the connection when it is gone.
            let _ = wire::wait_readable(socket.as_fd(), Instant::now() + Duration::from_secs(2));
        }
        let _ = std::fs::remove_file(self.state_dir.join(SOCKET));
    }

    fn lock(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect_or_start(&self) -> Result<OwnedFd> {
        match self.connect() {
            Ok(socket) => Ok(socket),
            Err(_absent) => {
                self.start().map_err(failed("start"))?;
                self.connect().map_err(failed("connect"))
            }
        }
    }

    /// Connects and makes sure that it is of the same build as the init this agent would
    /// start; another one is told to end (its sandboxes go on without it).
    fn connect(&self) -> io::Result<OwnedFd> {
        let socket = wire::connect(&self.state_dir, SOCKET)?;
        let wanted = Program::of(&self.init_path)?;
        match exchange(socket.as_fd(), &Ask::Hello { protocol: PROTOCOL }, &[]) {
            Ok((Answer::Hello { protocol, program, .. }, _)) if protocol == PROTOCOL && program == wanted => Ok(socket),
            Err(gone) if gone.kind() == io::ErrorKind::UnexpectedEof => Err(gone),
            _ => {
                tracing::info!("replacing the spawner of another build");
                let _ = exchange(socket.as_fd(), &Ask::Retire, &[]);
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    }

    fn start(&self) -> io::Result<()> {
        let listener = wire::listen(&self.state_dir, SOCKET)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.state_dir.join(LOG))?;
        // It forks and the first process ends, so that it is nobody's child.
        let status = Command::new(&self.init_path)
            .arg("spawner")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(listener))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .status()?;
        if !status.success() {
            return Err(io::Error::other(format!("it ended with {status}")));
        }
        self.started.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether a spawner has been started since this was last asked.
    pub fn take_started(&self) -> bool {
        self.started.swap(false, Ordering::AcqRel)
    }

    /// The spawner's pid, which it tells on every new connection.
    pub fn pid(&self) -> Result<i32> {
        match self.ask(&Ask::Hello { protocol: PROTOCOL }, &[])?.0 {
            Answer::Hello { pid, .. } => Ok(pid),
            _ => Err(failed("greet")(io::ErrorKind::InvalidData.into())),
        }
    }
}

fn exchange(socket: BorrowedFd<'_>, ask: &Ask, fds: &[BorrowedFd<'_>]) -> io::Result<(Answer, Vec<OwnedFd>)> {
    exchange_and(socket, ask, fds, || ())
}

fn exchange_and(
    socket: BorrowedFd<'_>,
    ask: &Ask,
    fds: &[BorrowedFd<'_>],
    meanwhile: impl FnOnce(),
) -> io::Result<(Answer, Vec<OwnedFd>)> {
    wire::send(socket, ask, fds)?;
    meanwhile();
    let deadline = Instant::now() + Duration::from_secs(ANSWER_SECONDS);
    wire::receive_until(socket, deadline)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
