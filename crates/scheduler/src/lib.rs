//! Decides what runs where: placement, crash back-off, rollouts, draining, and what to do about lost cells.
//!
//! One pure function, [`plan`]: desired state, observations, cells, policy and `now` in; a [`Plan`] out. The
//! controller loads the input and executes the output; nothing here does I/O, reads a clock or draws a random number,
//! so that the same input always gives the same plan and every rule can be simulated.
//!
//! ```text
//!  desired ─┐                    ┌─▶ finished   deployments that reached their end
//!  observed ┼─▶ processes ─┐     ├─▶ settled    builds and tasks that need nothing more
//!  cells ───┘   jobs ──────┴─▶ demands ─▶ placement ─▶ placements, lost, unplaced
//!                          └─▶ wants        work that is to drain or to stop
//! ```
//!
//! Rules that hold for every plan:
//! - observation has three values: work on a cell whose lease ran out is *unknown*, it keeps its slot, and it is given
//!   up only in the same plan that places its replacement on a live cell;
//! - a healthy instance leaves only when the one that follows it serves (every live router has it), and never as the
//!   last one that serves while instances are wanted;
//! - what is placed never exceeds a cell's memory, disk or count;
//! - an instance moves by a second one of its slot elsewhere: it leaves in the plan that finds the second healthy. Of two
//!   in a slot that could serve, routers have the older alone, and so requests go over from one table to the next.

mod crash;
mod deployment;
mod field;
mod input;
mod job;
mod moving;
mod output;
mod place;
mod process;

pub use crash::{Crash, CrashPolicy, History, IndexHistory, NextStart, is_crash};
pub use input::{CellView, Deployment, Desired, Job, JobRef, Needs, Observed, Policy, Process, Slot, Work};
pub use output::{Finished, Lost, Placement, Plan, Refusal, Refusals, Settled, Unplaced, Verdict, Waiting, Want};

use model::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What is to be done now, and when to look again if nothing happens before.
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed, cells: &[CellView], policy: &Policy, now: Timestamp) -> Plan {
    let mut planner = Planner {
        observed,
        cells: cells.iter().map(|cell| (cell.id, cell)).collect(),
        policy,
        now,
        plan: Plan::default(),
        demands: Vec::new(),
        moves: BTreeMap::new(),
        followed: BTreeSet::new(),
    };
    planner.processes(desired);
    planner.jobs(desired);
    planner.orphans(desired);
    planner.advance_draining();
    planner.place();
    planner.watch_leases();
    planner.plan
}

/// State of one planning run.
struct Planner<'a> {
    observed: &'a Observed,
    cells: BTreeMap<model::id::CellId, &'a CellView>,
    policy: &'a Policy,
    now: Timestamp,
    plan: Plan,
    demands: Vec<place::Demand<'a>>,
    /// Instances on their way from each cell that is drained.
    moves: BTreeMap<model::id::CellId, u32>,
    /// Slots with an instance that is on no such cell.
    followed: BTreeSet<Slot>,
}

/// How sure one can be of a piece of work, by the lease of its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// The cell's lease is valid.
    Confirmed,
    /// It ran out a moment ago: nothing may be concluded.
    Unknown,
    /// It ran out longer than the grace ago: the work may be replaced.
    Gone,
}

impl Planner<'_> {
    fn sight(&self, work: &Work) -> Sight {
        let Some(cell) = self.cells.get(&work.cell) else {
            return Sight::Gone;
        };
        if cell.lease_until > self.now {
            Sight::Confirmed
        } else if cell.lease_until + self.policy.lease_grace > self.now {
            Sight::Unknown
        } else {
            Sight::Gone
        }
    }

    fn wake(&mut self, at: Timestamp) {
        if at > self.now {
            self.plan.next = Some(self.plan.next.map_or(at, |next| next.min(at)));
        }
    }

    /// The instant at which a lease that isn't renewed would change the plan.
    fn watch_leases(&mut self) {
        let holding: BTreeSet<_> = self.observed.works.iter().map(|work| work.cell).collect();
        self.plan.lease_watch = self
            .cells
            .values()
            .filter(|cell| holding.contains(&cell.id))
            .flat_map(|cell| [cell.lease_until, cell.lease_until + self.policy.lease_grace])
            .filter(|at| *at > self.now)
            .min();
    }
}
