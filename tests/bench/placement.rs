//! The planner alone: how fast it finds cells for very many instances, and what a plan costs where all of them run.
//!
//! Arguments: `--instances=N`, `--cells=N`, `--out=FILE`. Deterministic but for the times; one thread.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark: its terminal is its interface"
)]

use model::Timestamp;
use model::id::{AppId, CellId, ProcessId, VersionId};
use model::work::{Wanted, WorkState};
use scheduler::{CellView, Desired, Needs, Observed, Plan, Policy, Process, Work, plan};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use uuid::Uuid;

/// Instances of one process.
const EACH: u32 = 20;
/// MiB of an instance, by process in turn.
const SIZES: [u32; 4] = [32, 64, 128, 256];
const ZONES: usize = 3;
/// Of all memory, what instances take, in percent.
const FILLED: u64 = 80;

fn id<T: From<Uuid>>(n: usize) -> T {
    T::from(Uuid::from_u128(n as u128 + 1))
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH + time::Duration::days(20_000)
}

fn number(name: &str, default: usize) -> usize {
    let given = std::env::args().find_map(|argument| argument.strip_prefix(name)?.parse().ok());
    given.unwrap_or(default)
}

fn cells(count: usize, memory_mb: u64) -> Vec<CellView> {
    let cell = |n: usize| CellView {
        id: id::<CellId>(n),
        name: format!("cell-{n:05}"),
        zone: format!("z{}", n % ZONES),
        stacks: BTreeSet::from(["base".parse().expect("valid")]),
        segments: BTreeSet::new(),
        // Hosts are not all alike.
        memory_mb: memory_mb * (80 + n as u64 % 41) / 100,
        disk_mb: u64::MAX / 4,
        max_work: u32::MAX,
        held_memory_mb: 0,
        held_disk_mb: 0,
        cordoned: false,
        synced: true,
        lease_until: now() + time::Duration::seconds(5),
        layers: BTreeSet::new(),
    };
    (0..count).map(cell).collect()
}

fn processes(instances: usize) -> Vec<Process> {
    let process = |n: usize| {
        let version: VersionId = id(n);
        let needs = Needs {
            memory_mb: SIZES[n % SIZES.len()],
            disk_mb: 1024,
            stack: "base".parse().expect("valid"),
            segment: None,
            layers: Vec::new(),
        };
        Process {
            id: id::<ProcessId>(n),
            app: id::<AppId>(n),
            routable: true,
            instances: EACH,
            version: Some(version),
            needs: BTreeMap::from([(version, needs)]),
        }
    };
    (0..instances / EACH as usize).map(process).collect()
}

/// What is placed is there and serves.
fn running(plan: &Plan, desired: &Desired) -> Vec<Work> {
    let sizes: BTreeMap<ProcessId, u32> = desired
        .processes
        .iter()
        .map(|process| (process.id, process.needs.values().next().expect("one").memory_mb))
        .collect();
    let work = |(n, placement): (usize, &scheduler::Placement)| {
        let scheduler::Slot::Instance { process, .. } = placement.slot else {
            unreachable!("instances only");
        };
        Work {
            id: id(n),
            slot: placement.slot,
            cell: placement.cell,
            memory_mb: sizes[&process],
            disk_mb: 1024,
            wanted: Wanted::Run,
            wanted_since: now(),
            state: WorkState::Running,
            routable: true,
            routed: true,
            drained: false,
            created_at: now(),
        }
    };
    plan.placements.iter().enumerate().map(work).collect()
}

/// Plans once; the time in seconds.
fn timed(what: &str, desired: &Desired, observed: &Observed, cells: &[CellView]) -> (Plan, f64) {
    let begun = Instant::now();
    let plan = plan(desired, observed, cells, &Policy::default(), now());
    let seconds = begun.elapsed().as_secs_f64();
    let placed = plan.placements.len();
    let rate = if placed > 0 { placed as f64 / seconds } else { 0.0 };
    println!("{what:<44} {seconds:>8.3} s {placed:>9} placed {rate:>10.0} /s");
    (plan, seconds)
}

fn main() {
    let instances = number("--instances=", 1_000_000);
    let count = number("--cells=", 10_000);
    let average: u64 = u64::from(SIZES.iter().sum::<u32>()) / SIZES.len() as u64;
    let memory_mb = (instances as u64 * average * 100 / FILLED).div_ceil(count as u64);
    let mut cells = cells(count, memory_mb);
    let mut desired = Desired {
        processes: processes(instances),
        ..Desired::default()
    };
    println!("{instances} instances, {count} cells of about {memory_mb} MiB in {ZONES} zones");

    let (all, from_nothing) = timed("all at once, nothing runs", &desired, &Observed::default(), &cells);
    assert_eq!(all.placements.len(), desired.processes.len() * EACH as usize, "all fit");
    let mut observed = Observed {
        works: running(&all, &desired),
        ..Observed::default()
    };
    let (idle, at_rest) = timed("all run, nothing to do", &desired, &observed, &cells);
    assert!(idle.is_idle());

    let lost: BTreeSet<CellId> = cells.iter().take(count / 10).map(|cell| cell.id).collect();
    for cell in cells.iter_mut().filter(|cell| lost.contains(&cell.id)) {
        cell.lease_until = now() - time::Duration::minutes(1);
    }
    let (moved, one_in_ten) = timed("every tenth cell is lost", &desired, &observed, &cells);
    println!("{:<44} {:>29} not placed", "", moved.unplaced.len());
    for cell in &mut cells {
        cell.lease_until = now() + time::Duration::seconds(5);
    }

    desired
        .processes
        .iter_mut()
        .take(1_000)
        .for_each(|process| process.instances += 1);
    let (more, thousand) = timed("1,000 more, the rest runs", &desired, &observed, &cells);
    assert_eq!(more.placements.len(), 1_000.min(desired.processes.len()));

    observed.works.clear();
    cells.truncate(count / 2);
    let (half, no_room) = timed("half of the cells, so not all fit", &desired, &observed, &cells);
    println!("{:<44} {:>29} not placed", "", half.unplaced.len());

    let out = std::env::args().find_map(|argument| argument.strip_prefix("--out=").map(ToOwned::to_owned));
    if let Some(path) = out {
        let figures = json!({
            "instances": instances, "cells": count, "seconds": {
                "from_nothing": from_nothing, "at_rest": at_rest, "one_in_ten_lost": one_in_ten,
                "thousand_more": thousand, "no_room": no_room,
            },
        });
        std::fs::write(path, figures.to_string()).expect("written");
    }
}
