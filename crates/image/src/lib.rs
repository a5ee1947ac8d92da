//! Images of the Open Container Initiative: references, documents, layouts on disk, and registries. Read by the
//! lifecycle, which takes images in, and by the command line, which exports droplets; written by the controller.
//!
//! Everything that comes from outside is hostile: documents have a largest size, indices a largest depth, and bytes
//! count only once their digest was checked. What layers hold is not looked at here: that is for cells, which unpack.

pub mod config;
pub mod document;
pub mod error;
pub mod layout;
pub mod reference;
#[cfg(feature = "registry")]
pub mod registry;
mod verify;

pub use config::{Config, Settings};
pub use document::{Descriptor, Document, Index, Manifest, Platform};
pub use error::Error;
pub use reference::Reference;
pub use verify::{Verified, digest_of};

use model::Digest;
use sha2::{Digest as _, Sha256};

/// Longest index, manifest or configuration.
pub const DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Most layers of an image: what a kernel stacks, less what the platform adds.
pub const LAYERS: usize = 256;
/// Most indices within each other.
pub const DEPTH: usize = 4;
/// Largest blob of a layer, compressed.
pub const BLOB_BYTES: u64 = 8 << 30;

/// This machine's processor, as images name it.
pub const ARCHITECTURE: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    b"riscv64" => "riscv64",
    b"s390x" => "s390x",
    b"powerpc64" => "ppc64le",
    _ => std::env::consts::ARCH,
};

/// The digest of bytes at hand.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// An image whose documents were read and checked; its layers are still where they came from.
#[derive(Debug, Clone)]
pub struct Image {
    /// Of its manifest, which names everything else.
    pub digest: Digest,
    /// How it is run, and what its layers are.
    pub config: Config,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Of the uncompressed archive.
    pub diff_id: Digest,
    /// The blob that holds it, compressed or not.
    pub blob: Descriptor,
}

impl Image {
    /// Puts together what manifest and configuration say.
    ///
    /// # Errors
    /// Where they contradict each other or there are too many layers.
    pub fn new(digest: Digest, manifest: &Manifest, config: Config) -> Result<Self, Error> {
        if manifest.layers.len() > LAYERS {
            return Err(Error::TooMuch {
                what: "layers",
                limit: LAYERS as u64,
            });
        }
        let ids = &config.rootfs.diff_ids;
        if ids.len() != manifest.layers.len() {
            return Err(Error::invalid(format!(
                "its manifest has {} layers, its configuration {}",
                manifest.layers.len(),
                ids.len()
            )));
        }
        let layers = ids.iter().zip(&manifest.layers).map(|(diff_id, blob)| Layer {
            diff_id: diff_id.clone(),
            blob: blob.clone(),
        });
        Ok(Self {
            layers: layers.collect(),
            digest,
            config,
        })
    }

    /// The image, where it runs on this machine.
    ///
    /// # Errors
    /// Where it is for another.
    pub fn for_here(self) -> Result<Self, Error> {
        let Config { os, architecture, .. } = &self.config;
        if !os.is_empty() && os != "linux" || !architecture.is_empty() && !self.config.fits() {
            return Err(Error::NoPlatform {
                found: vec![format!("{os}/{architecture}")],
            });
        }
        Ok(self)
    }
}
