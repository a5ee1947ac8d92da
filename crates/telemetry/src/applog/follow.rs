//! [`Follower`]: reads an app's log as it grows. It holds a place, not a queue, so it is never too slow.

use super::app::App;
use super::{Error, Position};
use crate::Envelope;
use std::sync::Arc;
use tokio::sync::watch;

/// Bytes of frames after which a batch ends.
const BATCH_BYTES: u64 = 256 << 10;

/// Follows the log of one app. Dropping it costs nothing.
pub struct Follower {
    name: String,
    app: Arc<App>,
    changed: watch::Receiver<()>,
    position: Position,
}

/// Lines in the order of their arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Never empty, unless `gap`.
    pub envelopes: Vec<Envelope>,
    /// The place after them.
    pub end: Position,
    /// Whether lines before them were dropped by the store's bounds before this follower read them.
    pub gap: bool,
}

impl Follower {
    pub(super) fn new(name: String, app: Arc<App>, position: Position) -> Self {
        let changed = app.subscribe();
        Self {
            name,
            app,
            changed,
            position,
        }
    }

    /// The next lines, as soon as there are some; `None` once the app's log was removed. Cancelling it loses nothing.
    ///
    /// # Errors
    /// A file could not be read; calling it again tries again.
    pub async fn next(&mut self) -> Result<Option<Batch>, Error> {
        loop {
            // Seen before reading: an append after this wakes the wait below.
            self.changed.mark_unchanged();
            let (app, from) = (self.app.clone(), self.position);
            let read = tokio::task::spawn_blocking(move || app.read_from(from, BATCH_BYTES)).await;
            match read.map_err(|_| Error::Stopped { app: self.name.clone() })? {
                Err(Error::Removed { .. }) => return Ok(None),
                Err(error) => return Err(error),
                Ok((envelopes, end, gap)) => {
                    self.position = end;
                    if gap || !envelopes.is_empty() {
                        return Ok(Some(Batch { envelopes, end, gap }));
                    }
                }
            }
            if self.changed.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}
