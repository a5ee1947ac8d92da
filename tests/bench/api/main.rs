//! How long the commonest reads of the API take with many apps in the database, on both engines: through the real
//! router, with authentication, queries and JSON, without a network in between.
//!
//! Arguments: `--apps=N`, `--rounds=N`, `--out=FILE`. It prints a table and writes the figures as JSON.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark: its terminal is its interface"
)]

#[path = "../../../crates/controller/tests/api/client.rs"]
#[allow(dead_code, unused_imports, reason = "what the tests of the API share")]
mod client;
#[path = "../../../crates/controller/tests/api/conform.rs"]
#[allow(dead_code, unused_imports, reason = "what the tests of the API share")]
mod conform;
mod cycle;
mod reads;
mod seed;

use client::{Client, Platform, platform};
use reads::Read;
use seed::World;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use store::testing::{Engine, TestStore};

/// Rounds before anything is measured: caches and prepared statements.
const WARM: usize = 3;

/// What the command line asks for.
struct Options {
    apps: usize,
    rounds: usize,
    out: Option<String>,
}

fn options() -> Options {
    let mut options = Options {
        apps: 10_000,
        rounds: 100,
        out: None,
    };
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("--apps", count)) => options.apps = count.parse().expect("a number of apps"),
            Some(("--rounds", count)) => options.rounds = count.parse().expect("a number of rounds"),
            Some(("--out", path)) => options.out = Some(path.to_owned()),
            // What cargo itself passes.
            _ => {}
        }
    }
    options
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run(&options()));
}

async fn run(options: &Options) {
    let mut engines = Vec::new();
    for (name, engine) in [("SQLite", Engine::Sqlite), ("PostgreSQL", Engine::Postgres)] {
        let store = TestStore::open(engine).await;
        let platform = platform(&store).await;
        let began = Instant::now();
        let world = seed::fill(&platform, options.apps).await;
        eprintln!(
            "{name}: {} apps made in {:.1} s",
            options.apps,
            began.elapsed().as_secs_f32()
        );
        let mut taken = measure(&platform, &world, options.rounds).await;
        taken.extend(cycle::measure(&store, options.rounds).await);
        engines.push((name, taken));
        drop(platform);
        store.remove().await;
    }
    show(&engines);
    if let Some(path) = &options.out {
        let figures: Vec<Value> = engines
            .iter()
            .map(|(name, taken)| json!({"engine": name, "reads": taken}))
            .collect();
        let document = json!({"apps": options.apps, "rounds": options.rounds, "engines": figures});
        std::fs::write(path, document.to_string()).expect("written");
    }
}

/// Microseconds of one read, as the median and as what one of a hundred exceeds.
#[derive(serde::Serialize)]
struct Taken {
    what: &'static str,
    p50_us: u128,
    p99_us: u128,
    /// Of the answer; rows where the database itself is asked.
    bytes: usize,
}

impl Taken {
    fn of(what: &'static str, mut times: Vec<Duration>, bytes: usize) -> Self {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_micros();
        Self {
            what,
            p50_us: at(50),
            p99_us: at(99),
            bytes,
        }
    }
}

async fn measure(platform: &Platform, world: &World, rounds: usize) -> Vec<Taken> {
    let developer = platform.with_token(&world.developer);
    let admin = platform.admin().await;
    let mut taken = Vec::new();
    for read in reads::all() {
        let client = if read.admin { &admin } else { &developer };
        taken.push(one(client, world, &read, rounds).await);
    }
    taken
}

async fn one(client: &Client<'_>, world: &World, read: &Read, rounds: usize) -> Taken {
    let mut times = Vec::with_capacity(rounds);
    let mut bytes = 0;
    for round in 0..rounds + WARM {
        let path = (read.path)(world, round);
        let began = Instant::now();
        let answer = client.get(&path).await;
        let time = began.elapsed();
        assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.text);
        assert!(!read.finds || finds(&answer.body), "{path} finds nothing");
        bytes = answer.text.len();
        if round >= WARM {
            times.push(time);
        }
    }
    Taken::of(read.what, times, bytes)
}

fn finds(body: &Value) -> bool {
    body["resources"]
        .as_array()
        .is_none_or(|resources| !resources.is_empty())
}

fn show(engines: &[(&str, Vec<Taken>)]) {
    println!("| read | bytes (rows of the loop's) | SQLite p50 | p99 | PostgreSQL p50 | p99 |");
    println!("|---|---|---|---|---|---|");
    let ms = |us: u128| format!("{}.{:02}", us / 1000, us % 1000 / 10);
    for (n, first) in engines[0].1.iter().enumerate() {
        let other = &engines[1].1[n];
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            first.what,
            first.bytes,
            ms(first.p50_us),
            ms(first.p99_us),
            ms(other.p50_us),
            ms(other.p99_us)
        );
    }
}
