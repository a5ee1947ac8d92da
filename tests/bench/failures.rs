//! `cargo xtask bench failures`: a platform on many hosts under steady load loses one part after the other, and a table
//! tells what that cost: requests that failed, time until all instances serve again, instances that a router had twice,
//! acknowledged writes that were lost.
#![allow(clippy::print_stdout, reason = "a benchmark's result")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tests::app;
use tests::cluster::{Cluster, Size};
use tests::load::Load;

const HOST: &str = "site.apps.test";
/// Instances where the command line names no other number.
const INSTANCES: usize = 30;
/// Clients of each router.
const CLIENTS: usize = 4;
/// Longest wait until everything is as it was.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the object store is away.
const STORE_AWAY: Duration = Duration::from_secs(60);
/// How long a cable is out.
const CUT: Duration = Duration::from_secs(20);

/// What one event cost.
struct Row {
    event: &'static str,
    answered: u64,
    failed: usize,
    first_failure: Option<String>,
    /// Until all instances ran on cells that are alive, and the API said so.
    strength: Duration,
    duplicates: usize,
}

struct Bench {
    cluster: Cluster,
    instances: usize,
    /// Spaces whose making was acknowledged.
    written: BTreeSet<String>,
    tried: usize,
    duplicates: usize,
    rows: Vec<Row>,
}

fn main() {
    let instances = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let mut bench = Bench::start(instances.unwrap_or(INSTANCES));
    bench.controllers();
    bench.router();
    bench.cells();
    bench.stores();
    bench.partition();
    bench.tell();
}

impl Bench {
    fn start(instances: usize) -> Self {
        let cluster = Cluster::start(Size {
            controllers: 3,
            routers: 2,
            cells: 3,
        });
        cluster.make_space();
        let folder = app("static-site");
        let path = folder.path().to_str().expect("UTF-8");
        let _ = cluster.paas(["push", path, "-n", "site", "-m", "32M"]).ok();
        let count = instances.to_string();
        let _ = cluster.paas(["scale", "site", "-i", &count]).ok();
        let mut bench = Self {
            cluster,
            instances,
            written: BTreeSet::new(),
            tried: 0,
            duplicates: 0,
            rows: Vec::new(),
        };
        bench.until("all instances run", |bench| bench.is_whole(&[]));
        bench
    }

    /// Does `what` under load of the routers, then waits until everything is whole but for the cells in `lost`.
    fn event(&mut self, event: &'static str, routers: &[usize], lost: &[usize], what: impl FnOnce(&mut Self)) {
        let loads: Vec<Load> = routers
            .iter()
            .map(|router| Load::start(&self.cluster.edge(*router), HOST, CLIENTS))
            .collect();
        for load in &loads {
            load.pass(200);
        }
        self.duplicates = 0;
        let began = Instant::now();
        what(self);
        self.until(event, |bench| bench.is_whole(lost));
        let strength = began.elapsed();
        for load in &loads {
            load.pass(200);
        }
        let answered = loads.iter().map(Load::answered).sum();
        let failures: Vec<String> = loads.into_iter().flat_map(Load::stop).collect();
        println!("{event}: {} failed, whole again after {strength:.1?}", failures.len());
        self.rows.push(Row {
            event,
            answered,
            failed: failures.len(),
            first_failure: failures.first().cloned(),
            strength,
            duplicates: self.duplicates,
        });
    }

    /// Looks and writes again and again until it holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.write();
            self.duplicates = self.duplicates.max(self.seen_twice());
            if holds(self) {
                return;
            }
            assert!(Instant::now() < deadline, "gave up waiting after: {what}");
        }
    }

    /// The time passes with looks and writes.
    fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.write();
            self.duplicates = self.duplicates.max(self.seen_twice());
        }
    }

    /// Makes a space; what was acknowledged has to be there in the end.
    fn write(&mut self) {
        self.tried += 1;
        let name = format!("written-{}", self.tried);
        if self.cluster.paas(["create-space", &name, "-o", "tests"]).code == 0 {
            self.written.insert(name);
        }
    }

    /// Whether every instance runs, on cells that are alive, and every cell that is not lost is.
    fn is_whole(&self, lost: &[usize]) -> bool {
        let running = self.cluster.running("site");
        let listed = self.cluster.paas(["admin", "cells", "--json"]);
        let (Some(running), 0) = (running, listed.code) else {
            return false;
        };
        let listed = listed.json();
        let cells = listed["resources"].as_array().cloned().unwrap_or_default();
        let alive: Vec<&Value> = cells
            .iter()
            .filter(|cell| cell["alive"] == true && cell["synced"] == true)
            .collect();
        let work: u64 = alive.iter().filter_map(|cell| cell["work"].as_u64()).sum();
        let wanted = self.cluster.cells.len() - lost.len();
        running == self.instances && alive.len() == wanted && work == self.instances as u64
    }

    /// Most endpoints of one instance in the table of a router, beyond the one that there may be.
    fn seen_twice(&self) -> usize {
        let routers = self.cluster.routers.iter();
        let twice = routers.map(|router| {
            let kept = self.cluster.path(&router.name).join("routes.json");
            let table: Value = std::fs::read(kept)
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok())
                .unwrap_or_default();
            let routes = table["routes"].as_array().cloned().unwrap_or_default();
            let of_route = |route: &Value| {
                let endpoints = route["endpoints"].as_array().cloned().unwrap_or_default();
                let indices: BTreeSet<u64> = endpoints.iter().filter_map(|one| one["index"].as_u64()).collect();
                endpoints.len() - indices.len()
            };
            routes.iter().map(of_route).sum::<usize>()
        });
        twice.max().unwrap_or(0)
    }

    /// The controller that schedules, by what the controllers logged last.
    fn elected(&self) -> usize {
        let logs = self.cluster.controllers.iter().map(tests::cluster::Part::log);
        let at = |log: &String| {
            log.lines()
                .rev()
                .find(|line| line.contains("elected to schedule"))
                .map(str::to_owned)
        };
        let times: Vec<Option<String>> = logs.map(|log| at(&log)).collect();
        let newest = times.iter().enumerate().max_by(|a, b| a.1.cmp(b.1));
        newest.map_or(0, |(index, _)| index)
    }

    fn controllers(&mut self) {
        for (event, schedules) in [
            ("a controller that does not schedule, `kill -9`", false),
            ("the one that schedules, `kill -9`", true),
        ] {
            let elected = self.elected();
            let victim = if schedules { elected } else { (elected + 1) % 3 };
            self.cluster.log_in((victim + 1) % 3);
            self.event(event, &[0, 1], &[], |bench| bench.cluster.controllers[victim].kill());
            self.cluster.controllers[victim].up();
        }
    }

    fn router(&mut self) {
        self.event("a router, `kill -9`: requests to the other", &[0], &[], |bench| {
            bench.cluster.routers[1].kill();
        });
        self.cluster.routers[1].up();
    }

    fn cells(&mut self) {
        self.event("a cell's agent, `kill -9`, and started again", &[0, 1], &[], |bench| {
            bench.cluster.cells[0].kill();
            bench.cluster.cells[0].up();
        });
        let host = self.cluster.cells[2].host.clone();
        self.event("a cell cut off with all it runs", &[0, 1], &[2], |bench| {
            bench.cluster.switch.cable(&host, false);
        });
        self.event("and back: its duplicates stop", &[0, 1], &[], |bench| {
            bench.cluster.switch.cable(&host, true);
        });
    }

    fn stores(&mut self) {
        self.event("PostgreSQL restarted", &[0, 1], &[], |bench| {
            bench.cluster.database.stop();
            bench.cluster.database.up();
        });
        self.event("the object store away for a minute", &[0, 1], &[], |bench| {
            bench.cluster.blobs.stop();
            bench.pass(STORE_AWAY);
            bench.cluster.blobs.start_again().expect("it starts again");
        });
    }

    fn partition(&mut self) {
        let elected = self.elected();
        self.cluster.log_in((elected + 1) % 3);
        let host = self.cluster.controllers[elected].host.clone();
        self.event(
            "the controller that schedules cut off for 20 s",
            &[0, 1],
            &[],
            |bench| {
                bench.cluster.switch.cable(&host, false);
                bench.pass(CUT);
                bench.cluster.switch.cable(&host, true);
            },
        );
    }

    /// The table, as it stands in docs/benchmarks.md.
    fn tell(&self) {
        let listed = self.cluster.paas(["spaces", "--json"]).ok().json();
        let spaces = listed["resources"].as_array().cloned().unwrap_or_default();
        let there: BTreeSet<&str> = spaces.iter().filter_map(|space| space["name"].as_str()).collect();
        let lost = self
            .written
            .iter()
            .filter(|name| !there.contains(name.as_str()))
            .count();
        println!("\n| event | requests | failed | whole again after, s | instances seen twice |");
        println!("|---|---|---|---|---|");
        for row in &self.rows {
            println!(
                "| {} | {} | {} | {:.1} | {} |",
                row.event,
                row.answered,
                row.failed,
                row.strength.as_secs_f64(),
                row.duplicates
            );
        }
        println!(
            "\n{} instances, {} writes tried, {} acknowledged, {lost} of those lost.",
            self.instances,
            self.tried,
            self.written.len()
        );
        for row in &self.rows {
            if let Some(first) = &row.first_failure {
                println!("{}: first failure: {first}", row.event);
            }
        }
    }
}
