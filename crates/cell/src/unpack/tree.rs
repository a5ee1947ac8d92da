//! The folder that a layer is unpacked into. Every step goes by descriptor and follows no link.

use super::entry::{Entry, Shape};
use super::{Error, Form, OWNER, hostile, shown};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

/// Folders that are kept open while their entries come.
const OPEN_FOLDERS: usize = 256;

/// The folder that is written to.
pub(super) struct Tree {
    root: OwnedFd,
    open: HashMap<Vec<u8>, OwnedFd>,
    form: Form,
}

impl Tree {
    pub fn open(path: &Path, form: Form) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self {
            root: rustix::fs::open(path, flags, Mode::empty())?,
            open: HashMap::new(),
            form,
        })
    }

    pub fn write<R: Read>(&mut self, entry: &Entry, contents: &mut tar::Entry<'_, R>) -> Result<(), Error> {
        let Some((last, parents)) = entry.name.split_last() else {
            return self.write_root(entry);
        };
        let joined = entry.name.join(&b'/');
        let failed = |source: Errno| match source {
            Errno::EXIST => hostile(&joined, "appears twice"),
            Errno::LOOP | Errno::NOTDIR => hostile(&joined, "goes through something that is no folder"),
            source => Error::Write {
                name: shown(&joined),
                source: source.into(),
            },
        };
        if self.form == Form::Image {
            self.make_way(entry, parents, last).map_err(failed)?;
        }
        match &entry.shape {
            Shape::Nothing => Ok(()),
            Shape::Absent => self.hide(parents, last).map_err(failed),
            Shape::Opaque => {
                let folder = self.folder(&entry.name).map_err(failed)?;
                make_opaque(folder).map_err(failed)
            }
            Shape::Folder => {
                let folder = self.folder(&entry.name).map_err(failed)?;
                own(folder, b"", entry.owner, AtFlags::EMPTY_PATH)
                    .and_then(|()| rustix::fs::fchmod(folder, Mode::from_raw_mode(entry.mode & 0o1777)))
                    .map_err(failed)
            }
            Shape::File => {
                let parent = self.folder(parents).map_err(failed)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(parent, last.as_slice(), flags, Mode::from_raw_mode(0o600));
                fill(file.map_err(failed)?, entry, contents, &joined)
            }
            Shape::Symlink(target) => {
                let parent = self.folder(parents).map_err(failed)?;
                rustix::fs::symlinkat(target.as_slice(), parent, last.as_slice()).map_err(failed)?;
                own(parent, last, entry.owner, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
            }
            Shape::Hardlink(target) => {
                let (to, folders) = target
                    .split_last()
                    .ok_or_else(|| hostile(&joined, "is a link to nothing that could be"))?;
                let from = self
                    .folder(folders)
                    .map_err(failed)?
                    .try_clone()
                    .map_err(|source| Error::Write {
                        name: shown(&joined),
                        source,
                    })?;
                let found = rustix::fs::statat(&from, to.as_slice(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                if !FileType::from_raw_mode(found.st_mode).is_file() {
                    return Err(hostile(&joined, "is a hard link to something that is no file"));
                }
                let parent = self.folder(parents).map_err(failed)?;
                rustix::fs::linkat(&from, to.as_slice(), parent, last.as_slice(), AtFlags::empty()).map_err(failed)
            }
        }
    }

    /// An entry for the root itself.
    fn write_root(&self, entry: &Entry) -> Result<(), Error> {
        let done = match (self.form, &entry.shape) {
            (Form::Image, Shape::Opaque) => make_opaque(&self.root),
            (Form::Image, Shape::Folder) => own(&self.root, b"", entry.owner, AtFlags::EMPTY_PATH)
                .and_then(|()| rustix::fs::fchmod(&self.root, Mode::from_raw_mode(entry.mode & 0o1777))),
            _ => Ok(()),
        };
        done.map_err(|error| Error::Write {
            name: "/".to_owned(),
            source: error.into(),
        })
    }

    /// Removes what an image's entry replaces: an earlier one of its name, or that it was hidden.
    fn make_way(&mut self, entry: &Entry, parents: &[Vec<u8>], last: &[u8]) -> Result<(), Errno> {
        if matches!(entry.shape, Shape::Nothing | Shape::Absent | Shape::Opaque) {
            return Ok(());
        }
        let parent = self.folder(parents)?;
        let found = match rustix::fs::statat(parent, last, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            found => FileType::from_raw_mode(found?.st_mode),
        };
        let folder = entry.shape == Shape::Folder;
        if found.is_dir() {
            return if folder { Ok(()) } else { Err(Errno::EXIST) };
        }
        rustix::fs::unlinkat(parent, last, AtFlags::empty())?;
        if folder && found.is_char_device() {
            // It was hidden below, and is a new folder here.
            make_opaque(self.folder(&entry.name)?)?;
        }
        Ok(())
    }

    /// Hides what layers below have of a name. What this layer has of it stays: only those below are meant.
    fn hide(&mut self, parents: &[Vec<u8>], last: &[u8]) -> Result<(), Errno> {
        let parent = self.folder(parents)?;
        match rustix::fs::statat(parent, last, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => rustix::fs::mknodat(
                parent,
                last,
                FileType::CharacterDevice,
                Mode::empty(),
                rustix::fs::makedev(0, 0),
            ),
            Err(error) => Err(error),
            Ok(found) if FileType::from_raw_mode(found.st_mode).is_dir() => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                make_opaque(&rustix::fs::openat(parent, last, flags, Mode::empty())?)
            }
            Ok(_) => Ok(()),
        }
    }

    /// The folder with these components, made where it is missing.
    fn folder(&mut self, parts: &[Vec<u8>]) -> Result<&OwnedFd, Errno> {
        if self.open.len() > OPEN_FOLDERS {
            self.open.clear();
        }
        let key = parts.join(&b'/');
        // Folders that no entry describes: an image's are root's, as its other tools have it.
        let owner = match self.form {
            Form::Droplet => OWNER,
            Form::Image => 0,
        };
        if !parts.is_empty() && !self.open.contains_key(&key) {
            // The nearest ancestor that is open, then down from there.
            let known = (1..parts.len())
                .rev()
                .find(|&n| self.open.contains_key(&parts[..n].join(&b'/')));
            for depth in known.map_or(1, |n| n + 1)..=parts.len() {
                let parent = match depth {
                    1 => &self.root,
                    _ => self.open.get(&parts[..depth - 1].join(&b'/')).ok_or(Errno::NOENT)?,
                };
                let opened = step_down(parent, &parts[depth - 1], owner)?;
                self.open.insert(parts[..depth].join(&b'/'), opened);
            }
        }
        if parts.is_empty() {
            return Ok(&self.root);
        }
        self.open.get(&key).ok_or(Errno::NOENT)
    }
}

fn step_down(parent: &OwnedFd, name: &[u8], owner: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            own(parent, name, (owner, owner), AtFlags::SYMLINK_NOFOLLOW)?;
            let opened = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755))?;
            Ok(opened)
        }
        other => other,
    }
}

/// Gives `name` away. Files are stored with the ids that they have inside; sandboxes shift them where theirs differ.
fn own(parent: &OwnedFd, name: &[u8], (user, group): (u32, u32), flags: AtFlags) -> Result<(), Errno> {
    let (user, group) = outside((user, group));
    rustix::fs::chownat(parent, name, Some(user), Some(group), flags)
}

pub(super) fn outside((user, group): (u32, u32)) -> (Uid, Gid) {
    let outside = sandbox::unprivileged::owner;
    (Uid::from_raw(outside(user)), Gid::from_raw(outside(group)))
}

/// Says that nothing of layers below is in a folder. Whoever is not the host's root has another attribute for it.
fn opaque() -> &'static str {
    if sandbox::unprivileged::confined() {
        "user.overlay.opaque"
    } else {
        "trusted.overlay.opaque"
    }
}

/// Hides all that layers below have in a folder.
fn make_opaque(folder: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fsetxattr(folder, opaque(), b"y", XattrFlags::empty())
}

/// Whether a folder of an unpacked layer hides all that layers below have in it.
pub fn is_opaque(folder: &OwnedFd) -> bool {
    let mut value = [0; 1];
    matches!(rustix::fs::fgetxattr(folder, opaque(), &mut value), Ok(1)) && value == *b"y"
}

/// Writes a new file's contents, then owner, mode and time.
fn fill<R: Read>(fd: OwnedFd, entry: &Entry, contents: &mut tar::Entry<'_, R>, name: &[u8]) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Write {
        name: shown(name),
        source,
    };
    let mut file = File::from(fd);
    let mut buffer = vec![0; usize::try_from(contents.size().clamp(1, 128 << 10)).unwrap_or(128 << 10)];
    let mut written = 0;
    loop {
        let n = contents.read(&mut buffer).map_err(Error::Corrupt)?;
        if n == 0 {
            break;
        }
        written += n as u64;
        file.write_all(&buffer[..n]).map_err(failed)?;
    }
    if written != contents.size() {
        return Err(Error::Corrupt(io::ErrorKind::UnexpectedEof.into()));
    }
    let fd = file.as_fd();
    let time = Timespec {
        tv_sec: entry.mtime,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let (user, group) = outside(entry.owner);
    rustix::fs::fchown(fd, Some(user), Some(group))
        .and_then(|()| rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode & 0o777)))
        .and_then(|()| rustix::fs::futimens(fd, &times))
        .map_err(|source| failed(source.into()))
}
