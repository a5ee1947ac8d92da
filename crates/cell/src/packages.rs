//! Source packages as trees: laid out once per cell, the lowest layer but the stack of every build of that package.

use crate::cache::{Tree, Trees};
use crate::env::HOME;
use crate::error::Error;
use crate::layers::Spent;
use crate::unpack::owner;
use blobstore::Blobstore;
use blobstore::pack::{Materialise, PackageIndex, TreeLimits, materialise};
use model::Digest;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The packages of this cell. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Packages {
    trees: Arc<Trees>,
    blobs: Blobstore,
    limits: TreeLimits,
}

impl Packages {
    /// Keeps packages of `blobs` in `dir`, within `budget_bytes` as far as they are not in use. Blocking.
    ///
    /// # Errors
    /// The folder can't be used.
    pub fn open(dir: &Path, blobs: Blobstore, budget_bytes: u64, limits: TreeLimits) -> Result<Self, Error> {
        Ok(Self {
            trees: Arc::new(Trees::open(dir, budget_bytes)?),
            blobs,
            limits,
        })
    }

    /// The tree of a package, rooted at `/` with its files below the app's folder.
    ///
    /// # Errors
    /// The package or one of its packs is missing or damaged, or there is no room.
    pub async fn acquire(&self, digest: &Digest) -> Result<(Tree, Spent), Error> {
        let failed = |source| Error::Package {
            digest: digest.clone(),
            source: Box::new(source),
        };
        let mut spent = Spent::default();
        let tree = self
            .trees
            .acquire(&digest.hex(), async |dir| {
                let began = Instant::now();
                let index = PackageIndex::load(&self.blobs, digest, &self.limits)
                    .await
                    .map_err(failed)?;
                spent.fetch = began.elapsed();
                let options = Materialise {
                    dir,
                    prefix: HOME.trim_start_matches('/').to_owned(),
                    owner: Some((owner(), owner())),
                    limits: self.limits,
                };
                let done = materialise(&self.blobs, &index, options).await.map_err(failed)?;
                spent.unpack = began.elapsed().saturating_sub(spent.fetch);
                Ok(done.bytes)
            })
            .await?;
        Ok((tree, spent))
    }

    /// The tree of a package that something adopted is using.
    #[must_use]
    pub fn hold(&self, digest: &Digest) -> Option<Tree> {
        self.trees.hold(&digest.hex())
    }
}
