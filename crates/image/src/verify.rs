//! Bytes that count only once their digest was seen.

use model::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read};

/// Hashes what is read, and fails at the end where it is not what it should be.
pub struct Verified<R> {
    inner: R,
    hash: Sha256,
    read: u64,
    limit: u64,
    expected: Digest,
    done: bool,
}

impl<R: Read> Verified<R> {
    /// `inner` has to have this digest, and at most `limit` bytes.
    pub fn new(inner: R, expected: Digest, limit: u64) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            read: 0,
            limit,
            expected,
            done: false,
        }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.read += read as u64;
        if self.read > self.limit {
            return Err(invalid(format!(
                "blob {} has more than {} bytes",
                self.expected, self.limit
            )));
        }
        if read == 0 && !self.done {
            self.done = true;
            let found = Digest::from_sha256(self.hash.clone().finalize().into());
            if found != self.expected {
                return Err(invalid(format!("the digest of blob {} is {found}", self.expected)));
            }
        }
        Ok(read)
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// The digest of all that is left of `reader`, and how many bytes that was.
///
/// # Errors
/// Those of `reader`.
pub fn digest_of(mut reader: impl Read) -> io::Result<(Digest, u64)> {
    let mut hash = Sha256::new();
    let mut total = 0;
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok((Digest::from_sha256(hash.finalize().into()), total)),
            read => {
                hash.update(&chunk[..read]);
                total += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_bytes_come_to_an_end() {
        let good = crate::digest(b"hello");
        let mut text = String::new();
        let read = Verified::new(&b"hello"[..], good.clone(), 5).read_to_string(&mut text);
        assert!(read.is_ok() && text == "hello");
        for (bytes, limit) in [(&b"hell"[..], 5), (&b"hello!"[..], 6), (&b"hello"[..], 4)] {
            let read = Verified::new(bytes, good.clone(), limit).read_to_end(&mut Vec::new());
            assert_eq!(read.expect_err("refused").kind(), io::ErrorKind::InvalidData);
        }
    }
}
