//! Paths of `/proc` and `/sys` that are hidden or cannot be written.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{OpenTreeFlags, open_tree};

use super::layout::{MASKED, READ_ONLY};
use super::tree::{Root, attach, new_fs};
use super::{Failure, Stage};
use crate::sys::{self, attr};

const CPUS: &str = "/sys/devices/system/cpu";

/// Applies them all; what this kernel does not have is skipped.
pub fn apply(root: &Root<'_>, dev_null: BorrowedFd<'_>) -> Result<(), Failure> {
    let all = attr::RDONLY | attr::NODEV | attr::NOEXEC | attr::NOSUID;
    let empty = new_fs("tmpfs", &[("size", "4k"), ("nr_inodes", "2"), ("mode", "555")], all).stage("make mask")?;
    for path in READ_ONLY {
        if let Some(place) = present(root, path).stage(format!("find {path}"))? {
            let copy = copy(place.as_fd(), false).stage(format!("protect {path}"))?;
            let set = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
            sys::mount_setattr(copy.as_fd(), set, None, false).stage(format!("protect {path}"))?;
            attach(copy.as_fd(), place.as_fd()).stage(format!("protect {path}"))?;
        }
    }
    let mut masked: Vec<String> = MASKED.iter().map(|&path| path.to_owned()).collect();
    masked.extend(thermal());
    // The first folder takes the file system itself, the others copies of it.
    let mut spare = Some(empty);
    let mut attached: Option<OwnedFd> = None;
    for path in &masked {
        let stage = || format!("mask {path}");
        let Some(place) = present(root, path).stage(stage())? else {
            continue;
        };
        let stat = rustix::fs::fstat(&place).stage(stage())?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            let null = copy_host(dev_null).stage(stage())?;
            attach(null.as_fd(), place.as_fd()).stage(stage())?;
            continue;
        }
        match (&attached, spare.take()) {
            (None, Some(fs)) => {
                attach(fs.as_fd(), place.as_fd()).stage(stage())?;
                attached = Some(fs);
            }
            (Some(fs), _) => {
                let again = copy(fs.as_fd(), false).stage(stage())?;
                attach(again.as_fd(), place.as_fd()).stage(stage())?;
            }
            (None, None) => {}
        }
    }
    Ok(())
}

fn present(root: &Root<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    match root.existing(Path::new(path), false) {
        Ok(place) => Ok(Some(place)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// A copy of the mount below `fd` from there on.
fn copy(fd: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(fd, c"", flags)?)
}

fn copy_host(dev_null: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let null = copy(dev_null, false)?;
    sys::mount_setattr(null.as_fd(), attr::RDONLY | attr::NOSUID | attr::NOEXEC, None, false)?;
    Ok(null)
}

/// Where the heat of this host's CPUs can be seen.
pub fn thermal() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(CPUS) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|cpu| cpu.path().join("thermal_throttle"))
        .filter(|path| path.exists())
        .filter_map(|path| path.into_os_string().into_string().ok())
        .collect()
}
