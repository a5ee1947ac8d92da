//! Images of layers, mounted: each once for all sandboxes of this cell that use it.
//!
//! A mount is attached nowhere: a descriptor has it, and sandboxes take it by that descriptor's path. So nothing of it
//! is in the host's list of mounts, nothing has to be unmounted when the agent ends, however it does, and what runs goes
//! on with the mount that it has. How images are written is [`crate::unpack`]'s.

use crate::cache::Tree;
use crate::error::{Error, file};
use crate::unpack::erofs::{self, Folder, Meta, Writer};
use parking_lot::Mutex;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// Name of the image in its folder of the cache.
pub(crate) const IMAGE: &str = "layer.erofs";

/// The mounted images.
#[derive(Debug, Default)]
pub(crate) struct Images {
    mounted: Mutex<HashMap<PathBuf, Weak<OwnedFd>>>,
}

impl Images {
    /// Finds out whether this host mounts images and takes such mounts for sandboxes, in the folder `dir` which exists.
    /// Blocking.
    ///
    /// # Errors
    /// It does not: before Linux 6.15, without root, or where `dir` is in memory.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        if sandbox::unprivileged::confined() {
            return Err(io::Error::other("the agent is not the host's root"));
        }
        let trial = tempfile::Builder::new().prefix("trial").tempfile_in(dir)?;
        let nobody = Meta {
            mode: 0o755,
            owner: (0, 0),
            mtime: 0,
        };
        Writer::new(trial.reopen()?).finish(&Folder::new(nobody))?;
        let mounted = erofs::mount(trial.path())?;
        // As sandboxes take layers; older kernels clone nothing that is attached nowhere.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(rustix::fs::CWD, path_of(&mounted), flags)?;
        Ok(Self::default())
    }

    /// A new image's file in `folder`.
    pub(crate) fn create(folder: &Path) -> Result<File, Error> {
        let path = folder.join(IMAGE);
        File::create_new(&path).map_err(file("create", &path))
    }

    /// `tree`, which holds an image, as what that image holds. Blocking, for a moment.
    pub(crate) fn mount(&self, tree: Tree) -> Result<Tree, Error> {
        let image = tree.path().join(IMAGE);
        let mut mounted = self.mounted.lock();
        let there = mounted.get(&image).and_then(Weak::upgrade);
        let mount = match there {
            Some(mount) => mount,
            None => {
                let mount = Arc::new(erofs::mount(&image).map_err(file("mount", &image))?);
                mounted.retain(|_, mount| mount.strong_count() > 0);
                mounted.insert(image, Arc::downgrade(&mount));
                mount
            }
        };
        Ok(tree.seen_at(path_of(&mount), mount))
    }
}

/// Where other processes of this host find what a descriptor of this one has.
fn path_of(mount: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), mount.as_raw_fd()))
}
