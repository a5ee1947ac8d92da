//! Cells that are drained: instances move one after the other, and none is missed meanwhile.

use model::Timestamp;
use model::id::*;
use model::work::{Wanted, WorkState};
use proptest::prelude::*;
use scheduler::*;
use std::collections::{BTreeMap, BTreeSet};
use time::Duration;
use uuid::Uuid;

const VERSION: u128 = 100;

fn id<T: From<Uuid>>(n: u128) -> T {
    T::from(Uuid::from_u128(n))
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::seconds(1_000_000)
}

/// A platform in which whatever is placed is healthy a few steps later, unless it crashes.
struct World {
    processes: Vec<Process>,
    cells: Vec<CellView>,
    works: Vec<Work>,
    policy: Policy,
    next: u128,
}

impl World {
    /// The first cell is to be drained, `at_once` at a time.
    fn new(instances: &[u32], at_once: u32, memory_mb: u64) -> Self {
        let stack: model::name::StackName = "base".parse().expect("valid");
        let needs = Needs {
            memory_mb: 100,
            disk_mb: 10,
            stack: stack.clone(),
            segment: None,
            layers: Vec::new(),
        };
        let process = |(n, instances): (u128, &u32)| Process {
            id: id(n),
            app: id(n + 1000),
            routable: true,
            instances: *instances,
            version: Some(id(VERSION)),
            needs: BTreeMap::from([(id(VERSION), needs.clone())]),
        };
        let cell = |n: u128| CellView {
            id: id(n),
            name: format!("cell-{n}"),
            zone: "a".to_owned(),
            stacks: BTreeSet::from([stack.clone()]),
            segments: BTreeSet::new(),
            memory_mb,
            disk_mb: 100_000,
            max_work: 1000,
            held_memory_mb: 0,
            held_disk_mb: 0,
            cordoned: false,
            synced: true,
            lease_until: now() + Duration::seconds(5),
            layers: BTreeSet::new(),
        };
        let mut world = Self {
            processes: (10..).zip(instances).map(process).collect(),
            cells: (1..=3).map(cell).collect(),
            works: Vec::new(),
            policy: Policy::default(),
            next: 10_000,
        };
        world.settle();
        world.cells[0].cordoned = true;
        world.policy.draining = BTreeMap::from([(id(1), at_once)]);
        world
    }

    fn plan(&self) -> Plan {
        let desired = Desired {
            processes: self.processes.clone(),
            ..Desired::default()
        };
        let observed = Observed {
            works: self.works.clone(),
            ..Observed::default()
        };
        plan(&desired, &observed, &self.cells, &self.policy, now())
    }

    /// Executes a plan as the controller does; cells stop at once what is to stop.
    fn execute(&mut self, plan: &Plan) {
        for want in &plan.wants {
            if let Some(work) = self.works.iter_mut().find(|work| work.id == want.work) {
                work.wanted = want.wanted;
            }
        }
        let lost: BTreeSet<WorkId> = plan.lost.iter().map(|lost| lost.work).collect();
        self.works
            .retain(|work| work.wanted != Wanted::Stop && !lost.contains(&work.id));
        for placement in &plan.placements {
            self.next += 1;
            self.works.push(Work {
                id: id(self.next),
                slot: placement.slot,
                cell: placement.cell,
                memory_mb: 100,
                disk_mb: 10,
                wanted: Wanted::Run,
                wanted_since: now(),
                state: WorkState::Starting,
                routable: false,
                routed: false,
                drained: false,
                created_at: now() + Duration::microseconds(i64::try_from(self.next).expect("small")),
            });
        }
    }

    /// Cells and routers do their part: all that was started is healthy; what drains has no requests any more.
    fn observe(&mut self) {
        for work in &mut self.works {
            work.drained = work.wanted == Wanted::Drain;
            if work.state == WorkState::Starting {
                work.state = WorkState::Running;
                work.routable = true;
            }
        }
        let visible = self.visible();
        for work in &mut self.works {
            work.routed = visible.values().any(|shown| *shown == work.id);
        }
    }

    /// The table of routers: of two in a slot the older.
    fn visible(&self) -> BTreeMap<Slot, WorkId> {
        let mut visible = BTreeMap::new();
        for work in &self.works {
            if work.wanted == Wanted::Run && work.routable {
                visible.entry(work.slot).or_insert(work.id);
            }
        }
        visible
    }

    fn settle(&mut self) {
        loop {
            let plan = self.plan();
            if plan.is_idle() {
                return;
            }
            self.execute(&plan);
            self.observe();
        }
    }

    fn on(&self, cell: u128) -> usize {
        self.works.iter().filter(|work| work.cell == id(cell)).count()
    }

    fn moving(&self) -> usize {
        let mut slots = BTreeSet::new();
        let wanted = self.works.iter().filter(|work| work.wanted == Wanted::Run);
        wanted.filter(|work| !slots.insert(work.slot)).count()
    }
}

#[test]
fn the_last_instance_moves_without_a_gap() {
    let mut world = World::new(&[1], 1, 10_000);
    let first = world.works[0].clone();
    assert_eq!(first.cell, id(1));
    let plan = world.plan();
    assert_eq!((plan.placements.len(), plan.wants.len()), (1, 0), "first a second one");
    world.execute(&plan);
    assert!(world.plan().is_idle(), "then one waits until it is healthy");
    world.observe();
    assert_eq!(
        world.visible().into_values().collect::<Vec<_>>(),
        [first.id],
        "the older one alone"
    );
    let plan = world.plan();
    let left: Vec<_> = plan.wants.iter().map(|want| (want.work, want.wanted)).collect();
    assert_eq!(left, [(first.id, Wanted::Drain)]);
    world.execute(&plan);
    assert!(!world.visible().values().any(|shown| *shown == first.id) && world.visible().len() == 1);
    world.observe();
    world.settle();
    assert_eq!((world.on(1), world.works.len()), (0, 1));
}

#[test]
fn a_follower_that_never_gets_healthy_takes_nothing_away() {
    let mut world = World::new(&[1], 1, 10_000);
    let first = world.works[0].id;
    world.execute(&world.plan());
    // It crashes: it is gone, and nothing else changed.
    world.works.retain(|work| work.id == first);
    let plan = world.plan();
    assert!(plan.wants.is_empty() && plan.placements.len() == 1);
    // The cell dies in the middle: what was on its way takes over.
    world.execute(&plan);
    world.cells[0].lease_until = now() - Duration::seconds(60);
    let plan = world.plan();
    assert_eq!(plan.lost.iter().map(|lost| lost.work).collect::<Vec<_>>(), [first]);
    assert!(plan.placements.is_empty(), "one is on its way already: {plan:?}");
}

#[test]
fn without_room_elsewhere_an_instance_stays_and_says_why() {
    let mut world = World::new(&[3], 3, 100);
    let plan = world.plan();
    assert!(plan.is_idle(), "{plan:?}");
    assert_eq!(plan.unplaced.len(), 1, "one is on the cell");
    world.settle();
    assert_eq!(world.on(1), 1);
}

#[test]
fn a_stop_in_the_middle_ends_both() {
    let mut world = World::new(&[1], 1, 10_000);
    world.execute(&world.plan());
    world.processes[0].instances = 0;
    world.settle();
    assert!(world.works.is_empty(), "{:?}", world.works);
}

proptest! {
    #[test]
    fn a_cell_is_emptied_by_a_few_at_a_time_and_everything_serves(
        instances in prop::collection::vec(1_u32..8, 1..6),
        at_once in 1_u32..5,
    ) {
        let mut world = World::new(&instances, at_once, 100_000);
        let wanted: usize = instances.iter().map(|count| *count as usize).sum();
        let mut steps = 0;
        loop {
            let plan = world.plan();
            if plan.is_idle() {
                break;
            }
            world.execute(&plan);
            prop_assert!(world.moving() <= at_once as usize, "{} move at once", world.moving());
            prop_assert_eq!(world.visible().len(), wanted, "every slot serves");
            world.observe();
            prop_assert_eq!(world.visible().len(), wanted, "every slot serves");
            steps += 1;
            prop_assert!(steps < 1000, "it comes to an end");
        }
        prop_assert_eq!(world.on(1), 0);
        prop_assert_eq!(world.works.len(), wanted);
    }
}
