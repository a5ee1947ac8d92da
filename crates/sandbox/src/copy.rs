//! Files copied into or out of a running sandbox, as its agent holds them. Dropping the handle
//! ends the copy.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::Context;
use crate::wire::{self, Command, Reply};
use crate::{Error, Result};

const ANSWER: Duration = Duration::from_secs(20);
/// Longest path that is taken, as the kernel's.
const MAX_PATH: usize = 4095;

/// How much a copy may be; more is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyLimits {
    /// All files together, holes included, bytes.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
    /// Folders within folders.
    pub depth: u32,
}

impl CopyLimits {
    pub(crate) fn check(&self, done: &Copied) -> std::result::Result<(), String> {
        if done.entries > self.entries {
            return Err(format!("it has more than {} files and folders", self.entries));
        }
        if done.bytes > self.bytes {
            return Err(format!("it has more than {} bytes", self.bytes));
        }
        Ok(())
    }
}

/// What a copy came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Bytes of files.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
    /// What was left out: devices, sockets, pipes, links that lead out, other mounts, what the
    /// user may not read.
    pub skipped: u64,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenHow {
    /// A plain file or a folder, to be read.
    Read,
    /// A plain file, to be written; made if it is missing, not emptied.
    Write,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Errand {
    Open(OpenHow),
    Out,
    In,
}

/// To init.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CopyOrder {
    pub errand: Errand,
    pub path: PathBuf,
    pub uid: u32,
    pub limits: CopyLimits,
}

/// A copy under way.
#[derive(Debug)]
pub struct Copy {
    id: String,
    path: String,
    /// Of init; closing it ends the copy.
    _socket: OwnedFd,
    report: OwnedFd,
    /// The tar stream: to be read, or to be written and then dropped.
    pub data: Option<OwnedFd>,
}

/// Asks the init behind `socket` to begin.
pub(crate) fn start(id: &str, socket: OwnedFd, order: &CopyOrder) -> Result<Copy> {
    let path = order.path.display().to_string();
    if !order.path.is_absolute() || order.path.as_os_str().len() > MAX_PATH {
        let (id, reason) = (id.to_owned(), "it is not an absolute path".to_owned());
        return Err(Error::Copy { id, path, reason });
    }
    let (report, theirs) = wire::pair().on("make socket", id)?;
    let mut fds = vec![theirs];
    let mut data = None;
    if !matches!(order.errand, Errand::Open(_)) {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).on("make pipe", id)?;
        let (mine, its) = if order.errand == Errand::In {
            (write, read)
        } else {
            (read, write)
        };
        data = Some(mine);
        fds.push(its);
    }
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    wire::send(socket.as_fd(), &Command::Copy(order.clone()), &borrowed).on("start a copy", id)?;
    drop(borrowed);
    drop(fds);
    match wire::receive_until::<Reply>(socket.as_fd(), Instant::now() + ANSWER).on("start a copy", id)? {
        Some((Reply::Running, _)) => Ok(Copy {
            id: id.to_owned(),
            path,
            _socket: socket,
            report,
            data,
        }),
        Some((Reply::Failed { stage, errno, .. }, _)) => Err(Error::Start {
            id: id.to_owned(),
            stage,
            source: io::Error::from_raw_os_error(errno),
        }),
        Some(_) => Err(io::ErrorKind::InvalidData).on("start a copy", id),
        None => Err(Error::NotRunning { id: id.to_owned() }),
    }
}

impl Copy {
    /// Readable when [`Copy::finish`] would not wait.
    pub fn reported(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }

    /// What came of it; the stream has to be read to its end, or written and dropped, before.
    pub fn finish(mut self, deadline: Instant) -> Result<Copied> {
        drop(self.data.take());
        self.result(deadline).map(|(copied, _)| copied)
    }

    pub(crate) fn result(&self, deadline: Instant) -> Result<(Copied, Vec<OwnedFd>)> {
        type Report = std::result::Result<Copied, String>;
        match wire::receive_until::<Report>(self.report.as_fd(), deadline).on("copy", &self.id)? {
            Some((Ok(copied), fds)) => Ok((copied, fds)),
            Some((Err(reason), _)) => Err(self.refused(reason)),
            None => Err(self.refused("it was killed".to_owned())),
        }
    }

    fn refused(&self, reason: String) -> Error {
        Error::Copy {
            id: self.id.clone(),
            path: self.path.clone(),
            reason,
        }
    }

    /// Reads the whole stream into memory; for small things.
    pub fn read_all(mut self, deadline: Instant) -> Result<(Vec<u8>, Copied)> {
        let mut bytes = Vec::new();
        if let Some(data) = self.data.take() {
            std::fs::File::from(data)
                .read_to_end(&mut bytes)
                .at("copy", Path::new(&self.path))?;
        }
        Ok((bytes, self.finish(deadline)?))
    }
}
