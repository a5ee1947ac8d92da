//! Encryption at rest: AES-256-GCM-SIV under a key that the caller gives when it opens the store.
//!
//! A sealed value is `1 | key id (4 bytes, big endian) | nonce (12) | ciphertext and tag`; the id of the row it
//! belongs to is authenticated with it, so that it can't be moved to another row.

use crate::error::{Result, StoreError};
use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use rand::RngCore;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use uuid::Uuid;

const FORMAT: u8 = 1;
const HEADER: usize = 5;
const NONCE: usize = 12;

/// Keys by id. New values are sealed with the newest one; older ones still open what they sealed.
pub struct Keys {
    current: u32,
    ciphers: BTreeMap<u32, Aes256GcmSiv>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// One key of 32 random bytes, named by `id`.
    #[must_use]
    pub fn new(id: u32, key: &[u8; 32]) -> Self {
        Self {
            current: id,
            ciphers: BTreeMap::from([(id, Aes256GcmSiv::new(key.into()))]),
        }
    }

    /// Adds a key that only opens.
    #[must_use]
    pub fn with_old(mut self, id: u32, key: &[u8; 32]) -> Self {
        self.ciphers.entry(id).or_insert_with(|| Aes256GcmSiv::new(key.into()));
        self
    }

    /// Id of the key that new values are sealed with.
    #[must_use]
    pub fn current(&self) -> u32 {
        self.current
    }

    pub(crate) fn seal(&self, row: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let cipher = self
            .ciphers
            .get(&self.current)
            .ok_or_else(|| StoreError::corrupt("sealed", "no current key"))?;
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let sealed = cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: row })
            .map_err(|_| StoreError::corrupt("sealed", "value is too large to encrypt"))?;
        let mut value = Vec::with_capacity(HEADER + NONCE + sealed.len());
        value.push(FORMAT);
        value.extend_from_slice(&self.current.to_be_bytes());
        value.extend_from_slice(&nonce);
        value.extend_from_slice(&sealed);
        Ok(value)
    }

    pub(crate) fn open(&self, row: &[u8], value: &[u8]) -> Result<Vec<u8>> {
        let bad = |detail: &str| StoreError::corrupt("sealed", detail);
        let (header, rest) = value.split_at_checked(HEADER).ok_or_else(|| bad("too short"))?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or_else(|| bad("too short"))?;
        if header[0] != FORMAT {
            return Err(bad("unknown format"));
        }
        let id = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let cipher = self
            .ciphers
            .get(&id)
            .ok_or_else(|| bad(&format!("encrypted with key {id}, which is not configured")))?;
        cipher
            .decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: row })
            .map_err(|_| bad(&format!("does not open with key {id}: another key, or changed since")))
    }

    pub(crate) fn seal_json<T: Serialize>(&self, row: Uuid, value: &T) -> Result<Vec<u8>> {
        let plain = serde_json::to_vec(value).map_err(|error| StoreError::corrupt("sealed", error))?;
        self.seal(row.as_bytes(), &plain)
    }

    pub(crate) fn open_json<T: DeserializeOwned>(&self, row: Uuid, value: &[u8]) -> Result<T> {
        serde_json::from_slice(&self.open(row.as_bytes(), value)?).map_err(|error| StoreError::corrupt("sealed", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_in_its_row_and_with_its_key() {
        let keys = Keys::new(1, &[7; 32]);
        let sealed = keys.seal(b"row", b"hunter2").expect("sealed");
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
        assert_eq!(keys.open(b"row", &sealed).expect("opens"), b"hunter2");
        assert!(keys.open(b"other", &sealed).is_err());
        assert!(Keys::new(1, &[8; 32]).open(b"row", &sealed).is_err());
        assert!(Keys::new(2, &[7; 32]).open(b"row", &sealed).is_err());
        assert!(keys.open(b"row", &sealed[..10]).is_err());
    }

    #[test]
    fn an_old_key_still_opens() {
        let sealed = Keys::new(1, &[7; 32]).seal(b"row", b"x").expect("sealed");
        let keys = Keys::new(2, &[9; 32]).with_old(1, &[7; 32]);
        assert_eq!(keys.open(b"row", &sealed).expect("opens"), b"x");
        assert_eq!(keys.seal(b"row", b"x").expect("sealed")[4], 2);
    }
}
