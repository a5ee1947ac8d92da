//! What is placed, and in which order: classes first, then age, then the slot. Where, is `field`'s to choose.

use crate::Planner;
use crate::field::Field;
use crate::input::{Needs, Slot};
use crate::output::{Lost, Placement, Unplaced};
use model::Timestamp;
use model::id::{AppId, WorkId};

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
pub(crate) struct Demand<'a> {
    pub class: Class,
    pub asked_at: Option<Timestamp>,
    pub slot: Slot,
    pub app: AppId,
    pub needs: &'a Needs,
    pub replaces: Option<WorkId>,
}

impl Planner<'_> {
    /// Places what was asked for, in order of class, then age, then slot.
    pub(crate) fn place(&mut self) {
        let mut demands = std::mem::take(&mut self.demands);
        if demands.is_empty() {
            return;
        }
        demands.sort_by_key(|demand| (demand.class, demand.asked_at, index_of(demand.slot), demand.slot));
        let mut field = Field::new(self.cells.values().copied(), &self.observed.works, self.now);
        for demand in demands {
            match field.place(demand.slot, demand.needs) {
                Ok(cell) => {
                    self.plan.lost.extend(demand.replaces.map(|work| Lost { work }));
                    self.plan.placements.push(Placement {
                        slot: demand.slot,
                        app: demand.app,
                        cell,
                        replaces: demand.replaces,
                    });
                }
                Err(refusals) => self.plan.unplaced.push(Unplaced {
                    slot: demand.slot,
                    app: demand.app,
                    needs: demand.needs.clone(),
                    refusals,
                }),
            }
        }
    }
}

/// Low indices of all processes come before high ones of any.
const fn index_of(slot: Slot) -> u32 {
    match slot {
        Slot::Instance { index, .. } => index,
        Slot::Job(_) => 0,
    }
}
