//! Uploaded buildpacks as files: fetched and verified once, shown to every build that uses them.

use crate::cache::{Tree, Trees};
use crate::error::{Error, blocking};
use blobstore::{Blobstore, Kind};
use futures_util::TryStreamExt as _;
use model::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Name of the archive in its folder.
const FILE: &str = "bits";

/// The archives of this cell. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archives {
    trees: Arc<Trees>,
    blobs: Blobstore,
}

impl Archives {
    /// Keeps archives of `blobs` in `dir`, within `budget_bytes` as far as they are not in use. Blocking.
    ///
    /// # Errors
    /// The folder can't be used.
    pub fn open(dir: &Path, blobs: Blobstore, budget_bytes: u64) -> Result<Self, Error> {
        Ok(Self {
            trees: Arc::new(Trees::open(dir, budget_bytes)?),
            blobs,
        })
    }

    /// A folder that holds the archive as `bits`.
    ///
    /// # Errors
    /// The blob is missing or is not what its digest says, or there is no room.
    pub async fn acquire(&self, digest: &Digest) -> Result<Tree, Error> {
        self.trees
            .acquire(&digest.hex(), async |folder| {
                let blob = self.blobs.get(Kind::Buildpack, digest).await;
                let blob = blob.map_err(|source| Error::Blob {
                    operation: format!("read buildpack {digest}"),
                    source: Box::new(source),
                })?;
                let reader = SyncIoBridge::new(StreamReader::new(blob.stream.map_err(io::Error::other)));
                let (saved, bytes) = blocking(move || save(reader, &folder)).await?;
                if saved != *digest {
                    return Err(Error::Mismatch {
                        expected: digest.clone(),
                        actual: saved,
                    });
                }
                Ok(bytes)
            })
            .await
    }

    /// The folder of an archive that something adopted is using.
    #[must_use]
    pub fn hold(&self, digest: &Digest) -> Option<Tree> {
        self.trees.hold(&digest.hex())
    }
}

fn save(mut reader: impl io::Read, folder: &Path) -> Result<(Digest, u64), Error> {
    let path = folder.join(FILE);
    let failed = |source| Error::File {
        operation: "write",
        path: path.clone(),
        source,
    };
    let mut file = std::fs::File::create(&path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut chunk = vec![0; 256 << 10];
    loop {
        match reader.read(&mut chunk).map_err(failed)? {
            0 => break,
            read => {
                hash.update(&chunk[..read]);
                file.write_all(&chunk[..read]).map_err(failed)?;
                bytes += read as u64;
            }
        }
    }
    // Builds read it as another user.
    let open = std::fs::Permissions::from_mode(0o644);
    file.set_permissions(open).map_err(failed)?;
    Ok((Digest::from_sha256(hash.finalize().into()), bytes))
}
