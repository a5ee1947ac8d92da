//! What our buildpacks share on their side of the Cloud Native Buildpacks contract. Nothing here knows the platform: a
//! buildpack built on it runs on any that follows the contract.

pub mod app;
pub mod command;
pub mod context;
pub mod launch;
pub mod layer;
pub mod memory;
pub mod output;
pub mod tool;
pub mod version;

#[cfg(feature = "download")]
pub mod archive;
#[cfg(feature = "download")]
pub mod dns;
#[cfg(feature = "download")]
pub mod http;
#[cfg(feature = "download")]
pub mod source;

pub use context::{BuildContext, Buildpack, DetectContext, Detection, Variables, run};
pub use launch::Launch;
pub use layer::{Layer, Types};
pub use version::Version;

/// Why a build failed, in words for the person who pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong, from the evidence.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

impl Failure {
    /// A failure with its remedy.
    pub fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            remedy: remedy.into(),
        }
    }

    /// For mapping an I/O error of `operation` on `path`.
    pub fn file(operation: &str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("could not {operation} {}", path.display());
        move |error| {
            Self::new(
                format!("{what}: {error}"),
                "Try again; if it persists, raise the staging disk limit.",
            )
        }
    }
}

/// Result of every fallible operation of a buildpack.
pub type Result<T> = std::result::Result<T, Failure>;

/// Hex SHA-256 over all `parts`, each with its length: the key of a layer from all that went into it.
#[must_use]
pub fn key(parts: &[&[u8]]) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_where_parts_end() {
        assert_eq!(key(&[b"a", b"b"]), key(&[b"a", b"b"]));
        assert_ne!(key(&[b"ab", b""]), key(&[b"a", b"b"]));
    }
}
