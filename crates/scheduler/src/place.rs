//! Chooses cells. Hard constraints first; then fewest instances of the process in the zone, then on the cell, then
//! most layers already there, then the lightest load. Ties go by name and id, so that the choice is reproducible.

use crate::Planner;
use crate::input::{CellView, Needs, Slot};
use crate::output::{Lost, Placement, Refusal, Unplaced};
use model::Timestamp;
use model::id::{AppId, CellId, ProcessId, WorkId};
use model::work::Wanted;
use std::collections::BTreeMap;

/// What is placed first where not everything fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// The first instance of a process of which nothing serves.
    FirstInstance,
    /// A build or a task.
    Job,
    /// More instances.
    Instance,
}

/// A piece of work that needs a cell.
#[derive(Debug, Clone)]
pub(crate) struct Demand {
    pub class: Class,
    pub asked_at: Option<Timestamp>,
    pub slot: Slot,
    pub app: AppId,
    pub needs: Needs,
    pub replaces: Option<WorkId>,
}

/// What is taken of a cell, as the plan goes on.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    memory_mb: u64,
    disk_mb: u64,
    count: u32,
}

/// What is taken of all cells, and how processes are spread over them.
#[derive(Default)]
struct Ledger {
    usage: BTreeMap<CellId, Usage>,
    spread: BTreeMap<(ProcessId, CellId), u32>,
}

impl Ledger {
    fn take(&mut self, cell: CellId, slot: Slot, memory_mb: u32, disk_mb: u32, spreads: bool) {
        let usage = self.usage.entry(cell).or_default();
        usage.memory_mb += u64::from(memory_mb);
        usage.disk_mb += u64::from(disk_mb);
        usage.count += 1;
        if let (Slot::Instance { process, .. }, true) = (slot, spreads) {
            *self.spread.entry((process, cell)).or_default() += 1;
        }
    }

    fn usage(&self, cell: &CellView) -> Usage {
        let mut usage = self.usage.get(&cell.id).copied().unwrap_or_default();
        usage.memory_mb += cell.held_memory_mb;
        usage.disk_mb += cell.held_disk_mb;
        usage
    }
}

impl Planner<'_> {
    /// Places what was asked for, in order of class, then age, then slot.
    pub(crate) fn place(&mut self) {
        let mut demands = std::mem::take(&mut self.demands);
        demands.sort_by_key(|demand| (demand.class, demand.asked_at, index_of(demand.slot), demand.slot));
        if demands.is_empty() {
            return;
        }
        let mut ledger = Ledger::default();
        for work in &self.observed.works {
            let spreads = work.wanted == Wanted::Run;
            ledger.take(work.cell, work.slot, work.memory_mb, work.disk_mb, spreads);
        }
        for demand in demands {
            self.place_one(demand, &mut ledger);
        }
    }

    fn place_one(&mut self, demand: Demand, ledger: &mut Ledger) {
        let mut refusals = BTreeMap::new();
        let mut best: Option<(_, CellId)> = None;
        for cell in self.cells.values() {
            if let Some(refusal) = self.refusal(cell, &demand.needs, ledger.usage(cell)) {
                refusals.insert((cell.name.clone(), cell.id), refusal);
                continue;
            }
            let score = self.score(cell, &demand, ledger);
            if best.as_ref().is_none_or(|(held, _)| score < *held) {
                best = Some((score, cell.id));
            }
        }
        let Some((_, cell)) = best else {
            self.plan.unplaced.push(Unplaced {
                slot: demand.slot,
                app: demand.app,
                needs: demand.needs,
                refusals,
            });
            return;
        };
        ledger.take(cell, demand.slot, demand.needs.memory_mb, demand.needs.disk_mb, true);
        self.plan.lost.extend(demand.replaces.map(|work| Lost { work }));
        self.plan.placements.push(Placement {
            slot: demand.slot,
            app: demand.app,
            cell,
            replaces: demand.replaces,
        });
    }

    fn refusal(&self, cell: &CellView, needs: &Needs, usage: Usage) -> Option<Refusal> {
        let free_memory = cell.memory_mb.saturating_sub(usage.memory_mb);
        let free_disk = cell.disk_mb.saturating_sub(usage.disk_mb);
        if cell.lease_until <= self.now {
            Some(Refusal::NotAlive)
        } else if cell.cordoned {
            Some(Refusal::Cordoned)
        } else if !cell.stacks.contains(&needs.stack) {
            Some(Refusal::Stack)
        } else if !is_in_segment(cell, needs) {
            Some(Refusal::Segment)
        } else if !cell.synced {
            Some(Refusal::NotSynced)
        } else if free_memory < u64::from(needs.memory_mb) {
            Some(Refusal::Memory { free_mb: free_memory })
        } else if free_disk < u64::from(needs.disk_mb) {
            Some(Refusal::Disk { free_mb: free_disk })
        } else if usage.count >= cell.max_work {
            Some(Refusal::Count { max: cell.max_work })
        } else {
            None
        }
    }

    fn score(&self, cell: &CellView, demand: &Demand, ledger: &Ledger) -> impl Ord + use<> {
        let (in_zone, on_cell) = match demand.slot {
            Slot::Instance { process, .. } => {
                let on = |id: &CellId| ledger.spread.get(&(process, *id)).copied().unwrap_or(0);
                let zone = self.cells.values().filter(|other| other.zone == cell.zone);
                (zone.map(|other| on(&other.id)).sum(), on(&cell.id))
            }
            Slot::Job(_) => (0_u32, 0),
        };
        let missing_layers = demand
            .needs
            .layers
            .iter()
            .filter(|layer| !cell.layers.contains(*layer))
            .count();
        let usage = ledger.usage(cell);
        let load_per_mille = usage.memory_mb.saturating_mul(1000) / cell.memory_mb.max(1);
        (
            in_zone,
            on_cell,
            missing_layers,
            load_per_mille,
            usage.count,
            cell.name.clone(),
            cell.id,
        )
    }
}

fn is_in_segment(cell: &CellView, needs: &Needs) -> bool {
    match &needs.segment {
        Some(segment) => cell.segments.contains(segment),
        None => cell.segments.is_empty(),
    }
}

/// Low indices of all processes come before high ones of any.
const fn index_of(slot: Slot) -> u32 {
    match slot {
        Slot::Instance { index, .. } => index,
        Slot::Job(_) => 0,
    }
}
