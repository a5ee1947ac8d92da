//! A tar stream into a folder. The stream is hostile: only plain files, folders and links that
//! stay within the folder; anything else ends the copy with its reason.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use tar::{Archive, EntryType};

use super::{Refused, tree};
use crate::copy::{Copied, CopyOrder};

/// Unpacks `stream` into the folder that `order` names, which is made if it is missing.
pub fn unpack(order: &CopyOrder, stream: OwnedFd) -> Result<Copied, Refused> {
    let top = target(&order.path)?;
    let mut done = Copied::default();
    let mut archive = Archive::new(File::from(stream));
    for entry in archive.entries().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| format!("the stream is broken: {e}"))?;
        let path = plain(&entry.path().map_err(|e| e.to_string())?, order.limits.depth)?;
        let header = entry.header();
        let (kind, mode) = (header.entry_type(), header.mode().unwrap_or(0o644) & 0o777);
        done.entries += 1;
        done.bytes = done.bytes.saturating_add(entry.size());
        order.limits.check(&done)?;
        let Some(name) = path.file_name() else { continue };
        let parent = folders(&top, path.parent().unwrap_or(Path::new("")))?;
        let told = |e: Refused| format!("{}: {e}", path.display());
        match kind {
            EntryType::Directory => drop(folder(&parent, name).map_err(told)?),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                write(&parent, name, mode, &mut entry).map_err(told)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name().ok().flatten().unwrap_or_default().into_owned();
                link(&parent, name, &target, path.components().count() - 1).map_err(told)?;
            }
            other => {
                return Err(format!(
                    "{}: {other:?} is neither file, folder nor link",
                    path.display()
                ));
            }
        }
    }
    Ok(done)
}

/// The folder to unpack into.
fn target(path: &Path) -> Result<OwnedFd, Refused> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match tree::named(path, flags) {
        Err(rustix::io::Errno::NOENT) => {
            let parent = path.parent().ok_or("there is no such folder")?;
            let name = path.file_name().ok_or("there is no such folder")?;
            folder(&target(parent)?, name)
        }
        other => other.map_err(tree::why),
    }
}

/// `path` without its `.`, if it leads nowhere else.
fn plain(path: &Path, depth: u32) -> Result<PathBuf, Refused> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            _ => return Err(format!("{} leads out of the folder", path.display())),
        }
    }
    if plain.components().count() > depth as usize + 1 {
        return Err(format!("it is deeper than {depth} folders"));
    }
    Ok(plain)
}

fn folders(top: &OwnedFd, path: &Path) -> Result<OwnedFd, Refused> {
    let mut at = top.try_clone().map_err(|e| e.to_string())?;
    for name in path {
        at = folder(&at, name)?;
    }
    Ok(at)
}

/// The folder `name` in `parent`, made if missing.
fn folder(parent: &OwnedFd, name: &std::ffi::OsStr) -> Result<OwnedFd, Refused> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(tree::why(e)),
    }
    tree::child(parent.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(tree::why)
}

fn write(parent: &OwnedFd, name: &std::ffi::OsStr, mode: u32, content: &mut impl Read) -> Result<(), Refused> {
    let file = tree::child(parent.as_fd(), name, OFlags::WRONLY | OFlags::CREATE, mode).map_err(tree::why)?;
    let stat = rustix::fs::fstat(&file).map_err(tree::why)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("there is something that is not a plain file".to_owned());
    }
    // Not before it is known to be a file.
    rustix::fs::ftruncate(&file, 0).map_err(tree::why)?;
    // Somebody else's file that may be written keeps its mode.
    let _ = rustix::fs::fchmod(&file, Mode::from_raw_mode(mode));
    io::copy(content, &mut File::from(file))
        .map(drop)
        .map_err(|e| e.to_string())
}

fn link(parent: &OwnedFd, name: &std::ffi::OsStr, target: &Path, depth: usize) -> Result<(), Refused> {
    if !tree::stays_inside(target, depth) {
        return Err(format!("a link to {} leads out of the folder", target.display()));
    }
    rustix::fs::symlinkat(target, parent, name).map_err(tree::why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ways_down_are_taken() {
        assert_eq!(plain(Path::new("./a/./b"), 9).unwrap(), Path::new("a/b"));
        assert!(plain(Path::new("a/b/c"), 2).is_ok());
        for (bad, depth) in [("/etc/x", 9), ("a/../../b", 9), ("..", 9), ("a/b/c", 1)] {
            assert!(plain(Path::new(bad), depth).is_err(), "{bad}");
        }
    }
}
