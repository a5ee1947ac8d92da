//! What SFTP does to files: open ones by handle, others by path.

use super::wire::Attributes;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions, Permissions, ReadDir};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Files and folders open at once.
const OPEN: usize = 128;
/// Bytes of one answer.
const CHUNK: u32 = 128 << 10;
/// Names of one answer.
const NAMES: usize = 64;
/// Bits of a mode that can be set.
const MODE: u32 = 0o7777;
const READ: u32 = 1;
const WRITE: u32 = 2;
const APPEND: u32 = 4;
const CREATE: u32 = 8;
const TRUNCATE: u32 = 16;
const EXCLUSIVE: u32 = 32;

/// What is open, by handle.
#[derive(Debug, Default)]
pub struct Files {
    open: HashMap<u32, Open>,
    last: u32,
}

#[derive(Debug)]
enum Open {
    File { file: File, append: bool },
    Folder { entries: ReadDir },
}

/// A name in a folder, as `ls -l` shows it, and what it is.
pub type Listed = (Vec<u8>, Vec<u8>, Attributes);

fn key(handle: &[u8]) -> io::Result<u32> {
    let bytes = handle.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(u32::from_be_bytes(bytes))
}

impl Files {
    fn keep(&mut self, open: Open) -> io::Result<u32> {
        if self.open.len() >= OPEN {
            return Err(io::Error::other("too many open files"));
        }
        self.last = self.last.wrapping_add(1);
        self.open.insert(self.last, open);
        Ok(self.last)
    }

    fn file(&self, handle: &[u8]) -> io::Result<(&File, bool)> {
        match self.open.get(&key(handle)?) {
            Some(Open::File { file, append }) => Ok((file, *append)),
            Some(Open::Folder { .. }) | None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Opens a file as the flags say.
    pub fn open(&mut self, path: &Path, flags: u32, attributes: &Attributes) -> io::Result<u32> {
        let has = |flag: u32| flags & flag != 0;
        let mut options = OpenOptions::new();
        options
            .read(has(READ))
            .write(has(WRITE) && !has(APPEND))
            .append(has(APPEND))
            .truncate(has(TRUNCATE))
            .create(has(CREATE) && !has(EXCLUSIVE))
            .create_new(has(CREATE) && has(EXCLUSIVE))
            .mode(attributes.mode.unwrap_or(0o666) & MODE);
        let file = options.open(path)?;
        let append = has(APPEND);
        self.keep(Open::File { file, append })
    }

    pub fn open_folder(&mut self, path: &Path) -> io::Result<u32> {
        let entries = std::fs::read_dir(path)?;
        self.keep(Open::Folder { entries })
    }

    pub fn close(&mut self, handle: &[u8]) -> io::Result<()> {
        let closed = self.open.remove(&key(handle)?);
        closed.map(drop).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// At most `length` bytes; the end is an error of its own kind.
    pub fn read(&self, handle: &[u8], offset: u64, length: u32) -> io::Result<Vec<u8>> {
        let (file, _) = self.file(handle)?;
        let mut buffer = vec![0; usize::try_from(length.min(CHUNK)).unwrap_or(0)];
        let read = file.read_at(&mut buffer, offset)?;
        if read == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.truncate(read);
        Ok(buffer)
    }

    pub fn write(&self, handle: &[u8], offset: u64, data: &[u8]) -> io::Result<()> {
        match self.file(handle)? {
            (mut file, true) => io::Write::write_all(&mut file, data),
            (file, false) => file.write_all_at(data, offset),
        }
    }

    pub fn sync(&self, handle: &[u8]) -> io::Result<()> {
        self.file(handle)?.0.sync_all()
    }

    pub fn stat(&self, handle: &[u8]) -> io::Result<Attributes> {
        Ok(attributes(&self.file(handle)?.0.metadata()?))
    }

    pub fn set(&self, handle: &[u8], attributes: &Attributes) -> io::Result<()> {
        let (file, _) = self.file(handle)?;
        if let Some(size) = attributes.size {
            file.set_len(size)?;
        }
        if let Some(mode) = attributes.mode {
            file.set_permissions(Permissions::from_mode(mode & MODE))?;
        }
        if let Some(times) = attributes.times {
            rustix::fs::futimens(file, &timestamps(times))?;
        }
        owner(attributes)
    }

    /// The next names of a folder; after the last the end is an error of its own kind.
    pub fn names(&mut self, handle: &[u8]) -> io::Result<Vec<Listed>> {
        let Some(Open::Folder { entries }) = self.open.get_mut(&key(handle)?) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut names = Vec::new();
        for entry in entries.by_ref().take(NAMES) {
            let entry = entry?;
            // One that is gone meanwhile is no name any more.
            if let Ok(found) = entry.metadata() {
                names.push(listed(entry.file_name().as_encoded_bytes(), &found));
            }
        }
        if names.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(names)
    }
}

/// Nobody inside may give files away; that nothing changes is no failure, as clients ask for it in passing.
fn owner(attributes: &Attributes) -> io::Result<()> {
    let own = rustix::process::getuid().as_raw();
    match attributes.owner {
        Some((user, _)) if user != own => Err(io::ErrorKind::PermissionDenied.into()),
        _ => Ok(()),
    }
}

fn timestamps((read, written): (u32, u32)) -> Timestamps {
    let of = |seconds: u32| Timespec {
        tv_sec: seconds.into(),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: of(read),
        last_modification: of(written),
    }
}

pub fn set_path(path: &Path, attributes: &Attributes) -> io::Result<()> {
    if let Some(size) = attributes.size {
        File::options().write(true).open(path)?.set_len(size)?;
    }
    if let Some(mode) = attributes.mode {
        std::fs::set_permissions(path, Permissions::from_mode(mode & MODE))?;
    }
    if let Some(times) = attributes.times {
        rustix::fs::utimensat(CWD, path, &timestamps(times), AtFlags::empty())?;
    }
    owner(attributes)
}

pub fn make_folder(path: &Path, attributes: &Attributes) -> io::Result<()> {
    let mode = attributes.mode.unwrap_or(0o777) & MODE;
    std::fs::DirBuilder::new().mode(mode).create(path)
}

/// Renames; what is there is replaced only where `over` says so.
pub fn rename(from: &Path, to: &Path, over: bool) -> io::Result<()> {
    if !over && to.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    std::fs::rename(from, to)
}

/// The path without links; its last part need not be there yet.
pub fn real(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (parent, name) = (path.parent(), path.file_name());
            let (Some(parent), Some(name)) = (parent, name) else {
                return Err(error);
            };
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            Ok(parent.canonicalize()?.join(name))
        }
        other => other,
    }
}

pub fn attributes(of: &Metadata) -> Attributes {
    let seconds = |time: i64| u32::try_from(time).unwrap_or(0);
    Attributes {
        size: Some(of.size()),
        owner: Some((of.uid(), of.gid())),
        mode: Some(of.mode()),
        times: Some((seconds(of.atime()), seconds(of.mtime()))),
    }
}

pub fn listed(name: &[u8], of: &Metadata) -> Listed {
    let mut long = format!(
        "{} {:>3} {:<8} {:<8} {:>10} {} ",
        letters(of.mode()),
        of.nlink(),
        of.uid(),
        of.gid(),
        of.size(),
        day(of.mtime()),
    )
    .into_bytes();
    long.extend_from_slice(name);
    (name.to_vec(), long, attributes(of))
}

/// A mode as `ls` shows it.
fn letters(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o010_000 => 'p',
        0o140_000 => 's',
        0o020_000 => 'c',
        0o060_000 => 'b',
        _ => '-',
    };
    let bits = (0..9).map(|at| {
        let letter = char::from(b"rwx"[at % 3]);
        if mode & (0o400 >> at) == 0 { '-' } else { letter }
    });
    std::iter::once(kind).chain(bits).collect()
}

/// A day, by seconds since 1970, in the calendar that counts its years from March.
fn day(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_days_are_shown_as_people_read_them() {
        assert_eq!(letters(0o100_644), "-rw-r--r--");
        assert_eq!(letters(0o040_755), "drwxr-xr-x");
        for (seconds, shown) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_735_689_599, "2024-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day(seconds), shown);
        }
    }
}
