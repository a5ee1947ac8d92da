//! The private writable layer and its hard limit: one module per means behind one trait.
//!
//! The agent prepares (thread-safe, in parallel); init mounts, while it is still the host's
//! root, from the [`DiskPlan`] it is given.

mod loop_ext4;
mod tmpfs;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Result;

/// How init mounts the layer.
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
            DiskPlan::LoopExt4 { image } => loop_ext4::mount(image),
            DiskPlan::Tmpfs { bytes, inodes } => tmpfs::mount(*bytes, *inodes),
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
}

/// The best means this host has, and why not the better ones.
pub fn open(templates: &Path) -> (Box<dyn Disk>, Vec<String>) {
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
