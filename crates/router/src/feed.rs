//! Follows the controllers' edge feed: applies it to the table, acknowledges each revision, connects again when cut off.
//!
//! While no controller answers, the table stays as it is.

use crate::Config;
use crate::metrics::Metrics;
use crate::table::{Table, Writer};
use api::edge::{ACK, Ack, FEED, Table as Message};
use futures_util::StreamExt as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The feed is taken to be cut off after this long without a message; controllers send one every 10 s.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest wait for an answer to an acknowledgement.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest pause before connecting again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Largest message; 1,000,000 routes fit.
const MAX_LINE: usize = 512 * 1024 * 1024;

/// Why the feed ended. Each is followed by another try.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("failed to reach the controller's edge feed")]
    Http(#[source] reqwest::Error),
    #[error("the edge feed was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the edge feed ended")]
    Ended,
    #[error("the edge feed sent what is no message")]
    Malformed(#[source] serde_json::Error),
    #[error("the edge feed sent a message of more than {MAX_LINE} bytes")]
    TooLong,
    #[error("the edge feed skipped a revision")]
    OutOfStep(#[source] crate::table::OutOfStep),
}

impl FeedError {
    /// Whether no controller answered at all.
    fn is_nobody_there(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_connect() || error.is_timeout())
    }
}

/// Keeps the table up to date until `shutdown`; calls `ready` once, when the first message was applied.
pub async fn follow(
    client: reqwest::Client,
    config: &Config,
    table: &Arc<Table>,
    told: Told<'_>,
    shutdown: &CancellationToken,
    ready: impl FnOnce(),
) {
    let mut feed = Feed {
        config,
        client,
        writer: Writer::new(Arc::clone(table), told.workers),
        told,
        ready: Some(ready),
    };
    let mut pause = PAUSES.0;
    // Controllers that did not answer, since one did.
    let mut silent = BTreeSet::new();
    while !shutdown.is_cancelled() {
        let revision = feed.writer.revision();
        let result = tokio::select! {
            () = shutdown.cancelled() => return,
            result = feed.run() => result,
        };
        if feed.writer.revision() != revision {
            pause = PAUSES.0;
        }
        // Whatever ended it, another controller may know more.
        let number = config.controllers.current().0;
        config.controllers.failed(number);
        if !matches!(&result, Err(error) if error.is_nobody_there()) {
            silent.clear();
        }
        if let Err(error) = result {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::debug!(%error, cause, retry_ms = pause.as_millis(), "edge feed lost, the table stays");
            // All were asked once it is the first one's turn again.
            if error.is_nobody_there() && !silent.insert(number) {
                feed.fall_back().await;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
        }
    }
}

/// What else the feed has to do with.
pub struct Told<'a> {
    /// Workers of the router.
    pub workers: usize,
    /// Where things are counted.
    pub metrics: &'a Metrics,
    /// Told when the table changed.
    pub changed: &'a Notify,
}

struct Feed<'a, R> {
    told: Told<'a>,
    config: &'a Config,
    client: reqwest::Client,
    writer: Writer,
    ready: Option<R>,
}

impl<R: FnOnce()> Feed<'_, R> {
    /// Takes the table that was kept, where no controller ever answered.
    async fn fall_back(&mut self) {
        let Some(path) = self.config.state.clone().filter(|_| self.ready.is_some()) else {
            return;
        };
        let Some(message) = crate::kept::read(path).await else {
            return;
        };
        // A snapshot always applies.
        if self.writer.apply(message).is_ok()
            && let Some(ready) = self.ready.take()
        {
            tracing::warn!("no controller answers: the router serves the table that it had before");
            ready();
        }
    }

    /// One connection, from snapshot to its end.
    async fn run(&mut self) -> Result<(), FeedError> {
        let request = self.client.get(self.url(FEED.path));
        let response = self
            .config
            .proof
            .request(request)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(FeedError::Http)?;
        let mut stream = response.bytes_stream();
        let mut buffer = Vec::new();
        let drained = self.writer.drained();
        loop {
            let chunk = tokio::select! {
                // Acknowledging again tells that a draining instance has become empty.
                () = drained.notified() => { self.acknowledge().await; continue }
                chunk = tokio::time::timeout(SILENCE, stream.next()) => chunk.map_err(|_| FeedError::Silent)?,
            };
            let chunk = chunk.ok_or(FeedError::Ended)?.map_err(FeedError::Http)?;
            buffer.extend_from_slice(&chunk);
            if self.apply_lines(&mut buffer)? {
                self.acknowledge().await;
            }
            if buffer.len() > MAX_LINE {
                return Err(FeedError::TooLong);
            }
        }
    }

    /// Applies every whole line and leaves the rest; says whether the table changed.
    fn apply_lines(&mut self, buffer: &mut Vec<u8>) -> Result<bool, FeedError> {
        let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(false);
        };
        let mut changed = false;
        for line in buffer[..end]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let message: Message = serde_json::from_slice(line).map_err(FeedError::Malformed)?;
            changed |= !matches!(message, Message::Ping);
            self.writer.apply(message).map_err(FeedError::OutOfStep)?;
        }
        buffer.drain(..=end);
        if changed {
            self.told.metrics.table_changes.fetch_add(1, Ordering::Relaxed);
            self.told
                .metrics
                .revision
                .store(self.writer.revision(), Ordering::Relaxed);
            self.told.changed.notify_one();
        }
        if changed && let Some(ready) = self.ready.take() {
            ready();
        }
        Ok(changed)
    }

    /// Says which revision the table is at. Lost ones do no harm: the next says more, and without one nothing stops.
    async fn acknowledge(&mut self) {
        let ack = Ack {
            revision: self.writer.revision(),
            draining: self.writer.draining(),
        };
        let request = self.client.post(self.url(ACK.path));
        let sent = self
            .config
            .proof
            .request(request)
            .timeout(ACK_TIMEOUT)
            .json(&ack)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        if let Err(error) = sent {
            tracing::warn!(revision = ack.revision, %error, "failed to acknowledge the edge feed");
        }
    }

    fn url(&self, path: &str) -> String {
        let path = path.replace("{router}", &self.config.id.to_string());
        format!("{}{path}", self.config.controllers.current().1)
    }
}
