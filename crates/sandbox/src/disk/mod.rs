//! The private writable layer and its hard limit: one module per means behind one trait.
//!
//! The agent prepares and mounts (thread-safe, in parallel); the mount is attached nowhere, so
//! the kernel undoes it if the agent dies, and init attaches it in the sandbox.

mod loop_ext4;
mod tmpfs;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::Context;

/// How the layer is mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskPlan {
    /// An ext4 image.
    LoopExt4 {
        /// The image.
        image: PathBuf,
    },
    /// Memory.
    Tmpfs {
        /// Size limit.
        bytes: u64,
        /// File limit.
        inodes: u64,
    },
}

impl DiskPlan {
    /// Mounts it, attached nowhere yet.
    pub fn mount(&self) -> std::io::Result<OwnedFd> {
        match self {
            DiskPlan::LoopExt4 { image } => loop_ext4::Attached::new(image)?.mount(),
            DiskPlan::Tmpfs { bytes, inodes } => tmpfs::mount(*bytes, *inodes),
        }
    }

    /// The same after its folder has become `dir`.
    pub fn moved(self, dir: &Path) -> DiskPlan {
        match self {
            DiskPlan::LoopExt4 { image } => DiskPlan::LoopExt4 {
                image: dir.join(image.file_name().unwrap_or_default()),
            },
            memory @ DiskPlan::Tmpfs { .. } => memory,
        }
    }

    /// The file that it is in, if it is in one.
    pub fn image(&self) -> Option<&Path> {
        match self {
            DiskPlan::LoopExt4 { image } => Some(image),
            DiskPlan::Tmpfs { .. } => None,
        }
    }

    /// Whether it can be mounted once more after its sandbox has ended: only what is on disk
    /// and not mounted any more (two mounts of one image would destroy each other's data).
    pub fn can_return(&self) -> bool {
        match self {
            DiskPlan::LoopExt4 { image } => !loop_ext4::is_attached(image),
            DiskPlan::Tmpfs { .. } => false,
        }
    }
}

/// One means of limiting a writable layer.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Its name, for operators.
    fn name(&self) -> &'static str;
    /// Prepares a layer of `bytes` and `inodes` in the sandbox's folder `dir`.
    fn prepare(&self, dir: &Path, bytes: u64, inodes: u64) -> Result<DiskPlan>;
    /// Whether there is anything that can be prepared before it has a sandbox, with [`Disk::stock`].
    fn can_stock(&self) -> bool;
    /// Writes an empty image for such a layer, which [`Layer::of_stock`] makes one of, to the new file `image`.
    fn stock(&self, image: &Path, bytes: u64, inodes: u64) -> Result<Stocked>;
}

/// An empty image that nobody has, on its device but not mounted.
#[derive(Debug)]
pub struct Stocked {
    image: PathBuf,
    device: loop_ext4::Attached,
}

impl Stocked {
    /// Removes it.
    pub fn discard(self) -> Result<()> {
        drop(self.device);
        std::fs::remove_file(&self.image).at("remove image", &self.image)
    }
}

/// A private layer ready for a sandbox.
#[derive(Debug)]
pub struct Layer {
    /// How it was made.
    pub plan: DiskPlan,
    /// Its file system, attached nowhere.
    pub mount: OwnedFd,
    /// The folder in it that holds what the sandbox writes.
    pub upper: OwnedFd,
}

impl Layer {
    /// Makes one in the folder `dir`.
    pub fn make(disk: &dyn Disk, dir: &Path, bytes: u64, inodes: u64) -> Result<Layer> {
        let plan = disk.prepare(dir, bytes, inodes)?;
        let (mount, upper) = plan.mount().and_then(ready).at("mount the private layer in", dir)?;
        Ok(Layer { plan, mount, upper })
    }

    /// Makes one of an empty image that was in stock, which goes to the folder `dir`; consumes it in any case.
    pub fn of_stock(stocked: Stocked, dir: &Path) -> Result<Layer> {
        let Stocked { image, device } = stocked;
        let plan = DiskPlan::LoopExt4 {
            image: dir.join(loop_ext4::IMAGE),
        };
        let made = device.mount().and_then(ready).at("mount the private layer in", dir);
        let made = made.and_then(|made| {
            std::fs::rename(&image, dir.join(loop_ext4::IMAGE)).at("take image", &image)?;
            Ok(made)
        });
        let (mount, upper) = made.inspect_err(|_| drop(std::fs::remove_file(&image)))?;
        Ok(Layer { plan, mount, upper })
    }

    /// Gives it to the sandbox whose range of users begins at `uid_base`.
    pub fn own(&self, uid_base: u32) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid_base)), Some(Gid::from_raw(uid_base)));
        for name in ["upper", "work"] {
            rustix::fs::chownat(&self.mount, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

fn ready(mount: OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for name in ["upper", "work"] {
        // An image was formatted with both.
        let folder = match rustix::fs::openat(&mount, name, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&mount, name, Mode::from_raw_mode(0o755))?;
                rustix::fs::openat(&mount, name, flags, Mode::empty())?
            }
            other => other?,
        };
        // Every look-up in the root begins there: what is read now, no start waits for.
        rustix::fs::Dir::read_from(&folder)?.read().transpose()?;
    }
    let upper = rustix::fs::openat(&mount, "upper", flags | OFlags::PATH, Mode::empty())?;
    Ok((mount, upper))
}

/// The best means this host has, and why not the better ones.
pub fn open(templates: &Path) -> (Box<dyn Disk>, Vec<String>) {
    if crate::users::confined() {
        // What is missing with it is told there.
        return (Box::new(tmpfs::Tmpfs), Vec::new());
    }
    match loop_ext4::LoopExt4::probe(templates) {
        Ok(disk) => (Box::new(disk), Vec::new()),
        Err(reason) => (
            Box::new(tmpfs::Tmpfs),
            vec![format!(
                "private layers are held in memory and count against the memory limit: {reason}"
            )],
        ),
    }
}
