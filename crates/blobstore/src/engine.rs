//! The seam to where blobs lie: an object store, and for a directory also its paths. Knows keys, not contents.
//!
//! Everything reads and writes through `object_store`. Only what an object store has no word for (a blob's path for
//! mounting, a finished file moved in without copying, stale temporaries) asks for the directory, and has another way
//! where there is none.

use crate::{Error, Kind, S3};
use model::Digest;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder of marks, see [`mark`].
const MARKS: &str = "marks";

/// Where blobs lie.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub store: Arc<dyn ObjectStore>,
    /// Root of the store where it is a directory on this machine.
    pub directory: Option<PathBuf>,
    /// Folder for files that are not blobs yet.
    pub scratch: PathBuf,
}

impl Engine {
    /// A directory; blobs and their folders are flushed to disk before a write is acknowledged.
    pub fn directory(root: &Path) -> Result<Self, Error> {
        let scratch = root.join("tmp");
        let folders = Kind::ALL.map(|kind| root.join(kind.folder()));
        for folder in folders.iter().chain([&scratch]) {
            fs::create_dir_all(folder).map_err(failed("create", folder))?;
        }
        let store = LocalFileSystem::new_with_prefix(root)
            .map_err(|source| Error::Open {
                place: root.display().to_string(),
                source,
            })?
            .with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
            directory: Some(root.to_owned()),
            scratch,
        })
    }

    /// A bucket; `scratch` is a folder of this process, made where it is not there.
    pub fn s3(settings: &S3, scratch: &Path) -> Result<Self, Error> {
        fs::create_dir_all(scratch).map_err(failed("create", scratch))?;
        let client = settings.client().map_err(|source| Error::Open {
            place: settings.to_string(),
            source,
        })?;
        let store: Arc<dyn ObjectStore> = match settings.prefix.trim_matches('/') {
            "" => Arc::new(client),
            prefix => Arc::new(PrefixStore::new(client, prefix)),
        };
        Ok(Self {
            store,
            directory: None,
            scratch: scratch.to_owned(),
        })
    }

    /// Path of a blob, whether or not it is there; `None` where the store is not a directory.
    pub fn path(&self, kind: Kind, digest: &Digest) -> Option<PathBuf> {
        self.directory
            .as_ref()
            .map(|root| root.join(key(kind, digest).as_ref()))
    }

    /// Moves a finished file of the scratch folder into place, durably; `false` where the store is not a directory.
    /// Blocking.
    pub fn adopt(&self, kind: Kind, digest: &Digest, file: &Path) -> Result<bool, Error> {
        let Some(target) = self.path(kind, digest) else {
            return Ok(false);
        };
        let parent = target.parent().unwrap_or(&target);
        fs::create_dir_all(parent).map_err(failed("create", parent))?;
        fs::File::open(file)
            .and_then(|handle| handle.sync_all())
            .and_then(|()| fs::rename(file, &target))
            .map_err(failed("move into place", &target))?;
        for folder in [Some(parent), parent.parent()].into_iter().flatten() {
            fs::File::open(folder)
                .and_then(|handle| handle.sync_all())
                .map_err(failed("flush", folder))?;
        }
        Ok(true)
    }

    /// Removes what interrupted writes left behind. Blocking; only before anything writes.
    pub fn sweep(&self) -> Result<usize, Error> {
        let mut removed = clear(&self.scratch)?;
        let Some(root) = &self.directory else {
            return Ok(removed);
        };
        for kind in Kind::ALL {
            for shard in list(&root.join(kind.folder()))? {
                for file in list(&shard)?.iter().filter(|file| is_temporary(file)) {
                    fs::remove_file(file).map_err(failed("remove", file))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

/// Where a blob lies: `<kind>/<first two digits>/<64 digits>`, so that no folder grows without end.
pub(crate) fn key(kind: Kind, digest: &Digest) -> Key {
    let hex = digest.hex();
    Key::from_iter([kind.folder(), &hex[..2], &hex])
}

/// Where it is noted that a blob was asked to stay, in a store that can't make an object younger: an empty object, whose
/// age counts instead.
pub(crate) fn mark(kind: Kind, digest: &Digest) -> Key {
    let hex = digest.hex();
    Key::from_iter([MARKS, kind.folder(), &hex[..2], &hex])
}

/// Folder of the marks of a kind.
pub(crate) fn marks(kind: Kind) -> Key {
    Key::from_iter([MARKS, kind.folder()])
}

/// The digest that a key names, if it is one of ours.
pub(crate) fn digest(key: &Key) -> Option<Digest> {
    format!("sha256:{}", key.filename()?).parse().ok()
}

/// Shapes an I/O error; `operation` completes "failed to".
pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Folder {
        operation,
        path,
        source,
    }
}

/// The directory engine of `object_store` writes to `<name>#<number>` and renames.
fn is_temporary(file: &Path) -> bool {
    file.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.contains('#'))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(failed("list", folder))
}

fn clear(folder: &Path) -> Result<usize, Error> {
    let entries = list(folder)?;
    for entry in &entries {
        let removed = if entry.is_dir() {
            fs::remove_dir_all(entry)
        } else {
            fs::remove_file(entry)
        };
        removed.map_err(failed("remove", entry))?;
    }
    Ok(entries.len())
}
