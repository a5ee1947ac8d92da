//! `cargo xtask bench push`: how long a push takes beyond what the language's own installer takes, by phase.
//!
//! Each scenario runs many times on one real platform of this machine; medians are told. The installer runs alone, on
//! the host, in the same rounds, so that both see the same network and the same noise.
#![allow(clippy::print_stdout, reason = "a benchmark's result")]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::{Platform, app};

/// Rounds where the command line names no other number.
const ROUNDS: usize = 10;
/// Instances that `scale` goes up to.
const INSTANCES: u32 = 20;

/// Times of one scenario in milliseconds, and of its phases by name.
#[derive(Default)]
struct Times {
    total: Vec<u64>,
    phases: BTreeMap<String, Vec<u64>>,
}

impl Times {
    fn add(&mut self, took: Duration, report: &Value) {
        self.total.push(millis(took));
        for phase in report["apps"][0]["phases"].as_array().into_iter().flatten() {
            let name = phase["name"].as_str().unwrap_or_default().trim().to_owned();
            self.phases
                .entry(name)
                .or_default()
                .push(phase["duration_ms"].as_u64().unwrap_or_default());
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn push(platform: &Platform, name: &str, folder: &Path, times: &mut Times) {
    let began = Instant::now();
    let ended = platform
        .paas(["push", folder.to_str().expect("UTF-8"), "-n", name, "--json"])
        .ok();
    times.add(began.elapsed(), &ended.json());
}

/// The language's own installer, alone, on the host.
fn installer(folder: &Path) -> Duration {
    let cache = tempfile::tempdir().expect("a folder");
    let began = Instant::now();
    let mut npm = Command::new("npm");
    npm.args(["ci", "--omit=dev", "--cache"])
        .arg(cache.path())
        .current_dir(folder);
    let output = npm.output().expect("npm starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    began.elapsed()
}

fn scale(platform: &Platform, name: &str, instances: u32, times: &mut Times) {
    let began = Instant::now();
    let _ = platform.paas(["scale", name, "-i", &instances.to_string()]).ok();
    times.add(began.elapsed(), &Value::Null);
}

/// Memory of the daemon in KiB, shared pages counted once.
fn memory_kib(platform: &Platform) -> (u64, u64) {
    let pid = platform.pid().expect("it runs");
    let read = |file: &str, field: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap_or_default()
            .to_owned();
        line.split_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or_default()
    };
    (read("status", "VmRSS:"), read("smaps_rollup", "Pss:"))
}

/// An app that starts at once: what is left is the platform's own time.
fn scale_light(platform: &Platform, results: &mut BTreeMap<&str, Times>) {
    let site = app("static-site");
    let _ = platform
        .paas(["push", site.path().to_str().expect("UTF-8"), "-n", "site"])
        .ok();
    scale(
        platform,
        "site",
        INSTANCES,
        results.entry("scale 1 to 20, static site").or_default(),
    );
    let _ = platform.paas(["delete", "site", "--yes"]).ok();
}

fn main() {
    let rounds = std::env::args()
        .nth(1)
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(ROUNDS);
    let platform = Platform::start();
    let (rss, pss) = memory_kib(&platform);
    let mut results: BTreeMap<&str, Times> = BTreeMap::new();
    for round in 0..rounds {
        let (folder, bare) = (app("node-express"), app("node-express"));
        let name = format!("web{round}");
        results
            .entry("installer alone")
            .or_default()
            .total
            .push(millis(installer(bare.path())));
        push(&platform, &name, folder.path(), results.entry("cold push").or_default());
        push(
            &platform,
            &name,
            folder.path(),
            results.entry("unchanged push").or_default(),
        );
        let file = folder.path().join("server.js");
        let text = std::fs::read_to_string(&file).expect("readable");
        std::fs::write(&file, format!("{text}\n// round {round}\n")).expect("written");
        push(
            &platform,
            &name,
            folder.path(),
            results.entry("one file changed").or_default(),
        );
        scale(
            &platform,
            &name,
            INSTANCES,
            results.entry("scale 1 to 20, Node").or_default(),
        );
        let _ = platform.paas(["delete", &name, "--yes"]).ok();
        scale_light(&platform, &mut results);
    }
    print(&results, rss, pss, rounds);
}

fn print(results: &BTreeMap<&str, Times>, rss: u64, pss: u64, rounds: usize) {
    println!("| scenario | median ms | min | max | phases (median ms) |\n|---|---|---|---|---|");
    for (name, times) in results {
        let phases: Vec<_> = times
            .phases
            .iter()
            .map(|(name, all)| format!("{name} {}", median(all)))
            .collect();
        let (min, max) = (
            times.total.iter().min().unwrap_or(&0),
            times.total.iter().max().unwrap_or(&0),
        );
        println!(
            "| {name} | {} | {min} | {max} | {} |",
            median(&times.total),
            phases.join(", ")
        );
    }
    println!("\nidle platform: {} KiB RSS, {} KiB PSS; {rounds} rounds", rss, pss);
    let document: BTreeMap<_, _> = results
        .iter()
        .map(|(name, times)| (*name, json!({ "total_ms": times.total, "phases_ms": times.phases })))
        .collect();
    let document = json!({ "rounds": rounds, "idle_rss_kib": rss, "idle_pss_kib": pss, "scenarios": document });
    let path = tests::root().join("target/bench-push.json");
    std::fs::write(&path, document.to_string()).expect("written");
    println!("as JSON: target/bench-push.json");
}
