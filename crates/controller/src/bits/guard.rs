//! Reads a stream of unknown origin: hashes it, ends it at a limit, and keeps archives from asking for memory.

use sha2::{Digest as _, Sha256};
use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Bytes of headers that one entry may take: long names and extensions.
pub const HEADER_BYTES: u64 = 256 << 10;

/// What is read through it.
pub struct Guarded<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
    limit: u64,
    /// Bytes that may be read before somebody allows more.
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Guarded<R> {
    /// At most `limit` bytes of `inner`.
    pub fn new(inner: R, limit: u64, allowance: &Rc<Cell<u64>>) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
            limit,
            allowance: Rc::clone(allowance),
        }
    }

    /// The digest of all that was read.
    pub fn digest(self) -> model::Digest {
        model::Digest::from_sha256(self.hash.finalize().into())
    }
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        if self.bytes > self.limit {
            return Err(io::Error::other(format!("it holds more than {} bytes", self.limit)));
        }
        let left = self.allowance.get().checked_sub(read as u64);
        self.allowance
            .set(left.ok_or_else(|| io::Error::other("an entry has a header without end"))?);
        Ok(read)
    }
}
