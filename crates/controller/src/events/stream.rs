//! `GET /paas/v1/apps/{guid}/stream`: server-sent events with an app's events and, if wanted, its log.
//!
//! Events are read from the database by their number, so there is no gap and no repetition whatever happens between
//! two reads; a notification only says when to look. The log is followed by its position.

use crate::Control;
use crate::error::Failure;
use api::cell::LogLine;
use api::error::Code;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use model::id::{AppId, WorkId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use store::Topic;
use telemetry::applog::{Follower, Query};
use telemetry::{Envelope, Stream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

/// Most streams at once.
const MAX_STREAMS: usize = 2000;
/// Events read at once.
const BATCH: u32 = 200;
/// Lines of the past that are sent first.
const PAST_LINES: usize = 10_000;
/// Messages that wait for a slow reader.
const QUEUE: usize = 64;
/// Silence after which a ping is sent.
const PING: Duration = Duration::from_secs(5);

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// What is wanted of a stream.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct StreamQuery {
    /// Number of the last event that the client has seen; without it only new ones are sent.
    pub since: Option<i64>,
    /// Whether log lines are sent too.
    #[serde(default)]
    pub logs: bool,
    /// Time of the last line that the client has seen; without it only new ones are sent.
    pub log_since_ns: Option<i64>,
}

/// Counts a stream for as long as it lives.
struct Open;

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The stream of `app`. The caller has checked that it may.
///
/// # Errors
/// Where too many are open, or the database fails.
pub async fn stream(control: &Control, app: AppId, query: StreamQuery) -> Result<Response, Failure> {
    let before = OPEN.fetch_add(1, Ordering::Relaxed);
    let open = Open;
    if before >= MAX_STREAMS {
        return Err(Failure::new(
            Code::RateLimitExceeded,
            "too many streams are open; try again",
        ));
    }
    // Before the first read, so that nothing is missed after it.
    let topics = control.context.store.subscribe();
    let newest = control.context.store.event_newest().await.map_err(Failure::from)?;
    let (out, receiver) = mpsc::channel::<Bytes>(QUEUE);
    let task = Task {
        control: control.clone(),
        app: app.to_string(),
        app_id: app,
        cursor: query.since.map_or(newest, |since| since.min(newest)),
        out,
        _open: open,
    };
    tokio::spawn(async move {
        // A reader that is gone ends it; so does a failure, after which the client connects again where it was.
        if let Err(error) = task.run(topics, newest, &query).await {
            tracing::warn!(cause = telemetry::chain(error.as_ref()), "an event stream failed");
        }
    });
    let body = Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, Infallible>));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

struct Task {
    control: Control,
    app: String,
    app_id: AppId,
    cursor: i64,
    out: mpsc::Sender<Bytes>,
    _open: Open,
}

impl Task {
    async fn run(mut self, mut topics: store::Subscription, newest: i64, query: &StreamQuery) -> Result<(), Broken> {
        if !self.send("hello", None, &json!({"sequence": newest})).await {
            return Ok(());
        }
        let mut follower = if query.logs {
            Some(self.past_lines(query).await?)
        } else {
            None
        };
        let mut ping = tokio::time::interval(PING);
        ping.reset();
        loop {
            if !self.events().await? {
                return Ok(());
            }
            // Inner loop: until there may be new events.
            loop {
                tokio::select! {
                    () = self.out.closed() => return Ok(()),
                    () = self.control.shutdown.cancelled() => return Ok(()),
                    topic = topics.next() => match topic {
                        Some(Topic::Events | Topic::Resync) => break,
                        Some(_) => {}
                        None => return Ok(()),
                    },
                    batch = next(&mut follower) => match batch? {
                        Some(batch) => {
                            if !self.lines(batch.envelopes).await {
                                return Ok(());
                            }
                        }
                        // The log was removed with its app.
                        None => follower = None,
                    },
                    _ = ping.tick() => {
                        if !self.send("ping", None, &json!({})).await {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Sends all events after the cursor. False: the reader is gone.
    async fn events(&mut self) -> Result<bool, Broken> {
        loop {
            let events = self
                .control
                .context
                .store
                .events_since(Some(&self.app), self.cursor, BATCH)
                .await?;
            for event in &events {
                if !self.send("event", Some(event.sequence), event).await {
                    return Ok(false);
                }
                self.cursor = event.sequence;
            }
            if events.len() < BATCH as usize {
                return Ok(true);
            }
        }
    }

    /// Sends the lines that the client has not seen, and follows from there.
    async fn past_lines(&self, query: &StreamQuery) -> Result<Follower, Broken> {
        let (logs, app, since) = (self.control.context.logs.clone(), self.app.clone(), query.log_since_ns);
        let read = tokio::task::spawn_blocking(move || match since {
            None => Ok((Vec::new(), logs.end(&app)?)),
            Some(since) => {
                let query = Query {
                    start_ns: since.saturating_add(1),
                    end_ns: i64::MAX,
                    ..Query::newest(PAST_LINES)
                };
                let mut page = logs.read(&app, &query)?;
                page.envelopes.reverse();
                Ok::<_, telemetry::applog::Error>((page.envelopes, page.end))
            }
        });
        let (past, end) = read.await??;
        self.lines(past).await;
        Ok(self.control.context.logs.follow(&self.app, end)?)
    }

    async fn lines(&self, envelopes: Vec<Envelope>) -> bool {
        for envelope in envelopes {
            if !self.send("log", None, &line(self.app_id, envelope)).await {
                return false;
            }
        }
        true
    }

    async fn send(&self, name: &str, id: Option<i64>, data: &impl Serialize) -> bool {
        let Ok(data) = serde_json::to_string(data) else {
            return true;
        };
        let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
        self.out
            .send(Bytes::from(format!("{id}event: {name}\ndata: {data}\n\n")))
            .await
            .is_ok()
    }
}

/// The next lines; never, where no log is followed.
async fn next(follower: &mut Option<Follower>) -> Result<Option<telemetry::applog::Batch>, telemetry::applog::Error> {
    match follower {
        Some(follower) => follower.next().await,
        None => std::future::pending().await,
    }
}

/// A stored line as it travels. Which piece of work it was of is not stored.
fn line(app: AppId, envelope: Envelope) -> LogLine {
    LogLine {
        work: WorkId(Uuid::nil()),
        app,
        ts_ns: envelope.ts_ns,
        source_type: envelope.source_type,
        instance: envelope.instance_id,
        err: envelope.stream == Stream::Err,
        text: String::from_utf8_lossy(&envelope.payload).into_owned(),
    }
}
