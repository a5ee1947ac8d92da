//! Single decisions, each from a state written by hand; and properties of plans from arbitrary states.

use model::Timestamp;
use model::canary::Share;
use model::id::*;
use model::name::StackName;
use model::work::{Cause, Wanted, WorkState};
use proptest::prelude::*;
use scheduler::*;
use std::collections::{BTreeMap, BTreeSet};
use time::Duration;
use uuid::Uuid;

fn id<T: From<Uuid>>(n: u128) -> T {
    T::from(Uuid::from_u128(n))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::seconds(1_000_000 + seconds)
}

fn stack() -> StackName {
    "base".parse().expect("valid")
}

fn needs(memory_mb: u32) -> Needs {
    Needs {
        memory_mb,
        disk_mb: 10,
        stack: stack(),
        segment: None,
        layers: Vec::new(),
    }
}

fn cell(n: u128, zone: &str, memory_mb: u64) -> CellView {
    CellView {
        id: id(n),
        name: format!("cell-{n}"),
        zone: zone.to_owned(),
        stacks: BTreeSet::from([stack()]),
        segments: BTreeSet::new(),
        memory_mb,
        disk_mb: 1000,
        max_work: 100,
        held_memory_mb: 0,
        held_disk_mb: 0,
        cordoned: false,
        synced: true,
        lease_until: at(5),
        layers: BTreeSet::new(),
    }
}

const OLD: u128 = 100;
const NEW: u128 = 200;

fn process(n: u128, instances: u32, version: u128) -> Process {
    let needs = [OLD, NEW].map(|version| (id(version), needs(100)));
    Process {
        id: id(n),
        app: id(n + 1000),
        routable: true,
        instances,
        version: Some(id(version)),
        needs: BTreeMap::from(needs),
    }
}

fn deployment(n: u128, max_in_flight: u32) -> Deployment {
    Deployment {
        id: id(n + 2000),
        process: id(n),
        version: id(NEW),
        previous: Some(id(OLD)),
        max_in_flight,
        canary: None,
        paused: false,
        canceling: false,
        created_at: at(-10),
    }
}

fn serving(n: u128, process: u128, version: u128, index: u32, cell: u128) -> Work {
    Work {
        id: id(n),
        slot: Slot::Instance {
            process: id(process),
            version: id(version),
            index,
        },
        cell: id(cell),
        memory_mb: 100,
        disk_mb: 10,
        wanted: Wanted::Run,
        wanted_since: at(-100),
        state: WorkState::Running,
        routable: true,
        routed: true,
        drained: false,
        created_at: at(-100),
    }
}

fn run(desired: &Desired, observed: &Observed, cells: &[CellView]) -> Plan {
    plan(desired, observed, cells, &Policy::default(), at(0))
}

fn of(processes: Vec<Process>, deployments: Vec<Deployment>) -> Desired {
    Desired {
        processes,
        deployments,
        jobs: Vec::new(),
    }
}

fn works(works: Vec<Work>) -> Observed {
    Observed {
        works,
        history: BTreeMap::new(),
    }
}

fn indices(plan: &Plan, version: u128) -> Vec<u32> {
    let mut indices: Vec<u32> = plan
        .placements
        .iter()
        .filter_map(|placement| match placement.slot {
            Slot::Instance { version: of, index, .. } if of == id(version) => Some(index),
            _ => None,
        })
        .collect();
    indices.sort_unstable();
    indices
}

#[test]
fn a_scale_up_is_placed_at_once_and_spread_over_zones_then_cells() {
    let cells = [cell(1, "a", 10_000), cell(2, "a", 10_000), cell(3, "b", 10_000)];
    let plan = run(&of(vec![process(10, 4, OLD)], vec![]), &works(vec![]), &cells);
    assert_eq!(indices(&plan, OLD), [0, 1, 2, 3]);
    let on = |n: u128| {
        plan.placements
            .iter()
            .filter(|placement| placement.cell == id(n))
            .count()
    };
    assert_eq!((on(1), on(2), on(3)), (1, 1, 2));
}

#[test]
fn a_rollout_starts_as_many_as_it_may() {
    let old: Vec<Work> = (0..4)
        .map(|index| serving(u128::from(index) + 1, 10, OLD, index, 1))
        .collect();
    for budget in [1, 3] {
        let desired = of(vec![process(10, 4, NEW)], vec![deployment(10, budget)]);
        let plan = run(&desired, &works(old.clone()), &[cell(1, "a", 10_000)]);
        assert_eq!(indices(&plan, NEW).len(), budget as usize);
        assert_eq!(plan.wants, []);
    }
}

#[test]
fn the_old_one_leaves_when_the_new_one_is_routed() {
    let desired = of(vec![process(10, 1, NEW)], vec![deployment(10, 1)]);
    let mut new = serving(2, 10, NEW, 0, 1);
    new.routed = false;
    let old = serving(1, 10, OLD, 0, 1);
    let cells = [cell(1, "a", 1000)];
    let waits = run(&desired, &works(vec![old.clone(), new.clone()]), &cells);
    assert!(waits.is_idle(), "{waits:?}");
    new.routed = true;
    let goes = run(&desired, &works(vec![old, new]), &cells);
    assert_eq!(
        goes.wants,
        [Want {
            work: id(1),
            wanted: Wanted::Drain
        }]
    );
    assert_eq!((goes.finished.len(), goes.finished[0].version), (1, id(NEW)));
}

#[test]
fn a_scale_down_takes_the_highest_but_never_the_last_that_serves() {
    let cells = [cell(1, "a", 10_000)];
    let all: Vec<Work> = (0..3)
        .map(|index| serving(u128::from(index) + 1, 10, OLD, index, 1))
        .collect();
    let desired = of(vec![process(10, 1, OLD)], vec![]);
    let plan = run(&desired, &works(all.clone()), &cells);
    let leaving: Vec<WorkId> = plan.wants.iter().map(|want| want.work).collect();
    assert_eq!(leaving, [id(2), id(3)]);
    // Index 0 is gone: of the others one stays until a new one serves.
    let plan = run(&desired, &works(all[1..].to_vec()), &cells);
    assert_eq!((indices(&plan, OLD), plan.wants.len()), (vec![0], 1));
}

fn history(crashes: &[Cause]) -> BTreeMap<(ProcessId, VersionId), History> {
    let mut history = History::default();
    for (n, cause) in crashes.iter().enumerate() {
        let index = u32::try_from(n).expect("few");
        history.record(
            Crash {
                index,
                at: at(-1),
                cause: cause.clone(),
            },
            None,
            &CrashPolicy::default(),
        );
    }
    BTreeMap::from([((id(10), id(NEW)), history)])
}

#[test]
fn a_rollout_that_fails_leaves_the_old_ones_alone() {
    let exit = Cause::Exited { code: 1 };
    let timeout = Cause::StartTimeout {
        detail: "connection refused".to_owned(),
    };
    for (crashes, canceled) in [
        (vec![exit.clone(); 2], false),
        (vec![exit; 3], true),
        (vec![timeout], true),
        (
            vec![Cause::NotStarted {
                detail: "no command".to_owned(),
                retryable: false,
            }],
            true,
        ),
        (
            vec![Cause::NotStarted {
                detail: "no disk".to_owned(),
                retryable: true,
            }],
            false,
        ),
    ] {
        let desired = of(vec![process(10, 3, NEW)], vec![deployment(10, 1)]);
        let old = (0..3)
            .map(|index| serving(u128::from(index) + 1, 10, OLD, index, 1))
            .collect();
        let observed = Observed {
            works: old,
            history: history(&crashes),
        };
        let plan = run(&desired, &observed, &[cell(1, "a", 10_000)]);
        assert_eq!(plan.finished.len(), usize::from(canceled), "{crashes:?}");
        assert!(
            plan.finished
                .iter()
                .all(|finished| finished.version == id(OLD) && finished.canceled.is_some())
        );
        assert_eq!(plan.wants, []);
    }
}

#[test]
fn crashes_before_a_rollout_do_not_count() {
    let mut deployment = deployment(10, 1);
    deployment.created_at = at(0);
    let desired = of(vec![process(10, 1, NEW)], vec![deployment]);
    let timeout = Cause::StartTimeout { detail: String::new() };
    let observed = Observed {
        works: vec![serving(1, 10, OLD, 0, 1)],
        history: history(&[timeout]),
    };
    let plan = run(&desired, &observed, &[cell(1, "a", 10_000)]);
    assert_eq!((plan.finished.len(), indices(&plan, NEW)), (0, vec![0]));
}

#[test]
fn without_a_version_before_a_failure_ends_only_the_deployment() {
    let mut deployment = deployment(10, 1);
    deployment.previous = None;
    let desired = of(vec![process(10, 1, NEW)], vec![deployment]);
    let observed = Observed {
        works: vec![],
        history: history(&[Cause::StartTimeout { detail: String::new() }]),
    };
    let plan = run(&desired, &observed, &[cell(1, "a", 10_000)]);
    assert_eq!(plan.finished[0].version, id(NEW));
    assert_eq!(indices(&plan, NEW), [0], "it goes on trying");
}

#[test]
fn unknown_is_kept_and_gone_is_replaced_only_where_there_is_room() {
    let work = serving(1, 10, OLD, 0, 1);
    let desired = of(vec![process(10, 1, OLD)], vec![]);
    let away = |seconds| CellView {
        lease_until: at(seconds),
        ..cell(1, "a", 1000)
    };
    let unknown = run(&desired, &works(vec![work.clone()]), &[away(-1), cell(2, "b", 1000)]);
    assert!(unknown.is_idle(), "{unknown:?}");
    assert_eq!(unknown.lease_watch, Some(at(4)));
    let gone = run(&desired, &works(vec![work.clone()]), &[away(-10), cell(2, "b", 1000)]);
    assert_eq!(gone.lost, [Lost { work: id(1) }]);
    assert_eq!(
        (gone.placements[0].cell, gone.placements[0].replaces),
        (id(2), Some(id(1)))
    );
    let full = run(&desired, &works(vec![work]), &[away(-10), cell(2, "b", 50)]);
    assert!(full.is_idle(), "{full:?}");
    assert_eq!(
        full.unplaced[0].reason(),
        "1 cell: not enough memory (needs 100 MiB, most free 50 MiB); 1 cell: not alive"
    );
    assert!(
        full.unplaced[0]
            .smallest_change()
            .starts_with("free 50 MiB of memory on cell cell-2")
    );
}

#[test]
fn a_drain_ends_with_its_requests_or_its_time() {
    let draining = |since, drained| Work {
        wanted: Wanted::Drain,
        wanted_since: at(since),
        drained,
        routed: false,
        ..serving(1, 10, OLD, 0, 1)
    };
    let cells = [cell(1, "a", 1000)];
    let desired = of(vec![process(10, 0, OLD)], vec![]);
    let waits = run(&desired, &works(vec![draining(-29, false)]), &cells);
    assert_eq!((waits.wants.len(), waits.next), (0, Some(at(1))));
    for work in [draining(-1, true), draining(-30, false)] {
        let ends = run(&desired, &works(vec![work]), &cells);
        assert_eq!(
            ends.wants,
            [Want {
                work: id(1),
                wanted: Wanted::Stop
            }]
        );
    }
}

fn job(n: u128, tries: Vec<Cause>, task: bool) -> Job {
    Job {
        id: if task {
            JobRef::Task(id(n))
        } else {
            JobRef::Build(id(n))
        },
        app: id(1),
        needs: needs(100),
        cancel: false,
        tries: tries.into_iter().map(|cause| (id(7), cause)).collect(),
        created_at: at(0),
    }
}

#[test]
fn jobs_are_repeated_only_where_that_is_safe() {
    let settle = |job: Job| {
        let desired = Desired {
            jobs: vec![job],
            ..Desired::default()
        };
        let plan = run(&desired, &works(vec![]), &[cell(1, "a", 1000)]);
        (
            plan.placements.len(),
            plan.settled.into_iter().next().map(|settled| settled.verdict),
        )
    };
    let retry = Cause::NotStarted {
        detail: "no disk".to_owned(),
        retryable: true,
    };
    assert_eq!(settle(job(1, vec![], false)), (1, None));
    assert_eq!(settle(job(1, vec![Cause::CellLost], false)), (1, None));
    assert_eq!(
        settle(job(1, vec![Cause::CellLost], true)),
        (0, Some(Verdict::Ended(id(7))))
    );
    assert_eq!(
        settle(job(1, vec![Cause::Exited { code: 223 }], false)),
        (0, Some(Verdict::Ended(id(7))))
    );
    let given_up = Verdict::GivenUp {
        tries: 3,
        cause: retry.clone(),
    };
    assert_eq!(settle(job(1, vec![retry; 3], false)), (0, Some(given_up)));
    let canceled = Job {
        cancel: true,
        ..job(1, vec![], true)
    };
    assert_eq!(settle(canceled), (0, Some(Verdict::Canceled)));
}

#[test]
fn first_instances_come_before_builds_and_builds_before_more_instances() {
    let desired = Desired {
        processes: vec![process(10, 3, OLD), process(11, 1, OLD)],
        jobs: vec![job(1, vec![], false)],
        ..Desired::default()
    };
    let plan = run(&desired, &works(vec![]), &[cell(1, "a", 300)]);
    let placed: Vec<Slot> = plan.placements.iter().map(|placement| placement.slot).collect();
    assert_eq!(placed.len(), 3);
    assert!(placed.contains(&Slot::Job(JobRef::Build(id(1)))), "{placed:?}");
    assert_eq!(indices(&plan, OLD), [0, 0]);
    assert_eq!(plan.unplaced.len(), 2);
}

prop_compose! {
    fn any_work()(
        n in 0_u128..1_000_000, process in 10_u128..13, version in prop_oneof![Just(OLD), Just(NEW)], index in 0_u32..5,
        cell in 1_u128..4, rank in 0_u8..5, routable: bool, routed: bool, drained: bool, wanted in 0_u8..4,
    ) -> Work {
        let state = [
            WorkState::Placed, WorkState::Preparing, WorkState::Starting, WorkState::Running, WorkState::Stopping,
        ][usize::from(rank)].clone();
        let wanted = [Wanted::Run, Wanted::Run, Wanted::Drain, Wanted::Stop][usize::from(wanted)];
        Work {
            routable: routable && state == WorkState::Running,
            state, routed, drained, wanted, ..serving(n, process, version, index, cell)
        }
    }
}

fn any_canary() -> impl Strategy<Value = (Option<Share>, bool)> {
    let percent = (1_u8..=100).prop_map(|weight| Some(Share::Percent(weight)));
    (prop_oneof![Just(None), Just(Some(Share::One)), percent], any::<bool>())
}

prop_compose! {
    fn any_input()(
        works in prop::collection::vec(any_work(), 0..25),
        counts in prop::collection::vec(0_u32..6, 3),
        rolling in prop::collection::vec((any::<bool>(), any::<bool>(), 1_u32..4, any_canary()), 3),
        leases in prop::collection::vec((-10_i64..10, 300_u64..2000, any::<bool>(), any::<bool>()), 3),
        crashes in prop::collection::vec((10_u128..13, 0_u32..5, -2000_i64..0), 0..12),
    ) -> (Desired, Observed, Vec<CellView>) {
        let processes = (10..13).zip(&counts).map(|(n, count)| process(n, *count, NEW)).collect();
        let deployments = (10..13).zip(&rolling).filter(|(_, (rolls, ..))| *rolls)
            .map(|(n, (_, canceling, budget, (canary, paused)))| Deployment {
                canceling: *canceling, canary: *canary, paused: *paused, ..deployment(n, *budget)
            }).collect();
        let cells = (1..4).zip(&leases).map(|(n, (lease, memory, cordoned, synced))| CellView {
            lease_until: at(*lease), cordoned: *cordoned, synced: *synced, ..cell(n, "a", *memory)
        }).collect();
        let mut history: BTreeMap<(ProcessId, VersionId), History> = BTreeMap::new();
        for (process, index, seconds) in crashes {
            let crash = Crash { index, at: at(seconds), cause: Cause::Exited { code: 1 } };
            history.entry((id(process), id(NEW))).or_default().record(crash, None, &CrashPolicy::default());
        }
        let mut seen = BTreeSet::new();
        let works = works.into_iter().filter(|work| seen.insert(work.id)).collect();
        (of(processes, deployments), Observed { works, history }, cells)
    }
}

proptest! {
    #[test]
    fn plans_keep_the_rules_from_any_state((desired, observed, cells) in any_input()) {
        let plan = run(&desired, &observed, &cells);
        prop_assert_eq!(&plan, &run(&desired, &observed, &cells));
        let lost: BTreeSet<WorkId> = plan.lost.iter().map(|lost| lost.work).collect();
        let wants: BTreeSet<WorkId> = plan.wants.iter().map(|want| want.work).collect();
        prop_assert_eq!(wants.len(), plan.wants.len(), "a want is said once");
        prop_assert!(lost.is_disjoint(&wants));
        for cell in &cells {
            let here = plan.placements.iter().filter(|placement| placement.cell == cell.id).count();
            let alive = cell.lease_until > at(0);
            prop_assert!(here == 0 || (alive && cell.synced && !cell.cordoned));
            let held: u64 = observed.works.iter().filter(|work| work.cell == cell.id).map(|work| u64::from(work.memory_mb)).sum();
            prop_assert!(here == 0 || held + 100 * here as u64 <= cell.memory_mb);
            prop_assert!(alive || cell.lease_until + Duration::seconds(5) <= at(0)
                || !observed.works.iter().any(|work| work.cell == cell.id && lost.contains(&work.id)));
        }
        let mut slots = BTreeSet::new();
        for work in observed.works.iter().filter(|work| work.wanted == Wanted::Run) {
            if !lost.contains(&work.id) && !wants.contains(&work.id) {
                prop_assert!(slots.insert(work.slot), "two stay in {:?}", work.slot);
            }
        }
        for placement in &plan.placements {
            prop_assert!(slots.insert(placement.slot), "{:?} is placed beside another", placement.slot);
        }
        prop_assert!(plan.next.is_none_or(|next| next > at(0)));
        for deployment in desired.deployments.iter().filter(|deployment| !deployment.canceling) {
            let Some(share) = deployment.canary else { continue };
            let process = desired.processes.iter().find(|process| process.id == deployment.process).expect("there");
            let beyond = plan.placements.iter().find(|placement| matches!(placement.slot,
                Slot::Instance { process: of, version, index }
                    if of == process.id && version == deployment.version && index >= share.of(process.instances)));
            let ended = plan.finished.iter().any(|finished| finished.deployment == deployment.id);
            prop_assert!(ended || beyond.is_none(), "{beyond:?} is beyond the canary");
        }
    }
}
