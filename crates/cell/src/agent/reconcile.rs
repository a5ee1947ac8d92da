//! From what the cell holds to what it is assigned: the steps between. Pure, and idempotent: once they are taken, there
//! are none.

use model::id::WorkId;
use model::work::{Assignment, Wanted};
use std::collections::{BTreeMap, BTreeSet};

/// What the cell holds of one piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// As it was last told.
    pub wanted: Wanted,
    /// As it was last told.
    pub epoch: u64,
    /// Whether it has ended.
    pub ended: bool,
}

/// A step.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Take on new work.
    Begin(Box<Assignment>),
    /// Tell work what is wanted of it now.
    Tell {
        /// The work.
        work: WorkId,
        /// Wanted of it.
        wanted: Wanted,
        /// The lease epoch.
        epoch: u64,
    },
    /// Let go of work that has ended and that the controller no longer asks about.
    Forget(WorkId),
}

/// The steps from `held` to `assigned`.
///
/// Work that is held and not assigned has no right to run: it is stopped, and forgotten once it has ended. An assignment
/// under an older epoch than the one held is stale and changes nothing.
#[must_use]
pub(crate) fn reconcile(held: &BTreeMap<WorkId, Held>, assigned: &[Assignment]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut named = BTreeSet::new();
    for assignment in assigned {
        if !named.insert(assignment.work) {
            continue;
        }
        match held.get(&assignment.work) {
            None => steps.push(Step::Begin(Box::new(assignment.clone()))),
            Some(held) if assignment.epoch < held.epoch => {}
            Some(held) if (held.wanted, held.epoch) == (assignment.wanted, assignment.epoch) => {}
            Some(_) => steps.push(Step::Tell {
                work: assignment.work,
                wanted: assignment.wanted,
                epoch: assignment.epoch,
            }),
        }
    }
    for (work, held) in held.iter().filter(|(work, _)| !named.contains(work)) {
        if held.ended {
            steps.push(Step::Forget(*work));
        } else if held.wanted != Wanted::Stop {
            steps.push(Step::Tell {
                work: *work,
                wanted: Wanted::Stop,
                epoch: held.epoch,
            });
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assignment, work};

    fn held(entries: &[(u128, Wanted, u64, bool)]) -> BTreeMap<WorkId, Held> {
        let entries = entries.iter();
        entries
            .map(|&(n, wanted, epoch, ended)| (work(n), Held { wanted, epoch, ended }))
            .collect()
    }

    /// Steps in a form that can be compared.
    fn shown(steps: &[Step]) -> Vec<String> {
        let short = |work: &WorkId| work.0.as_u128();
        let steps = steps.iter();
        steps
            .map(|step| match step {
                Step::Begin(assignment) => format!("begin {}", short(&assignment.work)),
                Step::Tell { work, wanted, epoch } => format!("tell {} {wanted:?} {epoch}", short(work)),
                Step::Forget(work) => format!("forget {}", short(work)),
            })
            .collect()
    }

    #[test]
    fn what_is_new_begins_and_what_changed_is_told() {
        let held = held(&[
            (1, Wanted::Run, 1, false),
            (2, Wanted::Run, 1, false),
            (3, Wanted::Run, 1, true),
        ]);
        let assigned = [
            assignment(1, 1, Wanted::Run),
            assignment(2, 1, Wanted::Drain),
            assignment(3, 1, Wanted::Run),
            assignment(4, 1, Wanted::Run),
            assignment(5, 1, Wanted::Stop),
        ];
        assert_eq!(
            shown(&reconcile(&held, &assigned)),
            ["tell 2 Drain 1", "begin 4", "begin 5"]
        );
    }

    #[test]
    fn what_is_not_assigned_is_stopped_then_forgotten() {
        let live = held(&[
            (1, Wanted::Run, 4, false),
            (2, Wanted::Stop, 4, false),
            (3, Wanted::Drain, 4, true),
        ]);
        assert_eq!(shown(&reconcile(&live, &[])), ["tell 1 Stop 4", "forget 3"]);
        let ended = held(&[(1, Wanted::Stop, 4, true)]);
        assert_eq!(shown(&reconcile(&ended, &[])), ["forget 1"]);
    }

    #[test]
    fn older_epochs_are_stale_and_newer_ones_taken() {
        let held = held(&[(1, Wanted::Run, 5, false)]);
        assert!(reconcile(&held, &[assignment(1, 4, Wanted::Stop)]).is_empty());
        assert_eq!(
            shown(&reconcile(&held, &[assignment(1, 6, Wanted::Run)])),
            ["tell 1 Run 6"]
        );
    }

    #[test]
    fn twice_in_one_set_is_once_and_no_step_is_left_when_all_are_taken() {
        let assigned = [assignment(1, 1, Wanted::Run), assignment(1, 1, Wanted::Stop)];
        assert_eq!(shown(&reconcile(&BTreeMap::new(), &assigned)), ["begin 1"]);
        let done = held(&[(1, Wanted::Run, 1, false)]);
        assert!(reconcile(&done, &assigned[..1]).is_empty());
    }
}
