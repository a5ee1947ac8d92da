//! A file or a tree as a tar stream. Only plain files, folders, and links that stay within the
//! tree; what else there is, or cannot be read, is left out and counted.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};
use tar::{Builder, EntryType, Header};

use super::{Refused, tree};
use crate::copy::{Copied, CopyOrder};

/// Of the stream's writes.
const BUFFER_BYTES: usize = 64 << 10;

struct Packer<'a> {
    order: &'a CopyOrder,
    tar: Builder<io::BufWriter<File>>,
    done: Copied,
}

/// Writes what `order` names to `stream`: one entry for a file, named by its own name; for a
/// folder what is in it.
pub fn pack(order: &CopyOrder, stream: OwnedFd) -> Result<Copied, Refused> {
    let top = tree::named(&order.path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map_err(tree::why)?;
    let stat = rustix::fs::fstat(&top).map_err(tree::why)?;
    let writer = io::BufWriter::with_capacity(BUFFER_BYTES, File::from(stream));
    let mut packer = Packer {
        order,
        tar: Builder::new(writer),
        done: Copied::default(),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let name = order.path.file_name().map_or("file".into(), PathBuf::from);
            packer.file(top, &stat, &name)?;
        }
        FileType::Directory => packer.folder(top, Path::new(""), 0)?,
        _ => return Err("it is neither a plain file nor a folder".to_owned()),
    }
    let told = |e: io::Error| e.to_string();
    let writer = packer.tar.into_inner().map_err(told)?;
    writer.into_inner().map_err(|e| e.to_string())?;
    Ok(packer.done)
}

impl Packer<'_> {
    fn folder(&mut self, folder: OwnedFd, path: &Path, depth: usize) -> Result<(), Refused> {
        if depth > self.order.limits.depth as usize {
            return Err(format!("it is deeper than {} folders", self.order.limits.depth));
        }
        for name in names(folder.as_fd())? {
            self.entry(folder.as_fd(), name, path, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: BorrowedFd<'_>, name: OsString, path: &Path, depth: usize) -> Result<(), Refused> {
        let path = path.join(&name);
        let Ok(stat) = rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(());
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Symlink {
            return self.link(folder, &name, &stat, &path, depth);
        }
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            self.done.skipped += 1;
            return Ok(());
        }
        let opened =
            tree::child(folder, &name, OFlags::RDONLY, 0).and_then(|file| Ok((rustix::fs::fstat(&file)?, file)));
        // Forbidden, another mount, or replaced since it was looked at.
        let Ok((stat, file)) = opened else {
            self.done.skipped += 1;
            return Ok(());
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(file, &stat, &path),
            FileType::Directory => {
                self.count(0)?;
                let mut header = header(&stat, EntryType::Directory, 0);
                self.append(&mut header, &path, io::empty())?;
                self.folder(file, &path, depth + 1)
            }
            _ => {
                self.done.skipped += 1;
                Ok(())
            }
        }
    }

    fn file(&mut self, file: OwnedFd, stat: &Stat, path: &Path) -> Result<(), Refused> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        // Holes count as what they stand for: that is what the other end has to hold.
        self.count(size)?;
        let mut header = header(stat, EntryType::Regular, size);
        // It may shrink or grow meanwhile; the entry has the size that was announced.
        let content = File::from(file).chain(io::repeat(0)).take(size);
        self.append(&mut header, path, content)
    }

    fn link(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsString,
        stat: &Stat,
        path: &Path,
        depth: usize,
    ) -> Result<(), Refused> {
        let target = rustix::fs::readlinkat(folder, name, Vec::new()).map_err(tree::why)?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if !tree::stays_inside(&target, depth) {
            self.done.skipped += 1;
            return Ok(());
        }
        self.count(0)?;
        let mut header = header(stat, EntryType::Symlink, 0);
        self.tar
            .append_link(&mut header, path, &target)
            .map_err(|e| e.to_string())
    }

    fn append(&mut self, header: &mut Header, path: &Path, content: impl Read) -> Result<(), Refused> {
        self.tar.append_data(header, path, content).map_err(|e| e.to_string())
    }

    /// One entry more, of `bytes`.
    fn count(&mut self, bytes: u64) -> Result<(), Refused> {
        self.done.entries += 1;
        self.done.bytes = self.done.bytes.saturating_add(bytes);
        self.order.limits.check(&self.done)
    }
}

fn header(stat: &Stat, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o777);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(size);
    header
}

/// The names in a folder, in their order.
fn names(folder: BorrowedFd<'_>) -> Result<Vec<OsString>, Refused> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(tree::why)? {
        let name = entry.map_err(tree::why)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}
