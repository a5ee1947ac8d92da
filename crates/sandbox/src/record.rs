//! What is kept on disk about each sandbox so that a later agent finds its way:
//! `<state>/sandboxes/<id>/`. Nothing secret is written here.

use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::disk::DiskPlan;
use crate::error::Context;
use crate::{Limits, Result};

/// File name of the control socket of init.
pub const CONTROL: &str = "control.sock";
/// Folder that init writes to.
pub const LOG: &str = "log";
/// Exit record, in [`LOG`].
pub const EXIT: &str = "exit.json";
/// Mount point for init's private scratch.
pub const SCRATCH: &str = "scratch";
const STATE: &str = "state.json";
/// No record is larger.
const MAX_BYTES: u64 = 1 << 20;

/// The record of one sandbox; `pid` is missing until it has been started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The sandbox.
    pub id: String,
    /// Name of its groups, and its name with the spawner: its own if it was parked, else the
    /// sandbox's.
    #[serde(default)]
    pub seat: String,
    /// Whether it is still nobody's.
    #[serde(default)]
    pub parked: bool,
    /// First uid of its range.
    pub uid_base: u32,
    /// Which boot of the host, so that pids of another one are not believed.
    pub boot: String,
    /// Its init.
    pub pid: Option<i32>,
    /// When that was started, in the kernel's ticks since boot: a pid alone may be reused.
    pub start_ticks: u64,
    /// When it was asked for, unix nanoseconds.
    pub created_ns: u64,
    /// Its limits.
    pub limits: Limits,
    /// Its private layer.
    pub disk: Option<DiskPlan>,
    /// Its address.
    pub address: Option<Ipv4Addr>,
}

impl Record {
    /// See [`Record::seat`]; earlier agents kept none.
    pub fn seat(&self) -> &str {
        if self.seat.is_empty() { &self.id } else { &self.seat }
    }
}

/// The folders of a runtime.
#[derive(Clone, Debug)]
pub struct Folders {
    root: PathBuf,
}

impl Folders {
    /// Makes them below `root`, for root alone.
    pub fn open(root: &Path) -> Result<Folders> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        std::fs::create_dir_all(root).at("make folder", root)?;
        // Other processes, with other working folders, are told this path.
        let root = &std::fs::canonicalize(root).at("find folder", root)?;
        let folders = Folders { root: root.clone() };
        for folder in [
            root.clone(),
            folders.sandboxes(),
            folders.templates(),
            folders.parked(),
            folders.disks(),
        ] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .at("make folder", folder)?;
        }
        std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o700)).at("protect folder", root)?;
        Ok(folders)
    }

    /// The state folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Formatted images to copy from.
    pub fn templates(&self) -> PathBuf {
        self.root.join("templates")
    }

    /// One folder per parked sandbox, which becomes a sandbox's by being renamed.
    pub fn parked(&self) -> PathBuf {
        self.root.join("parked")
    }

    /// Private layers that are ready, a folder each.
    pub fn disks(&self) -> PathBuf {
        self.root.join("disks")
    }

    /// One folder per sandbox.
    pub fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    /// The folder of `id`.
    pub fn sandbox(&self, id: &str) -> PathBuf {
        self.sandboxes().join(id)
    }

    /// Names of all sandboxes with a folder.
    pub fn list(&self) -> Result<Vec<String>> {
        let folder = self.sandboxes();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&folder).at("list", &folder)? {
            names.extend(
                entry
                    .at("list", &folder)?
                    .file_name()
                    .into_string()
                    .ok()
                    .filter(|name| valid_id(name)),
            );
        }
        names.sort();
        Ok(names)
    }

    /// The record of `id`; `None` if there is none that makes sense.
    pub fn read(&self, id: &str) -> Result<Option<Record>> {
        read_json(&self.sandbox(id).join(STATE))
    }

    /// The record of what is in the folder `dir`, parked or not.
    pub fn read_in(dir: &Path) -> Result<Option<Record>> {
        read_json(&dir.join(STATE))
    }
}

/// Keeps the record of what is in the folder `dir`, whole or not at all.
pub fn write_in(dir: &Path, record: &Record) -> Result<()> {
    write_json(dir, STATE, record)
}

/// Removes the record of what is in the folder `dir`, if there is one.
pub fn forget_in(dir: &Path) -> Result<()> {
    let path = dir.join(STATE);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("remove", path),
        _ => Ok(()),
    }
}

/// A value from a plain file; `None` if there is none, or it is not whole or larger than any record.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let file = match open_plain(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound || is_no_file(&e) => return Ok(None),
        other => other.at("read", path)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).at("read", path)?;
    Ok(serde_json::from_slice(&bytes).ok())
}

/// Opens a plain file and nothing else: some folders belong to the root of a sandbox, which must not have the host's
/// files read through a link, nor the agent wait at a pipe.
pub fn open_plain(path: &Path) -> io::Result<std::fs::File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(rustix::io::Errno::ISDIR.into())
    }
}

/// Whether [`open_plain`] found something else than a plain file: a link, a pipe, a socket, a folder.
fn is_no_file(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error();
    [Errno::LOOP, Errno::NXIO, Errno::ISDIR]
        .iter()
        .any(|other| errno == Some(other.raw_os_error()))
}

/// Replaces `dir/name` in one step.
pub fn write_json<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<()> {
    let path = dir.join(name);
    let draft = dir.join(format!("{name}.new"));
    let bytes = serde_json::to_vec(value).map_err(io::Error::from).at("encode", &path)?;
    // Whatever is there is another's or of a write that was cut off; what is made here is new, and no link is followed.
    match std::fs::remove_file(&draft) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).at("replace", &draft),
        _ => {}
    }
    let mut file = std::fs::File::create_new(&draft).at("write", &draft)?;
    file.write_all(&bytes).at("write", &draft)?;
    std::fs::rename(&draft, &path).at("write", path)
}

/// Identifies this boot of the host.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Start time of a process in ticks since boot; `None` if there is none.
pub fn start_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so count from its end.
    let fields = stat.get(stat.rfind(')')? + 2..)?;
    fields.split(' ').nth(19)?.parse().ok()
}

/// Whether `name` can be a sandbox's.
pub fn valid_id(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    matches!(name.len(), 1..=64) && name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(plain)
}

/// Whether `name` can be a parked sandbox's, which no sandbox's is.
pub fn is_seat(name: &str) -> bool {
    matches!(name.len(), 2..=64) && name.starts_with('_') && name[1..].bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        for good in ["a", "app-1.x_2", &"a".repeat(64)] {
            assert!(valid_id(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-a", "_spawner", "ü", "a b", &"a".repeat(65)] {
            assert!(!valid_id(bad), "{bad}");
        }
    }

    #[test]
    fn start_times_tell_processes_apart() {
        let own = start_ticks(std::process::id() as i32).unwrap();
        assert!(own > start_ticks(1).unwrap());
        assert_eq!(start_ticks(-1), None);
    }

    #[test]
    fn nothing_is_read_or_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("host");
        std::fs::write(&host, "7").unwrap();
        let link = dir.path().join("exit.json");
        std::os::unix::fs::symlink(&host, &link).unwrap();
        assert_eq!(read_json::<u32>(&link).unwrap(), None);
        std::os::unix::fs::symlink(&host, dir.path().join("exit.json.new")).unwrap();
        write_json(dir.path(), "exit.json", &8u32).unwrap();
        assert_eq!(std::fs::read_to_string(&host).unwrap(), "7");
        assert_eq!(read_json::<u32>(&link).unwrap(), Some(8));
    }

    #[test]
    fn pipes_folders_and_endless_files_are_no_records() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read_json::<u32>(&pipe).unwrap(), None);
        assert_eq!(read_json::<u32>(dir.path()).unwrap(), None);
        let large = dir.path().join("large");
        std::fs::write(&large, "1".to_owned() + &" ".repeat(MAX_BYTES as usize) + "x").unwrap();
        assert_eq!(
            read_json::<u32>(&large).unwrap(),
            Some(1),
            "what is beyond the bound is not looked at"
        );
        std::fs::write(&large, " ".repeat(MAX_BYTES as usize) + "1").unwrap();
        assert_eq!(read_json::<u32>(&large).unwrap(), None);
    }

    #[test]
    fn torn_records_read_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), "{\"id\":").unwrap();
        assert!(read_json::<Record>(&dir.path().join("x")).unwrap().is_none());
        assert!(read_json::<Record>(&dir.path().join("y")).unwrap().is_none());
    }
}
