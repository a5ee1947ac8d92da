//! Plans builds and tasks: each is placed until it ended once in a way that counts.
//!
//! A build may be repeated where it could not be started or its cell was lost; a task that may have begun is never
//! run twice.

use crate::input::{Desired, Job, JobRef, Slot, Work};
use crate::output::{Lost, Settled, Verdict};
use crate::place::{Class, Demand};
use crate::{Planner, Sight};
use model::id::WorkId;
use model::work::{Cause, Wanted};
use std::collections::BTreeMap;

impl<'a> Planner<'a> {
    pub(crate) fn jobs(&mut self, desired: &'a Desired) {
        let mut live: BTreeMap<JobRef, &Work> = BTreeMap::new();
        for work in &self.observed.works {
            if let Slot::Job(job) = work.slot {
                live.entry(job).or_insert(work);
            }
        }
        for job in &desired.jobs {
            match live.get(&job.id).copied() {
                Some(work) => self.live_job(job, work),
                None => self.idle_job(job),
            }
        }
    }

    fn live_job(&mut self, job: &'a Job, work: &Work) {
        let gone = self.sight(work) == Sight::Gone;
        if work.wanted != Wanted::Run {
            return;
        }
        if job.cancel {
            self.leave(false, &[work]);
            return;
        }
        if !gone {
            return;
        }
        match job.id {
            JobRef::Build(_) if job.tries.len() + 1 < self.policy.job_tries => {
                let lost_at = self.cells.get(&work.cell).map_or(self.now, |cell| cell.lease_until);
                let give_up = lost_at + self.policy.job_lost_after;
                if give_up <= self.now {
                    self.give_up(job, Some(work.id), Cause::CellLost);
                } else {
                    self.wake(give_up);
                    self.ask(job, Some(work.id));
                }
            }
            JobRef::Build(_) | JobRef::Task(_) => self.give_up(job, Some(work.id), Cause::CellLost),
        }
    }

    fn idle_job(&mut self, job: &'a Job) {
        let verdict = match job.tries.last() {
            _ if job.cancel => Verdict::Canceled,
            None => return self.ask(job, None),
            Some((_, cause)) if repeatable(job.id, cause) => {
                if job.tries.len() < self.policy.job_tries {
                    return self.ask(job, None);
                }
                return self.give_up(job, None, cause.clone());
            }
            Some((work, _)) => Verdict::Ended(*work),
        };
        self.plan.settled.push(Settled { job: job.id, verdict });
    }

    fn give_up(&mut self, job: &Job, lost: Option<WorkId>, cause: Cause) {
        self.plan.lost.extend(lost.map(|work| Lost { work }));
        let tries = job.tries.len() + usize::from(lost.is_some());
        self.plan.settled.push(Settled {
            job: job.id,
            verdict: Verdict::GivenUp { tries, cause },
        });
    }

    fn ask(&mut self, job: &'a Job, replaces: Option<WorkId>) {
        self.demands.push(Demand {
            class: Class::Job,
            asked_at: Some(job.created_at),
            slot: Slot::Job(job.id),
            app: job.app,
            needs: &job.needs,
            replaces,
        });
    }
}

/// Whether the job may be placed again after it ended so.
const fn repeatable(job: JobRef, cause: &Cause) -> bool {
    match cause {
        Cause::NotStarted { retryable, .. } => *retryable,
        // The platform stopped it without being asked to: the cell was shut down.
        Cause::CellLost | Cause::Stopped { .. } => matches!(job, JobRef::Build(_)),
        Cause::Exited { .. }
        | Cause::Signalled { .. }
        | Cause::OutOfMemory { .. }
        | Cause::StartTimeout { .. }
        | Cause::Unhealthy { .. }
        | Cause::TimedOut { .. }
        | Cause::Sidecar { .. } => false,
    }
}
