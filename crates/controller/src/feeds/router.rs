//! A router hears the table, and says what it has.

use super::{line, lines};
use crate::Control;
use crate::error::Failure;
use api::edge::{Ack, Table};
use api::error::Code;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest id of a router.
const MAX_ID: usize = 64;
/// How often a session is checked for a router that no longer acknowledges.
const CHECK: Duration = Duration::from_secs(1);

/// `GET /edge/v1/routers/{router}/feed`.
pub(super) async fn feed(State(control): State<Control>, Path(router): Path<String>) -> Result<Response, Failure> {
    check_id(&router)?;
    let (out, response) = lines();
    tokio::spawn(async move {
        let session = control.edge.connected(&router);
        tracing::info!(router.id = router, "a router connected");
        run(&control, &router, session, out).await;
        control.edge.disconnected(&router, session);
        control.context.wake.scheduler();
        tracing::info!(router.id = router, "a router's feed ended");
    });
    Ok(response)
}

/// `POST /edge/v1/routers/{router}/ack`.
pub(super) async fn ack(
    State(control): State<Control>,
    Path(router): Path<String>,
    Json(ack): Json<Ack>,
) -> Result<StatusCode, Failure> {
    check_id(&router)?;
    control.edge.acknowledge(&router, ack);
    control.context.wake.scheduler();
    Ok(StatusCode::NO_CONTENT)
}

fn check_id(router: &str) -> Result<(), Failure> {
    let valid = !router.is_empty()
        && router.len() <= MAX_ID
        && router.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if valid {
        Ok(())
    } else {
        Err(Failure::new(Code::UnprocessableEntity, "not a router's id"))
    }
}

/// A snapshot, then deltas, until the router goes or stops acknowledging.
async fn run(control: &Control, router: &str, session: u64, out: mpsc::Sender<Bytes>) {
    let mut revisions = control.edge.watch();
    let term = control.lead.term();
    let mut ping = tokio::time::interval(control.timing.ping);
    let mut check = tokio::time::interval(CHECK);
    let mut sent = 0;
    loop {
        revisions.mark_unchanged();
        for (revision, bytes) in news(control, sent) {
            if out.send(bytes).await.is_err() {
                return;
            }
            sent = revision;
        }
        loop {
            tokio::select! {
                () = term.cancelled() => return,
                () = out.closed() => return,
                changed = revisions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
                _ = check.tick() => {
                    if !control.lead.is_here() {
                        return;
                    }
                    if control.edge.is_stale(router, session) {
                        tracing::warn!(router.id = router, "cut off a router that does not acknowledge, or has a newer feed");
                        return;
                    }
                }
                _ = ping.tick() => {
                    let Some(bytes) = line(&Table::Ping) else { return };
                    if out.send(bytes).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Messages that bring a router from revision `sent` (0: nothing) to the newest.
fn news(control: &Control, sent: u64) -> Vec<(u64, Bytes)> {
    if sent > 0
        && let Some(deltas) = control.edge.deltas(sent)
    {
        let revision = |table: &Table| match table {
            Table::Delta { revision, .. } | Table::Snapshot { revision, .. } => *revision,
            Table::Ping => sent,
        };
        return deltas
            .iter()
            .filter_map(|delta| Some((revision(delta), line(delta.as_ref())?)))
            .collect();
    }
    let snapshot = control.edge.snapshot();
    snapshot
        .and_then(|(revision, table)| Some((revision, line(&table)?)))
        .into_iter()
        .collect()
}
