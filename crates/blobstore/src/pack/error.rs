//! What can be wrong with a package or an archive. Each names the entry, for the person who pushed it.

use model::Digest;
use std::io;
use std::path::PathBuf;

/// Why a package was refused or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path that could mean a place outside the tree, or none at all.
    #[error("the entry {path:?} {reason}")]
    Path {
        /// The path as it came.
        path: String,
        /// What is wrong, completing "the entry ...".
        reason: &'static str,
    },
    /// A symbolic link whose target is not inside the tree.
    #[error("the link {path:?} to {target:?} {reason}")]
    Link {
        /// The link.
        path: String,
        /// Where it points.
        target: String,
        /// What is wrong, completing "the link ...".
        reason: &'static str,
    },
    /// A device, pipe or socket.
    #[error("the entry {path:?} is a {what}: only files, folders and links can be pushed")]
    Special {
        /// The path.
        path: String,
        /// Such as `device`.
        what: &'static str,
    },
    /// Two entries with one path.
    #[error("the entry {path:?} is there twice")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// An entry below something that is not a folder.
    #[error("the entry {path:?} lies below {parent:?}, which is not a folder")]
    NotAFolder {
        /// The entry.
        path: String,
        /// What it lies below.
        parent: String,
    },
    /// Too many entries.
    #[error("more than {limit} files: leave some out with a .cfignore file")]
    TooManyEntries {
        /// The limit that was passed.
        limit: usize,
    },
    /// One file that is too large.
    #[error("the file {path:?} is larger than {limit_bytes} bytes")]
    FileTooLarge {
        /// The file.
        path: String,
        /// The limit that was passed.
        limit_bytes: u64,
    },
    /// Too much altogether.
    #[error("the files are together larger than {limit_bytes} bytes, reached at {path:?}")]
    TotalTooLarge {
        /// The file that passed the limit.
        path: String,
        /// The limit that was passed.
        limit_bytes: u64,
    },
    /// An archive that unpacks to far more than it is.
    #[error("the archive unpacks to more than {ratio} times its size, reached at {path:?}")]
    Bomb {
        /// The entry that passed the limit.
        path: String,
        /// The limit that was passed.
        ratio: u64,
    },
    /// An entry that cannot be read: damaged, encrypted, or of an unknown compression.
    #[error("failed to read the entry {path:?} of the archive")]
    Entry {
        /// The entry.
        path: String,
        /// What the archive reader said.
        #[source]
        source: io::Error,
    },
    /// Not a zip archive, or one that contradicts itself.
    #[error("not a usable zip archive: {reason}")]
    Archive {
        /// What is wrong.
        reason: String,
    },
    /// An index that is not one, or does not have its digest.
    #[error("the index of package {digest} is damaged: {reason}")]
    Index {
        /// The package.
        digest: Digest,
        /// What is wrong.
        reason: String,
    },
    /// The stored bytes of a file are not those of its entry.
    #[error("the stored contents of {path:?} are damaged")]
    Contents {
        /// The file.
        path: String,
    },
    /// Reading the upload, or writing a pack or tree, failed.
    #[error("failed to {operation} {}", path.display())]
    Io {
        /// What was tried, such as `write`.
        operation: &'static str,
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The blob store failed.
    #[error("failed to reach the package's blobs")]
    Store(#[source] Box<crate::Error>),
}

impl Error {
    /// Wraps an error of the store.
    pub(crate) fn store(error: crate::Error) -> Self {
        Self::Store(Box::new(error))
    }

    /// Whether what was uploaded is at fault, and not this machine or the store.
    #[must_use]
    pub const fn is_callers(&self) -> bool {
        !matches!(
            self,
            Self::Index { .. } | Self::Contents { .. } | Self::Io { .. } | Self::Store(_)
        )
    }
}

/// Shapes an I/O error; `operation` completes "failed to".
pub(crate) fn io_failed(operation: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io {
        operation,
        path,
        source,
    }
}
