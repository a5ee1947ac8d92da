//! What bounds an archive while it is read.

use super::{Error, MAX_HEADER_BYTES};
use model::Digest;
use sha2::{Digest as _, Sha256};
use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Which bound the archive passed.
#[derive(Clone, Copy)]
pub(super) enum Exceeded {
    Total,
    Header,
}

impl Exceeded {
    pub fn error(self, bytes: u64) -> Error {
        match self {
            Self::Total => Error::TooLarge {
                limit: bytes,
                what: "bytes",
            },
            Self::Header => Error::TooLarge {
                limit: MAX_HEADER_BYTES,
                what: "bytes in one header",
            },
        }
    }
}

/// Counts, hashes and bounds what is read.
pub(super) struct Counted<R> {
    inner: R,
    hash: Sha256,
    pub bytes: u64,
    limit: u64,
    /// Bytes that may be read before somebody says more: bounds what the archive reader takes into memory.
    allowance: Rc<Cell<u64>>,
    pub exceeded: Option<Exceeded>,
}

impl<R> Counted<R> {
    /// `inner`, of which at most `limit` bytes are read.
    pub fn new(inner: R, limit: u64, allowance: Rc<Cell<u64>>) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
            limit,
            allowance,
            exceeded: None,
        }
    }

    /// Of all that was read.
    pub fn digest(self) -> Digest {
        Digest::from_sha256(self.hash.finalize().into())
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        let left = self.allowance.get();
        if self.bytes > self.limit {
            self.exceeded = Some(Exceeded::Total);
            return Err(io::Error::other("too large"));
        }
        if (n as u64) > left {
            self.exceeded = Some(Exceeded::Header);
            return Err(io::Error::other("too large a header"));
        }
        if left != u64::MAX {
            self.allowance.set(left - n as u64);
        }
        Ok(n)
    }
}
