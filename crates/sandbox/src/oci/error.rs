//! Errors of the runtime: each names the operation and what it was done to.

use std::io;
use std::path::PathBuf;

use oci_spec::runtime::ContainerState;

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on a container failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bundle's configuration cannot be used.
    #[error("configuration {path}: {reason}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a container's name.
    #[error("{id:?} cannot name a container: 1 to 128 letters, digits or any of _ + - . and no dots alone")]
    Name {
        /// What was given.
        id: String,
    },
    /// A container of this name exists.
    #[error("container {id} exists already")]
    Exists {
        /// The container.
        id: String,
    },
    /// No container of this name exists.
    #[error("container {id} does not exist")]
    Missing {
        /// The container.
        id: String,
    },
    /// The operation does not fit the container's state.
    #[error("{operation} container {id}: it is {status}")]
    Status {
        /// What was attempted.
        operation: &'static str,
        /// The container.
        id: String,
        /// Its state.
        status: ContainerState,
    },
    /// Something this runtime or this host does not do.
    #[error("{what}")]
    Unsupported {
        /// What was asked for and why it is refused.
        what: String,
    },
    /// A hook failed.
    #[error("{kind} hook {path}: {reason}", path = path.display())]
    Hook {
        /// Which list it stands in.
        kind: &'static str,
        /// Its program.
        path: PathBuf,
        /// How it failed.
        reason: String,
    },
    /// A step of making the container failed.
    #[error("container {id}: {stage}")]
    Step {
        /// The container.
        id: String,
        /// Which step.
        stage: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file of the host could not be used.
    #[error("{operation} {path}", path = path.display())]
    File {
        /// What was attempted.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Adds what was done to an I/O error.
pub(super) trait Context<T> {
    /// `operation` and `path` complete "failed to …".
    fn at(self, operation: &'static str, path: impl Into<PathBuf>) -> Result<T>;
    /// A step of making the container `id`.
    fn step(self, id: &str, stage: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn at(self, operation: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::File {
            operation,
            path: path.into(),
            source: source.into(),
        })
    }

    fn step(self, id: &str, stage: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Step {
            id: id.to_owned(),
            stage: stage.into(),
            source: source.into(),
        })
    }
}
