//! Source packages: a tree of files as one index and few blobs, never one object per small file.
//!
//! ```text
//! package <digest> = PackageIndex: sorted entries {path, mode, size, sha1, sha256, place}
//!                                                                              │
//! pack <digest>    = [frame][frame][frame]...   one per distinct content   ◀───┘ offset, length, compression
//! ```
//! A pack holds the contents of one upload, each a zstd frame of its own (or raw where that is not smaller), so any
//! file is one range read. An index may refer to many packs: an upload brings only what was not known, and the new
//! package takes the rest from the packs where it lies. The digest of a package names its tree, not where its bytes
//! lie, so the same tree pushed twice is one package.
//!
//! Uploads are hostile: [`ingest_zip`], [`PackageIndex`] and [`materialise`] each check what they are given against
//! [`TreeLimits`] and the rules in `path`, and trust no earlier check.

mod entry;
mod error;
mod index;
mod materialise;
mod path;
mod writer;
mod zip;
mod zip_directory;

pub use entry::{Compression, Entry, Mode, Place};
pub use error::Error;
pub use index::PackageIndex;
pub use materialise::{Materialise, Materialised, materialise, read_file};
pub use writer::{Pack, PackWriter};
pub use zip::{Ingested, ingest_zip, store_zip};

/// What a package may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// Files, links and folders.
    pub entries: usize,
    /// Bytes of all files together, uncompressed.
    pub total_bytes: u64,
    /// Bytes of one file, uncompressed.
    pub file_bytes: u64,
    /// Bytes of one path.
    pub path_bytes: usize,
    /// Components of one path.
    pub depth: usize,
    /// How many times its compressed size an archive may unpack to, beyond the first 64 MiB.
    pub ratio: u64,
}

impl Default for TreeLimits {
    /// 200,000 entries, 2 GiB together and per file, paths of 1024 bytes and 64 components, 200 times.
    fn default() -> Self {
        Self {
            entries: 200_000,
            total_bytes: 2 << 30,
            file_bytes: 2 << 30,
            path_bytes: 1024,
            depth: 64,
            ratio: 200,
        }
    }
}
