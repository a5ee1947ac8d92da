//! [`PackageIndex`]: the entries of a package, valid by construction, with their digest and stored form.
//!
//! The stored form is a version line, the SHA-256 of some JSON, then that JSON zstd-compressed, with the packs named once. Whoever loads it checks it
//! like an upload: a blob store is a place that others can write.

use super::entry::{Compression, Entry, Mode, Place};
use super::{Error, TreeLimits, path};
use crate::{Blobstore, Kind};
use bytes::Bytes;
use model::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;

/// First bytes of the stored form.
const MAGIC: &[u8] = b"package 1\n";
/// Most bytes that an index may unpack to.
const UNPACKED_BYTES: u64 = 512 << 20;

/// The tree of a package. Sorted by path, without duplicates, every path and folder checked; links are checked where
/// their targets are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageIndex {
    entries: Vec<Entry>,
    digest: Digest,
}

impl PackageIndex {
    /// Makes an index of entries in any order, from any packs. Folders that hold something are left out: they are
    /// implied.
    ///
    /// # Errors
    /// Any of the refusals of [`Error`].
    pub fn build(entries: Vec<Entry>, limits: &TreeLimits) -> Result<Self, Error> {
        if entries.len() > limits.entries {
            return Err(Error::TooManyEntries { limit: limits.entries });
        }
        let mut total = 0_u64;
        let mut by_path = BTreeMap::new();
        for entry in entries {
            check_entry(&entry, limits)?;
            total = total.saturating_add(entry.size);
            if total > limits.total_bytes {
                return Err(Error::TotalTooLarge {
                    path: entry.path,
                    limit_bytes: limits.total_bytes,
                });
            }
            let path = entry.path.clone();
            if by_path.insert(path.clone(), entry).is_some() {
                return Err(Error::Duplicate { path });
            }
        }
        let implied = implied_folders(&by_path)?;
        by_path.retain(|path, _| !implied.contains(path));
        let entries: Vec<Entry> = by_path.into_values().collect();
        let digest = digest_of(&entries);
        Ok(Self { entries, digest })
    }

    /// Sorted by path.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Names the tree: SHA-256 over path, mode, size and SHA-256 of every entry.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Bytes of all files together, uncompressed.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size).sum()
    }

    /// The packs it needs: what keeps them from garbage collection.
    #[must_use]
    pub fn packs(&self) -> BTreeSet<&Digest> {
        self.entries
            .iter()
            .filter_map(|entry| entry.place.as_ref())
            .map(|place| &place.pack)
            .collect()
    }

    /// The entry at `path`.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Entry> {
        self.entries
            .binary_search_by(|entry| entry.path.as_str().cmp(path))
            .ok()
            .map(|at| &self.entries[at])
    }

    /// Stores it under [`Kind::Package`]. Its packs have to be there already.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn save(&self, store: &Blobstore) -> Result<(), Error> {
        let bytes = self.encode();
        let stored = store
            .put_bytes(Kind::Package, &self.digest, Bytes::from(bytes), true)
            .await;
        stored.map(|_| ()).map_err(Error::store)
    }

    /// Loads the index of a package and checks it.
    ///
    /// # Errors
    /// [`Error::Store`] (also where there is none), [`Error::Index`], or the refusals of [`Self::build`].
    pub async fn load(store: &Blobstore, digest: &Digest, limits: &TreeLimits) -> Result<Self, Error> {
        let limit = store.limits().of(Kind::Package);
        let bytes = store.read(Kind::Package, digest, limit).await.map_err(Error::store)?;
        let (digest, limits) = (digest.clone(), *limits);
        crate::store::blocking(move || Self::decode(&bytes, &digest, &limits)).await
    }

    fn encode(&self) -> Vec<u8> {
        let mut packs: Vec<Digest> = Vec::new();
        let mut numbers: HashMap<&Digest, usize> = HashMap::new();
        let mut entries = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let place = entry.place.as_ref().map(|place| {
                let pack = *numbers.entry(&place.pack).or_insert_with(|| {
                    packs.push(place.pack.clone());
                    packs.len() - 1
                });
                StoredPlace {
                    pack,
                    offset: place.offset,
                    length: place.length,
                    compression: place.compression,
                }
            });
            entries.push(StoredEntry {
                path: entry.path.clone(),
                mode: entry.mode,
                size: entry.size,
                sha1: hex::encode(entry.sha1),
                sha256: entry.sha256.hex(),
                place,
            });
        }
        let json = serde_json::to_vec(&StoredIndex { packs, entries }).expect("plain data always encodes");
        let mut bytes = MAGIC.to_vec();
        bytes.extend(Sha256::digest(&json));
        bytes.extend(zstd::bulk::compress(&json, 3).expect("compressing memory to memory does not fail"));
        bytes
    }

    fn decode(bytes: &[u8], digest: &Digest, limits: &TreeLimits) -> Result<Self, Error> {
        let damaged = |reason: String| Error::Index {
            digest: digest.clone(),
            reason,
        };
        let body = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| damaged("unknown format".to_owned()))?;
        let (checksum, packed) = body
            .split_first_chunk::<32>()
            .ok_or_else(|| damaged("cut off".to_owned()))?;
        let mut json = Vec::new();
        zstd::stream::Decoder::with_buffer(packed)
            .and_then(|decoder| decoder.take(UNPACKED_BYTES).read_to_end(&mut json))
            .map_err(|error| damaged(error.to_string()))?;
        // The package's digest says nothing about places and SHA-1s: this does.
        if Sha256::digest(&json)[..] != checksum[..] {
            return Err(damaged("its checksum differs".to_owned()));
        }
        let stored: StoredIndex = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        let entries: Option<Vec<Entry>> = stored
            .entries
            .into_iter()
            .map(|entry| entry.revive(&stored.packs))
            .collect();
        let entries = entries.ok_or_else(|| damaged("an entry has no pack or no valid hash".to_owned()))?;
        let index = Self::build(entries, limits)?;
        if index.digest != *digest {
            return Err(damaged(format!("its entries have the digest {}", index.digest)));
        }
        Ok(index)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredIndex {
    packs: Vec<Digest>,
    entries: Vec<StoredEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredEntry {
    path: String,
    mode: Mode,
    size: u64,
    sha1: String,
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<StoredPlace>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPlace {
    pack: usize,
    offset: u64,
    length: u64,
    compression: Compression,
}

impl StoredEntry {
    fn revive(self, packs: &[Digest]) -> Option<Entry> {
        let place = match self.place {
            Some(place) => Some(Place {
                pack: packs.get(place.pack)?.clone(),
                offset: place.offset,
                length: place.length,
                compression: place.compression,
            }),
            None => None,
        };
        Some(Entry {
            path: self.path,
            mode: self.mode,
            size: self.size,
            sha1: hex::decode(self.sha1).ok()?.try_into().ok()?,
            sha256: format!("sha256:{}", self.sha256).parse().ok()?,
            place,
        })
    }
}

fn check_entry(entry: &Entry, limits: &TreeLimits) -> Result<(), Error> {
    path::check(&entry.path, limits)?;
    let refuse = |reason| {
        Err(Error::Path {
            path: entry.path.clone(),
            reason,
        })
    };
    if !entry.mode.is_normal() {
        return refuse("has a mode that a package cannot have");
    }
    if entry.size > limits.file_bytes {
        return Err(Error::FileTooLarge {
            path: entry.path.clone(),
            limit_bytes: limits.file_bytes,
        });
    }
    if entry.mode.is_folder() && (entry.size != 0 || entry.place.is_some()) {
        return refuse("is a folder with contents of its own");
    }
    if !entry.mode.is_folder() && entry.place.is_none() != (entry.size == 0) {
        return refuse("has no contents where it should have some");
    }
    if entry
        .place
        .as_ref()
        .is_some_and(|place| place.offset.checked_add(place.length).is_none())
    {
        return refuse("lies beyond the end of its pack");
    }
    Ok(())
}

/// Folders that some entry lies in. Fails where such a folder is an entry that is no folder.
fn implied_folders(by_path: &BTreeMap<String, Entry>) -> Result<BTreeSet<String>, Error> {
    let mut implied = BTreeSet::new();
    for path in by_path.keys() {
        for parent in path::parents(path) {
            if implied.contains(parent) {
                break;
            }
            if by_path.get(parent).is_some_and(|above| !above.mode.is_folder()) {
                return Err(Error::NotAFolder {
                    path: path.clone(),
                    parent: parent.to_owned(),
                });
            }
            implied.insert(parent.to_owned());
        }
    }
    Ok(implied)
}

fn digest_of(entries: &[Entry]) -> Digest {
    let mut hash = Sha256::new();
    for entry in entries {
        let line = format!(
            "{}\0{:o}\0{}\0{}\n",
            entry.path,
            entry.mode.bits(),
            entry.size,
            entry.sha256.hex()
        );
        hash.update(line.as_bytes());
    }
    Digest::from_sha256(hash.finalize().into())
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
