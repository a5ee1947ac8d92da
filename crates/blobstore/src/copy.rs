//! Brings all blobs of one store to another: for backups, and to move from one engine to the other.

use crate::store::Blobstore;
use crate::{Error, Kind, engine};
use futures_util::TryStreamExt as _;

/// What was brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Blobs, those that were there already among them.
    pub blobs: u64,
    /// Bytes that were written.
    pub bytes: u64,
}

impl Blobstore {
    /// Copies every blob to `other`. What is there already is not written again. Blobs that are collected meanwhile are
    /// left out.
    ///
    /// # Errors
    /// Those of either store. What was copied stays; the next try goes on.
    pub async fn copy_to(&self, other: &Self) -> Result<Copied, Error> {
        let mut copied = Copied::default();
        for kind in Kind::ALL {
            let folder = object_store::path::Path::from(kind.folder());
            let mut listing = self.engine.store.list(Some(&folder));
            let failed = |source| Error::List { kind, source };
            while let Some(meta) = listing.try_next().await.map_err(failed)? {
                let Some(digest) = engine::digest(&meta.location) else {
                    continue;
                };
                copied.blobs += 1;
                if other.head(kind, &digest).await?.is_some() {
                    continue;
                }
                let blob = match self.get(kind, &digest).await {
                    Ok(blob) => blob,
                    Err(error) if self.head(kind, &digest).await?.is_none() => {
                        tracing::debug!(%kind, %digest, %error, "a blob was collected meanwhile");
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                copied.bytes += other.put_verified(kind, &digest, blob.stream).await?.size_bytes;
            }
        }
        Ok(copied)
    }
}
