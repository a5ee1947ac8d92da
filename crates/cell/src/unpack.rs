//! Unpacks layers: tar archives rooted at `/` whose contents are hostile. Blocking.
//!
//! A layer may hold folders, plain files, symbolic links and hard links to its own files. Everything else, and every
//! name that does not stay below the root, ends the unpacking. Owners, setuid bits and extended attributes of the
//! archive are ignored: all belongs to the user of apps. Where trees are kept is [`crate::cache`]'s.

use model::Digest;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;

/// User and group of everything in a layer.
pub const OWNER: u32 = 2000;

/// Who that is on this host: files are stored with it, and sandboxes shift it where they have ids of their own.
#[must_use]
pub fn owner() -> u32 {
    sandbox::unprivileged::owner(OWNER)
}
/// Folders below each other that a name may have.
const MAX_DEPTH: usize = 128;
/// Bytes of headers that one entry may take: long names and extensions.
const MAX_HEADER_BYTES: u64 = 256 << 10;
/// Folders that are kept open while their entries come.
const OPEN_FOLDERS: usize = 256;
/// Largest window that a compressed layer may ask for, as a power of two.
const MAX_WINDOW_LOG: u32 = 27;
/// Longest target of a symbolic link.
const MAX_TARGET_BYTES: usize = 4095;

/// How much an archive may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Of the uncompressed archive, all of it.
    pub digest: Digest,
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
}

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An entry that a layer must not have.
    #[error("entry {name:?} {reason}")]
    Hostile {
        /// The entry's name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More than allowed.
    #[error("it holds more than {limit} {what}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// Of what: `bytes`, `entries`.
        what: &'static str,
    },
    /// Not an archive, or cut off.
    #[error("it can't be read")]
    Corrupt(#[source] io::Error),
    /// The file system refused.
    #[error("entry {name:?} can't be written")]
    Write {
        /// The entry's name.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Unpacks the `tar.zst` in `compressed` below the empty folder `into`, or only reads and checks it without one.
///
/// # Errors
/// See [`Error`]; what was written until then is the caller's to remove.
pub fn layer(compressed: impl Read, into: Option<&Path>, limits: Limits) -> Result<Unpacked, Error> {
    let mut decoder = zstd::stream::read::Decoder::new(compressed).map_err(Error::Corrupt)?;
    decoder.window_log_max(MAX_WINDOW_LOG).map_err(Error::Corrupt)?;
    archive(decoder, into, limits)
}

/// Unpacks the uncompressed archive `tar`, as [`layer`] does.
///
/// # Errors
/// See [`Error`].
pub fn archive(tar: impl Read, into: Option<&Path>, limits: Limits) -> Result<Unpacked, Error> {
    let allowance = Rc::new(Cell::new(MAX_HEADER_BYTES));
    let source = Counted {
        inner: tar,
        hash: Sha256::new(),
        bytes: 0,
        limit: limits.bytes,
        allowance: Rc::clone(&allowance),
        exceeded: None,
    };
    let mut archive = tar::Archive::new(source);
    let entries = match write_entries(&mut archive, &allowance, into, limits) {
        Ok(entries) => entries,
        Err(error) => {
            let exceeded = archive.into_inner().exceeded;
            return Err(exceeded.map_or(error, |what| what.error(limits.bytes)));
        }
    };
    allowance.set(u64::MAX);
    let mut source = archive.into_inner();
    let drained = io::copy(&mut source, &mut io::sink());
    match (drained, source.exceeded) {
        (_, Some(what)) => Err(what.error(limits.bytes)),
        (Err(error), None) => Err(Error::Corrupt(error)),
        (Ok(_), None) => Ok(Unpacked {
            digest: Digest::from_sha256(source.hash.finalize().into()),
            bytes: source.bytes,
            entries,
        }),
    }
}

fn write_entries<R: Read>(
    archive: &mut tar::Archive<R>,
    allowance: &Cell<u64>,
    into: Option<&Path>,
    limits: Limits,
) -> Result<u64, Error> {
    let mut tree = into.map(Tree::open).transpose().map_err(|source| Error::Write {
        name: "/".to_owned(),
        source,
    })?;
    let mut count = 0;
    let mut entries = archive.entries().map_err(Error::Corrupt)?;
    loop {
        allowance.set(MAX_HEADER_BYTES);
        let Some(entry) = entries.next() else {
            return Ok(count);
        };
        let mut entry = entry.map_err(Error::Corrupt)?;
        allowance.set(u64::MAX);
        count += 1;
        if count > limits.entries {
            return Err(Error::TooLarge {
                limit: limits.entries,
                what: "entries",
            });
        }
        let checked = Entry::check(&mut entry)?;
        match &mut tree {
            Some(tree) => tree.write(&checked, &mut entry)?,
            None => drop(io::copy(&mut entry, &mut io::sink()).map_err(Error::Corrupt)?),
        }
    }
}

/// An entry that may be written.
struct Entry {
    /// Components of its name, all plain; none for the root itself.
    name: Vec<Vec<u8>>,
    mode: u32,
    mtime: i64,
    shape: Shape,
}

enum Shape {
    Folder,
    File,
    Symlink(Vec<u8>),
    Hardlink(Vec<Vec<u8>>),
}

impl Entry {
    fn check<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Self, Error> {
        let raw = entry.path_bytes().into_owned();
        let name = components(&raw, &raw)?;
        let header = entry.header();
        let kind = header.entry_type();
        let mode = header.mode().map_err(Error::Corrupt)?;
        let mtime = header.mtime().map_err(Error::Corrupt)?;
        let link = entry
            .link_name_bytes()
            .map(std::borrow::Cow::into_owned)
            .unwrap_or_default();
        let shape = match kind {
            tar::EntryType::Directory => Shape::Folder,
            tar::EntryType::Regular | tar::EntryType::Continuous => Shape::File,
            tar::EntryType::Symlink => Shape::Symlink(symlink_target(&raw, &name, link)?),
            tar::EntryType::Link => Shape::Hardlink(components(&link, &raw)?),
            _ => return Err(hostile(&raw, "is neither a folder, a file nor a link")),
        };
        if name.is_empty() && !matches!(shape, Shape::Folder) {
            return Err(hostile(&raw, "stands for the root and is no folder"));
        }
        if !matches!(shape, Shape::File) && entry.size() > 0 {
            return Err(hostile(&raw, "has contents and is no file"));
        }
        Ok(Self {
            name,
            mode,
            mtime: i64::try_from(mtime).unwrap_or(0).min(i64::from(u32::MAX)),
            shape,
        })
    }
}

/// A name as plain components; the entry `of` is told to whoever reads the error.
fn components(name: &[u8], of: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    if name.first() == Some(&b'/') {
        return Err(hostile(of, "has an absolute name"));
    }
    if name.contains(&0) {
        return Err(hostile(of, "has a NUL in its name"));
    }
    let mut parts = Vec::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(hostile(of, "has a name with ..")),
            part if part.len() > 255 => return Err(hostile(of, "has a name that is too long")),
            part => parts.push(part.to_vec()),
        }
    }
    if parts.len() > MAX_DEPTH {
        return Err(hostile(of, "is too deep"));
    }
    Ok(parts)
}

/// Checks where a link leads. Absolute targets are inside a sandbox's own root; relative ones must not climb above it.
fn symlink_target(of: &[u8], name: &[Vec<u8>], target: Vec<u8>) -> Result<Vec<u8>, Error> {
    if target.is_empty() || target.len() > MAX_TARGET_BYTES || target.contains(&0) {
        return Err(hostile(of, "is a link to nothing that could be"));
    }
    let mut depth = if target[0] == b'/' {
        0
    } else {
        name.len().saturating_sub(1)
    };
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| hostile(of, "is a link that leads out of the root"))?;
            }
            _ => depth += 1,
        }
    }
    Ok(target)
}

fn hostile(name: &[u8], reason: &'static str) -> Error {
    Error::Hostile {
        name: shown(name),
        reason,
    }
}

/// A name for messages: as text, shortened.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).collect()
}

/// The folder that is written to. Every step goes by descriptor and follows no link.
struct Tree {
    root: OwnedFd,
    open: HashMap<Vec<u8>, OwnedFd>,
}

impl Tree {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self {
            root: rustix::fs::open(path, flags, Mode::empty())?,
            open: HashMap::new(),
        })
    }

    fn write<R: Read>(&mut self, entry: &Entry, contents: &mut tar::Entry<'_, R>) -> Result<(), Error> {
        let Some((last, parents)) = entry.name.split_last() else {
            return Ok(());
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
        match &entry.shape {
            Shape::Folder => {
                let folder = self.folder(&entry.name).map_err(failed)?;
                rustix::fs::fchmod(folder, Mode::from_raw_mode(entry.mode & 0o1777)).map_err(failed)
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
                own(parent, last, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
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
                if !rustix::fs::FileType::from_raw_mode(found.st_mode).is_file() {
                    return Err(hostile(&joined, "is a hard link to something that is no file"));
                }
                let parent = self.folder(parents).map_err(failed)?;
                rustix::fs::linkat(&from, to.as_slice(), parent, last.as_slice(), AtFlags::empty()).map_err(failed)
            }
        }
    }

    /// The folder with these components, made where it is missing.
    fn folder(&mut self, parts: &[Vec<u8>]) -> Result<&OwnedFd, Errno> {
        if self.open.len() > OPEN_FOLDERS {
            self.open.clear();
        }
        let key = parts.join(&b'/');
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
                let opened = step_down(parent, &parts[depth - 1])?;
                self.open.insert(parts[..depth].join(&b'/'), opened);
            }
        }
        if parts.is_empty() {
            return Ok(&self.root);
        }
        self.open.get(&key).ok_or(Errno::NOENT)
    }
}

fn step_down(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            own(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let opened = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755))?;
            Ok(opened)
        }
        other => other,
    }
}

fn own(parent: &OwnedFd, name: &[u8], flags: AtFlags) -> Result<(), Errno> {
    rustix::fs::chownat(
        parent,
        name,
        Some(Uid::from_raw(owner())),
        Some(Gid::from_raw(owner())),
        flags,
    )
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
    rustix::fs::fchown(fd, Some(Uid::from_raw(owner())), Some(Gid::from_raw(owner())))
        .and_then(|()| rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode & 0o777)))
        .and_then(|()| rustix::fs::futimens(fd, &times))
        .map_err(|source| failed(source.into()))
}

/// Which bound the archive passed.
#[derive(Clone, Copy)]
enum Exceeded {
    Total,
    Header,
}

impl Exceeded {
    fn error(self, bytes: u64) -> Error {
        match self {
            Self::Total => Error::TooLarge {
                limit: bytes,
                what: "bytes",
            },
            Self::Header => Error::TooLarge {
                limit: MAX_HEADER_BYTES,
                what: "bytes in one header",
            },
        }
    }
}

/// Counts, hashes and bounds what is read.
struct Counted<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
    limit: u64,
    /// Bytes that may be read before somebody says more: bounds what the archive reader takes into memory.
    allowance: Rc<Cell<u64>>,
    exceeded: Option<Exceeded>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        let left = self.allowance.get();
        if self.bytes > self.limit {
            self.exceeded = Some(Exceeded::Total);
            return Err(io::Error::other("too large"));
        }
        if (n as u64) > left {
            self.exceeded = Some(Exceeded::Header);
            return Err(io::Error::other("too large a header"));
        }
        if left != u64::MAX {
            self.allowance.set(left - n as u64);
        }
        Ok(n)
    }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
