//! `/dev`: six harmless nodes, terminals, shared memory, message queues, and nothing else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::mount::FsPickFlags;

use super::layout::{self, DEV, LINKS, NODES, PTS, QUEUES, SHM, TTY_GROUP};
use super::tree::{Root, attach, new_fs};
use crate::sys::{self, attr};
use crate::users;

/// Name, major, minor.
type Node = (&'static str, u32, u32);

/// The file systems of `/dev` that belong to no namespace, attached nowhere; the agent can make them as well as init.
pub struct Parts {
    dev: OwnedFd,
    pts: OwnedFd,
    shm: OwnedFd,
    /// Nodes that could not be made.
    borrowed: Vec<Node>,
}

impl Parts {
    /// For a sandbox whose ids begin at `uid_base`.
    pub fn make(uid_base: u32, memory_bytes: u64) -> io::Result<Parts> {
        let base = uid_base.to_string();
        let owner = [("uid", base.as_str()), ("gid", base.as_str())];
        let dev = new_fs(DEV.kind, &[DEV.options, &owner].concat(), DEV.attributes)?;
        let borrowed = populate(&dev, uid_base)?;
        sys::mount_setattr(dev.as_fd(), attr::RDONLY, None, false)?;
        let tty = users::outer(uid_base, TTY_GROUP).to_string();
        let options = [PTS.options, &[("gid", tty.as_str())]].concat();
        let pts = new_fs(PTS.kind, &options, PTS.attributes)?;
        let shm_bytes = layout::shm_bytes(memory_bytes).to_string();
        let options = [SHM.options, &[("size", shm_bytes.as_str())], &owner].concat();
        let shm = new_fs(SHM.kind, &options, SHM.attributes)?;
        Ok(Parts {
            dev,
            pts,
            shm,
            borrowed,
        })
    }

    /// The same from what [`Parts::fds`] gave.
    pub fn from_fds(fds: Vec<OwnedFd>) -> io::Result<Parts> {
        let [dev, pts, shm] = <[OwnedFd; 3]>::try_from(fds).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Parts {
            dev,
            pts,
            shm,
            borrowed: Vec::new(),
        })
    }

    /// To send them.
    pub fn fds(&self) -> [BorrowedFd<'_>; 3] {
        [self.dev.as_fd(), self.pts.as_fd(), self.shm.as_fd()]
    }

    /// Puts them below `root`, and what belongs to this process's namespaces with them.
    pub fn place(self, root: &Root) -> io::Result<()> {
        attach(self.dev.as_fd(), root.mount_point(Path::new(DEV.target))?.as_fd())?;
        for node in self.borrowed {
            borrow(root, node)?;
        }
        for (part, target) in [(self.pts, PTS.target), (self.shm, SHM.target)] {
            attach(part.as_fd(), root.existing(Path::new(target), true)?.as_fd())?;
        }
        let queues = new_fs(QUEUES.kind, QUEUES.options, QUEUES.attributes)?;
        attach(queues.as_fd(), root.existing(Path::new(QUEUES.target), true)?.as_fd())
    }
}

/// Fits the size of shared memory to another limit than it was built for.
pub fn resize_shm(root: &Root, memory_bytes: u64) -> io::Result<()> {
    let shm = root.existing(Path::new("/dev/shm"), true)?;
    let fs = rustix::mount::fspick(
        shm.as_fd(),
        c"",
        FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH,
    )?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), "size", layout::shm_bytes(memory_bytes).to_string())?;
    Ok(rustix::mount::fsconfig_reconfigure(fs.as_fd())?)
}

/// Fills it; the nodes that could not be made.
fn populate(dev: &OwnedFd, uid_base: u32) -> io::Result<Vec<Node>> {
    let mut borrowed = Vec::new();
    let (uid, gid) = (Some(Uid::from_raw(uid_base)), Some(Gid::from_raw(uid_base)));
    for (name, major, minor) in NODES {
        let mode = Mode::from_raw_mode(0o666);
        if uid_base == 0 {
            // Root of a user namespace makes no devices, but may show those of the host in their place.
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            drop(rustix::fs::openat(dev, name, flags, mode)?);
            borrowed.push((name, major, minor));
            continue;
        }
        rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, makedev(major, minor))?;
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
    Ok(borrowed)
}

/// Shows the host's node in place of an empty file, made sure to be that device.
fn borrow(root: &Root, (name, major, minor): Node) -> io::Result<()> {
    let path = Path::new("/dev").join(name);
    let node = super::tree::clone_tree(&path, false)?;
    let stat = rustix::fs::fstat(&node)?;
    let is_char = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_char || stat.st_rdev != makedev(major, minor) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    sys::mount_setattr(node.as_fd(), attr::NOSUID | attr::NOEXEC, None, false)?;
    attach(node.as_fd(), root.existing(&path, false)?.as_fd())
}
