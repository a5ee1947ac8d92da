//! Paths that are hidden or cannot be written: those of the platform, and any others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::layout::{MASKED, READ_ONLY, SYS};
use super::tree::{attach, new_fs};
use super::{Failure, Stage};
use crate::sys::{self, attr};

const CPUS: &str = "/sys/devices/system/cpu";

/// Applies the platform's below `root`, except those in `/sys` if that is `masked` already; what this kernel does not
/// have is skipped. As for [`hide_own`].
pub fn apply(root: BorrowedFd<'_>, dev_null: BorrowedFd<'_>, masked: bool) -> Result<(), Failure> {
    for path in READ_ONLY {
        protect_own(root, path).stage(format!("protect {path}"))?;
    }
    let paths = hidden().filter(|path| !masked || !path.starts_with(SYS.target));
    hide_own(root, paths, dev_null)
}

/// Applies those in `/sys` to one that is attached nowhere, which Linux permits from 6.15 on.
pub fn apply_to_sys(sys: BorrowedFd<'_>, dev_null: BorrowedFd<'_>) -> Result<(), Failure> {
    let inside = |path: String| path.strip_prefix(SYS.target).map(str::to_owned);
    hide_own(sys, hidden().filter_map(inside), dev_null)
}

/// Mounts `path` over itself, read-only.
fn protect_own(root: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    let all = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let name = path.trim_start_matches('/');
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let copy = match open_tree(root, name, flags | OpenTreeFlags::AT_SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        other => other?,
    };
    sys::mount_setattr(copy.as_fd(), all, None, false)?;
    Ok(attach_at(copy.as_fd(), root, name)?)
}

/// As [`hide`], in a tree that is this process's own: file systems of the kernel that nobody else has seen. Nobody laid
/// a link there, so places go by name, in half as many steps.
fn hide_own(
    root: BorrowedFd<'_>,
    paths: impl Iterator<Item = String>,
    dev_null: BorrowedFd<'_>,
) -> Result<(), Failure> {
    let mut file = Mask::default();
    let mut folder = Mask::default();
    for path in paths {
        let name = path.trim_start_matches('/');
        let stage = || format!("mask {path}");
        let placed = file.place(root, name, || copy_host(dev_null));
        let placed = match placed {
            // A file is not put over a folder.
            Err(rustix::io::Errno::INVAL) => folder.place(root, name, empty_folder),
            other => other,
        };
        match placed {
            // It is not there, or something that it would be in is not.
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
            Err(e) => return Err(e).stage(stage()),
        }
    }
    Ok(())
}

/// Something to hide others behind: made once, then copied.
#[derive(Default)]
struct Mask {
    placed: Option<OwnedFd>,
    spare: Option<OwnedFd>,
}

impl Mask {
    fn place(
        &mut self,
        root: BorrowedFd<'_>,
        name: &str,
        make: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> rustix::io::Result<()> {
        let known = |e: io::Error| rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO);
        let one = match (self.spare.take(), &self.placed) {
            (Some(spare), _) => spare,
            (None, Some(placed)) => copy(placed.as_fd(), false).map_err(known)?,
            (None, None) => make().map_err(known)?,
        };
        let attached = attach_at(one.as_fd(), root, name);
        let place = if attached.is_ok() {
            &mut self.placed
        } else {
            &mut self.spare
        };
        place.get_or_insert(one);
        attached
    }
}

/// Attaches a mount at the place `name` below `root`, which is no link.
fn attach_at(mount: BorrowedFd<'_>, root: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    move_mount(mount, c"", root, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn empty_folder() -> io::Result<OwnedFd> {
    let options = [("size", "4k"), ("nr_inodes", "2"), ("mode", "555")];
    let all = attr::RDONLY | attr::NODEV | attr::NOEXEC | attr::NOSUID;
    new_fs("tmpfs", &options, all)
}

fn hidden() -> impl Iterator<Item = String> {
    MASKED.iter().map(|&path| path.to_owned()).chain(thermal())
}

/// Mounts each of `paths` that is there over itself with the attributes `set`.
pub fn protect<P: AsRef<str>>(root: BorrowedFd<'_>, paths: &[P], set: u64) -> Result<(), Failure> {
    for path in paths {
        let path = path.as_ref();
        let stage = || format!("protect {path}");
        if let Some(place) = present(root, path).stage(stage())? {
            let copy = copy(place.as_fd(), true).stage(stage())?;
            sys::mount_setattr(copy.as_fd(), set, None, false).stage(stage())?;
            attach(copy.as_fd(), place.as_fd()).stage(stage())?;
        }
    }
    Ok(())
}

/// Shows each of `paths` that is there as an empty folder or, with the device `dev_null`, as an empty file.
pub fn hide<P: AsRef<str>>(root: BorrowedFd<'_>, paths: &[P], dev_null: BorrowedFd<'_>) -> Result<(), Failure> {
    // One empty file system for all folders: the first takes it itself, the others copies.
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let path = path.as_ref();
        let stage = || format!("mask {path}");
        let Some(place) = present(root, path).stage(stage())? else {
            continue;
        };
        let stat = rustix::fs::fstat(&place).stage(stage())?;
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            let null = copy_host(dev_null).stage(stage())?;
            attach(null.as_fd(), place.as_fd()).stage(stage())?;
            continue;
        }
        match &empty {
            None => {
                let fs = empty_folder().stage("make mask")?;
                attach(fs.as_fd(), place.as_fd()).stage(stage())?;
                empty = Some(fs);
            }
            Some(fs) => {
                let again = copy(fs.as_fd(), false).stage(stage())?;
                attach(again.as_fd(), place.as_fd()).stage(stage())?;
            }
        }
    }
    Ok(())
}

/// Opens what exists at `path` as a place only, through no symbolic link at all.
fn present(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(root, Path::new(path), flags, Mode::empty(), resolve);
    let place = match opened {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        other => other?,
    };
    // Opened as a place, a link is no error; behind it may be anything.
    if FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) == FileType::Symlink {
        return Err(io::Error::from_raw_os_error(libc::ELOOP));
    }
    Ok(Some(place))
}

/// A copy of the mount below `fd` from there on.
pub fn copy(fd: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
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
    // Either all of them tell it or none.
    if !Path::new(CPUS).join("cpu0/thermal_throttle").exists() {
        return Vec::new();
    }
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
