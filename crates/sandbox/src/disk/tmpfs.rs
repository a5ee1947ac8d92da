//! The private layer in memory: exact and instant, but charged to the sandbox's memory and
//! gone with the machine. The last resort where loop devices are missing.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

use super::{Disk, DiskPlan, Stocked};
use crate::Result;
use crate::error::Context;

/// See the module.
#[derive(Debug)]
pub struct Tmpfs;

impl Disk for Tmpfs {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn prepare(&self, _dir: &Path, bytes: u64, inodes: u64) -> Result<DiskPlan> {
        Ok(DiskPlan::Tmpfs { bytes, inodes })
    }

    fn can_stock(&self) -> bool {
        false
    }

    fn stock(&self, image: &Path, _bytes: u64, _inodes: u64) -> Result<Stocked> {
        Err(io::ErrorKind::Unsupported).at("make image", image)
    }
}

/// A new file system of at most `bytes` and `inodes`.
pub fn mount(bytes: u64, inodes: u64) -> io::Result<OwnedFd> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "size", bytes.to_string())?;
    fsconfig_set_string(&fs, "nr_inodes", inodes.to_string())?;
    fsconfig_set_string(&fs, "mode", "755")?;
    fsconfig_create(&fs)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}
