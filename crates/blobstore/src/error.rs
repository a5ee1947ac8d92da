//! What can go wrong with a blob. Errors about the contents of packages and archives are [`crate::pack::Error`]'s.

use crate::Kind;
use model::Digest;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// An operation on the store that failed, with the blob it was about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such blob.
    #[error("there is no {kind} {digest}")]
    Missing {
        /// Kind asked for.
        kind: Kind,
        /// Digest asked for.
        digest: Digest,
    },
    /// The bytes are not the ones that the digest names; nothing was stored.
    #[error("the bytes of {kind} {expected} have the digest {actual}")]
    Mismatch {
        /// Kind of the upload.
        kind: Kind,
        /// Digest that was announced.
        expected: Digest,
        /// Digest of what came.
        actual: Digest,
    },
    /// More bytes than the kind allows; nothing was stored.
    #[error("{kind} {digest} is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// Kind of the upload.
        kind: Kind,
        /// Digest that was announced.
        digest: Digest,
        /// The limit that was passed.
        limit_bytes: u64,
    },
    /// The sender went silent; nothing was stored.
    #[error("the upload of {kind} {digest} stood still for {} seconds", limit.as_secs())]
    Stalled {
        /// Kind of the upload.
        kind: Kind,
        /// Digest that was announced.
        digest: Digest,
        /// How long was waited.
        limit: Duration,
    },
    /// The sender's stream failed; nothing was stored.
    #[error("failed to receive {kind} {digest}")]
    Receive {
        /// Kind of the upload.
        kind: Kind,
        /// Digest that was announced.
        digest: Digest,
        /// What the stream said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine behind the store failed.
    #[error("failed to {operation} {kind} {digest}")]
    Engine {
        /// What was tried, such as `read`.
        operation: &'static str,
        /// Kind of the blob.
        kind: Kind,
        /// Digest of the blob.
        digest: Digest,
        /// What the engine said.
        #[source]
        source: object_store::Error,
    },
    /// The engine failed while listing.
    #[error("failed to list every {kind}")]
    List {
        /// Kind that was listed.
        kind: Kind,
        /// What the engine said.
        #[source]
        source: object_store::Error,
    },
    /// The store's folder could not be made, read or written.
    #[error("failed to {operation} {}", path.display())]
    Folder {
        /// What was tried, such as `create`.
        operation: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store's folder or server is not one that the engine accepts.
    #[error("failed to open the blob store at {place}")]
    Open {
        /// The folder, or server and bucket.
        place: String,
        /// What the engine said.
        #[source]
        source: object_store::Error,
    },
}

impl Error {
    /// Whether the blob is simply not there.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// Whether the sender and not the store is at fault.
    #[must_use]
    pub const fn is_callers(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::Mismatch { .. }
                | Self::TooLarge { .. }
                | Self::Stalled { .. }
                | Self::Receive { .. }
        )
    }
}

/// Turns an engine's error into ours: a missing object is told apart from a failure.
pub(crate) fn engine(
    operation: &'static str,
    kind: Kind,
    digest: &Digest,
) -> impl FnOnce(object_store::Error) -> Error + use<> {
    let digest = digest.clone();
    move |source| match source {
        object_store::Error::NotFound { .. } => Error::Missing { kind, digest },
        source => Error::Engine {
            operation,
            kind,
            digest,
            source,
        },
    }
}
