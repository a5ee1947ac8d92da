//! `/dev`: six harmless nodes, terminals, shared memory, message queues, and nothing else.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, makedev};

use super::tree::{Root, attach, new_fs};
use crate::sys::{self, attr};

const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
/// Group `tty` inside.
const TTY_GROUP: u32 = 5;

/// Builds it below `root`.
pub fn build(root: &Root<'_>, memory_bytes: u64) -> io::Result<()> {
    let base = root.uid_base.to_string();
    let owner = [("uid", base.as_str()), ("gid", base.as_str())];
    let mut options = vec![("mode", "755"), ("size", "64k"), ("nr_inodes", "64")];
    options.extend(owner);
    let dev = new_fs("tmpfs", &options, attr::NOEXEC)?;
    populate(&dev, root.uid_base)?;
    sys::mount_setattr(dev.as_fd(), attr::RDONLY, None, false)?;
    let point = root.mount_point(Path::new("/dev"))?;
    attach(dev.as_fd(), point.as_fd())?;

    let no_programs = attr::NOEXEC | attr::NODEV;
    let tty = (root.uid_base + TTY_GROUP).to_string();
    let pts = [("mode", "620"), ("ptmxmode", "666"), ("gid", tty.as_str())];
    let pts = new_fs("devpts", &pts, attr::NOEXEC)?;
    attach(pts.as_fd(), root.existing(Path::new("/dev/pts"), true)?.as_fd())?;
    let shm_bytes = (64 << 20).min(memory_bytes / 2).to_string();
    let mut options = vec![("mode", "1777"), ("size", shm_bytes.as_str())];
    options.extend(owner);
    let shm = new_fs("tmpfs", &options, no_programs)?;
    attach(shm.as_fd(), root.existing(Path::new("/dev/shm"), true)?.as_fd())?;
    let queues = new_fs("mqueue", &[], no_programs)?;
    attach(queues.as_fd(), root.existing(Path::new("/dev/mqueue"), true)?.as_fd())
}

fn populate(dev: &OwnedFd, uid_base: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid_base)), Some(Gid::from_raw(uid_base)));
    for (name, major, minor) in NODES {
        rustix::fs::mknodat(
            dev,
            name,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            makedev(major, minor),
        )?;
        // The node's mode is subject to the umask.
        rustix::fs::chmodat(dev, name, Mode::from_raw_mode(0o666), AtFlags::empty())?;
        rustix::fs::chownat(dev, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
        rustix::fs::chownat(dev, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}
