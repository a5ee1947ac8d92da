//! `GET /paas/v1/builds/{guid}/history`: how a build went, also long after it: its phases, its log, what it waits for.
//!
//! The log of builds is kept beside the app's own. A line is told to be of the build in whose time it was written: where
//! two builds of one app ran at once, each has the lines of both.

use crate::Control;
use crate::error::Failure;
use crate::feeds::rfc3339;
use model::Timestamp;
use model::id::{AppId, BuildId};
use model::resource::{Build, BuildState};
use scheduler::{JobRef, Slot};
use serde::Serialize;
use store::{Common, EventFilter, Moment, Order, Page, Scope};
use telemetry::applog::Query;
use telemetry::{Envelope, Stream};
use time::Duration;

/// Most lines that are read at once.
const MAX_LINES: usize = 10_000;
/// Lines and events of a build may be written so much later than its end.
const TRAILING: Duration = Duration::seconds(5);

/// How a build went.
#[derive(Debug, Clone, Serialize)]
pub struct History {
    pub build: BuildId,
    pub state: BuildState,
    /// From its creation to its end, or until now.
    pub duration_ms: u64,
    pub phases: Vec<Phase>,
    /// Why no cell has taken it yet.
    pub waiting: Option<Waiting>,
    /// Oldest first; empty where they are not kept any more, or an equal build was taken.
    pub lines: Vec<Line>,
}

/// A step, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Phase {
    pub name: String,
    pub duration_ms: u64,
}

/// What a build in the queue waits for.
#[derive(Debug, Clone, Serialize)]
pub struct Waiting {
    pub reason: String,
    pub smallest_change: String,
}

/// What it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    pub at: String,
    /// `out` or `err`.
    pub stream: &'static str,
    pub text: String,
}

/// How the build went.
///
/// # Errors
/// Where the database or the log store fails.
pub async fn history(control: &Control, build: &Build) -> Result<History, Failure> {
    let over = build.state != BuildState::Staging;
    let end = if over { build.updated_at } else { control.context.now() };
    let waiting = waiting(control, build.id);
    Ok(History {
        build: build.id,
        state: build.state,
        duration_ms: (end - build.created_at)
            .whole_milliseconds()
            .try_into()
            .unwrap_or_default(),
        phases: phases(control, build, end).await?,
        lines: lines(control, build.app, build.created_at, end).await?,
        waiting: waiting.filter(|_| !over),
    })
}

/// What keeps the build from being placed, as the last plan has it.
pub(super) fn waiting(control: &Control, build: BuildId) -> Option<Waiting> {
    let explanation = control.explanation();
    let mut unplaced = explanation.unplaced.iter();
    let found = unplaced.find(|unplaced| matches!(unplaced.slot, Slot::Job(JobRef::Build(id)) if id == build))?;
    Some(Waiting {
        reason: found.reason(),
        smallest_change: found.smallest_change(),
    })
}

async fn phases(control: &Control, build: &Build, end: Timestamp) -> Result<Vec<Phase>, Failure> {
    let filter = EventFilter {
        kinds: Some(vec!["build.phase".to_owned()]),
        targets: Some(vec![build.app.to_string()]),
        common: Common {
            created: vec![Moment::NotBefore(build.created_at), Moment::NotAfter(end + TRAILING)],
            ..Common::default()
        },
        ..EventFilter::default()
    };
    let store = &control.context.store;
    let listed = store
        .event_list(&filter, Scope::All, Order::default(), Page::ALL)
        .await?;
    let of = build.id.to_string();
    let own = listed.items.iter().filter(|event| event.data["build"] == of.as_str());
    Ok(own
        .map(|event| Phase {
            name: event.data["name"].as_str().unwrap_or_default().to_owned(),
            duration_ms: event.data["duration_ms"].as_u64().unwrap_or_default(),
        })
        .collect())
}

async fn lines(control: &Control, app: AppId, from: Timestamp, to: Timestamp) -> Result<Vec<Line>, Failure> {
    let nanoseconds = |at: Timestamp| i64::try_from(at.unix_timestamp_nanos()).unwrap_or(i64::MAX);
    let query = Query {
        start_ns: nanoseconds(from),
        end_ns: nanoseconds(to + TRAILING),
        limit: MAX_LINES,
        descending: true,
        types: Vec::new(),
    };
    let (logs, name) = (control.context.logs.clone(), crate::logs::builds_of(app));
    let read = tokio::task::spawn_blocking(move || logs.read(&name, &query));
    let page = read.await.map_err(Failure::internal)?.map_err(Failure::internal)?;
    Ok(page.envelopes.iter().rev().map(line).collect())
}

fn line(envelope: &Envelope) -> Line {
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(envelope.ts_ns.into());
    Line {
        at: at.map(rfc3339).unwrap_or_default(),
        stream: match envelope.stream {
            Stream::Out => "out",
            Stream::Err => "err",
        },
        text: String::from_utf8_lossy(&envelope.payload).into_owned(),
    }
}
