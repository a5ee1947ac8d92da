//! Errors of this crate: each names the operation and what it was done to. Text for
//! people is made elsewhere.

use std::io;
use std::path::PathBuf;

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on a sandbox failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A step on the way to namespaces of our own failed.
    #[error("failed to {what} for an agent without root")]
    Unprivileged {
        /// The step.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },

    /// The specification breaks a rule; nothing was started.
    #[error("invalid specification of sandbox {id}: {reason}")]
    Invalid {
        /// The sandbox.
        id: String,
        /// The broken rule.
        reason: String,
    },
    /// A sandbox of this name exists already.
    #[error("sandbox {id} exists already")]
    Exists {
        /// The sandbox.
        id: String,
    },
    /// Another agent uses the state folder.
    #[error("state folder {path} is in use by another agent", path = path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The host cannot do what is needed.
    #[error("this host cannot run sandboxes: {reason}")]
    Host {
        /// What is missing.
        reason: String,
    },
    /// Every uid range is taken.
    #[error("no free uid range for another sandbox")]
    Full,
    /// A step inside the sandbox failed before the app ran.
    #[error("start sandbox {id}: {stage}")]
    Start {
        /// The sandbox.
        id: String,
        /// Which step.
        stage: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The app's program could not be executed.
    #[error("execute {program} in sandbox {id}")]
    Program {
        /// The sandbox.
        id: String,
        /// The program asked for.
        program: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The sandbox is not running (any more).
    #[error("sandbox {id} is not running")]
    NotRunning {
        /// The sandbox.
        id: String,
    },
    /// Its processes are stopped, so none of them can be asked anything.
    #[error("sandbox {id} is frozen: thaw it first")]
    Frozen {
        /// The sandbox.
        id: String,
    },
    /// More memory is in use than it may have from now on; nothing was changed.
    #[error("sandbox {id} uses {used_bytes} bytes of memory that cannot be taken back, its new limit is {limit_bytes}")]
    MemoryInUse {
        /// The sandbox.
        id: String,
        /// What is in use.
        used_bytes: u64,
        /// The limit that was asked for.
        limit_bytes: u64,
    },
    /// Files could not be copied into or out of it, or were refused.
    #[error("copy {path} of sandbox {id}: {reason}")]
    Copy {
        /// The sandbox.
        id: String,
        /// The file or folder inside.
        path: String,
        /// Why.
        reason: String,
    },
    /// This host has no means for it.
    #[error("{operation} sandbox {id}: {reason}")]
    Unsupported {
        /// What was asked for.
        operation: &'static str,
        /// The sandbox.
        id: String,
        /// What is missing.
        reason: &'static str,
    },
    /// A wait reached its end.
    #[error("{operation} of sandbox {id} took longer than {seconds} s{detail}")]
    Deadline {
        /// What was awaited.
        operation: &'static str,
        /// The sandbox.
        id: String,
        /// The limit.
        seconds: u64,
        /// More, beginning with a separator, or empty.
        detail: String,
    },
    /// A file is bigger than the caller takes.
    #[error("{path} in sandbox {id} is larger than {max_bytes} bytes")]
    TooLarge {
        /// The sandbox.
        id: String,
        /// The file.
        path: String,
        /// The caller's limit.
        max_bytes: u64,
    },
    /// Something that is not a plain file (or leads out of the private layer).
    #[error("{path} in sandbox {id} is not a plain file")]
    NotAFile {
        /// The sandbox.
        id: String,
        /// The path.
        path: String,
    },
    /// The network part failed.
    #[error("{operation}")]
    Network {
        /// What was attempted, with the sandbox's name.
        operation: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The helper that starts sandboxes did not answer as it should.
    #[error("spawner: {operation}")]
    Spawner {
        /// What was attempted.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A host file could not be read or written.
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
    /// A system call failed.
    #[error("{operation} of sandbox {id}")]
    Kernel {
        /// What was attempted.
        operation: &'static str,
        /// The sandbox.
        id: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Adds operation and path to an I/O error.
pub(crate) trait Context<T> {
    /// `operation` and `path` complete "failed to …".
    fn at(self, operation: &'static str, path: impl Into<PathBuf>) -> Result<T>;
    /// The same for an operation on the sandbox `id`.
    fn on(self, operation: &'static str, id: &str) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn at(self, operation: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::File {
            operation,
            path: path.into(),
            source: source.into(),
        })
    }

    fn on(self, operation: &'static str, id: &str) -> Result<T> {
        self.map_err(|source| Error::Kernel {
            operation,
            id: id.to_owned(),
            source: source.into(),
        })
    }
}
