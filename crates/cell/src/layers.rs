//! Layers of droplets as unpacked trees: fetched and verified once, shared by every sandbox that needs them.

use crate::cache::{Tree, Trees};
use crate::error::{Error, blocking};
use crate::unpack::{self, Form, Unpacked};
use blobstore::{Blobstore, Kind};
use futures_util::TryStreamExt as _;
use model::Digest;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// The layers of this cell. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Layers {
    trees: Arc<Trees>,
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
        Ok(Self {
            trees: Arc::new(Trees::open(dir, budget_bytes)?),
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
        let mut spent = Spent::default();
        let tree = self
            .trees
            .acquire(&key(digest, form), async |folder| {
                let (unpacked, time) = self.fetch(digest, &folder, form).await?;
                spent = time;
                Ok(unpacked.bytes)
            })
            .await
            .map_err(|source| Error::Layer {
                digest: digest.clone(),
                source: Box::new(source),
            })?;
        Ok((tree, spent))
    }

    /// The tree of a layer that something adopted is using.
    #[must_use]
    pub fn hold(&self, digest: &Digest, form: Form) -> Option<Tree> {
        self.trees.hold(&key(digest, form))
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
        let tree = self
            .trees
            .acquire(&key(digest, form), async |folder| {
                let tee = unread.lock().take().ok_or(Error::ShuttingDown)?;
                Ok(self.verify(digest, tee, Some(&folder), form).await?.bytes)
            })
            .await?;
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

    async fn fetch(&self, digest: &Digest, folder: &Path, form: Form) -> Result<(Unpacked, Spent), Error> {
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
        let unpacked = self.verify(digest, reader, Some(folder), form).await?;
        let fetch = opened + Duration::from_nanos(waited.load(Ordering::Relaxed));
        let unpack = began.elapsed().saturating_sub(fetch);
        Ok((unpacked, Spent { fetch, unpack }))
    }

    async fn verify(
        &self,
        digest: &Digest,
        compressed: impl Read + Send + 'static,
        into: Option<&Path>,
        form: Form,
    ) -> Result<Unpacked, Error> {
        let (into, limits) = (into.map(Path::to_owned), self.limits);
        let _turn = self.turns.acquire().await;
        let unpacked = blocking(move || {
            let buffered = io::BufReader::with_capacity(256 << 10, compressed);
            unpack::layer(buffered, into.as_deref(), limits, form).map_err(|error| Error::Unpack(Box::new(error)))
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

/// Name of a layer's tree: the same archive makes another by other rules.
fn key(digest: &Digest, form: Form) -> String {
    match form {
        Form::Droplet => digest.hex(),
        Form::Image => format!("{}-image", digest.hex()),
    }
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
