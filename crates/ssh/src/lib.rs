//! The SSH server by which people reach instances: connections, channels and their flow, as a library that knows nothing
//! of apps. Whom a code lets in, and what a session is, is behind [`Instances`].
//!
//! ```text
//! client ── TCP ── connection ── channel ── Session (two queues) ── whoever runs it
//! ```
//!
//! What it serves: shells and commands with or without a terminal, SFTP, and connections through the instance
//! (`direct-tcpip`). What it does not: public keys, agents, X11, and listening on behalf of the instance.

mod channel;
mod connection;
mod key;
mod server;
mod signal;

pub use key::HostKey;
pub use server::{attend, serve};

use bytes::Bytes;
use model::Secret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// What the server asks of whoever has the instances.
pub trait Instances: Send + Sync + 'static {
    /// What a connection may do.
    type Grant: Clone + Send + Sync + 'static;

    /// Whom `user` with this one-time code lets in; `None` where nobody.
    fn admit(&self, user: &str, code: Secret) -> impl Future<Output = Option<Self::Grant>> + Send;

    /// Opens a session, which is open from then on.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn open(&self, grant: &Self::Grant, request: Request) -> impl Future<Output = Result<Session, String>> + Send;

    /// A stream to the server that a new connection is to be carried on to, whole, where it is not to be served here.
    ///
    /// # Errors
    /// Why it can be served nowhere.
    fn elsewhere(&self) -> impl Future<Output = Result<Option<Box<dyn Stream>>, String>> + Send {
        std::future::ready(Ok(None))
    }
}

/// Both ways of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To run something.
    Run {
        /// A line for the shell; `None` is a login shell.
        command: Option<String>,
        /// Its terminal, where it is to have one.
        terminal: Option<Terminal>,
        /// Variables that the client sent.
        variables: Vec<(String, String)>,
    },
    /// To connect from inside. The first output is [`CONNECTED`] once that is done.
    Connect {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// To have files, by SFTP.
    Files,
}

/// The first byte of output of a connection that was made.
pub const CONNECTED: u8 = b'+';

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// Such as `xterm-256color`.
    pub kind: String,
    /// Lines of the window.
    pub rows: u16,
    /// Letters of a line.
    pub columns: u16,
}

/// An open session: both ends are queues of few messages. Dropping `input` ends it.
#[derive(Debug)]
pub struct Session {
    /// To what runs.
    pub input: mpsc::Sender<Input>,
    /// From it; ends with [`Output::Exit`] or [`Output::Failed`], or without a word where the session broke.
    pub output: mpsc::Receiver<Output>,
}

/// From the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// For standard input.
    Data(Bytes),
    /// There is no more.
    Eof,
    /// The terminal's window has another size.
    Resize {
        /// Lines.
        rows: u16,
        /// Letters of a line.
        columns: u16,
    },
    /// A signal, by its number on Linux.
    Signal(i32),
}

/// To the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard output, or the terminal's.
    Out(Bytes),
    /// Standard error.
    Err(Bytes),
    /// It ended.
    Exit {
        /// As a shell says it.
        code: i32,
        /// The signal that ended it, if one did.
        signal: Option<i32>,
    },
    /// It could not be run, or was cut off; for people.
    Failed(String),
}
