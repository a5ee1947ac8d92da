//! Crash counts, learned from work that ended. In memory; made anew from the rows at election.

use super::{CycleError, failed};
use model::Timestamp;
use model::id::{ProcessId, VersionId, WorkId};
use model::work::{Cause, Outcome, Work, WorkKind, WorkState};
use scheduler::{Crash, CrashPolicy, History, is_crash};
use std::collections::{BTreeMap, HashSet};
use store::Db;
use time::Duration;

/// How far back ended work is looked at.
pub(crate) const MEMORY: Duration = Duration::hours(24);

/// Crash counts of all process versions.
#[derive(Default)]
pub(super) struct Histories {
    /// Work that was live when last looked at; `None` before the first look.
    live: Option<HashSet<WorkId>>,
    pub(super) of: BTreeMap<(ProcessId, VersionId), History>,
}

impl Histories {
    /// Begins anew with the next look.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Work was placed, and may end before it is seen alive.
    pub(super) fn placed(&mut self, work: WorkId) {
        self.live.get_or_insert_default().insert(work);
    }

    /// Counts what ended since the last look.
    pub(super) async fn look(
        &mut self,
        db: &Db,
        live: &[Work],
        policy: &CrashPolicy,
        now: Timestamp,
    ) -> Result<(), CycleError> {
        let now_live: HashSet<WorkId> = live.iter().map(|work| work.id).collect();
        let mut ended = match &self.live {
            None => db.works_ended(now - MEMORY).await.map_err(failed("read ended work"))?,
            Some(before) => {
                let gone: Vec<WorkId> = before.difference(&now_live).copied().collect();
                db.works_by_ids(&gone).await.map_err(failed("read ended work"))?
            }
        };
        ended.sort_by_key(|work| (work.since, work.id));
        for work in &ended {
            self.count(work, policy);
        }
        self.live = Some(now_live);
        Ok(())
    }

    /// Forgets processes of which nothing is to run: a start begins at zero.
    pub(super) fn retain(&mut self, wanted: &HashSet<ProcessId>) {
        self.of.retain(|(process, _), _| wanted.contains(process));
    }

    fn count(&mut self, work: &Work, policy: &CrashPolicy) {
        if let Some((process, version, crash, healthy)) = crash_of(work) {
            self.of
                .entry((process, version))
                .or_default()
                .record(crash, healthy, policy);
        }
    }
}

/// The crash that this work ended by, and for how long it had been healthy.
pub(crate) fn crash_of(work: &Work) -> Option<(ProcessId, VersionId, Crash, Option<Duration>)> {
    let (WorkKind::Instance(instance), WorkState::Exited(Outcome { cause, at, .. })) = (&work.spec.kind, &work.state)
    else {
        return None;
    };
    if !is_crash(work.wanted, cause) {
        return None;
    }
    let healthy = match cause {
        Cause::StartTimeout { .. } | Cause::NotStarted { .. } => None,
        _ => Some(*at - work.created_at),
    };
    let crash = Crash {
        index: instance.index,
        at: *at,
        cause: cause.clone(),
    };
    Some((instance.process, instance.version, crash, healthy))
}

/// Crashes in a row of the work's index, this end of it included, from the rows within `db`.
pub(crate) async fn crashes_in_row(
    db: &Db,
    work: &Work,
    policy: &CrashPolicy,
    now: Timestamp,
) -> store::Result<History> {
    let mut history = History::default();
    let WorkKind::Instance(instance) = &work.spec.kind else {
        return Ok(history);
    };
    let mut ended = db.work_history(instance.process.0, now - MEMORY).await?;
    ended.retain(|other| other.id != work.id);
    ended.push(work.clone());
    ended.sort_by_key(|work| (work.since, work.id));
    for (_, version, crash, healthy) in ended.iter().filter_map(crash_of) {
        if version == instance.version && crash.index == instance.index {
            history.record(crash, healthy, policy);
        }
    }
    Ok(history)
}
