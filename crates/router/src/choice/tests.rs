//! What holds for every choice, whatever the instances.

use super::*;
use crate::endpoint::tests::{endpoint, wire};
use proptest::prelude::*;
use std::collections::HashMap;
use tokio::sync::Notify;

const WISH: Wish<'_> = Wish {
    policy: None,
    hash: None,
    balance: 0.0,
    tried: &[],
    zone: None,
    most: u32::MAX,
    now_ms: 5,
    random: 1,
};

fn members(weights: &[Option<u16>]) -> Members {
    Members::new((0..).map(endpoint).zip(weights.iter().copied()).collect())
}

fn even(count: usize) -> Members {
    members(&vec![None; count])
}

fn policies() -> impl Strategy<Value = Option<LoadBalancing>> {
    proptest::sample::select(vec![
        None,
        Some(LoadBalancing::RoundRobin),
        Some(LoadBalancing::LeastConnection),
        Some(LoadBalancing::Hash),
    ])
}

#[test]
fn nothing_of_nothing() {
    assert_eq!(even(0).choose(&WISH).err(), Some(Nobody::Left));
}

#[test]
fn the_less_busy_of_two() {
    let members = even(2);
    let _request = members.all[0].endpoint.enter().expect("in the table");
    for random in [0, 1, u64::MAX, 1 << 33] {
        let wish = Wish { random, ..WISH };
        assert_eq!(members.choose(&wish).map(|e| e.index), Ok(1));
    }
}

#[test]
fn the_least_busy_of_all() {
    let members = even(5);
    let _requests: Vec<_> = [0, 1, 2, 4].map(|n| members.all[n].endpoint.enter()).into();
    for random in 0..20 {
        let policy = Some(LoadBalancing::LeastConnection);
        let wish = Wish { random, policy, ..WISH };
        assert_eq!(members.choose(&wish).map(|e| e.index), Ok(3));
    }
}

#[test]
fn instances_of_the_own_zone_come_first_and_others_after_a_failure() {
    let all = [("a", 0), ("b", 1), ("b", 2)].map(|(zone, index)| {
        let mut wire = wire(index);
        wire.zone = Some(zone.to_owned());
        (Arc::new(Endpoint::new(&wire, 1, Arc::new(Notify::new()))), None)
    });
    let members = Members::new(all.into());
    let near = |random| Wish {
        zone: Some("a"),
        random,
        ..WISH
    };
    assert!((0..50).all(|random| members.choose(&near(random)).is_ok_and(|e| e.index == 0)));
    let tried = [members.all[0].endpoint.work];
    let next = members.choose(&Wish {
        tried: &tried,
        ..near(1)
    });
    assert!(next.is_ok_and(|e| e.index > 0));
    members.all[0].endpoint.fail(0, 100);
    assert!(members.choose(&near(1)).is_ok_and(|e| e.index > 0));
    let nowhere = Wish {
        zone: Some("c"),
        ..WISH
    };
    assert!(members.choose(&nowhere).is_ok());
}

#[test]
fn full_instances_get_nothing_more() {
    let members = even(2);
    let wish = Wish { most: 1, ..WISH };
    let first = members.choose(&wish).expect("room").enter().expect("in the table");
    let second = members.choose(&wish).expect("room").enter().expect("in the table");
    assert_ne!(first.endpoint().index, second.endpoint().index);
    assert_eq!(members.choose(&wish).err(), Some(Nobody::Free));
    drop(first);
    assert!(members.choose(&wish).is_ok());
}

#[test]
fn a_hashed_instance_that_is_too_busy_gives_way_to_the_next() {
    let members = even(4);
    let wish = Wish {
        policy: Some(LoadBalancing::Hash),
        hash: Some(9),
        balance: 1.2,
        ..WISH
    };
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(members.choose(&wish).expect("one").enter().expect("in the table"));
    }
    let loads: Vec<u32> = members.endpoints().map(|e| e.outstanding()).collect();
    // 1.2 times the mean of 40 requests on four.
    assert!(loads.iter().all(|load| (1..=12).contains(load)), "{loads:?}");
}

proptest! {
    #[test]
    fn never_one_that_was_tried(policy in policies(), count in 0_u32..6, tried in proptest::collection::vec(0_u32..6, 0..6), failed in proptest::collection::vec(0_u32..6, 0..6), random: u64, hash: u64) {
        let members = even(count as usize);
        for endpoint in members.endpoints() {
            if failed.contains(&endpoint.index) { endpoint.fail(0, 10); }
        }
        let works: Vec<_> = members.endpoints().filter(|e| tried.contains(&e.index)).map(|e| e.work).collect();
        let chosen = members.choose(&Wish { policy, hash: Some(hash), tried: &works, random, ..WISH });
        prop_assert_eq!(chosen.is_ok(), works.len() < count as usize);
        if let Ok(chosen) = chosen {
            prop_assert!(!works.contains(&chosen.work));
            let sound_left = members.endpoints().any(|e| !works.contains(&e.work) && !e.is_failed(5));
            prop_assert_eq!(chosen.is_failed(5), !sound_left);
        }
    }

    #[test]
    fn turns_are_exactly_by_weight(weights in proptest::collection::vec(0_u16..20, 1..6)) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let members = members(&weights.iter().map(|weight| Some(*weight)).collect::<Vec<_>>());
        let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        let mut counts = vec![0_u16; weights.len()];
        for _ in 0..total {
            let chosen = members.choose(&Wish { policy: Some(LoadBalancing::RoundRobin), ..WISH });
            counts[chosen.expect("one").index as usize] += 1;
        }
        prop_assert_eq!(counts, weights);
    }

    #[test]
    fn an_instance_without_weight_gets_nothing(policy in policies(), random: u64, hash: u64) {
        let members = members(&[Some(0), Some(5), None, Some(0)]);
        let chosen = members.choose(&Wish { policy, random, hash: Some(hash), ..WISH });
        prop_assert!(chosen.is_ok_and(|e| e.index == 1 || e.index == 2));
    }

    #[test]
    fn a_hash_moves_only_with_the_instance_that_went(gone in 0_u32..5) {
        let members = even(5);
        let all: Vec<_> = members.endpoints().filter(|e| e.index == gone).map(|e| e.work).collect();
        let by_hash = |value: u64, tried: &[WorkId]| {
            let wish = Wish { policy: Some(LoadBalancing::Hash), hash: Some(value), tried, ..WISH };
            members.choose(&wish).expect("one").index
        };
        for value in (0..200_u64).map(|n| hash(&n.to_le_bytes())) {
            let before = by_hash(value, &[]);
            let after = by_hash(value, &all);
            prop_assert!(before == gone || before == after);
        }
    }
}

#[test]
fn draws_and_hashes_follow_the_weights() {
    let members = members(&[Some(10), Some(30), Some(60)]);
    for policy in [None, Some(LoadBalancing::Hash)] {
        let mut counts: HashMap<u32, u32> = HashMap::new();
        let mut random = 1_u64;
        for n in 0..20_000_u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let wish = Wish {
                policy,
                random: random ^ (random >> 29),
                hash: Some(hash(&n.to_le_bytes())),
                ..WISH
            };
            *counts.entry(members.choose(&wish).expect("one").index).or_default() += 1;
        }
        assert!(
            counts[&0] < counts[&1] && counts[&1] < counts[&2],
            "{policy:?}: {counts:?}"
        );
        assert!((1_500..2_500).contains(&counts[&0]), "{policy:?}: {counts:?}");
    }
}
