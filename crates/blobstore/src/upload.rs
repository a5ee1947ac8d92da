//! One upload: bytes arrive in any portions, are counted and hashed, and become a blob only when all is well.
//!
//! Small blobs are one write. Larger ones go up in parts while they arrive; an upload that fails or is dropped leaves
//! nothing visible.

use crate::engine::{Engine, key};
use crate::error::engine;
use crate::{Error, Kind};
use bytes::{Bytes, BytesMut};
use model::Digest;
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload};
use sha2::{Digest as _, Sha256};

/// Bytes of one part. S3 wants at least 5 MiB for all but the last.
const PART_BYTES: usize = 8 << 20;

/// An upload under way.
pub(crate) struct Upload<'a> {
    engine: &'a Engine,
    kind: Kind,
    digest: Digest,
    key: Key,
    limit_bytes: u64,
    size_bytes: u64,
    hash: Sha256,
    pending: BytesMut,
    parts: Option<Box<dyn MultipartUpload>>,
}

impl<'a> Upload<'a> {
    pub fn new(engine: &'a Engine, kind: Kind, digest: &Digest, limit_bytes: u64) -> Self {
        Self {
            engine,
            kind,
            digest: digest.clone(),
            key: key(kind, digest),
            limit_bytes,
            size_bytes: 0,
            hash: Sha256::new(),
            pending: BytesMut::new(),
            parts: None,
        }
    }

    /// Takes the next bytes.
    pub async fn write(&mut self, bytes: &Bytes) -> Result<(), Error> {
        self.size_bytes += bytes.len() as u64;
        if self.size_bytes > self.limit_bytes {
            return Err(Error::TooLarge {
                kind: self.kind,
                digest: self.digest.clone(),
                limit_bytes: self.limit_bytes,
            });
        }
        self.hash.update(bytes);
        self.pending.extend_from_slice(bytes);
        while self.pending.len() >= PART_BYTES {
            let part = self.pending.split_to(PART_BYTES).freeze();
            self.send(part).await?;
        }
        Ok(())
    }

    /// Makes the blob visible, if `verify` finds the announced digest in the bytes. Says how many there were.
    pub async fn finish(mut self, verify: bool) -> Result<u64, Error> {
        let actual = Digest::from_sha256(std::mem::take(&mut self.hash).finalize().into());
        if verify && actual != self.digest {
            let expected = self.digest.clone();
            let kind = self.kind;
            self.abort().await;
            return Err(Error::Mismatch { kind, expected, actual });
        }
        let rest = self.pending.split().freeze();
        if self.parts.is_some() {
            if !rest.is_empty() {
                self.send(rest).await?;
            }
            if let Some(parts) = &mut self.parts {
                parts
                    .complete()
                    .await
                    .map_err(engine("store", self.kind, &self.digest))?;
            }
        } else {
            let payload = PutPayload::from_bytes(rest);
            let stored = self.engine.store.put(&self.key, payload).await;
            stored.map_err(engine("store", self.kind, &self.digest))?;
        }
        Ok(self.size_bytes)
    }

    /// Gives up. What the engine cannot remove now is swept at the next start.
    pub async fn abort(mut self) {
        if let Some(parts) = &mut self.parts
            && let Err(error) = parts.abort().await
        {
            tracing::warn!(blob.kind = %self.kind, blob.digest = %self.digest, error = %error, "failed to abort an upload");
        }
    }

    async fn send(&mut self, part: Bytes) -> Result<(), Error> {
        let parts = match &mut self.parts {
            Some(parts) => parts,
            None => {
                let opened = self.engine.store.put_multipart(&self.key).await;
                self.parts
                    .insert(opened.map_err(engine("open", self.kind, &self.digest))?)
            }
        };
        parts
            .put_part(part.into())
            .await
            .map_err(engine("write", self.kind, &self.digest))
    }
}
