//! What is known of containers: a folder for each below one root, with its state, the configuration it was made
//! from and the socket on which it waits for its start. Files are whole or absent; who changes something holds the
//! folder's lock.
//!
//! ```text
//!  creating ──▶ created ──▶ running ──▶ stopped ──▶ (deleted)
//!                  └─────────────────────▶┘
//! ```

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::{ContainerState as Status, Spec, State};
use serde::{Deserialize, Serialize};

use super::error::{Context, Error, Result};
use crate::record;

/// Where containers are kept unless another root is named.
pub const ROOT: &str = "/run/paas-oci";
/// The version of the specification that states are told in.
const VERSION: &str = "1.1.0";
const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
/// The socket's name in the folder.
pub const SOCKET: &str = "start";
/// How long a lock is waited for: other operations run hooks.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// What is written down of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// As far as it was brought; whether its process lives is another matter.
    pub status: Status,
    /// Its process, on this boot.
    pub pid: Option<i32>,
    /// When that started, to tell it from a later one of the same number.
    pub start_ticks: u64,
    /// Which boot.
    pub boot: String,
    /// The bundle's folder, absolute.
    pub bundle: PathBuf,
    /// The root's folder, absolute.
    pub rootfs: PathBuf,
    /// Control groups it is in.
    pub groups: Vec<PathBuf>,
    /// Control groups made for it, the deepest first.
    pub made: Vec<PathBuf>,
    /// Unix time, nanoseconds.
    pub created_ns: u64,
    /// Of the configuration.
    pub annotations: HashMap<String, String>,
}

impl Record {
    /// Its process, if that lives: held so that its number cannot pass to another.
    pub fn process(&self) -> Option<OwnedFd> {
        let pid = self.pid.filter(|_| self.boot == record::boot_id())?;
        let known = rustix::process::Pid::from_raw(pid)?;
        let pidfd = rustix::process::pidfd_open(known, rustix::process::PidfdFlags::empty()).ok()?;
        let same = record::start_ticks(pid) == Some(self.start_ticks);
        (same && !is_zombie(pid)).then_some(pidfd)
    }

    /// Its state now.
    pub fn status(&self) -> Status {
        match self.status {
            Status::Created | Status::Running if self.process().is_some() => self.status,
            Status::Creating => Status::Creating,
            _ => Status::Stopped,
        }
    }

    /// As the specification tells it; with another status than it has, for hooks.
    pub fn state(&self, status: Status) -> State {
        let pid = self.pid.filter(|_| status != Status::Stopped);
        let mut state = State::default();
        state
            .set_version(VERSION.to_owned())
            .set_id(self.id.clone())
            .set_status(status)
            .set_pid(pid)
            .set_bundle(self.bundle.clone())
            .set_annotations((!self.annotations.is_empty()).then(|| self.annotations.clone()));
        state
    }

    /// The state as text.
    pub fn state_json(&self, status: Status) -> Vec<u8> {
        serde_json::to_vec(&self.state(status)).unwrap_or_default()
    }
}

/// Dead, but nobody has asked how it ended.
fn is_zombie(pid: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it may hold anything.
    let state = text.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_none_or(|rest| rest.starts_with(['Z', 'X']))
}

/// A container's folder, with its lock.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    id: String,
    _lock: File,
}

/// Whether `id` can be a container's name: it becomes part of paths.
pub fn valid_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
    matches!(id.len(), 1..=128) && id.bytes().all(plain) && id.bytes().any(|b| b != b'.')
}

fn path(root: &Path, id: &str) -> Result<PathBuf> {
    if valid_id(id) {
        Ok(root.join(id))
    } else {
        Err(Error::Name { id: id.to_owned() })
    }
}

impl Folder {
    /// Makes the folder of a new container.
    pub fn create(root: &Path, id: &str) -> Result<Folder> {
        let path = path(root, id)?;
        let mut builder = DirBuilder::new();
        builder
            .mode(0o711)
            .recursive(true)
            .create(root)
            .at("make folder", root)?;
        match builder.recursive(false).mode(0o700).create(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(Error::Exists { id: id.to_owned() }),
            other => other.at("make folder", &path)?,
        }
        Folder::locked(path, id)
    }

    /// The folder of an existing container, once its lock is free.
    pub fn open(root: &Path, id: &str) -> Result<Folder> {
        Folder::locked(path(root, id)?, id)
    }

    fn locked(path: PathBuf, id: &str) -> Result<Folder> {
        let missing = || Error::Missing { id: id.to_owned() };
        let deadline = Instant::now() + LOCK_PATIENCE;
        let lock = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(missing()),
            other => other.at("open", &path)?,
        };
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut)).at("lock", path);
                }
                Err(std::fs::TryLockError::Error(e)) => return Err(e).at("lock", path),
            }
        }
        // It may have been deleted, and made again, meanwhile.
        let ours = lock.metadata().at("look at", &path)?;
        match std::fs::metadata(&path) {
            Ok(now) if now.ino() == ours.ino() && now.dev() == ours.dev() => {}
            _ => return Err(missing()),
        }
        Ok(Folder {
            path,
            id: id.to_owned(),
            _lock: lock,
        })
    }

    /// Its place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is written down; a container whose making never came that far has none.
    pub fn record(&self) -> Result<Option<Record>> {
        read(&self.path)
    }

    /// The record of a container that came into being.
    pub fn known(&self) -> Result<Record> {
        self.record()?.ok_or_else(|| Error::Missing { id: self.id.clone() })
    }

    /// Writes it down.
    pub fn write(&self, record: &Record) -> Result<()> {
        self.put(
            STATE,
            &serde_json::to_vec_pretty(record).at("write", self.path.join(STATE))?,
        )
    }

    /// Keeps the configuration: later changes of the bundle's own do not count.
    pub fn keep(&self, spec: &Spec) -> Result<()> {
        self.put(CONFIG, &serde_json::to_vec(spec).at("write", self.path.join(CONFIG))?)
    }

    /// The configuration it was made from.
    pub fn spec(&self) -> Result<Spec> {
        let path = self.path.join(CONFIG);
        let bytes = std::fs::read(&path).at("read", &path)?;
        serde_json::from_slice(&bytes).at("read", path)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let draft = self.path.join(format!("{name}.new"));
        let mut file = File::create(&draft).at("write", &draft)?;
        file.write_all(bytes).at("write", &draft)?;
        std::fs::rename(&draft, self.path.join(name)).at("write", draft)
    }

    /// Forgets the container.
    pub fn remove(self) -> Result<()> {
        std::fs::remove_dir_all(&self.path).at("remove", &self.path)
    }
}

/// What is written down of `id`, without its lock: readers may come at any time.
pub fn look(root: &Path, id: &str) -> Result<Record> {
    read(&path(root, id)?)?.ok_or_else(|| Error::Missing { id: id.to_owned() })
}

fn read(folder: &Path) -> Result<Option<Record>> {
    let path = folder.join(STATE);
    match std::fs::read(&path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e).at("read", path),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).at("read", path),
    }
}

/// All containers below `root`, by name.
pub fn list(root: &Path) -> Result<Vec<Record>> {
    let entries = match std::fs::read_dir(root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("read", root)?,
    };
    let mut all: Vec<Record> = entries
        .flatten()
        .filter_map(|entry| read(&entry.path()).ok().flatten())
        .collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        Record {
            id: id.to_owned(),
            status: Status::Created,
            pid: Some(std::process::id() as i32),
            start_ticks: record::start_ticks(std::process::id() as i32).unwrap(),
            boot: record::boot_id(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            groups: vec![],
            made: vec![],
            created_ns: 1,
            annotations: HashMap::from([("k".to_owned(), "v".to_owned())]),
        }
    }

    #[test]
    fn names_stay_within_the_root() {
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert!(!valid_id(bad), "{bad:?}");
        }
        assert!(valid_id("a-b_c.d+1"));
        assert!(Folder::create(Path::new("/nonexistent"), "../x").is_err());
    }

    #[test]
    fn a_container_exists_once_and_is_found_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::create(root.path(), "a").unwrap();
        assert!(matches!(Folder::create(root.path(), "a"), Err(Error::Exists { .. })));
        assert!(matches!(look(root.path(), "a"), Err(Error::Missing { .. })));
        folder.write(&record("a")).unwrap();
        let found = look(root.path(), "a").unwrap();
        assert_eq!(found.status(), Status::Created);
        assert_eq!(list(root.path()).unwrap().len(), 1);
        folder.remove().unwrap();
        assert!(matches!(Folder::open(root.path(), "a"), Err(Error::Missing { .. })));
        assert!(list(root.path()).unwrap().is_empty());
    }

    #[test]
    fn a_process_of_another_time_is_not_ours() {
        let mut other = record("a");
        other.start_ticks += 1;
        assert_eq!(other.status(), Status::Stopped);
        let mut other = record("a");
        other.boot = "another".to_owned();
        assert_eq!(other.status(), Status::Stopped);
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let mut other = record("a");
        other.pid = Some(ended.id() as i32);
        other.start_ticks = record::start_ticks(ended.id() as i32).unwrap();
        // A process that ended and was not asked how is a zombie until it is.
        let pid = rustix::process::Pid::from_child(&ended);
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).unwrap();
        assert_eq!(other.status(), Status::Stopped);
        ended.wait().unwrap();
    }

    #[test]
    fn states_are_told_as_specified() {
        let state = serde_json::to_value(record("a").state(Status::Created)).unwrap();
        let pid = std::process::id();
        let wanted = serde_json::json!({ "ociVersion": "1.1.0", "id": "a", "status": "created", "pid": pid, "bundle": "/b",
                                         "annotations": { "k": "v" } });
        assert_eq!(state, wanted);
        assert_eq!(record("a").state(Status::Stopped).pid(), &None);
    }
}
