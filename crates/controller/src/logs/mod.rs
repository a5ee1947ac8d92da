//! Takes in what cells ship, and writes the platform's own lines. Where and how long logs are kept is `telemetry`'s.
//!
//! A cell sends a batch again until it hears that it is durable, so a batch may come twice. Within one piece of work
//! times strictly grow: what is not newer than the newest seen is dropped. After a restart of the controller the newest
//! is not known, and the first batch of each piece of work is compared with what is stored.

use crate::Control;
use crate::error::Failure;
use crate::feeds::Line;
use crate::machines::Known;
use api::cell::{LogBatch, LogLine};
use api::error::Code;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use model::id::{AppId, CellId, WorkId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use telemetry::applog::Query;
use telemetry::{Envelope, Stream};
use uuid::Uuid;

/// Most lines in one batch.
const MAX_LINES: usize = 50_000;
/// Pieces of work whose newest line is remembered; beyond, all are forgotten and compared anew.
const MAX_WORKS: usize = 100_000;

/// The newest line of each piece of work, and where it is and whose. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Marks(
    Arc<Mutex<HashMap<WorkId, i64>>>,
    Arc<Mutex<HashMap<WorkId, (CellId, AppId)>>>,
);

/// `POST /cell/v1/cells/{cell}/logs`, and of routers the same.
pub(crate) async fn ingest(
    State(control): State<Control>,
    Path(_machine): Path<Uuid>,
    known: Option<Extension<Known>>,
    Json(mut batch): Json<LogBatch>,
) -> Result<StatusCode, Failure> {
    if batch.lines.len() > MAX_LINES {
        return Err(Failure::new(Code::PayloadTooLarge, "the batch has too many lines"));
    }
    if let Some(cell) = known.and_then(|known| known.cell()) {
        own_lines(&control, cell, &mut batch).await?;
    }
    let taken = tokio::task::spawn_blocking(move || take(&control, batch)).await;
    match taken {
        Ok(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Ok(Err(error)) => {
            tracing::error!(cause = telemetry::chain(&error), "failed to store log lines");
            Err(Failure::new(
                Code::ServiceUnavailable,
                "log lines could not be stored; send them again",
            ))
        }
        Err(_) => Err(Failure::new(Code::UnknownError, "An unknown error occurred.")),
    }
}

/// Leaves the lines of the cell's own work, under its own app's name. Those of work that is long gone are nobody's.
async fn own_lines(control: &Control, cell: CellId, batch: &mut LogBatch) -> Result<(), Failure> {
    let mut unknown: HashSet<WorkId> = batch.lines.iter().map(|line| line.work).collect();
    {
        let mut owners = control.marks.1.lock();
        if owners.len() > MAX_WORKS {
            owners.clear();
        }
        unknown.retain(|work| !owners.contains_key(work));
    }
    let unknown: Vec<WorkId> = unknown.into_iter().collect();
    let found = control
        .context
        .store
        .work_owners(&unknown)
        .await
        .map_err(Failure::from)?;
    let mut owners = control.marks.1.lock();
    owners.extend(found);
    let before = batch.lines.len();
    let owned = |line: &LogLine| owners.get(&line.work).is_some_and(|owner| *owner == (cell, line.app));
    let strange = batch
        .lines
        .iter()
        .find(|line| !owned(line))
        .map(|line| (line.work, line.app));
    if let Some((work, app)) = strange {
        batch.lines.retain(owned);
        let count = before - batch.lines.len();
        tracing::warn!(cell.id = %cell, work.id = %work, app.id = %app, count, "a cell sent log lines of work that is not its own; they are left out");
    }
    Ok(())
}

/// Stores what is new. One batch at a time for each store of marks, so that a repeat meets the first one's marks.
fn take(control: &Control, batch: LogBatch) -> Result<(), telemetry::applog::Error> {
    let mut marks = control.marks.0.lock();
    if marks.len() > MAX_WORKS {
        marks.clear();
    }
    let stored = known_lines(control, &marks, &batch.lines)?;
    let mut newest: HashMap<WorkId, i64> = HashMap::new();
    let mut envelopes = Vec::with_capacity(batch.lines.len());
    for line in batch.lines {
        let mark = newest.get(&line.work).or_else(|| marks.get(&line.work)).copied();
        if mark.is_some_and(|mark| line.ts_ns <= mark) {
            continue;
        }
        newest.insert(line.work, line.ts_ns);
        let envelope = envelope(line);
        if !stored.contains(&key(&envelope)) {
            envelopes.extend(of_builds(&envelope));
            envelopes.push(envelope);
        }
    }
    if !envelopes.is_empty() {
        control.context.logs.append(&envelopes)?;
    }
    marks.extend(newest);
    Ok(())
}

/// End of the name that the log of an app's builds has in the store.
const OF_BUILDS: &str = "-builds";

/// Name of what an app's builds alone said: it stays readable however much the app itself says afterwards.
pub(crate) fn builds_of(app: AppId) -> String {
    format!("{app}{OF_BUILDS}")
}

/// Whose a log of the store is; `None` for no app's.
pub(crate) fn owner_of(name: &str) -> Option<AppId> {
    name.strip_suffix(OF_BUILDS).unwrap_or(name).parse().ok()
}

/// The line once more for the log of builds, where a build said it.
fn of_builds(envelope: &Envelope) -> Option<Envelope> {
    let said = envelope.source_type == "STG" || envelope.source_type.starts_with("STG/");
    said.then(|| Envelope {
        source_id: format!("{}{OF_BUILDS}", envelope.source_id),
        ..envelope.clone()
    })
}

/// What tells two lines of an app apart.
type Key = (i64, String, String, Vec<u8>);

fn key(envelope: &Envelope) -> Key {
    (
        envelope.ts_ns,
        envelope.source_type.clone(),
        envelope.instance_id.clone(),
        envelope.payload.clone(),
    )
}

/// Lines that are stored already, as far as the batch has lines of work that was not heard of since the start.
fn known_lines(
    control: &Control,
    marks: &HashMap<WorkId, i64>,
    lines: &[LogLine],
) -> Result<HashSet<Key>, telemetry::applog::Error> {
    let mut spans: HashMap<AppId, (i64, i64)> = HashMap::new();
    for line in lines.iter().filter(|line| !marks.contains_key(&line.work)) {
        let span = spans.entry(line.app).or_insert((line.ts_ns, line.ts_ns));
        *span = (span.0.min(line.ts_ns), span.1.max(line.ts_ns));
    }
    let mut known = HashSet::new();
    for (app, (first, last)) in spans {
        let query = Query {
            start_ns: first,
            end_ns: last.saturating_add(1),
            limit: MAX_LINES * 2,
            descending: false,
            types: Vec::new(),
        };
        let page = control.context.logs.read(&app.to_string(), &query)?;
        known.extend(page.envelopes.iter().map(key));
    }
    Ok(known)
}

fn envelope(line: LogLine) -> Envelope {
    let mut payload = line.text.into_bytes();
    payload.truncate(Envelope::MAX_PAYLOAD);
    let mut instance_id = line.instance;
    let mut source_type = line.source_type;
    for name in [&mut instance_id, &mut source_type] {
        if name.len() > Envelope::MAX_NAME {
            *name = name.chars().take(Envelope::MAX_NAME / 4).collect();
        }
    }
    Envelope {
        ts_ns: line.ts_ns,
        source_id: line.app.to_string(),
        instance_id,
        source_type,
        stream: if line.err { Stream::Err } else { Stream::Out },
        payload,
    }
}

/// Writes the platform's own lines (source `API`). A failure is logged: what they say is in the events too.
pub(crate) async fn say(control: &Control, lines: Vec<Line>) {
    if lines.is_empty() {
        return;
    }
    let ts_ns = i64::try_from(control.context.now().unix_timestamp_nanos()).unwrap_or(i64::MAX);
    let envelopes: Vec<Envelope> = lines
        .into_iter()
        .map(|line| Envelope {
            ts_ns,
            source_id: line.app.to_string(),
            instance_id: line.instance,
            source_type: "API".to_owned(),
            stream: Stream::Out,
            payload: line.text.into_bytes(),
        })
        .collect();
    let logs = control.context.logs.clone();
    let written = tokio::task::spawn_blocking(move || logs.append(&envelopes)).await;
    if let Ok(Err(error)) = written {
        tracing::error!(
            cause = telemetry::chain(&error),
            "failed to write the platform's log lines"
        );
    }
}
