//! A fake router: takes over tables, keeps requests in flight, acknowledges.

use crate::world::{Event, LEASE, World};
use model::Timestamp;
use model::id::WorkId;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub struct FakeRouter {
    pub connected: bool,
    pub table: BTreeSet<WorkId>,
    pub revision: u64,
    pub in_flight: BTreeMap<WorkId, u32>,
    pub delivered: Timestamp,
    /// The controller's view.
    pub lease_until: Timestamp,
    pub acked: u64,
    pub draining: BTreeSet<WorkId>,
}

impl FakeRouter {
    pub fn new(lease_until: Timestamp) -> Self {
        Self {
            connected: true,
            table: BTreeSet::new(),
            revision: 0,
            in_flight: BTreeMap::new(),
            delivered: lease_until - LEASE,
            lease_until,
            acked: 0,
            draining: BTreeSet::new(),
        }
    }
}

impl World {
    pub fn router_table(&mut self, router: usize, revision: u64, set: BTreeSet<WorkId>) {
        if self.routers[router].connected && revision >= self.routers[router].revision {
            self.routers[router].table = set;
            self.routers[router].revision = revision;
            self.acknowledge(router);
        }
    }

    fn acknowledge(&mut self, router: usize) {
        if !self.routers[router].connected {
            return;
        }
        let state = &self.routers[router];
        let draining = state
            .in_flight
            .iter()
            .filter(|(work, count)| **count > 0 && !state.table.contains(work))
            .map(|(work, _)| *work)
            .collect();
        let revision = state.revision;
        let delay = self.rng.range(1, 30);
        self.after(
            delay,
            Event::Ack {
                router,
                revision,
                draining,
            },
        );
    }

    pub fn router_ack(&mut self, router: usize, revision: u64, draining: BTreeSet<WorkId>) {
        if self.routers[router].connected && revision >= self.routers[router].acked {
            self.routers[router].acked = revision;
            self.routers[router].draining = draining;
            self.routers[router].lease_until = self.now + LEASE;
            self.activate();
        }
    }

    /// A connected router keeps its lease, and catches up where it missed a table.
    pub fn router_beat(&mut self, router: usize) {
        if self.routers[router].connected {
            self.routers[router].lease_until = self.now + LEASE;
            if self.routers[router].revision < self.revision {
                self.router_table(router, self.revision, self.table.clone());
            }
            self.acknowledge(router);
        }
        self.after(1000, Event::RouterBeat { router });
    }

    pub fn request(&mut self, router: usize) {
        let targets: Vec<WorkId> = self.routers[router].table.iter().copied().collect();
        if !targets.is_empty() {
            let work = targets[self.rng.index(targets.len())];
            *self.routers[router].in_flight.entry(work).or_default() += 1;
            let time = if self.rng.chance(5) {
                60_000
            } else {
                self.rng.range(5, 2000)
            };
            self.after(time, Event::RequestDone { router, work });
        }
        self.after(200, Event::Request { router });
    }

    pub fn request_done(&mut self, router: usize, work: WorkId) {
        if let Some(count) = self.routers[router].in_flight.get_mut(&work) {
            *count -= 1;
            if *count == 0 {
                self.routers[router].in_flight.remove(&work);
                if !self.routers[router].table.contains(&work) {
                    self.acknowledge(router);
                }
            }
        }
    }
}
