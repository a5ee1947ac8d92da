//! Plans the instances of one process: which stay, which leave, which are to be started.
//!
//! Each index below the wanted count is a slot, and one version leads there: the target, or beyond the reach of a canary
//! the version before. An instance of another version keeps its slot until the leader's instance at the same index
//! serves; only then it drains. Starting a leader beside an instance that serves takes from the rollout's budget;
//! starting one in an empty slot does not.

use crate::crash::NextStart;
use crate::deployment::Aim;
use crate::input::{Deployment, Desired, Process, Slot, Work};
use crate::output::{Lost, Waiting, Want};
use crate::place::{Class, Demand};
use crate::{Planner, Sight};
use model::id::{ProcessId, VersionId, WorkId};
use model::work::{Wanted, WorkState};
use std::collections::{BTreeMap, BTreeSet};

/// Instances of a process that are wanted so far, at most one for each version and index.
pub(crate) type Slots<'a> = BTreeMap<(u32, VersionId), &'a Work>;

impl<'a> Planner<'a> {
    pub(crate) fn processes(&mut self, desired: &'a Desired) {
        let mut works: BTreeMap<ProcessId, Vec<&Work>> = BTreeMap::new();
        for work in &self.observed.works {
            if let (Slot::Instance { process, .. }, Wanted::Run) = (work.slot, work.wanted) {
                works.entry(process).or_default().push(work);
            }
        }
        let deployments: BTreeMap<ProcessId, &Deployment> = desired
            .deployments
            .iter()
            .map(|deployment| (deployment.process, deployment))
            .collect();
        self.count_moves();
        for process in &desired.processes {
            let works = works.remove(&process.id).unwrap_or_default();
            self.process(process, deployments.get(&process.id).copied(), &works);
        }
    }

    fn process(&mut self, process: &'a Process, deployment: Option<&Deployment>, works: &[&Work]) {
        let finished = self.plan.finished.len();
        let aim = self.aim(process, deployment);
        let ended = self.plan.finished.len() > finished;
        let (slots, mut leaving) = self.slots(process, works);
        let Some(aim) = aim.filter(|_| process.instances > 0) else {
            leaving.extend(slots.values());
            self.leave(process.routable, &leaving);
            if let (Some(deployment), false) = (deployment, ended) {
                self.finish_empty(deployment);
            }
            return;
        };
        let (stay, gone) = self.divide(process, &aim, &slots);
        leaving.extend(gone);
        self.leave(process.routable, &leaving);
        self.demand(process, &aim, &stay);
        self.relocate(process, &stay);
        if let (Some(deployment), false) = (deployment, ended) {
            self.arrive(process, deployment, &aim, &stay);
        }
    }

    /// Ends a deployment that is where it is to be, or notes that a step of its canary is reached.
    fn arrive(&mut self, process: &Process, deployment: &Deployment, aim: &Aim, stay: &Slots<'_>) {
        let within = process.instances.min(aim.reach);
        if !(0..within).all(|index| self.lead_serves(process, aim, stay, index)) {
            return;
        }
        if !aim.is_canary() {
            let canceled = deployment.canceling.then(|| "canceled on request".to_owned());
            self.finish(deployment, aim.target, canceled);
        } else if !deployment.paused {
            self.plan.paused.push(deployment.id);
        }
    }

    /// A deployment of an app of which nothing is to run: there is nothing to wait for.
    fn finish_empty(&mut self, deployment: &Deployment) {
        match (deployment.canceling, deployment.previous, deployment.canary) {
            (true, previous, _) => {
                let version = previous.unwrap_or(deployment.version);
                self.finish(deployment, version, Some("canceled on request".to_owned()));
            }
            // Nobody said that it is good.
            (false, Some(previous), Some(_)) => {
                let why = "no instance was left to try it with".to_owned();
                self.finish(deployment, previous, Some(why));
            }
            (false, _, _) => self.finish(deployment, deployment.version, None),
        }
    }

    /// The instances by slot, and duplicates: of two in one slot the better known one stays.
    fn slots<'w>(&self, process: &Process, works: &[&'w Work]) -> (Slots<'w>, Vec<&'w Work>) {
        let mut slots: Slots<'w> = BTreeMap::new();
        let mut surplus = Vec::new();
        for work in works {
            let Slot::Instance { version, index, .. } = work.slot else {
                continue;
            };
            let Some(held) = slots.get(&(index, version)).copied() else {
                slots.insert((index, version), work);
                continue;
            };
            let (better, other) = if self.worth(process, held) >= self.worth(process, work) {
                (held, *work)
            } else {
                (*work, held)
            };
            slots.insert((index, version), better);
            if !self.follows(process, other, better) {
                surplus.push(other);
            }
        }
        (slots, surplus)
    }

    fn worth(&self, process: &Process, work: &Work) -> impl Ord + use<> {
        (
            self.sight(work) == Sight::Confirmed,
            self.healthy(process, work),
            !self.is_moving(work),
            work.state.rank(),
            std::cmp::Reverse((work.created_at, work.id)),
        )
    }

    /// Which instances stay and which leave.
    fn divide<'w>(&self, process: &Process, aim: &Aim, slots: &Slots<'w>) -> (Slots<'w>, Vec<&'w Work>) {
        let mut stay = Slots::new();
        let mut leave = Vec::new();
        let mut above = Vec::new();
        for (&(index, version), &work) in slots {
            if index >= process.instances {
                above.push(work);
            } else if aim.wants(index, version) {
                stay.insert((index, version), work);
            } else if self.lead_serves(process, aim, slots, index) {
                leave.push(work);
            } else if Some(version) == aim.fallback || self.healthy(process, work) {
                stay.insert((index, version), work);
            } else {
                leave.push(work);
            }
        }
        // The last one that serves stays until another does, even if its index is no longer wanted.
        if !stay.values().any(|work| self.serves(process, work)) {
            let serving = above.iter().position(|work| self.serves(process, work));
            let last = serving.or_else(|| above.iter().position(|work| self.healthy(process, work)));
            if let Some(last) = last {
                above.remove(last);
            }
        }
        leave.extend(above);
        (stay, leave)
    }

    /// Whether it is to be spared: it was healthy when last seen, and its cell is not given up.
    pub(crate) fn healthy(&self, process: &Process, work: &Work) -> bool {
        self.sight(work) != Sight::Gone && work.state == WorkState::Running && (work.routable || !process.routable)
    }

    /// Whether requests reach it through every live router, so that another may leave.
    fn serves(&self, process: &Process, work: &Work) -> bool {
        self.sight(work) == Sight::Confirmed && self.healthy(process, work) && (work.routed || !process.routable)
    }

    fn lead_serves(&self, process: &Process, aim: &Aim, slots: &Slots<'_>, index: u32) -> bool {
        slots
            .get(&(index, aim.lead(index)))
            .is_some_and(|work| self.serves(process, work))
    }

    /// Asks for what is missing.
    fn demand(&mut self, process: &'a Process, aim: &Aim, stay: &Slots<'_>) {
        let mut bare = !stay.values().any(|work| self.healthy(process, work));
        let beside: BTreeSet<u32> = stay
            .iter()
            .filter(|((index, version), work)| *version != aim.lead(*index) && self.healthy(process, work))
            .map(|((index, _), _)| *index)
            .collect();
        let mut in_flight = beside
            .iter()
            .filter(|index| self.begun(process, aim, stay, **index) && !self.lead_serves(process, aim, stay, **index))
            .count();
        for index in 0..process.instances {
            let lead = aim.lead(index);
            if self.missing(stay, index, lead).is_some() {
                let counts = beside.contains(&index) && !self.begun(process, aim, stay, index);
                if (!counts || in_flight < aim.budget) && self.start(process, lead, index, stay, bare) {
                    in_flight += usize::from(counts);
                    bare = false;
                }
            }
            if let Some(fallback) = aim.fallback
                && fallback != lead
                && self.fallback_owed(process, aim, stay, index)
                && self.start(process, fallback, index, stay, bare)
            {
                bare = false;
            }
        }
    }

    /// Whether the version to keep has to be started anew beside the target.
    fn fallback_owed(&self, process: &Process, aim: &Aim, stay: &Slots<'_>, index: u32) -> bool {
        match aim.fallback {
            Some(fallback) if aim.beside == Some(index) => self.missing(stay, index, fallback).is_some(),
            _ => !self.lead_serves(process, aim, stay, index) && self.fallback_fell(process, aim, stay, index),
        }
    }

    /// Whether the leader was started at the index in this rollout: it is there, or crashed there.
    fn begun(&self, process: &Process, aim: &Aim, stay: &Slots<'_>, index: u32) -> bool {
        let lead = aim.lead(index);
        stay.contains_key(&(index, lead)) || self.crashed_since(process, lead, aim, index)
    }

    fn crashed_since(&self, process: &Process, version: VersionId, aim: &Aim, index: u32) -> bool {
        let history = self.observed.history.get(&(process.id, version));
        history
            .and_then(|history| history.indices.get(&index))
            .is_some_and(|crashes| aim.since.is_none_or(|since| crashes.last.at >= since))
    }

    /// Whether an instance of the version to keep ended by itself or with its cell during the rollout.
    fn fallback_fell(&self, process: &Process, aim: &Aim, stay: &Slots<'_>, index: u32) -> bool {
        let Some(fallback) = aim.fallback else {
            return false;
        };
        match self.missing(stay, index, fallback) {
            None => false,
            Some(Some(_)) => true,
            Some(None) => self.crashed_since(process, fallback, aim, index),
        }
    }

    /// `None`: there is one. `Some(None)`: there is none. `Some(Some(work))`: there was one, on a cell that is gone.
    fn missing(&self, stay: &Slots<'_>, index: u32, version: VersionId) -> Option<Option<WorkId>> {
        match stay.get(&(index, version)) {
            None => Some(None),
            Some(work) if self.sight(work) == Sight::Gone => Some(Some(work.id)),
            Some(_) => None,
        }
    }

    /// Asks for an instance now, or notes when it may be started. Returns whether it was asked for.
    pub(crate) fn start(
        &mut self,
        process: &'a Process,
        version: VersionId,
        index: u32,
        stay: &Slots<'_>,
        bare: bool,
    ) -> bool {
        let Some(needs) = process.needs.get(&version) else {
            return false;
        };
        let history = self.observed.history.get(&(process.id, version));
        let next = history.map_or(NextStart::Now, |history| {
            history.next_start(index, &self.policy.crash, self.now)
        });
        let until = match next {
            NextStart::Now => {
                let replaces = self.missing(stay, index, version).flatten();
                self.demands.push(Demand {
                    class: if bare { Class::FirstInstance } else { Class::Instance },
                    asked_at: None,
                    slot: Slot::Instance {
                        process: process.id,
                        version,
                        index,
                    },
                    app: process.app,
                    needs,
                    replaces,
                });
                return true;
            }
            NextStart::At(at) => {
                self.wake(at);
                Some(at)
            }
            NextStart::Never => None,
        };
        if let Some(crashes) = history.and_then(|history| history.indices.get(&index)) {
            self.plan.waiting.push(Waiting {
                process: process.id,
                version,
                index,
                crashes: crashes.count,
                cause: crashes.last.cause.clone(),
                until,
            });
        }
        false
    }

    /// Sends instances away: out of the routers first where requests may reach them.
    pub(crate) fn leave(&mut self, routable: bool, works: &[&Work]) {
        for work in works {
            if self.sight(work) == Sight::Gone {
                self.plan.lost.push(Lost { work: work.id });
                continue;
            }
            let wanted = if routable && work.state == WorkState::Running {
                Wanted::Drain
            } else {
                Wanted::Stop
            };
            self.plan.wants.push(Want { work: work.id, wanted });
        }
    }

    /// Stops what has drained, and gives up what was leaving from a cell that is gone.
    pub(crate) fn advance_draining(&mut self) {
        let observed = self.observed;
        for work in observed.works.iter().filter(|work| work.wanted != Wanted::Run) {
            if self.sight(work) == Sight::Gone {
                self.plan.lost.push(Lost { work: work.id });
                continue;
            }
            if work.wanted == Wanted::Stop {
                continue;
            }
            let deadline = work.wanted_since + self.policy.drain_timeout;
            if work.drained || deadline <= self.now || work.state != WorkState::Running {
                self.plan.wants.push(Want {
                    work: work.id,
                    wanted: Wanted::Stop,
                });
            } else {
                self.wake(deadline);
            }
        }
    }

    /// Sends away what nobody wants any more: its app, build or task is gone or has ended.
    pub(crate) fn orphans(&mut self, desired: &Desired) {
        let processes: BTreeSet<ProcessId> = desired.processes.iter().map(|process| process.id).collect();
        let jobs: BTreeSet<_> = desired.jobs.iter().map(|job| job.id).collect();
        let observed = self.observed;
        for work in observed.works.iter().filter(|work| work.wanted == Wanted::Run) {
            match work.slot {
                Slot::Instance { process, .. } if !processes.contains(&process) => self.leave(true, &[work]),
                Slot::Job(job) if !jobs.contains(&job) => self.leave(false, &[work]),
                Slot::Instance { .. } | Slot::Job(_) => {}
            }
        }
    }
}
