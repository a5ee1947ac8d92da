//! A fake cell: holds work, moves it by the product's own state machine, reports, and reconciles toward its set.

use crate::world::{Event, Fate, World};
use model::Timestamp;
use model::id::{CellId, WorkId};
use model::work::{Cause, Outcome, Wanted, WorkEvent, WorkState};
use scheduler::Slot;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A piece of work as it really is.
#[derive(Debug, Clone)]
pub struct Held {
    pub state: WorkState,
    pub routable: bool,
    pub generation: u64,
    pub slot: Slot,
    pub memory_mb: u32,
}

#[derive(Debug)]
pub struct FakeCell {
    pub id: CellId,
    pub name: String,
    pub zone: String,
    pub memory_mb: u64,
    pub connected: bool,
    pub cordoned: bool,
    pub held: BTreeMap<WorkId, Held>,
    pub changed: BTreeSet<WorkId>,
    /// A report was lost or the agent began anew: the next says everything.
    pub full: bool,
    pub set_revision: u64,
    pub taken_revision: u64,
    pub delivered: Timestamp,
    /// The controller's view.
    pub lease_until: Timestamp,
    pub synced: bool,
    pub foreign: BTreeMap<WorkId, u32>,
}

impl FakeCell {
    pub fn new(id: Uuid, index: usize, memory_mb: u64, lease_until: Timestamp) -> Self {
        Self {
            id: CellId(id),
            name: format!("cell-{index}"),
            zone: format!("zone-{}", index % 2),
            memory_mb,
            connected: true,
            cordoned: false,
            held: BTreeMap::new(),
            changed: BTreeSet::new(),
            full: true,
            set_revision: 0,
            taken_revision: 0,
            delivered: lease_until - crate::world::LEASE,
            lease_until,
            synced: false,
            foreign: BTreeMap::new(),
        }
    }
}

impl World {
    fn fate(&self, slot: Slot) -> Fate {
        match slot {
            Slot::Instance { version, .. } => self.fates.get(&version).copied().unwrap_or(Fate::Good),
            Slot::Job(_) => Fate::Good,
        }
    }

    fn step_later(&mut self, cell: usize, work: WorkId, low_ms: u64, high_ms: u64) {
        let delay = self.rng.range(low_ms, high_ms);
        if let Some(held) = self.cells[cell].held.get_mut(&work) {
            held.generation += 1;
            let generation = held.generation;
            self.after(delay, Event::Step { cell, work, generation });
        }
    }

    /// The assignment set arrives.
    pub fn assign(&mut self, cell: usize, revision: u64, set: &[(WorkId, Wanted)]) -> Result<(), String> {
        if !self.cells[cell].connected {
            return Ok(());
        }
        self.cells[cell].taken_revision = revision;
        let named: BTreeSet<WorkId> = set.iter().map(|(work, _)| *work).collect();
        let unnamed: Vec<WorkId> = self.cells[cell]
            .held
            .keys()
            .filter(|work| !named.contains(work))
            .copied()
            .collect();
        for work in unnamed {
            if self.cells[cell].held[&work].state.is_final() {
                self.cells[cell].held.remove(&work);
            } else {
                self.stop(cell, work)?;
            }
        }
        for &(work, wanted) in set {
            let held = self.cells[cell].held.contains_key(&work);
            match wanted {
                Wanted::Run if !held => self.take_over(cell, work),
                Wanted::Stop if held => self.stop(cell, work)?,
                // Never taken over, and now not wanted: it says so.
                Wanted::Stop | Wanted::Drain if !held => {
                    self.take_over(cell, work);
                    self.move_on(
                        cell,
                        work,
                        WorkEvent::Ended(self.ended(Cause::Stopped { killed: false })),
                    );
                }
                Wanted::Run | Wanted::Drain | Wanted::Stop => {}
            }
        }
        self.report(cell);
        Ok(())
    }

    fn take_over(&mut self, cell: usize, work: WorkId) {
        // The spec travels with the assignment; here it is looked up.
        let Some(row) = self.rows.get(&work) else {
            return;
        };
        let held = Held {
            state: WorkState::Placed,
            routable: false,
            generation: 0,
            slot: row.slot,
            memory_mb: row.memory_mb,
        };
        self.cells[cell].held.insert(work, held);
        self.step_later(cell, work, 1, 50);
    }

    fn stop(&mut self, cell: usize, work: WorkId) -> Result<(), String> {
        let held = &self.cells[cell].held[&work];
        if held.state == WorkState::Running {
            self.check_stop(cell, work)?;
        }
        if held.state.is_final() || held.state == WorkState::Stopping {
            return Ok(());
        }
        self.move_on(cell, work, WorkEvent::Stop);
        self.step_later(cell, work, 5, 2000);
        Ok(())
    }

    fn ended(&self, cause: Cause) -> Outcome {
        Outcome {
            cause,
            at: self.now,
            build: None,
        }
    }

    /// Moves work on by the product's state machine.
    pub fn move_on(&mut self, cell: usize, work: WorkId, event: WorkEvent) {
        let Some(held) = self.cells[cell].held.get_mut(&work) else {
            return;
        };
        held.state = held
            .state
            .clone()
            .step(event)
            .expect("the fake cell makes only legal moves");
        held.routable = held.state == WorkState::Running && matches!(held.slot, Slot::Instance { .. });
        self.cells[cell].changed.insert(work);
    }

    /// Work goes on by itself.
    pub fn cell_step(&mut self, cell: usize, work: WorkId, generation: u64) {
        let Some(held) = self.cells[cell].held.get(&work).cloned() else {
            return;
        };
        if held.generation != generation || held.state.is_final() {
            return;
        }
        if held.state == WorkState::Placed && !self.cells[cell].connected {
            // It lost its lease: it goes on with what runs, but starts nothing.
            return self.step_later(cell, work, 1000, 1001);
        }
        let fate = self.fate(held.slot);
        let event = match held.state {
            WorkState::Placed => WorkEvent::Prepare,
            WorkState::Preparing if fate == Fate::Unstartable => WorkEvent::Ended(self.ended(Cause::NotStarted {
                detail: "no such command".to_owned(),
                retryable: false,
            })),
            WorkState::Preparing if !self.strict && self.rng.chance(10) => {
                WorkEvent::Ended(self.ended(Cause::NotStarted {
                    detail: "a layer could not be fetched".to_owned(),
                    retryable: true,
                }))
            }
            WorkState::Preparing => WorkEvent::Started,
            WorkState::Starting => match fate {
                Fate::Good | Fate::Unstartable => WorkEvent::Healthy,
                Fate::CrashEarly => WorkEvent::Ended(self.ended(Cause::Exited { code: 1 })),
                Fate::NeverHealthy => WorkEvent::Ended(self.ended(Cause::StartTimeout {
                    detail: "connection refused".to_owned(),
                })),
            },
            // Jobs run to their end; instances don't end by themselves.
            WorkState::Running => WorkEvent::Ended(self.ended(Cause::Exited { code: 0 })),
            WorkState::Stopping => WorkEvent::Ended(self.ended(Cause::Stopped { killed: false })),
            WorkState::Exited(_) => return,
        };
        self.move_on(cell, work, event);
        match self.cells[cell].held[&work].state {
            WorkState::Preparing => self.step_later(cell, work, 5, 400),
            WorkState::Starting => self.step_later(cell, work, 50, 4000),
            WorkState::Running if matches!(held.slot, Slot::Job(_)) => self.step_later(cell, work, 100, 5000),
            _ => {}
        }
        self.report(cell);
    }

    pub fn heartbeat(&mut self, cell: usize) {
        self.report(cell);
        self.after(1500, Event::Heartbeat { cell });
    }

    /// Posts a report; it may be lost, or arrive twice.
    pub fn report(&mut self, cell: usize) {
        if !self.cells[cell].connected {
            return;
        }
        if !self.strict && !self.settling && self.rng.chance(50) {
            self.cells[cell].full = true;
            return;
        }
        let twice = !self.strict && self.rng.chance(50);
        let full = std::mem::take(&mut self.cells[cell].full);
        let changed = std::mem::take(&mut self.cells[cell].changed);
        let held = &self.cells[cell].held;
        let observations: Vec<(WorkId, Held)> = held
            .iter()
            .filter(|(work, _)| full || changed.contains(work))
            .map(|(work, held)| (*work, held.clone()))
            .collect();
        let revision = self.cells[cell].taken_revision;
        self.ingest(cell, revision, full, &observations);
        if twice {
            self.ingest(cell, revision, full, &observations);
        }
    }
}
