//! Packages, droplet layers, buildpacks and stacks by digest: stream in, verify, become visible at once, stay.
//!
//! [`Blobstore`] keeps blobs, each a [`Kind`] and a [`model::Digest`], in a directory or an S3-compatible store, through
//! the `object_store` crate: nothing here but `engine` and `s3` knows which. [`pack`] puts many small files into one
//! blob. Who may read a blob, and which blobs are still referenced, is the controller's knowledge and not kept here.

mod copy;
mod engine;
mod error;
pub mod pack;
mod s3;
mod store;
mod upload;

pub use copy::Copied;
pub use error::Error;
pub use s3::S3;
pub use store::{Blob, Blobstore, Info, Stored, Swept};

use std::time::Duration;

/// What a blob is. Each kind is its own namespace, with its own size limit and its own garbage collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Index of a source package, keyed by the package's digest (see [`pack::PackageIndex`]).
    Package,
    /// Contents of many files, keyed by the digest of the stored bytes.
    Pack,
    /// Layer of a droplet as `tar.zst`, keyed by the digest of the uncompressed, normalised tar.
    Layer,
    /// Uploaded buildpack, keyed by the digest of the stored bytes.
    Buildpack,
    /// Root file system of a stack, keyed like a layer.
    Stack,
}

impl Kind {
    /// All of them, for sweeps and tests.
    pub const ALL: [Self; 5] = [Self::Package, Self::Pack, Self::Layer, Self::Buildpack, Self::Stack];

    /// Folder of the kind in the store.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Package => "packages",
            Self::Pack => "packs",
            Self::Layer => "layers",
            Self::Buildpack => "buildpacks",
            Self::Stack => "stacks",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Package => "package",
            Self::Pack => "pack",
            Self::Layer => "layer",
            Self::Buildpack => "buildpack",
            Self::Stack => "stack",
        })
    }
}

/// How much a blob may hold and how long an upload may stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest package index in bytes.
    pub package_bytes: u64,
    /// Largest pack in bytes.
    pub pack_bytes: u64,
    /// Largest compressed layer in bytes.
    pub layer_bytes: u64,
    /// Largest buildpack archive in bytes.
    pub buildpack_bytes: u64,
    /// Largest compressed stack in bytes.
    pub stack_bytes: u64,
    /// An upload whose next bytes do not come within this time is given up.
    pub stall: Duration,
}

impl Limits {
    /// Largest blob of `kind` in bytes.
    #[must_use]
    pub const fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Package => self.package_bytes,
            Kind::Pack => self.pack_bytes,
            Kind::Layer => self.layer_bytes,
            Kind::Buildpack => self.buildpack_bytes,
            Kind::Stack => self.stack_bytes,
        }
    }
}

impl Default for Limits {
    /// 64 MiB of index, 2 GiB of pack, 4 GiB of layer, 2 GiB of buildpack, 8 GiB of stack, 60 s of silence.
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        const GIB: u64 = 1 << 30;
        Self {
            package_bytes: 64 * MIB,
            pack_bytes: 2 * GIB,
            layer_bytes: 4 * GIB,
            buildpack_bytes: 2 * GIB,
            stack_bytes: 8 * GIB,
            stall: Duration::from_secs(60),
        }
    }
}
