//! What is known of cells besides their rows: leases between two writes, who has said what it holds, open feeds.

use api::cell::Down;
use model::Timestamp;
use model::id::{CellId, WorkId};
use model::resource::Cell;
use model::work::Work;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// State of all cells. Clones share it.
#[derive(Clone)]
pub struct Cells(Arc<Inner>);

struct Inner {
    /// No lease is taken to have ended before: cells get the time to find this controller.
    floor: Mutex<Timestamp>,
    cells: Mutex<HashMap<CellId, State>>,
}

#[derive(Default)]
struct State {
    lease_until: Option<Timestamp>,
    persisted_until: Option<Timestamp>,
    /// It said everything it holds, since it registered and without its lease ending in between.
    synced: bool,
    /// Work that it holds although it is no longer assigned: memory and disk in MiB.
    foreign: HashMap<WorkId, (u32, u32)>,
    feed: Option<(u64, mpsc::Sender<Down>)>,
    feeds: u64,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What the planner needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub lease_until: Timestamp,
    pub synced: bool,
    pub held_memory_mb: u64,
    pub held_disk_mb: u64,
}

impl Cells {
    pub(crate) fn new(floor: Timestamp) -> Self {
        Self(Arc::new(Inner {
            floor: Mutex::new(floor),
            cells: Mutex::default(),
        }))
    }

    /// Forgets what was heard in an earlier term.
    pub(crate) fn begin(&self, floor: Timestamp) {
        *self.0.floor.lock() = floor;
        self.0.cells.lock().clear();
    }

    fn floor(&self) -> Timestamp {
        *self.0.floor.lock()
    }

    fn with<T>(&self, cell: CellId, change: impl FnOnce(&mut State) -> T) -> T {
        change(self.0.cells.lock().entry(cell).or_default())
    }

    /// The standing of a cell, from its row and what was heard since.
    pub(crate) fn standing(&self, cell: &Cell, now: Timestamp) -> Standing {
        let floor = self.floor();
        self.with(cell.info.id, |state| {
            let heard = state.lease_until.unwrap_or(cell.lease_until);
            let lease_until = heard.max(cell.lease_until).max(floor);
            Standing {
                lease_until,
                synced: state.synced && lease_until > now,
                held_memory_mb: state.foreign.values().map(|(memory, _)| u64::from(*memory)).sum(),
                held_disk_mb: state.foreign.values().map(|(_, disk)| u64::from(*disk)).sum(),
            }
        })
    }

    /// The next end of a lease; `None` where one has ended already.
    pub(crate) fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let floor = self.floor();
        let cells = self.0.cells.lock();
        let leases = cells
            .values()
            .map(|state| state.lease_until.unwrap_or(floor).max(floor));
        leases.min().filter(|first| *first > now)
    }

    /// Whose reports are taken one after the other.
    pub(crate) fn turn(&self, cell: CellId) -> Arc<tokio::sync::Mutex<()>> {
        self.with(cell, |state| state.turn.clone())
    }

    /// A cell joined (again): it has yet to say what it holds.
    pub(crate) fn registered(&self, cell: CellId, lease_until: Timestamp) {
        self.with(cell, |state| {
            state.lease_until = Some(lease_until);
            state.persisted_until = Some(lease_until);
            state.synced = false;
        });
    }

    /// Whether a report may be taken: a full one always, another only from a cell that is in step.
    pub(crate) fn accepts(&self, cell: CellId, full: bool, now: Timestamp) -> bool {
        full || self.with(cell, |state| {
            state.synced && state.lease_until.is_some_and(|until| until > now)
        })
    }

    /// Whether the database is to hear of the lease: not every heartbeat is worth a write.
    pub(crate) fn persist_due(&self, cell: CellId, lease_until: Timestamp, lease: std::time::Duration) -> bool {
        self.with(cell, |state| {
            state
                .persisted_until
                .is_none_or(|persisted| lease_until - persisted > lease / 2)
        })
    }

    /// A report was taken at `now`. Returns whether the planner should look: the cell came (back) to life.
    ///
    /// A lease may end between the moment that a report is accepted and this one: a plan in between left the cell out,
    /// and nothing else would tell it that the cell is there after all.
    pub(crate) fn reported(
        &self,
        cell: CellId,
        lease_until: Timestamp,
        report: (bool, bool),
        now: impl FnOnce() -> Timestamp,
    ) -> bool {
        let (full, persisted) = report;
        self.with(cell, |state| {
            let now = now();
            let ended = state.lease_until.is_none_or(|until| until <= now);
            state.lease_until = Some(lease_until);
            if persisted {
                state.persisted_until = Some(lease_until);
            }
            let news = ended || (full && !state.synced);
            state.synced |= full;
            news
        })
    }

    /// Work that the cell holds without being assigned it. With `full` there is no other.
    pub(crate) fn foreign(
        &self,
        cell: CellId,
        full: bool,
        held: impl IntoIterator<Item = (WorkId, (u32, u32))>,
        gone: &[WorkId],
    ) -> bool {
        self.with(cell, |state| {
            let before = state.foreign.len();
            if full {
                state.foreign.clear();
            }
            state.foreign.extend(held);
            for work in gone {
                state.foreign.remove(work);
            }
            state.foreign.len() < before
        })
    }

    /// Work of a cell that is away was given up: should the cell come back, it still holds it.
    pub(crate) fn hold(&self, work: &Work) {
        let limits = work.spec.limits;
        self.with(work.cell, |state| {
            state.foreign.insert(work.id, (limits.memory_mb, limits.disk_mb));
            state.synced = false;
        });
    }

    /// A feed was opened; the one before gets nothing any more.
    pub(crate) fn feed_opened(&self, cell: CellId, feed: mpsc::Sender<Down>) -> u64 {
        self.with(cell, |state| {
            state.feeds += 1;
            state.feed = Some((state.feeds, feed));
            state.feeds
        })
    }

    /// A cell is a part of the platform no more: its feed ends.
    pub(crate) fn cut(&self, cell: CellId) {
        self.with(cell, |state| {
            state.feed = None;
            state.synced = false;
        });
    }

    pub(crate) fn feed_closed(&self, cell: CellId, number: u64) {
        self.with(cell, |state| {
            if state.feed.as_ref().is_some_and(|(open, _)| *open == number) {
                state.feed = None;
            }
        });
    }

    /// The way to say something to a cell now, where its feed is open here.
    pub(crate) fn feed(&self, cell: CellId) -> Option<mpsc::Sender<Down>> {
        self.with(cell, |state| state.feed.as_ref().map(|(_, feed)| feed.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + time::Duration::seconds(seconds)
    }

    #[test]
    fn the_planner_looks_when_a_cell_comes_to_life_and_not_at_every_heartbeat() {
        let cells = Cells::new(Timestamp::UNIX_EPOCH);
        let cell = CellId(uuid::Uuid::from_u128(1));
        cells.registered(cell, at(5));
        assert!(
            cells.reported(cell, at(6), (true, true), || at(1)),
            "it said what it holds"
        );
        assert!(!cells.reported(cell, at(7), (false, false), || at(2)), "a heartbeat");
        assert!(!cells.reported(cell, at(8), (true, true), || at(3)), "the same again");
        // Accepted at 7, and written so slowly that a plan at 8 has left the cell out.
        assert!(cells.reported(cell, at(12), (false, true), || at(8)));
        assert!(!cells.reported(cell, at(14), (false, false), || at(9)));
    }
}
