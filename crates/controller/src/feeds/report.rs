//! What a cell reports: its lease, and what it observed of its work.

use super::observe;
use crate::Control;
use crate::error::Failure;
use crate::scheduling::ended;
use api::cell::{Report, Reported};
use api::error::Code;
use axum::Json;
use axum::extract::{Path, State};
use model::Timestamp;
use model::id::{CellId, WorkId};
use model::work::{Cause, Observation, Wanted};
use std::collections::HashSet;
use store::{Observed, Tx};

/// Most observations and statistics in one report.
const MAX_ENTRIES: usize = 10_000;

/// `POST /cell/v1/cells/{cell}/report`.
///
/// A cell that has lost its lease, or that this controller has not heard in full yet, is asked to register again (404):
/// what it holds may differ from what was decided in between.
pub(super) async fn report(
    State(control): State<Control>,
    Path(cell): Path<CellId>,
    Json(report): Json<Report>,
) -> Result<Json<Reported>, Failure> {
    if report.observations.len() > MAX_ENTRIES || report.stats.len() > MAX_ENTRIES {
        return Err(Failure::new(Code::PayloadTooLarge, "the report has too many entries"));
    }
    let turn = control.cells.turn(cell);
    let _turn = turn.lock().await;
    let now = control.context.now();
    if !control.cells.accepts(cell, report.full, now) {
        return Err(Failure::new(
            Code::ResourceNotFound,
            "the cell is not registered, or lost its lease",
        ));
    }
    let lease_until = now + control.timing.cell_lease;
    let silent = !report.full && report.observations.is_empty();
    let persist = !silent || control.cells.persist_due(cell, lease_until, control.timing.cell_lease);
    let revision = if persist {
        take(&control, cell, &report, lease_until, now).await?
    } else {
        let known = control.context.store.cell_fetch(cell).await.map_err(Failure::from)?;
        known.ok_or_else(|| Failure::not_found("Cell"))?.revision
    };
    let news = control
        .cells
        .reported(cell, lease_until, (report.full, persist), || control.context.now());
    if news {
        control.context.wake.scheduler();
    }
    control.context.usage.record(cell, report.stats);
    Ok(Json(Reported { revision }))
}

/// Writes the lease, what was observed and what follows from it, in one transaction.
async fn take(
    control: &Control,
    cell: CellId,
    report: &Report,
    lease_until: Timestamp,
    now: Timestamp,
) -> Result<u64, Failure> {
    let tx = control.context.store.begin().await.map_err(Failure::from)?;
    let revision = tx.cell_renew(cell, lease_until).await.map_err(Failure::from)?;
    let Some(revision) = revision else {
        return Err(Failure::not_found("Cell"));
    };
    let mut observed = tx
        .work_observe_batch(cell, &report.observations)
        .await
        .map_err(Failure::from)?;
    let mut foreign = Vec::new();
    if report.full {
        let (absent, held) = compare(&tx, cell, report, revision, now).await.map_err(Failure::from)?;
        observed.extend(tx.work_observe_batch(cell, &absent).await.map_err(Failure::from)?);
        foreign = held;
    }
    let lines = observe::consequences(control, &tx, &observed, &report.observations, now)
        .await
        .map_err(Failure::from)?;
    tx.commit().await.map_err(Failure::from)?;
    let gone: Vec<WorkId> = report
        .observations
        .iter()
        .filter(|observation| observation.state.is_final())
        .map(|observation| observation.work)
        .collect();
    if control.cells.foreign(cell, report.full, foreign, &gone) {
        control.context.wake.scheduler();
    }
    forget_usage(control, cell, &observed);
    crate::logs::say(control, lines).await;
    Ok(revision)
}

fn forget_usage(control: &Control, cell: CellId, observed: &[Observed]) {
    let ended = observed.iter().filter(|observed| observed.work.state.is_final());
    let ended: Vec<WorkId> = ended.map(|observed| observed.work.id).collect();
    if !ended.is_empty() {
        control.context.usage.forget(cell, &ended);
    }
}

/// Work that the cell should hold and doesn't, ended; and work that it holds and shouldn't, with memory and disk.
///
/// What was only placed is still to be taken over, unless the cell has seen the set in which it is to stop.
#[allow(clippy::type_complexity, reason = "two lists that are used at once")]
async fn compare(
    tx: &Tx,
    cell: CellId,
    report: &Report,
    revision: u64,
    now: Timestamp,
) -> store::Result<(Vec<Observation>, Vec<(WorkId, (u32, u32))>)> {
    let named: HashSet<WorkId> = report.observations.iter().map(|observation| observation.work).collect();
    let assigned = tx.works_of_cell(cell).await?;
    let absent = assigned
        .iter()
        .filter(|work| !named.contains(&work.id))
        .filter(|work| work.state.rank() > 0 || (work.wanted != Wanted::Run && report.revision >= revision))
        .map(|work| match work.wanted {
            Wanted::Stop => ended(work, Cause::Stopped { killed: false }, now),
            Wanted::Run | Wanted::Drain => ended(work, Cause::CellLost, now),
        })
        .collect();
    let live: HashSet<WorkId> = assigned.iter().map(|work| work.id).collect();
    let strange: Vec<WorkId> = report
        .observations
        .iter()
        .filter(|observation| !observation.state.is_final() && !live.contains(&observation.work))
        .map(|observation| observation.work)
        .collect();
    let strange = tx.works_by_ids(&strange).await?;
    let (own, others): (Vec<_>, Vec<_>) = strange.iter().partition(|work| work.cell == cell);
    if let Some(first) = others.first() {
        tracing::warn!(cell.id = %cell, count = others.len(), work.id = %first.id, "a cell reports another's work; it has no effect");
    }
    let held = own
        .iter()
        .map(|work| (work.id, (work.spec.limits.memory_mb, work.spec.limits.disk_mb)));
    Ok((absent, held.collect()))
}
