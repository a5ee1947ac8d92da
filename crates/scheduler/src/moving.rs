//! Moves instances away from cells that are drained: a second one first, elsewhere; the first leaves once it is healthy.

use crate::input::{Process, Slot, Work};
use crate::process::Slots;
use crate::{Planner, Sight};
use model::id::CellId;
use model::work::Wanted;
use std::collections::BTreeMap;

impl<'a> Planner<'a> {
    /// Whether it is on a cell that is drained.
    pub(crate) fn is_moving(&self, work: &Work) -> bool {
        self.policy.draining.contains_key(&work.cell)
    }

    /// Whether `other` is there to follow `held`, which serves until then, in the same slot.
    pub(crate) fn follows(&self, process: &Process, other: &Work, held: &Work) -> bool {
        let serving = self.is_moving(held) && self.healthy(process, held);
        serving && !self.is_moving(other) && self.sight(other) != Sight::Gone
    }

    /// Counts what is on its way already.
    pub(crate) fn count_moves(&mut self) {
        if self.policy.draining.is_empty() {
            return;
        }
        let mut slots: BTreeMap<Slot, (Option<CellId>, bool)> = BTreeMap::new();
        let observed = self.observed;
        for work in observed.works.iter().filter(|work| work.wanted == Wanted::Run) {
            let (from, elsewhere) = slots.entry(work.slot).or_default();
            if self.is_moving(work) {
                *from = Some(work.cell);
            } else {
                *elsewhere = true;
                if self.sight(work) != Sight::Gone {
                    self.followed.insert(work.slot);
                }
            }
        }
        for cell in slots
            .into_values()
            .filter_map(|(from, elsewhere)| from.filter(|_| elsewhere))
        {
            *self.moves.entry(cell).or_default() += 1;
        }
    }

    /// Asks for those that are to follow, as many at once as each cell may have on their way.
    pub(crate) fn relocate(&mut self, process: &'a Process, stay: &Slots<'_>) {
        if self.policy.draining.is_empty() {
            return;
        }
        for (&(index, version), &work) in stay {
            let Some(&most) = self.policy.draining.get(&work.cell) else {
                continue;
            };
            let under_way = self.moves.get(&work.cell).copied().unwrap_or(0);
            if under_way >= most || !self.healthy(process, work) || self.followed.contains(&work.slot) {
                continue;
            }
            if self.start(process, version, index, stay, false) {
                *self.moves.entry(work.cell).or_default() += 1;
            }
        }
    }
}
