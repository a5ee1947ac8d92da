//! [`Blobstore`]: put, get, delete and garbage collection. Where blobs lie is `engine`'s, how one arrives `upload`'s.

use crate::engine::{self, Engine, key};
use crate::error::engine as failed;
use crate::upload::Upload;
use crate::{Error, Kind, Limits, S3};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use model::Digest;
use object_store::{GetResultPayload, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutPayload};
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;
use tokio_util::io::ReaderStream;

/// A blob younger than this is not written again when the same bytes are put, and is never collected.
const FRESH: Duration = Duration::from_secs(60 * 60);
/// What is read of a file at once.
const PIECE_BYTES: usize = 256 << 10;

/// A store of blobs. Cheap to clone; all clones are the same store.
#[derive(Debug, Clone)]
pub struct Blobstore {
    pub(crate) engine: Engine,
    limits: Limits,
}

/// A blob being read.
pub struct Blob {
    /// Stored size in bytes.
    pub size_bytes: u64,
    /// The bytes; an error ends the stream.
    pub stream: BoxStream<'static, Result<Bytes, Error>>,
}

/// What is known of a blob without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Stored size in bytes.
    pub size_bytes: u64,
    /// When it was last put.
    pub written: SystemTime,
}

/// The outcome of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Stored size in bytes.
    pub size_bytes: u64,
    /// Whether it was there already, so that nothing was read from the sender.
    pub existed: bool,
}

/// The outcome of a garbage collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs removed.
    pub blobs: u64,
    /// Their stored bytes.
    pub bytes: u64,
}

impl Blobstore {
    /// Opens or creates a store in the directory `root`. Blocking, briefly.
    ///
    /// # Errors
    /// The folder cannot be created or read.
    pub fn open_directory(root: &Path, limits: Limits) -> Result<Self, Error> {
        Ok(Self {
            engine: Engine::directory(root)?,
            limits,
        })
    }

    /// Opens a store in an S3-compatible server. `scratch` is a folder for files that are not blobs yet, of this process
    /// alone.
    ///
    /// # Errors
    /// The server doesn't answer, refuses the key, or has no such bucket.
    pub async fn open_s3(settings: &S3, scratch: &Path, limits: Limits) -> Result<Self, Error> {
        let engine = Engine::s3(settings, scratch)?;
        let listed = engine.store.list_with_delimiter(None).await;
        listed.map_err(|source| Error::Open {
            place: settings.to_string(),
            source,
        })?;
        Ok(Self { engine, limits })
    }

    /// A store that is not a directory, as object stores elsewhere are.
    #[cfg(test)]
    pub(crate) fn remote(scratch: &Path, limits: Limits) -> Self {
        let store = std::sync::Arc::new(object_store::memory::InMemory::new());
        let engine = Engine {
            store,
            directory: None,
            scratch: scratch.to_owned(),
        };
        Self { engine, limits }
    }

    /// The limits it was opened with.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Stores a blob whose stored bytes have the digest `digest`. It is visible, whole and durable when this returns
    /// `Ok`; on any error nothing is visible.
    ///
    /// # Errors
    /// [`Error::Mismatch`], [`Error::TooLarge`], [`Error::Stalled`], [`Error::Receive`] for the sender's faults.
    pub async fn put<E>(
        &self,
        kind: Kind,
        digest: &Digest,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Stored, Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.receive(kind, digest, body, true).await
    }

    /// Stores a blob whose digest is not that of the stored bytes (layers, stacks, packages): the caller has verified
    /// it. Else as [`Self::put`].
    ///
    /// # Errors
    /// As [`Self::put`], without [`Error::Mismatch`].
    pub async fn put_verified<E>(
        &self,
        kind: Kind,
        digest: &Digest,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Stored, Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.receive(kind, digest, body, false).await
    }

    /// Stores small bytes that are in memory; `verified` as the difference of [`Self::put_verified`] and [`Self::put`].
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn put_bytes(&self, kind: Kind, digest: &Digest, bytes: Bytes, verified: bool) -> Result<Stored, Error> {
        let body = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(bytes)]);
        self.receive(kind, digest, body, !verified).await
    }

    /// Stores a temporary file made by [`Self::temporary`], whose digest the caller knows to be right. In a directory
    /// store it is moved, not copied.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or the engine's.
    pub async fn put_temporary(&self, kind: Kind, digest: &Digest, file: NamedTempFile) -> Result<Stored, Error> {
        let path = file.path().to_owned();
        let metadata = tokio::fs::metadata(&path)
            .await
            .map_err(engine::failed("read", &path))?;
        let limit_bytes = self.limits.of(kind);
        if metadata.len() > limit_bytes {
            return Err(Error::TooLarge {
                kind,
                digest: digest.clone(),
                limit_bytes,
            });
        }
        let (engine, wanted, source) = (self.engine.clone(), digest.clone(), path.clone());
        let adopted = blocking(move || engine.adopt(kind, &wanted, &source)).await?;
        if adopted {
            // The name is gone from the scratch folder; there is nothing left to remove.
            let _ = file.keep();
            return Ok(Stored {
                size_bytes: metadata.len(),
                existed: false,
            });
        }
        let opened = tokio::fs::File::open(&path)
            .await
            .map_err(engine::failed("read", &path))?;
        self.put_verified(kind, digest, ReaderStream::with_capacity(opened, PIECE_BYTES))
            .await
    }

    /// A temporary file for [`Self::put_temporary`]; it vanishes when dropped, or at the next start. Blocking, briefly.
    ///
    /// # Errors
    /// The scratch folder cannot be written.
    pub fn temporary(&self) -> Result<NamedTempFile, Error> {
        NamedTempFile::new_in(&self.engine.scratch).map_err(engine::failed("create a file in", &self.engine.scratch))
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`Error::Missing`], or the engine's.
    pub async fn get(&self, kind: Kind, digest: &Digest) -> Result<Blob, Error> {
        let found = self
            .engine
            .store
            .get(&key(kind, digest))
            .await
            .map_err(failed("read", kind, digest))?;
        let size_bytes = found.meta.size;
        let stream = match found.payload {
            // The engine would hand over 8 KiB at a time, each from another thread: most of what reading a layer takes.
            GetResultPayload::File(file, _) => {
                let file = tokio::fs::File::from_std(file);
                let pieces = ReaderStream::with_capacity(file, PIECE_BYTES);
                let unread = |error: std::io::Error| object_store::Error::Generic {
                    store: "directory",
                    source: Box::new(error),
                };
                pieces.map_err(unread).boxed()
            }
            GetResultPayload::Stream(stream) => stream,
        };
        let digest = digest.clone();
        Ok(Blob {
            size_bytes,
            stream: stream
                .map_err(move |source| failed("read", kind, &digest)(source))
                .boxed(),
        })
    }

    /// Reads bytes `range` of a blob.
    ///
    /// # Errors
    /// [`Error::Missing`], or the engine's, for example where the range lies beyond the end.
    pub async fn get_range(&self, kind: Kind, digest: &Digest, range: Range<u64>) -> Result<Bytes, Error> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.engine
            .store
            .get_range(&key(kind, digest), range)
            .await
            .map_err(failed("read", kind, digest))
    }

    /// Reads a whole blob of at most `limit_bytes` into memory.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::TooLarge`], or the engine's.
    pub async fn read(&self, kind: Kind, digest: &Digest, limit_bytes: u64) -> Result<Bytes, Error> {
        let found = self
            .engine
            .store
            .get(&key(kind, digest))
            .await
            .map_err(failed("read", kind, digest))?;
        if found.meta.size > limit_bytes {
            return Err(Error::TooLarge {
                kind,
                digest: digest.clone(),
                limit_bytes,
            });
        }
        found.bytes().await.map_err(failed("read", kind, digest))
    }

    /// Size and age of a blob, `None` where there is none.
    ///
    /// # Errors
    /// The engine's.
    pub async fn head(&self, kind: Kind, digest: &Digest) -> Result<Option<Info>, Error> {
        match self
            .engine
            .store
            .head(&key(kind, digest))
            .await
            .map_err(failed("look up", kind, digest))
        {
            Ok(meta) => Ok(Some(Info {
                size_bytes: meta.size,
                written: written(&meta),
            })),
            Err(Error::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a blob young again, so that garbage collection leaves it for its grace time: for whoever is about to refer
    /// to a blob that may be unreachable by now. `false` where there is none.
    ///
    /// # Errors
    /// The engine's.
    pub async fn touch(&self, kind: Kind, digest: &Digest) -> Result<bool, Error> {
        let Some(path) = self.engine.path(kind, digest) else {
            // The mark first: a collection that begins meanwhile sees it, or has removed the blob already.
            let mark = engine::mark(kind, digest);
            let marked = self.engine.store.put(&mark, PutPayload::new()).await;
            marked.map_err(failed("renew", kind, digest))?;
            return Ok(self.head(kind, digest).await?.is_some());
        };
        let touched = blocking({
            let path = path.clone();
            move || std::fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()))
        });
        match touched.await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(engine::failed("renew", &path)(error)),
        }
    }

    /// Removes a blob; `false` where there was none.
    ///
    /// # Errors
    /// The engine's.
    pub async fn delete(&self, kind: Kind, digest: &Digest) -> Result<bool, Error> {
        match self
            .engine
            .store
            .delete(&key(kind, digest))
            .await
            .map_err(failed("delete", kind, digest))
        {
            Ok(()) => Ok(true),
            Err(Error::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Path of a blob that is there, in a directory store: to be read in place, never written.
    #[must_use]
    pub fn local_path(&self, kind: Kind, digest: &Digest) -> Option<PathBuf> {
        self.engine.path(kind, digest).filter(|path| path.is_file())
    }

    /// Removes what writes left behind that a crash interrupted, and says how many. Once at start, before any put.
    ///
    /// # Errors
    /// A folder cannot be read or written.
    pub async fn sweep_temporaries(&self) -> Result<usize, Error> {
        let engine = self.engine.clone();
        blocking(move || engine.sweep()).await
    }

    /// Garbage collection: removes every blob of `kind` that is not in `reachable` and was written longer ago than
    /// `older_than`, which is raised to two hours so that a blob just put, or found to exist, by an operation that has
    /// not recorded it yet stays.
    ///
    /// # Errors
    /// The engine's; what was removed before stays removed.
    pub async fn retain(&self, kind: Kind, reachable: &HashSet<Digest>, older_than: Duration) -> Result<Swept, Error> {
        self.retain_at(kind, reachable, older_than.max(FRESH * 2), SystemTime::now())
            .await
    }

    async fn retain_at(
        &self,
        kind: Kind,
        reachable: &HashSet<Digest>,
        older_than: Duration,
        now: SystemTime,
    ) -> Result<Swept, Error> {
        let folder = object_store::path::Path::from(kind.folder());
        let mut listing = self.engine.store.list(Some(&folder));
        let mut swept = Swept::default();
        while let Some(meta) = listing
            .try_next()
            .await
            .map_err(|source| Error::List { kind, source })?
        {
            let Some(digest) = engine::digest(&meta.location) else {
                continue;
            };
            let is_old = |at: SystemTime| now.duration_since(at).unwrap_or_default() >= older_than;
            if reachable.contains(&digest) || !is_old(written(&meta)) {
                continue;
            }
            let marked = self.marked(kind, &digest).await?;
            if marked.is_none_or(is_old) && self.delete(kind, &digest).await? {
                swept.blobs += 1;
                swept.bytes += meta.size;
            }
        }
        self.forget_marks(kind, older_than, now).await?;
        Ok(swept)
    }

    /// When a blob was last asked to stay, where that is noted apart from it.
    async fn marked(&self, kind: Kind, digest: &Digest) -> Result<Option<SystemTime>, Error> {
        if self.engine.directory.is_some() {
            return Ok(None);
        }
        match self.engine.store.head(&engine::mark(kind, digest)).await {
            Ok(meta) => Ok(Some(written(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed("look up", kind, digest)(source)),
        }
    }

    /// Removes marks that keep nothing any more.
    async fn forget_marks(&self, kind: Kind, older_than: Duration, now: SystemTime) -> Result<(), Error> {
        if self.engine.directory.is_some() {
            return Ok(());
        }
        let mut marks = self.engine.store.list(Some(&engine::marks(kind)));
        let failed = |source| Error::List { kind, source };
        while let Some(meta) = marks.try_next().await.map_err(failed)? {
            if now.duration_since(written(&meta)).unwrap_or_default() >= older_than {
                let removed = self.engine.store.delete(&meta.location).await;
                removed
                    .or_else(|error| match error {
                        object_store::Error::NotFound { .. } => Ok(()),
                        error => Err(error),
                    })
                    .map_err(failed)?;
            }
        }
        Ok(())
    }

    async fn receive<E>(
        &self,
        kind: Kind,
        digest: &Digest,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
        verify: bool,
    ) -> Result<Stored, Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(info) = self.head(kind, digest).await?
            && info.written.elapsed().is_ok_and(|age| age < FRESH)
        {
            return Ok(Stored {
                size_bytes: info.size_bytes,
                existed: true,
            });
        }
        let mut upload = Upload::new(&self.engine, kind, digest, self.limits.of(kind));
        let mut body = std::pin::pin!(body);
        loop {
            let next = tokio::time::timeout(self.limits.stall, body.next()).await;
            let failure = match next {
                Ok(Some(Ok(bytes))) => match upload.write(&bytes).await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Ok(Some(Err(source))) => Error::Receive {
                    kind,
                    digest: digest.clone(),
                    source: source.into(),
                },
                Err(_) => Error::Stalled {
                    kind,
                    digest: digest.clone(),
                    limit: self.limits.stall,
                },
                Ok(None) => break,
            };
            upload.abort().await;
            return Err(failure);
        }
        let size_bytes = upload.finish(verify).await?;
        Ok(Stored {
            size_bytes,
            existed: false,
        })
    }
}

/// Runs blocking work off the runtime's threads and keeps its panics panics.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking tasks are only cancelled while the runtime shuts down, when nobody awaits them any more.
            Err(_) => std::future::pending().await,
        },
    }
}

fn written(meta: &ObjectMeta) -> SystemTime {
    let millis = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "s3_tests.rs"]
mod s3_tests;
