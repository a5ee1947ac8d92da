//! What follows from an observation, within its transaction: events, crash counts, the state of tasks; and log lines.

use crate::Control;
use crate::events::record;
use crate::scheduling::{crash_of, crashes_in_row};
use model::Timestamp;
use model::resource::TaskState;
use model::staging::PhaseTime;
use model::work::{Cause, Observation, Outcome, Work, WorkKind, WorkState};
use scheduler::NextStart;
use serde_json::json;
use store::{Observed, Tx};

/// A line that the platform writes into an app's log.
pub(crate) struct Line {
    pub app: model::id::AppId,
    pub instance: String,
    pub text: String,
}

/// Adds the events to `tx`; lines to write once it is committed.
pub(super) async fn consequences(
    control: &Control,
    tx: &Tx,
    observed: &[Observed],
    observations: &[Observation],
    now: Timestamp,
) -> store::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for seen in observed
        .iter()
        .filter(|seen| seen.before.rank() != seen.work.state.rank())
    {
        let observation = observations.iter().find(|observation| observation.work == seen.work.id);
        let phases = observation.map_or(&[][..], |observation| &observation.phases);
        match &seen.work.spec.kind {
            WorkKind::Instance(_) => lines.extend(instance(control, tx, seen, phases, now).await?),
            WorkKind::Build(build) => {
                // The cell's own phases, once: all of them pass before the build's process starts.
                if seen.before.rank() < 2 && seen.work.state.rank() >= 2 {
                    for phase in phases {
                        let data = json!({"build": build.build, "name": phase.name, "duration_ms": phase.duration_ms});
                        tx.event(record::event(&seen.work.spec.owner, "build.phase", data, now));
                    }
                }
            }
            WorkKind::Task(task) => {
                if seen.work.state == WorkState::Running
                    && let Some(mut task) = tx.task_fetch(task.task).await?
                    && task.state == TaskState::Pending
                {
                    task.state = TaskState::Running;
                    task.updated_at = now;
                    tx.task_step(&task).await?;
                }
            }
        }
    }
    Ok(lines)
}

async fn instance(
    control: &Control,
    tx: &Tx,
    seen: &Observed,
    phases: &[PhaseTime],
    now: Timestamp,
) -> store::Result<Option<Line>> {
    let work = &seen.work;
    let kind = match &work.state {
        WorkState::Placed | WorkState::Stopping => return Ok(None),
        WorkState::Preparing => "instance.preparing",
        WorkState::Starting => "instance.starting",
        WorkState::Running => "instance.running",
        WorkState::Exited(Outcome { cause, .. }) => {
            if crash_of(work).is_some() {
                return crash(control, tx, work, cause, now).await.map(Some);
            }
            match cause {
                Cause::CellLost => "instance.lost",
                _ => "instance.stopped",
            }
        }
    };
    if let Some(data) = record::about(work, phases) {
        tx.event(record::event(&work.spec.owner, kind, data, now));
    }
    Ok(None)
}

/// An instance ended by itself: the event has the count and the next try, as the scheduler will see them.
async fn crash(control: &Control, tx: &Tx, work: &Work, cause: &Cause, now: Timestamp) -> store::Result<Line> {
    let policy = &control.policy.crash;
    let history = crashes_in_row(tx, work, policy, now).await?;
    let (index, process_type) = match &work.spec.kind {
        WorkKind::Instance(instance) => (instance.index, instance.process_type.to_string()),
        WorkKind::Task(_) | WorkKind::Build(_) => (0, String::new()),
    };
    let count = history.indices.get(&index).map_or(1, |crashes| crashes.count);
    let next = match history.next_start(index, policy, now) {
        NextStart::Now => Some(now),
        NextStart::At(at) => Some(at),
        NextStart::Never => None,
    };
    let next_text = next.map(rfc3339);
    let mut data = record::about(work, &[]).unwrap_or_else(|| json!({}));
    data["cause"] = json!(cause.to_string());
    data["crash_count"] = json!(count);
    data["next_try_at"] = json!(next_text);
    // As CF has them.
    data["instance"] = json!(work.id);
    data["reason"] = json!("CRASHED");
    data["exit_description"] = json!(description(cause, &process_type));
    data["exit_status"] = json!(status(cause));
    tx.event(record::event(&work.spec.owner, "app.crash", data, now));
    let then = match (next, next_text) {
        (Some(at), _) if at <= now => "it starts again now".to_owned(),
        (_, Some(at)) => format!("it starts again at {at}"),
        _ => "it is not started again".to_owned(),
    };
    let times = if count == 1 {
        "once".to_owned()
    } else {
        format!("{count} times in a row")
    };
    Ok(Line {
        app: work.spec.owner.app,
        instance: index.to_string(),
        text: format!("Instance {index} of {process_type} crashed ({times}): {cause}; {then}"),
    })
}

pub(crate) fn rfc3339(at: Timestamp) -> String {
    at.format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_else(|_| at.to_string())
}

/// As CF tells it, with the source that logs name where it was not the process itself.
fn description(cause: &Cause, process_type: &str) -> String {
    match cause {
        Cause::Sidecar { name, why } => {
            let (kind, name) = (process_type.to_ascii_uppercase(), name.to_ascii_uppercase());
            format!("APP/PROC/{kind}/SIDECAR/{name}: {why}")
        }
        other => other.to_string(),
    }
}

const fn status(cause: &Cause) -> Option<i32> {
    match cause {
        Cause::Exited { code } => Some(*code),
        Cause::Signalled { signal } => Some(128 + *signal),
        Cause::OutOfMemory { .. } => Some(137),
        Cause::Sidecar { why, .. } => status(why),
        Cause::StartTimeout { .. }
        | Cause::Unhealthy { .. }
        | Cause::TimedOut { .. }
        | Cause::Stopped { .. }
        | Cause::NotStarted { .. }
        | Cause::CellLost => None,
    }
}
