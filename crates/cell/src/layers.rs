//! Layers of droplets: fetched and verified once, shared by every sandbox that needs them. As mounted images where the
//! host takes those (`docs/adr/0023-layers-are-mounted-as-images.md`), as unpacked trees elsewhere.

use crate::cache::{Tree, Trees};
use crate::error::{Error, blocking, chain};
use crate::images::{IMAGE, Images};
use crate::unpack::{self, Form, Target, Unpacked};
use blobstore::{Blobstore, Kind};
use futures_util::TryStreamExt as _;
use model::Digest;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// The layers of this cell. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Layers {
    trees: Arc<Trees>,
    /// Where this host mounts layers.
    images: Option<Arc<Images>>,
    blobs: Blobstore,
    /// Unpackings at once.
    turns: Arc<Semaphore>,
    limits: unpack::Limits,
}

/// How long it took to make layers available; all zero where they were there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Waiting for bytes of the blob store.
    pub fetch: Duration,
    /// Unpacking and verifying.
    pub unpack: Duration,
}

impl Layers {
    /// Keeps layers of `blobs` in `dir`, within `budget_bytes` as far as they are not in use. Blocking.
    ///
    /// # Errors
    /// The folder can't be used.
    pub fn open(
        dir: &Path,
        blobs: Blobstore,
        budget_bytes: u64,
        at_once: usize,
        limits: unpack::Limits,
    ) -> Result<Self, Error> {
        let trees = Arc::new(Trees::open(dir, budget_bytes)?);
        let images = match Images::open(dir) {
            Ok(images) => Some(Arc::new(images)),
            Err(error) => {
                tracing::info!(error = %chain(&error), "layers are unpacked, as this host mounts no images of them");
                None
            }
        };
        Ok(Self {
            trees,
            images,
            blobs,
            turns: Arc::new(Semaphore::new(at_once.max(1))),
            limits,
        })
    }

    /// The tree of a layer, fetched if it is not there.
    ///
    /// # Errors
    /// The blob is missing or is not what its digest says, or there is no room.
    pub async fn acquire(&self, digest: &Digest, form: Form) -> Result<(Tree, Spent), Error> {
        let acquired = async {
            let shape = self.shape(digest, form);
            let (tree, mut spent) = self.acquire_as(digest, form, shape).await?;
            match self.shown(tree, shape).await {
                Ok(tree) => Ok((tree, spent)),
                Err(error) => {
                    tracing::warn!(layer.digest = %digest, error = %chain(&error), "a layer is unpacked, as its image can't be mounted");
                    let (tree, more) = self.acquire_as(digest, form, Shape::Tree).await?;
                    spent += more;
                    Ok((tree, spent))
                }
            }
        };
        acquired.await.map_err(|source: Error| Error::Layer {
            digest: digest.clone(),
            source: Box::new(source),
        })
    }

    /// The tree of a layer that something adopted is using.
    #[must_use]
    pub fn hold(&self, digest: &Digest, form: Form) -> Option<Tree> {
        let image = self.images.as_ref().and_then(|images| {
            let tree = self.trees.hold(&key(digest, form, Shape::Image))?;
            let mounted = images.mount(tree);
            let failed = |error: &Error| tracing::warn!(layer.digest = %digest, error = %chain(error), "a layer in use can't be mounted");
            mounted.inspect_err(failed).ok()
        });
        image.or_else(|| self.trees.hold(&key(digest, form, Shape::Tree)))
    }

    /// What is made of a layer: an image where that can be had, unless its tree is here already.
    fn shape(&self, digest: &Digest, form: Form) -> Shape {
        let is_tree = || self.trees.hold(&key(digest, form, Shape::Tree)).is_some();
        match self.images {
            Some(_) if !is_tree() => Shape::Image,
            _ => Shape::Tree,
        }
    }

    async fn acquire_as(&self, digest: &Digest, form: Form, shape: Shape) -> Result<(Tree, Spent), Error> {
        let mut spent = Spent::default();
        let make = async |folder: PathBuf| {
            let (unpacked, time) = self.fetch(digest, &folder, form, shape).await?;
            spent = time;
            Ok(shape.bytes(&folder, &unpacked))
        };
        let tree = self.trees.acquire(&key(digest, form, shape), make).await?;
        Ok((tree, spent))
    }

    /// A tree as sandboxes see it.
    async fn shown(&self, tree: Tree, shape: Shape) -> Result<Tree, Error> {
        match (&self.images, shape) {
            (Some(images), Shape::Image) => {
                let images = Arc::clone(images);
                blocking(move || images.mount(tree)).await
            }
            _ => Ok(tree),
        }
    }

    /// Takes over a layer that a build wrote: verifies that `file` (a `tar.zst` of at most `limit_bytes`, hostile) has
    /// the digest it claims, keeps its tree, and stores it in the blob store. Says how large it is, compressed.
    ///
    /// # Errors
    /// The file is not what it claims; then nothing is kept of it.
    pub async fn adopt(&self, digest: &Digest, form: Form, file: File, limit_bytes: u64) -> Result<u64, Error> {
        let copy = self.blobs.temporary().map_err(|source| Error::Blob {
            operation: format!("store layer {digest}"),
            source: Box::new(source),
        })?;
        let copy = Arc::new(parking_lot::Mutex::new(copy));
        let tee = Tee {
            from: file,
            to: Arc::clone(&copy),
            left: limit_bytes,
        };
        let unread = parking_lot::Mutex::new(Some(tee));
        let shape = self.shape(digest, form);
        let make = async |folder: PathBuf| {
            let tee = unread.lock().take().ok_or(Error::ShuttingDown)?;
            let unpacked = self.verify(digest, tee, Some((&folder, shape)), form).await?;
            Ok(shape.bytes(&folder, &unpacked))
        };
        let tree = self.trees.acquire(&key(digest, form, shape), make).await?;
        // The tree was there already; the file has to prove all the same that it is this layer.
        let unread = unread.into_inner();
        if let Some(tee) = unread {
            self.verify(digest, tee, None, form).await?;
        }
        drop(tree);
        let copy = Arc::into_inner(copy).ok_or(Error::ShuttingDown)?.into_inner();
        let stored = self.blobs.put_temporary(Kind::Layer, digest, copy).await;
        let stored = stored.map_err(|source| Error::Blob {
            operation: format!("store layer {digest}"),
            source: Box::new(source),
        })?;
        Ok(stored.size_bytes)
    }

    async fn fetch(
        &self,
        digest: &Digest,
        folder: &Path,
        form: Form,
        shape: Shape,
    ) -> Result<(Unpacked, Spent), Error> {
        let failed = |source| Error::Blob {
            operation: format!("read layer {digest}"),
            source: Box::new(source),
        };
        let began = Instant::now();
        let blob = self.blobs.get(Kind::Layer, digest).await.map_err(failed)?;
        let opened = began.elapsed();
        let waited = Arc::new(AtomicU64::new(0));
        let stopped = StopOnDrop(Arc::new(AtomicBool::new(false)));
        let reader = Timed {
            inner: SyncIoBridge::new(StreamReader::new(blob.stream.map_err(io::Error::other))),
            waited: Arc::clone(&waited),
            stopped: Arc::clone(&stopped.0),
        };
        let unpacked = self.verify(digest, reader, Some((folder, shape)), form).await?;
        let fetch = opened + Duration::from_nanos(waited.load(Ordering::Relaxed));
        let unpack = began.elapsed().saturating_sub(fetch);
        Ok((unpacked, Spent { fetch, unpack }))
    }

    async fn verify(
        &self,
        digest: &Digest,
        compressed: impl Read + Send + 'static,
        into: Option<(&Path, Shape)>,
        form: Form,
    ) -> Result<Unpacked, Error> {
        let (into, limits) = (into.map(|(folder, shape)| (folder.to_owned(), shape)), self.limits);
        let _turn = self.turns.acquire().await;
        let unpacked = blocking(move || {
            let buffered = io::BufReader::with_capacity(256 << 10, compressed);
            let target = match &into {
                None => Target::Nothing,
                Some((folder, Shape::Tree)) => Target::Folder(folder),
                Some((folder, Shape::Image)) => Target::Image(Images::create(folder)?),
            };
            unpack::layer(buffered, target, limits, form).map_err(|error| Error::Unpack(Box::new(error)))
        })
        .await?;
        if unpacked.digest == *digest {
            return Ok(unpacked);
        }
        Err(Error::Mismatch {
            expected: digest.clone(),
            actual: unpacked.digest,
        })
    }
}

/// What a layer is in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Tree,
    /// A folder with an image.
    Image,
}

impl Shape {
    /// What it takes of the cache, once it is in `folder`.
    fn bytes(self, folder: &Path, unpacked: &Unpacked) -> u64 {
        match self {
            Self::Tree => unpacked.bytes,
            Self::Image => std::fs::metadata(folder.join(IMAGE)).map_or(unpacked.bytes, |image| image.len()),
        }
    }
}

/// Name of a layer's tree: the same archive makes another by other rules.
fn key(digest: &Digest, form: Form, shape: Shape) -> String {
    let form = match form {
        Form::Droplet => "",
        Form::Image => "-image",
    };
    let shape = match shape {
        Shape::Tree => "",
        Shape::Image => ".erofs",
    };
    format!("{}{form}{shape}", digest.hex())
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.fetch += other.fetch;
        self.unpack += other.unpack;
    }
}

/// Tells the blocking side that nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Measures how long reading waits for bytes.
struct Timed<R> {
    inner: R,
    waited: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

impl<R: Read> Read for Timed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("no longer wanted"));
        }
        let began = Instant::now();
        let n = self.inner.read(buffer)?;
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.waited.fetch_add(nanos, Ordering::Relaxed);
        Ok(n)
    }
}

/// Reads a hostile file once, copying what passes.
struct Tee {
    from: File,
    to: Arc<parking_lot::Mutex<tempfile::NamedTempFile>>,
    left: u64,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use io::Write as _;
        let n = self.from.read(buffer)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| io::Error::other("the file is larger than allowed"))?;
        self.to.lock().write_all(&buffer[..n])?;
        Ok(n)
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
