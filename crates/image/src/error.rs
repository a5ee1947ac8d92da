//! What can be wrong with an image, or with getting it.

use model::Digest;

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reference is none.
    #[error("{text:?} names no image: {reason}")]
    Reference {
        /// As it was written.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The registry does not have it, or does not tell.
    #[error("image not found: {reference}")]
    NotFound {
        /// As it was asked for.
        reference: String,
    },
    /// The registry wants other credentials, or any.
    #[error("unauthorized: {registry} refuses access to {repository}")]
    Unauthorized {
        /// Host of the registry.
        registry: String,
        /// What was asked for.
        repository: String,
        /// Whether credentials were given.
        given: bool,
    },
    /// There is nothing for this machine.
    #[error("no manifest for linux/{}", crate::ARCHITECTURE)]
    NoPlatform {
        /// What there is.
        found: Vec<String>,
    },
    /// A document or layer of a kind that is not known.
    #[error("its {what} is of the kind {media_type:?}, which is not supported")]
    Kind {
        /// `manifest` or `layer`.
        what: &'static str,
        /// As the image names it.
        media_type: String,
    },
    /// Its documents are not what they have to be.
    #[error("the image is invalid: {reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// Beyond a limit.
    #[error("the image has more than {limit} {what}")]
    TooMuch {
        /// `layers`, `bytes in a document`.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The bytes are others than those that were named.
    #[error("the digest of blob {expected} is {found}")]
    Digest {
        /// As the image names it.
        expected: Digest,
        /// Of what came.
        found: Digest,
    },
    /// The registry answers with something that makes no sense here.
    #[error("{registry} answers {status}: {detail}")]
    Answer {
        /// Its host.
        registry: String,
        /// HTTP status.
        status: u16,
        /// Its own words, shortened.
        detail: String,
    },
    /// The registry cannot be reached, or the connection broke.
    #[error("{registry} cannot be reached")]
    Unreachable {
        /// Its host.
        registry: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of a layout cannot be read or written.
    #[error("{operation} {path}")]
    File {
        /// Such as `read`.
        operation: &'static str,
        /// Relative to the layout.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// For documents that contradict what they have to say.
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into() }
    }

    /// For mapping an I/O error of `operation` on `path`.
    pub(crate) fn file(operation: &'static str, path: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_string();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }
}
