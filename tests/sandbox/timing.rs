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
