//! Which cell is chosen, against the rule said plainly: look at every cell, take the least by spread, layers and load.

use model::Timestamp;
use model::digest::Digest;
use model::id::*;
use model::work::{Wanted, WorkState};
use proptest::prelude::*;
use scheduler::*;
use std::collections::{BTreeMap, BTreeSet};
use time::Duration;
use uuid::Uuid;

fn id<T: From<Uuid>>(n: usize) -> T {
    T::from(Uuid::from_u128(n as u128))
}

fn layer(n: u8) -> Digest {
    Digest::from_sha256([n; 32])
}

/// A cell by what makes cells different from each other.
#[derive(Debug, Clone)]
struct Of {
    zone: u8,
    memory_mb: u64,
    disk_mb: u64,
    max_work: u32,
    stacks: u8,
    segment: bool,
    trouble: u8,
    layers: Vec<u8>,
}

fn a_cell() -> impl Strategy<Value = Of> {
    let amounts = (0_u8..3, 0_u64..400, 0_u64..400, 0_u32..8);
    let kinds = (
        1_u8..4,
        prop::bool::weighted(0.1),
        0_u8..20,
        prop::collection::vec(0_u8..4, 0..3),
    );
    (amounts, kinds).prop_map(
        |((zone, memory_mb, disk_mb, max_work), (stacks, segment, trouble, layers))| Of {
            zone,
            memory_mb,
            disk_mb,
            max_work,
            stacks,
            segment,
            trouble,
            layers,
        },
    )
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::hours(1)
}

fn view(n: usize, of: &Of) -> CellView {
    let stacks = ["base", "other"].into_iter().enumerate();
    let stacks = stacks.filter(|(bit, _)| of.stacks & (1 << bit) != 0);
    CellView {
        id: id(n),
        name: format!("cell-{}", n % 5),
        zone: format!("z{}", of.zone),
        stacks: stacks.map(|(_, name)| name.parse().expect("valid")).collect(),
        segments: of.segment.then(|| "gold".to_owned()).into_iter().collect(),
        memory_mb: of.memory_mb,
        disk_mb: of.disk_mb,
        max_work: of.max_work,
        held_memory_mb: u64::from(of.trouble == 3) * 50,
        held_disk_mb: 0,
        cordoned: of.trouble == 0,
        synced: of.trouble != 1,
        lease_until: now() + Duration::seconds(if of.trouble == 2 { -1 } else { 5 }),
        layers: of.layers.iter().copied().map(layer).collect(),
    }
}

fn a_process(n: usize, (instances, memory_mb, gold, layers): (u32, u32, bool, Vec<u8>)) -> Process {
    let version: VersionId = id(500 + n);
    let needs = Needs {
        memory_mb,
        disk_mb: 30,
        stack: "base".parse().expect("valid"),
        segment: gold.then(|| "gold".to_owned()),
        layers: layers.into_iter().map(layer).collect(),
    };
    Process {
        id: id(n),
        app: id(900 + n),
        routable: false,
        instances,
        version: Some(version),
        needs: BTreeMap::from([(version, needs)]),
    }
}

fn processes() -> impl Strategy<Value = Vec<Process>> {
    let layers = prop::collection::vec(0_u8..4, 0..3);
    let one = (0_u32..9, 0_u32..120, prop::bool::weighted(0.1), layers);
    prop::collection::vec(one, 1..5).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered.map(|(n, of)| a_process(n, of)).collect()
    })
}

/// What is taken of the cells so far, kept as plainly as can be.
struct Taken {
    works: Vec<(CellId, Slot, u32, u32)>,
}

impl Taken {
    fn of(&self, cell: &CellView) -> (u64, u64, u32) {
        let here = self.works.iter().filter(|(at, ..)| *at == cell.id);
        let begin = (cell.held_memory_mb, cell.held_disk_mb, 0);
        here.fold(begin, |sum, (_, _, memory, disk)| {
            (sum.0 + u64::from(*memory), sum.1 + u64::from(*disk), sum.2 + 1)
        })
    }

    fn instances(&self, process: ProcessId, on: impl Fn(CellId) -> bool) -> usize {
        let same = |slot: &Slot| matches!(slot, Slot::Instance { process: other, .. } if *other == process);
        let works = self.works.iter();
        works.filter(|(at, slot, ..)| same(slot) && on(*at)).count()
    }

    fn takes(&self, cell: &CellView, needs: &Needs) -> bool {
        let (memory, disk, count) = self.of(cell);
        let in_segment = match &needs.segment {
            Some(segment) => cell.segments.contains(segment),
            None => cell.segments.is_empty(),
        };
        cell.lease_until > now()
            && !cell.cordoned
            && cell.synced
            && in_segment
            && cell.stacks.contains(&needs.stack)
            && cell.memory_mb.saturating_sub(memory) >= u64::from(needs.memory_mb)
            && cell.disk_mb.saturating_sub(disk) >= u64::from(needs.disk_mb)
            && count < cell.max_work
    }

    fn best<'c>(&self, cells: &'c [CellView], process: ProcessId, needs: &Needs) -> Option<&'c CellView> {
        let candidates = cells.iter().filter(|cell| self.takes(cell, needs));
        candidates.min_by_key(|cell| {
            let zone: BTreeSet<CellId> = cells
                .iter()
                .filter(|other| other.zone == cell.zone)
                .map(|cell| cell.id)
                .collect();
            let (memory, _, count) = self.of(cell);
            let missing = needs
                .layers
                .iter()
                .filter(|layer| !cell.layers.contains(*layer))
                .count();
            (
                self.instances(process, |at| zone.contains(&at)),
                self.instances(process, |at| at == cell.id),
                missing,
                memory * 1000 / cell.memory_mb.max(1),
                count,
                cell.name.clone(),
                cell.id,
            )
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn each_choice_is_the_best_of_all(cells in prop::collection::vec(a_cell(), 0..14), processes in processes()) {
        let cells: Vec<CellView> = cells.iter().enumerate().map(|(n, of)| view(n, of)).collect();
        let desired = Desired { processes: processes.clone(), ..Desired::default() };
        let plan = plan(&desired, &Observed::default(), &cells, &Policy::default(), now());
        let needs_of = |slot: Slot| match slot {
            Slot::Instance { process, version, .. } => {
                let of = processes.iter().find(|of| of.id == process).expect("planned");
                (process, &of.needs[&version])
            }
            Slot::Job(_) => unreachable!("no jobs"),
        };
        let mut taken = Taken { works: Vec::new() };
        for placement in &plan.placements {
            let (process, needs) = needs_of(placement.slot);
            let best = taken.best(&cells, process, needs);
            prop_assert_eq!(best.map(|cell| cell.id), Some(placement.cell));
            taken.works.push((placement.cell, placement.slot, needs.memory_mb, needs.disk_mb));
        }
        for unplaced in &plan.unplaced {
            let (process, needs) = needs_of(unplaced.slot);
            prop_assert_eq!(taken.best(&cells, process, needs).map(|cell| cell.id), None);
            prop_assert_eq!(unplaced.refusals.len(), cells.len());
        }
        let wanted: u32 = processes.iter().map(|process| process.instances).sum();
        prop_assert_eq!(plan.placements.len() + plan.unplaced.len(), wanted as usize);
    }
}

#[test]
fn many_cells_are_filled_evenly_and_never_too_far() {
    let of = |zone| Of {
        zone,
        memory_mb: 1000,
        disk_mb: 10_000,
        max_work: 250,
        stacks: 1,
        segment: false,
        trouble: 9,
        layers: Vec::new(),
    };
    let mut cells: Vec<CellView> = (0..300)
        .map(|n| view(n, &of(u8::try_from(n % 3).expect("small"))))
        .collect();
    let processes: Vec<Process> = (0..90).map(|n| a_process(n, (35, 90, false, Vec::new()))).collect();
    let desired = Desired {
        processes,
        ..Desired::default()
    };
    let planned = plan(&desired, &Observed::default(), &cells, &Policy::default(), now());
    // 300 cells take 11 each: 3,150 of 3,300.
    assert_eq!(planned.placements.len(), 3_150);
    let mut on: BTreeMap<CellId, u32> = BTreeMap::new();
    let mut per_zone: BTreeMap<(ProcessId, usize), u32> = BTreeMap::new();
    for placement in &planned.placements {
        *on.entry(placement.cell).or_default() += 1;
        let Slot::Instance { process, .. } = placement.slot else {
            continue;
        };
        let zone = cells
            .iter()
            .position(|cell| cell.id == placement.cell)
            .expect("one of ours")
            % 3;
        *per_zone.entry((process, zone)).or_default() += 1;
    }
    assert!(on.values().all(|count| (10..=11).contains(count)), "{on:?}");
    assert!(per_zone.values().all(|count| (11..=12).contains(count)), "{per_zone:?}");

    // What is on cells already counts: the next cell to come is the lightest by far.
    let works = planned.placements.iter().enumerate().map(|(n, placement)| Work {
        id: id(n),
        slot: placement.slot,
        cell: placement.cell,
        memory_mb: 90,
        disk_mb: 30,
        wanted: Wanted::Run,
        wanted_since: now(),
        state: WorkState::Running,
        routable: true,
        routed: true,
        drained: false,
        created_at: now(),
    });
    let observed = Observed {
        works: works.collect(),
        ..Observed::default()
    };
    cells.push(view(300, &of(0)));
    let mut more = desired.clone();
    more.processes.push(a_process(91, (3, 90, false, Vec::new())));
    let planned = plan(&more, &observed, &cells, &Policy::default(), now());
    assert_eq!(planned.placements.len(), 3);
    assert!(planned.placements.iter().any(|placement| placement.cell == id(300)));
}
