//! What can go wrong on a cell, each error with the operation and what it was about. Why a piece of work ended is
//! `model::work::Cause`'s, not an error.

use model::Digest;
use std::io;
use std::path::{Path, PathBuf};

/// An operation of the cell that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration can't be used.
    #[error("invalid configuration of the cell: {reason}")]
    Config {
        /// What is wrong and what is expected.
        reason: String,
    },
    /// A file or folder of the cell could not be used.
    #[error("failed to {operation} {}", path.display())]
    File {
        /// What was tried, such as `create`.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A layer could not be made available.
    #[error("failed to prepare layer {digest}")]
    Layer {
        /// The layer.
        digest: Digest,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// Bytes that are not what their digest says.
    #[error("the contents of {expected} have the digest {actual}")]
    Mismatch {
        /// Digest that was asked for or claimed.
        expected: Digest,
        /// Digest of what was there.
        actual: Digest,
    },
    /// An archive was refused or could not be unpacked.
    #[error("failed to unpack an archive")]
    Unpack(#[source] Box<crate::unpack::Error>),
    /// The blob store failed.
    #[error("failed to {operation}")]
    Blob {
        /// What was tried, with the blob.
        operation: String,
        /// What the store said.
        #[source]
        source: Box<blobstore::Error>,
    },
    /// The files of a package could not be laid out.
    #[error("failed to lay out package {digest}")]
    Package {
        /// The package.
        digest: Digest,
        /// Why.
        #[source]
        source: Box<blobstore::pack::Error>,
    },
    /// The sandbox failed.
    #[error("failed to {operation}")]
    Sandbox {
        /// What was tried, with the sandbox.
        operation: String,
        /// What the sandbox said.
        #[source]
        source: Box<sandbox::Error>,
    },
    /// An image says something of itself that can't be.
    #[error("the image can't be run: {reason}")]
    Image {
        /// What it is.
        reason: String,
    },
    /// There is no such stack on this cell.
    #[error("this cell has no stack {name:?}; it has: {known}")]
    NoStack {
        /// The name asked for.
        name: String,
        /// Those there are, separated by commas.
        known: String,
    },
    /// A stack could not be made.
    #[error("failed to make stack {name:?}: {reason}")]
    Stack {
        /// Its name.
        name: String,
        /// What failed and what to do about it.
        reason: String,
    },
    /// A build left something behind that can't be taken over.
    #[error("the build's result can't be used: {reason}")]
    Result {
        /// What is wrong with it.
        reason: String,
    },
    /// The controller did not take a request.
    #[error("failed to {operation} at the controller")]
    Controller {
        /// What was asked.
        operation: &'static str,
        /// Why.
        #[source]
        source: Box<crate::agent::client::Failure>,
    },
    /// A part of the agent has gone, because it is shutting down.
    #[error("the cell's agent is shutting down")]
    ShuttingDown,
}

/// Shapes an I/O error; `operation` completes "failed to".
pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File {
        operation,
        path,
        source,
    }
}

/// Shapes an error of the sandbox; `operation` completes "failed to".
pub(crate) fn kernel(operation: impl Into<String>) -> impl FnOnce(sandbox::Error) -> Error {
    let operation = operation.into();
    move |source| Error::Sandbox {
        operation,
        source: Box::new(source),
    }
}

/// The error and what caused it, in one line for logs and for people.
pub(crate) use telemetry::chain;

/// Runs blocking work off the runtime's threads.
///
/// # Errors
/// [`Error::ShuttingDown`] where the runtime ends before the work began; else what the work returns.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::ShuttingDown),
        },
    }
}
