//! The invariants, checked after every event, with every plan, and at rest.

use crate::world::World;
use model::id::{ProcessId, WorkId};
use model::work::{Wanted, WorkState};
use scheduler::{Plan, Slot};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// What holds at every moment.
    pub fn check_always(&mut self) -> Result<(), String> {
        for router in 0..self.routers.len() {
            let table = &self.routers[router].table;
            let mut seen = BTreeSet::new();
            for slot in table.iter().filter_map(|work| self.rows.get(work)).map(|row| row.slot) {
                if !seen.insert(slot) {
                    return Err(format!("router {router} reaches two instances of {slot:?}"));
                }
            }
        }
        self.check_held()?;
        if self.strict { self.check_requests() } else { Ok(()) }
    }

    /// What cells really hold fits them, where they follow the controller.
    fn check_held(&self) -> Result<(), String> {
        for cell in &self.cells {
            let used: u64 = cell
                .held
                .values()
                .filter(|held| !held.state.is_final())
                .map(|held| u64::from(held.memory_mb))
                .sum();
            if used > cell.memory_mb {
                return Err(format!("{} really holds {used} MiB of {}", cell.name, cell.memory_mb));
            }
        }
        Ok(())
    }

    pub fn check_capacity(&self) -> Result<(), String> {
        for (index, cell) in self.cells.iter().enumerate() {
            let rows = self.rows.values().filter(|row| row.cell == index);
            let used: u64 = rows.map(|row| u64::from(row.memory_mb)).sum();
            if used > cell.memory_mb {
                return Err(format!("{} is promised {used} MiB of {}", cell.name, cell.memory_mb));
            }
        }
        Ok(())
    }

    /// Without faults no request fails: once a process served, every router has instances of it, and all of them run.
    fn check_requests(&mut self) -> Result<(), String> {
        for router in 0..self.routers.len() {
            let table = self.routers[router].table.clone();
            for work in &table {
                let running = self
                    .cells
                    .iter()
                    .any(|cell| cell.held.get(work).is_some_and(|held| held.state == WorkState::Running));
                if !running {
                    return Err(format!("router {router} sends requests to {work}, which doesn't run"));
                }
            }
        }
        let wanted: Vec<ProcessId> = self
            .processes
            .iter()
            .filter(|process| process.routable && process.instances > 0)
            .map(|process| process.id)
            .collect();
        for process in wanted {
            let everywhere = self.routers.iter().all(|router| {
                let rows = router.table.iter().filter_map(|work| self.rows.get(work));
                // What is on its way out does not count: a stop and a start may follow each other closely.
                let mut slots = rows.filter(|row| row.wanted == Wanted::Run).map(|row| row.slot);
                slots.any(|slot| matches!(slot, Slot::Instance { process: of, .. } if of == process))
            });
            if everywhere {
                self.up.insert(process);
            } else if self.up.contains(&process) {
                return Err(format!("{process} served, and now a router has no instance of it"));
            }
        }
        Ok(())
    }

    /// A running instance is stopped only after every router let go of it, or after the time for that ran out.
    pub fn check_stop(&self, cell: usize, work: WorkId) -> Result<(), String> {
        let Some(row) = self.rows.get(&work).filter(|_| self.strict) else {
            return Ok(());
        };
        let routed = self.process_of(row.slot).is_some_and(|process| process.routable);
        for router in self.routers.iter().filter(|_| routed) {
            if router.table.contains(&work) {
                return Err(format!("cell-{cell} stops {work} while a router has it"));
            }
            let waited = self.now - row.created_at >= self.policy.drain_timeout;
            if router.in_flight.contains_key(&work) && !waited {
                return Err(format!("cell-{cell} stops {work} with a request in flight"));
            }
        }
        Ok(())
    }

    /// A plan never takes away the last healthy instance of a process that is wanted.
    pub fn check_plan(&self, plan: &Plan) -> Result<(), String> {
        let gone = |cell: usize| self.cells[cell].lease_until + self.policy.lease_grace <= self.now;
        let mut healthy: BTreeMap<ProcessId, BTreeSet<WorkId>> = BTreeMap::new();
        for (work, row) in &self.rows {
            let Slot::Instance { process, .. } = row.slot else {
                continue;
            };
            let wanted = self.process_of(row.slot).is_some_and(|process| process.instances > 0);
            if wanted && row.wanted == Wanted::Run && row.state == WorkState::Running && !gone(row.cell) {
                healthy.entry(process).or_default().insert(*work);
            }
        }
        let leaving: BTreeSet<WorkId> = plan.wants.iter().map(|want| want.work).collect();
        for (process, works) in healthy {
            if works.is_subset(&leaving) {
                return Err(format!(
                    "the plan takes away all that serves of {process}: {:?}",
                    plan.wants
                ));
            }
        }
        for lost in &plan.lost {
            if !gone(self.rows[&lost.work].cell) {
                return Err(format!("{} is given up although its cell is alive", lost.work));
            }
        }
        self.check_canaries(plan)?;
        self.check_wants(plan)
    }

    /// No new instance beyond the step of a canary, and no pause before the step is there.
    fn check_canaries(&self, plan: &Plan) -> Result<(), String> {
        for deployment in self.deployments.iter().filter(|deployment| !deployment.canceling) {
            let process = self.processes.iter().find(|process| process.id == deployment.process);
            let (Some(process), Some(share), Some(_)) = (process, deployment.canary, deployment.previous) else {
                continue;
            };
            let reach = share.of(process.instances);
            let is_new = |slot: &Slot| matches!(slot, Slot::Instance { version, .. } if *version == deployment.version);
            let beyond = |slot: &Slot| matches!(slot, Slot::Instance { index, .. } if *index >= reach);
            let ended = plan
                .finished
                .iter()
                .any(|finished| finished.deployment == deployment.id);
            let mut placed = plan.placements.iter().map(|placement| &placement.slot);
            if !ended && let Some(slot) = placed.find(|slot| is_new(slot) && beyond(slot)) {
                return Err(format!("{slot:?} is placed beyond the {reach} of {}", deployment.id));
            }
            let news = self.rows.values().filter(|row| {
                is_new(&row.slot) && !beyond(&row.slot) && row.wanted == Wanted::Run && row.state == WorkState::Running
            });
            if plan.paused.contains(&deployment.id) && news.count() < reach as usize {
                return Err(format!("{} is paused before its {reach} run", deployment.id));
            }
        }
        Ok(())
    }

    fn check_wants(&self, plan: &Plan) -> Result<(), String> {
        for want in &plan.wants {
            let row = &self.rows[&want.work];
            let process = self.process_of(row.slot);
            let in_tables = process.is_some_and(|process| process.routable) && row.state == WorkState::Running;
            if in_tables && want.wanted == Wanted::Stop && row.wanted == Wanted::Run {
                return Err(format!("{} is stopped without being drained", want.work));
            }
            if want.wanted == Wanted::Run {
                return Err(format!("{} is wanted anew", want.work));
            }
        }
        Ok(())
    }

    /// Whether desired and observed agree.
    pub fn at_rest(&self) -> bool {
        self.deployments.is_empty()
            && self.jobs.is_empty()
            && self
                .rows
                .values()
                .all(|row| row.wanted == Wanted::Run && row.state == WorkState::Running)
            && self.cells.iter().all(|cell| {
                cell.held
                    .iter()
                    .all(|(work, held)| held.state.is_final() || self.rows.contains_key(work))
            })
            && self.routers.iter().all(|router| router.table == self.table)
            && self.instances_agree().is_ok()
    }

    fn instances_agree(&self) -> Result<(), String> {
        for process in &self.processes {
            let mut indices: Vec<u32> = Vec::new();
            for row in self.rows.values() {
                match row.slot {
                    Slot::Instance {
                        process: of,
                        version,
                        index,
                    } if of == process.id => {
                        if Some(version) != process.version {
                            return Err(format!("{} still has an instance of {version}", process.id));
                        }
                        indices.push(index);
                    }
                    Slot::Instance { .. } | Slot::Job(_) => {}
                }
            }
            indices.sort_unstable();
            let wanted: Vec<u32> = (0..process.instances).collect();
            if indices != wanted {
                return Err(format!("{} has instances {indices:?}, wanted {wanted:?}", process.id));
            }
        }
        Ok(())
    }

    /// After the quiet: the cluster is what was wanted.
    pub fn check_rest(&self) -> Result<(), String> {
        self.instances_agree()?;
        if self.at_rest() {
            return Ok(());
        }
        Err(format!(
            "not at rest: deployments {:?}, jobs {:?}, rows {:#?}, held {:?}",
            self.deployments,
            self.jobs,
            self.rows,
            self.cells.iter().map(|cell| &cell.held).collect::<Vec<_>>()
        ))
    }
}
