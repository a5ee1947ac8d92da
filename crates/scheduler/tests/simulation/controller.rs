//! The controller of the simulation: takes reports in, gives the planner its input and executes what it says.

use crate::cell::Held;
use crate::world::{Event, LEASE, Row, World};
use model::id::{CellId, WorkId};
use model::work::{Cause, Outcome, Wanted, WorkState};
use scheduler::{CellView, Crash, Desired, Observed, Plan, Slot, Work, is_crash, plan};
use std::collections::BTreeSet;
use time::Duration;

/// More plans than any run needs: one that flaps has no end.
const MAX_PLANS: u32 = 20_000;

impl World {
    /// Wakes the planner, a few milliseconds from now.
    pub fn activate(&mut self) {
        let at = self.now + Duration::milliseconds(3);
        if self.plan_at.is_none_or(|planned| planned > at) {
            self.plan_at = Some(at);
            self.schedule(at, Event::Plan);
        }
    }

    pub fn plan_event(&mut self) -> Result<(), String> {
        if self.plan_at.is_none_or(|planned| planned > self.now) {
            return Ok(());
        }
        self.plan_at = None;
        let (desired, observed, cells) = self.input();
        let plan = plan(&desired, &observed, &cells, &self.policy, self.now);
        let again = scheduler::plan(&desired, &observed, &cells, &self.policy, self.now);
        if plan != again {
            return Err("the same input gave two plans".to_owned());
        }
        self.totals.plans += 1;
        if self.totals.plans > MAX_PLANS {
            return Err("the planner does not come to rest".to_owned());
        }
        self.check_plan(&plan)?;
        let idle = plan.is_idle();
        let wake = [plan.next, plan.lease_watch].into_iter().flatten().min();
        self.execute(plan);
        self.check_capacity()?;
        if !idle {
            self.activate();
        }
        if let Some(at) = wake
            && self.plan_at.is_none_or(|planned| planned > at)
        {
            self.plan_at = Some(at);
            self.schedule(at, Event::Plan);
        }
        Ok(())
    }

    fn input(&self) -> (Desired, Observed, Vec<CellView>) {
        let desired = Desired {
            processes: self.processes.clone(),
            deployments: self.deployments.clone(),
            jobs: self.jobs.clone(),
        };
        let works = self.rows.iter().map(|(id, row)| self.work(*id, row)).collect();
        let observed = Observed {
            works,
            history: self.history.clone(),
        };
        let cells = self.cells.iter().map(|cell| CellView {
            id: cell.id,
            name: cell.name.clone(),
            zone: cell.zone.clone(),
            stacks: BTreeSet::from([crate::world::stack()]),
            segments: BTreeSet::new(),
            memory_mb: cell.memory_mb,
            disk_mb: 1 << 20,
            max_work: 250,
            held_memory_mb: cell.foreign.values().map(|memory| u64::from(*memory)).sum(),
            held_disk_mb: 0,
            cordoned: cell.cordoned,
            synced: cell.synced && cell.lease_until > self.now,
            lease_until: cell.lease_until,
            layers: BTreeSet::new(),
        });
        (desired, observed, cells.collect())
    }

    fn work(&self, id: WorkId, row: &Row) -> Work {
        let live = || self.routers.iter().filter(|router| router.lease_until > self.now);
        let is_routed = self.process_of(row.slot).is_some_and(|process| process.routable);
        Work {
            id,
            slot: row.slot,
            cell: self.cells[row.cell].id,
            memory_mb: row.memory_mb,
            disk_mb: 64,
            wanted: row.wanted,
            wanted_since: row.wanted_since,
            state: row.state.clone(),
            routable: row.routable,
            routed: !is_routed
                || row
                    .entered
                    .is_some_and(|entered| live().all(|router| router.acked >= entered)),
            drained: live().all(|router| router.acked >= row.left && !router.draining.contains(&id)),
            created_at: row.created_at,
        }
    }

    fn execute(&mut self, plan: Plan) {
        for finished in plan.finished {
            self.note(|| format!("{finished:?}"));
            self.deployments
                .retain(|deployment| deployment.id != finished.deployment);
            if let Some(process) = self.processes.iter_mut().find(|process| process.id == finished.process) {
                process.version = Some(finished.version);
            }
            match finished.canceled {
                Some(_) => self.totals.canceled += 1,
                None => self.totals.deployed += 1,
            }
        }
        for paused in plan.paused {
            self.note(|| format!("paused {paused}"));
            let deployment = self.deployments.iter_mut().find(|deployment| deployment.id == paused);
            deployment.expect("it is under way").paused = true;
            self.totals.paused += 1;
        }
        for settled in plan.settled {
            self.note(|| format!("{settled:?}"));
            self.jobs.retain(|job| job.id != settled.job);
            self.totals.settled += 1;
        }
        let mut touched = BTreeSet::new();
        for lost in plan.lost {
            self.note(|| format!("{lost:?}"));
            touched.insert(self.rows[&lost.work].cell);
            self.end(lost.work, Cause::CellLost);
            self.totals.lost += 1;
        }
        for placement in plan.placements {
            let cell = self.cell_index(placement.cell);
            let work = self.place(placement.slot, cell);
            self.note(|| format!("place {work} {:?} on cell-{cell}", placement.slot));
            touched.insert(cell);
        }
        for want in plan.wants {
            self.note(|| format!("{want:?}"));
            let row = self.rows.get_mut(&want.work).expect("the plan names live work");
            row.wanted = want.wanted;
            row.wanted_since = self.now;
            touched.insert(row.cell);
        }
        self.publish();
        for cell in touched {
            self.send_set(cell);
        }
    }

    fn cell_index(&self, id: CellId) -> usize {
        self.cells.iter().position(|cell| cell.id == id).expect("a known cell")
    }

    fn place(&mut self, slot: Slot, cell: usize) -> WorkId {
        let work = WorkId(self.id());
        let memory_mb = match slot {
            Slot::Instance { version, .. } => self.process_of(slot).expect("known").needs[&version].memory_mb,
            Slot::Job(id) => {
                self.jobs
                    .iter()
                    .find(|job| job.id == id)
                    .expect("known")
                    .needs
                    .memory_mb
            }
        };
        let row = Row {
            slot,
            cell,
            memory_mb,
            wanted: Wanted::Run,
            wanted_since: self.now,
            state: WorkState::Placed,
            routable: false,
            healthy_since: None,
            entered: None,
            left: 0,
            created_at: self.now,
        };
        self.rows.insert(work, row);
        work
    }

    /// The whole set goes to the cell, in order.
    pub fn send_set(&mut self, cell: usize) {
        let set = self
            .rows
            .iter()
            .filter(|(_, row)| row.cell == cell)
            .map(|(work, row)| (*work, row.wanted))
            .collect();
        self.cells[cell].set_revision += 1;
        let revision = self.cells[cell].set_revision;
        let delay = i64::try_from(self.rng.range(1, 40)).expect("small");
        let at = (self.now + Duration::milliseconds(delay)).max(self.cells[cell].delivered);
        self.cells[cell].delivered = at;
        self.schedule(at, Event::Assign { cell, revision, set });
    }

    /// What routers are to have, if it changed.
    pub fn publish(&mut self) {
        let set: BTreeSet<WorkId> = self
            .rows
            .iter()
            .filter(|(_, row)| {
                row.wanted == Wanted::Run
                    && row.state == WorkState::Running
                    && row.routable
                    && self.process_of(row.slot).is_some_and(|process| process.routable)
            })
            .map(|(work, _)| *work)
            .collect();
        if set == self.table {
            return;
        }
        self.revision += 1;
        let revision = self.revision;
        for work in set.difference(&self.table) {
            self.rows.get_mut(work).expect("in the table").entered = Some(revision);
        }
        for work in self.table.difference(&set) {
            if let Some(row) = self.rows.get_mut(work) {
                row.left = revision;
                row.entered = None;
            }
        }
        self.table = set;
        for router in 0..self.routers.len() {
            let delay = i64::try_from(self.rng.range(1, 60)).expect("small");
            let at = (self.now + Duration::milliseconds(delay)).max(self.routers[router].delivered);
            self.routers[router].delivered = at;
            let set = self.table.clone();
            self.schedule(at, Event::Table { router, revision, set });
        }
    }

    /// A report arrives.
    pub fn ingest(&mut self, cell: usize, revision: u64, full: bool, observations: &[(WorkId, Held)]) {
        if full {
            self.cells[cell].synced = true;
            self.cells[cell].foreign.clear();
            let named: BTreeSet<WorkId> = observations.iter().map(|(work, _)| *work).collect();
            let current = revision == self.cells[cell].set_revision;
            let absent: Vec<(WorkId, Cause)> = self
                .rows
                .iter()
                .filter(|(work, row)| row.cell == cell && !named.contains(work))
                .filter(|(_, row)| row.state.rank() > 0 || (row.wanted != Wanted::Run && current))
                .map(|(work, row)| match row.wanted {
                    Wanted::Stop => (*work, Cause::Stopped { killed: false }),
                    Wanted::Run | Wanted::Drain => (*work, Cause::CellLost),
                })
                .collect();
            for (work, cause) in absent {
                self.end(work, cause);
            }
        } else if self.cells[cell].lease_until <= self.now {
            self.cells[cell].synced = false;
            self.cells[cell].full = true;
        }
        self.cells[cell].lease_until = self.now + LEASE;
        let mut stale = false;
        for (work, held) in observations {
            stale |= self.observe(cell, *work, held);
        }
        self.publish();
        // The feed says again what is no longer assigned, so that the cell can forget it.
        if stale || full {
            self.send_set(cell);
        }
        self.activate();
    }

    /// Takes over one observation. Returns whether the cell holds what is not assigned to it.
    fn observe(&mut self, cell: usize, work: WorkId, held: &Held) -> bool {
        let now = self.now;
        let Some(row) = self.rows.get_mut(&work) else {
            if held.state.is_final() {
                self.cells[cell].foreign.remove(&work);
            } else {
                self.cells[cell].foreign.insert(work, held.memory_mb);
            }
            return true;
        };
        if held.state.rank() < row.state.rank() {
            return false;
        }
        if let WorkState::Exited(Outcome { cause, .. }) = &held.state {
            let cause = cause.clone();
            self.end(work, cause);
            return true;
        }
        if row.state != WorkState::Running && held.state == WorkState::Running {
            row.healthy_since = Some(now);
        }
        row.state = held.state.clone();
        row.routable = held.routable;
        false
    }

    /// A row ends, with all that follows from it.
    pub fn end(&mut self, work: WorkId, cause: Cause) {
        let Some(row) = self.rows.remove(&work) else {
            return;
        };
        self.note(|| format!("ended {work} {:?}: {cause}", row.slot));
        if !row.state.is_final() && cause == Cause::CellLost && row.state.rank() > 0 {
            let memory = self.cells[row.cell].held.get(&work).map(|held| held.memory_mb);
            if let Some(memory) = memory {
                self.cells[row.cell].foreign.insert(work, memory);
            }
        }
        match row.slot {
            Slot::Instance {
                process,
                version,
                index,
            } => {
                if is_crash(row.wanted, &cause) {
                    self.totals.crashes += 1;
                    let healthy = row.healthy_since.map(|since| self.now - since);
                    let crash = Crash {
                        index,
                        at: self.now,
                        cause,
                    };
                    let history = self.history.entry((process, version)).or_default();
                    history.record(crash, healthy, &self.policy.crash);
                }
            }
            Slot::Job(id) => {
                if let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) {
                    job.tries.push((work, cause));
                }
            }
        }
    }
}
