//! How instances stand: one entry per index, from live work, and from ended work where none lives.

use crate::context::Context;
use crate::error::Answer;
use api::v3::{InstanceState, InstanceStats, InstanceUsage, ProcessInstance, Stats};
use model::Timestamp;
use model::id::{CellId, ProcessId};
use model::resource::{App, AppState, Process};
use model::work::{Cause, InstanceSpec, Outcome, Wanted, Work, WorkKind, WorkState};
use std::collections::HashMap;
use std::time::Duration;

/// How far back a crash still says something about an index that nothing lives at.
const LOOK_BACK: Duration = Duration::from_secs(3600);
const MIB: u64 = 1024 * 1024;
/// File descriptors of an instance.
const FILES: u64 = 16384;

fn instance(work: &Work) -> Option<&InstanceSpec> {
    match &work.spec.kind {
        WorkKind::Instance(instance) => Some(instance),
        WorkKind::Task(_) | WorkKind::Build(_) => None,
    }
}

/// Which of two pieces of work for one index tells more: one that serves, then the one that is to stay, then the newest.
fn weight(work: &Work) -> (bool, bool, u8, Timestamp) {
    let runs = matches!(work.state, WorkState::Running);
    (
        runs && work.routable,
        work.wanted == Wanted::Run,
        work.state.rank(),
        work.created_at,
    )
}

fn state(work: &Work) -> InstanceState {
    match (&work.state, work.wanted) {
        (WorkState::Stopping, _) | (_, Wanted::Stop) => InstanceState::Stopping,
        (WorkState::Placed | WorkState::Preparing | WorkState::Starting, _) => InstanceState::Starting,
        (WorkState::Running, _) => InstanceState::Running,
        (WorkState::Exited(outcome), _) if is_crash(&outcome.cause) => InstanceState::Crashed,
        (WorkState::Exited(_), _) => InstanceState::Down,
    }
}

const fn is_crash(cause: &Cause) -> bool {
    !matches!(cause, Cause::Stopped { .. } | Cause::CellLost)
}

/// The best-telling live work by process and index.
fn best(works: &[Work]) -> HashMap<(ProcessId, u32), &Work> {
    let mut best: HashMap<(ProcessId, u32), &Work> = HashMap::new();
    for work in works {
        let Some(instance) = instance(work) else { continue };
        let slot = best.entry((instance.process, instance.index)).or_insert(work);
        if weight(work) > weight(slot) {
            *slot = work;
        }
    }
    best
}

fn seconds(since: Timestamp, now: Timestamp) -> i64 {
    (now - since).whole_seconds().max(0)
}

/// Instances of many processes in short.
pub(super) async fn in_short(
    context: &Context,
    processes: &[Process],
) -> Answer<HashMap<ProcessId, Vec<ProcessInstance>>> {
    let apps: Vec<_> = processes.iter().map(|process| process.app).collect();
    let works = context.store.works_of_apps(&apps).await?;
    let best = best(&works);
    let now = context.now();
    let of = |process: &Process| {
        let indexes = 0..process.instances;
        let short = |index| {
            let work = best.get(&(process.id, index));
            ProcessInstance {
                index,
                state: work.map_or(InstanceState::Down, |work| state(work)),
                since: work.map_or(0, |work| seconds(work.since, now)),
            }
        };
        (process.id, indexes.map(short).collect())
    };
    Ok(processes.iter().map(of).collect())
}

/// Instances of a process in full.
pub(super) async fn in_full(context: &Context, app: &App, process: &Process) -> Answer<Stats> {
    let now = context.now();
    let works = context.store.works_of_apps(&[app.id]).await?;
    let best = best(&works);
    let ended = context.store.work_history(process.id.0, now - LOOK_BACK).await?;
    let cells = context.store.cell_list().await?;
    let cells: HashMap<CellId, String> = cells.into_iter().map(|cell| (cell.info.id, cell.info.name)).collect();
    let resources = (0..process.instances)
        .map(|index| match best.get(&(process.id, index)) {
            Some(work) => living(context, process, work, index, cells.get(&work.cell).cloned(), now),
            None => missing(app, process, &ended, index, now),
        })
        .collect();
    Ok(Stats { resources })
}

fn entry(process: &Process, index: u32, state: InstanceState) -> InstanceStats {
    let rate = process.limits.log_bytes_per_second;
    InstanceStats {
        process_type: process.process_type.to_string(),
        index,
        state,
        routable: None,
        usage: None,
        host: None,
        instance_internal_ip: None,
        uptime: None,
        mem_quota: Some(u64::from(process.limits.memory_mb) * MIB),
        disk_quota: Some(u64::from(process.limits.disk_mb) * MIB),
        log_rate_limit: Some(rate.map_or(-1, |rate| i64::try_from(rate).unwrap_or(i64::MAX))),
        fds_quota: Some(FILES),
        isolation_segment: None,
        details: None,
        version: process.version,
        instance_guid: None,
    }
}

fn living(
    context: &Context,
    process: &Process,
    work: &Work,
    index: u32,
    host: Option<String>,
    now: Timestamp,
) -> InstanceStats {
    let used = context.usage.of(work.cell, work.id);
    let limits = work.spec.limits;
    InstanceStats {
        routable: Some(work.routable),
        usage: Some(InstanceUsage {
            time: now,
            cpu: used.as_ref().map_or(0.0, |used| used.cpu),
            cpu_entitlement: None,
            mem: used.as_ref().map_or(0, |used| used.memory_bytes),
            disk: used.as_ref().map_or(0, |used| used.disk_bytes),
            log_rate: used.as_ref().map_or(0, |used| used.log_rate),
        }),
        host,
        instance_internal_ip: work.address,
        uptime: Some(seconds(work.since, now)),
        mem_quota: Some(u64::from(limits.memory_mb) * MIB),
        disk_quota: Some(u64::from(limits.disk_mb) * MIB),
        version: instance(work).map(|instance| instance.version),
        instance_guid: Some(work.id),
        ..entry(process, index, state(work))
    }
}

/// An index that nothing lives at: crashed and waiting for its next start, or not there (yet).
fn missing(app: &App, process: &Process, ended: &[Work], index: u32, now: Timestamp) -> InstanceStats {
    let last = ended
        .iter()
        .rev()
        .find(|work| instance(work).is_some_and(|instance| instance.index == index));
    let Some(last) = last.filter(|_| app.state == AppState::Started) else {
        return entry(process, index, InstanceState::Down);
    };
    let details = match &last.state {
        WorkState::Exited(Outcome { cause, .. }) if is_crash(cause) => Some(cause.to_string()),
        _ => None,
    };
    InstanceStats {
        uptime: Some(seconds(last.since, now)),
        details,
        ..entry(process, index, state(last))
    }
}
