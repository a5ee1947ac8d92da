//! Isolation segments: what is in one is placed there, and nothing else is.

use model::Timestamp;
use scheduler::*;
use std::collections::{BTreeMap, BTreeSet};
use time::Duration;
use uuid::Uuid;

fn id<T: From<Uuid>>(n: u128) -> T {
    T::from(Uuid::from_u128(n))
}

fn cell(n: u128, segments: &[&str]) -> CellView {
    CellView {
        id: id(n),
        name: format!("cell-{n}"),
        zone: "a".to_owned(),
        stacks: BTreeSet::from(["base".parse().expect("valid")]),
        segments: segments.iter().map(|&name| name.to_owned()).collect(),
        memory_mb: 1000,
        disk_mb: 1000,
        max_work: 100,
        held_memory_mb: 0,
        held_disk_mb: 0,
        cordoned: false,
        synced: true,
        lease_until: Timestamp::UNIX_EPOCH + Duration::seconds(5),
        layers: BTreeSet::new(),
    }
}

/// One instance in `segment`, and cells of which one is kept for `gold`.
fn place(segment: Option<&str>) -> Plan {
    let needs = Needs {
        memory_mb: 10,
        disk_mb: 10,
        stack: "base".parse().expect("valid"),
        segment: segment.map(ToOwned::to_owned),
        layers: Vec::new(),
    };
    let wanted = Process {
        id: id(1),
        app: id(2),
        routable: true,
        instances: 1,
        version: Some(id(3)),
        needs: BTreeMap::from([(id(3), needs)]),
    };
    let desired = Desired {
        processes: vec![wanted],
        ..Desired::default()
    };
    let cells = [cell(1, &[]), cell(2, &["gold"])];
    plan(
        &desired,
        &Observed::default(),
        &cells,
        &Policy::default(),
        Timestamp::UNIX_EPOCH,
    )
}

#[test]
fn work_goes_to_cells_of_its_isolation_segment_and_of_no_other() {
    let on = |segment| place(segment).placements.first().map(|placement| placement.cell);
    assert_eq!(on(None), Some(id(1)));
    assert_eq!(on(Some("gold")), Some(id(2)));
    let nowhere = place(Some("silver"));
    assert_eq!(nowhere.unplaced[0].reason(), "2 cells: not of isolation segment silver");
    assert!(
        nowhere.unplaced[0]
            .smallest_change()
            .contains("isolation-segment:silver")
    );
}
