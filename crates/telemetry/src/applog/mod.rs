//! App logs on disk: what apps said, per app, within bounds, readable by time and followable without a gap.
//!
//! ```text
//! <root>/<app>/0000000007-<first ns>-<last ns>-<lines>.log    sealed, never changed again
//! <root>/<app>/0000000008.open                                the one that is appended to
//! ```
//! Segments hold the frames of [`crate::Envelope`] in the order of arrival. Times may go back a little, since several
//! cells write; reading by time sorts. The name of a sealed segment says what it holds, so opening a store reads
//! folders and no logs. A line is acknowledged when the kernel has it: it outlives this process, and a crash in the
//! middle of a write costs only what was not acknowledged. Beyond the bounds the oldest segments go, and are counted.
//!
//! Following reads the same files from a [`Position`] and is woken by appends; so it can start where a read ended,
//! nobody is too slow for it, and it holds no queue.
//!
//! Everything here but [`Follower::next`] blocks, mostly for microseconds.

mod app;
mod follow;
mod segment;
mod store;

pub use follow::{Batch, Follower};
pub use store::LogStore;

use crate::Envelope;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes per app. The store keeps at least the newest segment.
    pub app_bytes: u64,
    /// Bytes of all apps. Beyond it the app with the most loses first.
    pub total_bytes: u64,
    /// Bytes of a segment, the unit in which logs go. At most a quarter of `app_bytes` makes sense.
    pub segment_bytes: u64,
    /// Lines older than this go with their segment.
    pub age: Duration,
}

impl Default for Limits {
    /// 32 MiB per app, 4 GiB together, in segments of 1 MiB, for 7 days.
    fn default() -> Self {
        Self {
            app_bytes: 32 << 20,
            total_bytes: 4 << 30,
            segment_bytes: 1 << 20,
            age: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// A place in an app's log. Later places are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Position {
    /// Number of the segment.
    pub segment: u64,
    /// Byte within it.
    pub offset: u64,
}

/// Which lines to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Unix nanoseconds from which on, inclusive.
    pub start_ns: i64,
    /// Unix nanoseconds up to which, exclusive.
    pub end_ns: i64,
    /// Most lines.
    pub limit: usize,
    /// Whether the newest lines come first, and the oldest are left out beyond the limit.
    pub descending: bool,
    /// Source types by prefix (`APP` matches `APP/PROC/WEB`); empty for all.
    pub types: Vec<String>,
}

impl Query {
    /// The newest `limit` lines of all types, newest first.
    #[must_use]
    pub const fn newest(limit: usize) -> Self {
        Self {
            start_ns: i64::MIN,
            end_ns: i64::MAX,
            limit,
            descending: true,
            types: Vec::new(),
        }
    }

    fn wants(&self, envelope: &Envelope) -> bool {
        let prefixes = |kind: &String| {
            let rest = envelope.source_type.strip_prefix(kind.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        (self.start_ns..self.end_ns).contains(&envelope.ts_ns)
            && (self.types.is_empty() || self.types.iter().any(prefixes))
    }
}

/// What there is of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Lines that can be read.
    pub lines: u64,
    /// Lines that were there and went, since the store was opened.
    pub gone: u64,
    /// Time of the earliest line and of the latest, Unix nanoseconds; `None` where there is none.
    pub span_ns: Option<(i64, i64)>,
}

/// What a query found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order that was asked for.
    pub envelopes: Vec<Envelope>,
    /// The log's end when it was read: following from here continues without gap or repetition.
    pub end: Position,
}

/// Lines that are not there (any more), by cause, since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Beyond the bytes of the app or the total.
    pub evicted: u64,
    /// Beyond the age.
    pub expired: u64,
    /// Refused: the app's id is not one, or the line is longer than [`Envelope::MAX_PAYLOAD`].
    pub refused: u64,
    /// Ends of segments, not lines, that a crash had left incomplete or damage had made unreadable.
    pub damaged: u64,
}

/// Why logs could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of the store failed.
    #[error("failed to {operation} {}", path.display())]
    Io {
        /// What was tried, such as `append to`.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The app's log was removed.
    #[error("the log of app {app:?} was removed")]
    Removed {
        /// The app.
        app: String,
    },
    /// The app's id cannot be one.
    #[error("not an app's id: {app:?}")]
    App {
        /// As it came.
        app: String,
    },
    /// The runtime shut down while logs were read.
    #[error("the reader of the log of app {app:?} was stopped")]
    Stopped {
        /// The app.
        app: String,
    },
}

/// Shapes an I/O error; `operation` completes "failed to".
fn failed(operation: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
mod tests;
