//! How long things take; prints and judges nothing but that all of it works. `--no-capture` shows the figures.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::time::{Duration, Instant};

use crate::kit::{Host, ended, printed};

fn line(name: &str, mut all: Vec<Duration>) {
    all.sort();
    let at = |share: usize| all[(all.len() - 1) * share / 100].as_micros();
    println!(
        "{name:<28} min {:>7} p50 {:>7} p90 {:>7} max {:>7} us (n={})",
        at(0),
        at(50),
        at(90),
        at(100),
        all.len()
    );
}

#[test]
fn start_and_destroy() {
    let host = Host::new();
    host.create(&host.spec("warm", &["sleep"])).destroy().unwrap();
    let (mut create, mut destroy, mut whole, mut kill) = (vec![], vec![], vec![], vec![]);
    for at in 0..20 {
        let spec = host.spec(&format!("t{at}"), &["sleep"]);
        let start = Instant::now();
        let sandbox = host.create(&spec);
        create.push(start.elapsed());
        printed(&sandbox, "asleep");
        if at % 2 == 0 {
            let start = Instant::now();
            sandbox.kill().unwrap();
            kill.push(start.elapsed());
        }
        let start = Instant::now();
        sandbox.destroy().unwrap();
        destroy.push(start.elapsed());
        let start = Instant::now();
        let sandbox = host.create(&host.spec("once", &["exit", "0"]));
        ended(&sandbox);
        whole.push(start.elapsed());
        sandbox.destroy().unwrap();
    }
    line("create (app runs)", create);
    line("create to exit", whole);
    line("kill", kill);
    line("destroy", destroy);
    host.finish();
}

/// Median time of each phase, from the reports of many starts.
fn phases(reports: &[sandbox::StartReport]) {
    let Some(first) = reports.first() else { return };
    let mut lines: Vec<(u128, &str)> = Vec::new();
    for phase in &first.phases {
        let mut all: Vec<u128> = reports
            .iter()
            .flat_map(|report| report.phases.iter().filter(|p| p.name == phase.name))
            .map(|p| p.at.as_micros())
            .collect();
        all.sort_unstable();
        lines.push((all[all.len() / 2], &phase.name));
    }
    lines.sort_unstable();
    for (at, name) in lines {
        println!("    {at:>7} us  {name}");
    }
}

/// Starts one after the other; `park` says how each is prepared.
fn starts(name: &str, host: &Host, count: usize, park: impl Fn(&sandbox::Spec) -> Option<sandbox::ParkSpec>) {
    let (mut create, mut reports) = (vec![], vec![]);
    for at in 0..count {
        let spec = host.spec(&format!("t{at}"), &["sleep"]);
        if let Some(wish) = park(&spec) {
            host.runtime().park(&wish, 1).unwrap();
        }
        assert!(host.runtime().await_parked(Instant::now() + crate::kit::PATIENCE));
        let start = Instant::now();
        let sandbox = host.create(&spec);
        create.push(start.elapsed());
        reports.push(sandbox.start_report().unwrap().clone());
        sandbox.destroy().unwrap();
        host.runtime().list().unwrap();
    }
    line(name, create);
    phases(&reports);
}

#[test]
fn parked_and_cold() {
    let count = std::env::var("STARTS").map_or(20, |n| n.parse().unwrap());
    let mut host = Host::new();
    starts("cold, nothing ready", &host, count, |_| None);
    for (name, parked) in [
        ("cold, layer ready", (0, 2, 0)),
        ("blank, layer ready", (0, 2, 2)),
        ("blank", (0, 0, 2)),
        ("parked", (2, 0, 0)),
    ] {
        let (max, disks, blanks) = parked;
        let parked = sandbox::Parking { max, disks, blanks };
        host.runtime.take().unwrap().close().unwrap();
        host.parked = parked;
        host.open();
        if parked.max == 0 {
            starts(name, &host, count, |_| None);
        } else {
            starts("parked, root unknown", &host, count, |spec| {
                Some(sandbox::ParkSpec::shape(spec))
            });
            host.runtime.take().unwrap().close().unwrap();
            host.open();
            starts("parked, root known", &host, count, |spec| {
                Some(sandbox::ParkSpec::whole(spec))
            });
        }
    }
    host.finish();
}

#[test]
fn twenty_at_once() {
    let host = Host::new();
    host.create(&host.spec("warm", &["sleep"])).destroy().unwrap();
    let start = Instant::now();
    let all: Vec<_> = std::thread::scope(|scope| {
        let host = &host;
        let starts: Vec<_> = (0..20)
            .map(|at| scope.spawn(move || host.create(&host.spec(&format!("s{at}"), &["sleep"]))))
            .collect();
        starts.into_iter().map(|s| s.join().unwrap()).collect()
    });
    println!("20 sandboxes run after {} us", start.elapsed().as_micros());
    let start = Instant::now();
    std::thread::scope(|scope| {
        all.into_iter()
            .for_each(|s| drop(scope.spawn(move || s.destroy().unwrap())))
    });
    println!("20 sandboxes are gone after {} us", start.elapsed().as_micros());
    host.finish();
}

#[test]
fn memory_of_an_idle_init() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("idle", &["sleep"]));
    printed(&sandbox, "asleep");
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", sandbox.init_pid())).unwrap();
    for line in rollup.lines().filter(|l| {
        ["Rss", "Pss:", "Private_Dirty", "Private_Clean"]
            .iter()
            .any(|k| l.starts_with(k))
    }) {
        println!("{line}");
    }
    println!(
        "memory of the group: {} KiB",
        sandbox.stats().unwrap().memory_bytes / 1024
    );
    sandbox.destroy().unwrap();
    host.finish();
}
