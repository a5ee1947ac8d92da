//! Canaries: how many new instances stand beside how many old ones at each step, whatever happens on the way.

use model::Timestamp;
use model::canary::Share;
use model::id::*;
use model::work::{Cause, Wanted, WorkState};
use proptest::prelude::*;
use scheduler::*;
use std::collections::{BTreeMap, BTreeSet};
use time::Duration;
use uuid::Uuid;

const OLD: u128 = 100;
const NEW: u128 = 200;
const PROCESS: u128 = 10;

fn id<T: From<Uuid>>(n: u128) -> T {
    T::from(Uuid::from_u128(n))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::seconds(1_000_000 + seconds)
}

fn needs() -> Needs {
    Needs {
        memory_mb: 10,
        disk_mb: 10,
        stack: "base".parse().expect("valid"),
        segment: None,
        layers: Vec::new(),
    }
}

/// A cell that does at once what it is told, with a router that is never late.
struct World {
    desired: Desired,
    observed: Observed,
    next: u128,
}

impl World {
    /// `instances` of the old version serve, and nothing else is wanted.
    fn serving(instances: u32) -> Self {
        let process = Process {
            id: id(PROCESS),
            app: id(1),
            routable: true,
            instances,
            version: Some(id(OLD)),
            needs: BTreeMap::from([OLD, NEW].map(|version| (id(version), needs()))),
        };
        let mut world = Self {
            desired: Desired {
                processes: vec![process],
                ..Desired::default()
            },
            observed: Observed::default(),
            next: 1000,
        };
        world.come_to_rest();
        assert_eq!(world.counts(), (0, instances));
        world
    }

    fn deploy(&mut self, canary: Option<Share>, max_in_flight: u32) {
        self.desired.deployments = vec![Deployment {
            id: id(1),
            process: id(PROCESS),
            version: id(NEW),
            previous: Some(id(OLD)),
            max_in_flight,
            canary,
            paused: false,
            canceling: false,
            created_at: at(-10),
        }];
    }

    fn deployment(&mut self) -> &mut Deployment {
        self.desired.deployments.first_mut().expect("under way")
    }

    fn plan(&self) -> Plan {
        let cell = CellView {
            id: id(1),
            name: "cell".to_owned(),
            zone: "a".to_owned(),
            stacks: BTreeSet::from([needs().stack]),
            segments: BTreeSet::new(),
            memory_mb: 100_000,
            disk_mb: 100_000,
            max_work: 10_000,
            held_memory_mb: 0,
            held_disk_mb: 0,
            cordoned: false,
            synced: true,
            lease_until: at(5),
            layers: BTreeSet::new(),
        };
        plan(&self.desired, &self.observed, &[cell], &Policy::default(), at(0))
    }

    /// Executes one plan; whether there was anything to do.
    fn step(&mut self) -> bool {
        let plan = self.plan();
        let moved = !plan.is_idle();
        for finished in &plan.finished {
            self.desired.deployments.clear();
            self.desired.processes[0].version = Some(finished.version);
        }
        for paused in &plan.paused {
            assert_eq!(*paused, self.deployment().id);
            self.deployment().paused = true;
        }
        let gone: BTreeSet<WorkId> = plan.wants.iter().map(|want| want.work).collect();
        self.observed.works.retain(|work| !gone.contains(&work.id));
        for placement in plan.placements {
            self.next += 1;
            self.observed.works.push(Work {
                id: id(self.next),
                slot: placement.slot,
                cell: placement.cell,
                memory_mb: 10,
                disk_mb: 10,
                wanted: Wanted::Run,
                wanted_since: at(-1),
                state: WorkState::Running,
                routable: true,
                routed: true,
                drained: false,
                created_at: at(-1),
            });
        }
        moved
    }

    fn come_to_rest(&mut self) {
        for _ in 0..1000 {
            if !self.step() {
                return;
            }
        }
        panic!("plans follow each other without end");
    }

    fn indices(&self, version: u128) -> BTreeSet<u32> {
        let index = |work: &Work| match work.slot {
            Slot::Instance { version: of, index, .. } if of == id(version) => Some(index),
            _ => None,
        };
        self.observed.works.iter().filter_map(index).collect()
    }

    /// New and old instances.
    fn counts(&self) -> (u32, u32) {
        let count = |version| u32::try_from(self.indices(version).len()).expect("few");
        (count(NEW), count(OLD))
    }
}

#[test]
fn one_canary_stands_beside_all_that_served_before() {
    for instances in [1, 2, 5] {
        let mut world = World::serving(instances);
        world.deploy(Some(Share::One), 1);
        world.come_to_rest();
        assert_eq!(world.counts(), (1, instances), "of {instances}");
        assert!(world.deployment().paused);
        // Nothing moves until it is said.
        assert!(world.plan().is_idle());
        world.deployment().canary = None;
        world.deployment().paused = false;
        world.come_to_rest();
        assert_eq!(world.counts(), (instances, 0));
        assert_eq!(world.desired.processes[0].version, Some(id(NEW)));
    }
}

#[test]
fn steps_take_their_share_one_after_another() {
    let mut world = World::serving(10);
    world.deploy(Some(Share::Percent(20)), 2);
    for (percent, counts) in [(20, (2, 9)), (50, (5, 6)), (99, (10, 1)), (100, (10, 0))] {
        world.deployment().canary = Some(Share::Percent(percent));
        world.deployment().paused = false;
        world.come_to_rest();
        assert_eq!(world.counts(), counts, "{percent} percent");
        assert!(world.deployment().paused);
    }
    world.deployment().canary = None;
    world.come_to_rest();
    assert_eq!(world.counts(), (10, 0));
    assert!(world.desired.deployments.is_empty());
}

#[test]
fn a_canary_that_is_taken_back_leaves_what_was() {
    let mut world = World::serving(4);
    world.deploy(Some(Share::Percent(50)), 4);
    world.come_to_rest();
    assert_eq!(world.counts(), (2, 3));
    world.deployment().canceling = true;
    world.come_to_rest();
    assert_eq!(world.counts(), (0, 4));
    assert_eq!(world.desired.processes[0].version, Some(id(OLD)));
}

#[test]
fn a_canary_that_crashes_is_taken_back_also_while_it_waits() {
    let mut world = World::serving(3);
    world.deploy(Some(Share::One), 1);
    world.come_to_rest();
    let history = world.observed.history.entry((id(PROCESS), id(NEW))).or_default();
    for _ in 0..3 {
        let crash = Crash {
            index: 0,
            at: at(-1),
            cause: Cause::Exited { code: 1 },
        };
        history.record(crash, None, &CrashPolicy::default());
    }
    let finished = world.plan().finished;
    assert!(
        finished[0]
            .canceled
            .as_ref()
            .is_some_and(|why| why.contains("crashed 3 times")),
        "{finished:?}"
    );
    world.come_to_rest();
    assert_eq!(world.counts(), (0, 3));
}

#[test]
fn what_is_scaled_meanwhile_keeps_its_shares() {
    let mut world = World::serving(4);
    world.deploy(Some(Share::Percent(50)), 1);
    world.come_to_rest();
    for (instances, counts) in [(10, (5, 6)), (4, (2, 3)), (1, (1, 1)), (6, (3, 4))] {
        world.desired.processes[0].instances = instances;
        world.come_to_rest();
        assert_eq!(world.counts(), counts, "scaled to {instances}");
    }
}

#[test]
fn without_anything_before_there_is_nothing_to_wait_for() {
    let mut world = World::serving(0);
    world.desired.processes[0].instances = 3;
    world.deploy(Some(Share::One), 1);
    world.deployment().previous = None;
    world.come_to_rest();
    assert_eq!(world.counts(), (3, 0));
    assert!(world.desired.deployments.is_empty());
}

#[test]
fn nobody_promotes_a_canary_by_scaling_to_nothing() {
    let mut world = World::serving(2);
    world.deploy(Some(Share::One), 1);
    world.come_to_rest();
    world.desired.processes[0].instances = 0;
    world.come_to_rest();
    assert_eq!(world.counts(), (0, 0));
    assert_eq!(world.desired.processes[0].version, Some(id(OLD)));
}

prop_compose! {
    /// Steps of any canary, ascending.
    fn any_steps()(mut weights in prop::collection::vec(1_u8..=100, 0..5)) -> Vec<Option<Share>> {
        weights.sort_unstable();
        let mut steps: Vec<Option<Share>> = weights.into_iter().map(|weight| Some(Share::Percent(weight))).collect();
        if steps.is_empty() {
            steps.push(Some(Share::One));
        }
        steps
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// At each step as many new ones as it says, and with the old ones one more than are wanted, so that what served
    /// before loses nothing to the canary; on the way never less than wanted serve, and never more than may be.
    #[test]
    fn each_step_has_its_counts_and_nothing_is_lost_on_the_way(
        instances in 1_u32..12, steps in any_steps(), budget in 1_u32..5, scale in prop::option::of(1_u32..12),
        cancel in any::<bool>(),
    ) {
        let mut world = World::serving(instances);
        world.deploy(steps[0], budget);
        let mut wanted = instances;
        for (n, step) in steps.iter().enumerate() {
            let share = step.expect("a share");
            world.deployment().canary = *step;
            world.deployment().paused = false;
            if let (1, Some(scale)) = (n, scale) {
                world.desired.processes[0].instances = scale;
                wanted = scale;
            }
            let floor = wanted.min(u32::try_from(world.observed.works.len()).expect("few"));
            while world.step() {
                let (new, old) = world.counts();
                prop_assert!(new + old >= floor, "{new} new and {old} old of {wanted}");
            }
            let new = share.of(wanted);
            let old = if share.is_whole() { 0 } else { wanted - new + 1 };
            prop_assert_eq!(world.counts(), (new, old), "step {} of {:?}, {} wanted", n + 1, &steps, wanted);
            prop_assert!(world.deployment().paused);
            prop_assert!(world.indices(NEW).iter().all(|index| *index < new));
        }
        world.deployment().canary = if cancel { steps[steps.len() - 1] } else { None };
        world.deployment().canceling = cancel;
        world.deployment().paused = false;
        world.come_to_rest();
        prop_assert_eq!(world.counts(), if cancel { (0, wanted) } else { (wanted, 0) });
        prop_assert!(world.desired.deployments.is_empty());
    }
}
