//! The router beside nginx and haproxy, in one run on one machine: CPU time of each request, latencies, bodies of 1 MB,
//! TLS, 100,000 routes, a table that changes all the time, and memory of idle connections.
//!
//! It belongs into a network namespace of its own, as `cargo xtask bench router` starts it. Arguments: `--seconds=N`,
//! `--rounds=N`, `--routes=N`, `--idle=N`, `--out=FILE`. With `--serve=FILE` it is the router that is measured.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark: its terminal is its interface"
)]

mod contender;
mod feed;
mod idle;
mod load;

use contender::{Contender, Kind};
use load::Figures;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// What the command line asks for.
pub struct Options {
    seconds: u64,
    rounds: usize,
    routes: usize,
    idle: usize,
    out: Option<String>,
    serve: Option<String>,
}

fn options() -> Options {
    let mut options = Options {
        seconds: 5,
        rounds: 3,
        routes: 100_000,
        idle: 2_000,
        out: None,
        serve: None,
    };
    for argument in std::env::args().skip(1) {
        let number = |text: &str| text.parse().expect("a number");
        match argument.split_once('=') {
            Some(("--seconds", text)) => options.seconds = number(text) as u64,
            Some(("--rounds", text)) => options.rounds = number(text),
            Some(("--routes", text)) => options.routes = number(text),
            Some(("--idle", text)) => options.idle = number(text),
            Some(("--out", path)) => options.out = Some(path.to_owned()),
            Some(("--serve", path)) => options.serve = Some(path.to_owned()),
            // What cargo itself passes.
            _ => {}
        }
    }
    options
}

/// What is measured: name, path of the backend, whether by TLS, whether the table changes meanwhile.
const CASES: [(&str, &str, bool, bool); 4] = [
    ("GET 2 B", "/", false, false),
    ("GET 2 B, TLS", "/", true, false),
    ("GET 1 MB", "/large", false, false),
    ("GET 2 B, 1,000 changes/s", "/", false, true),
];

fn main() {
    let options = options();
    if let Some(path) = &options.serve {
        return contender::serve(Path::new(path));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run(&options));
}

async fn run(options: &Options) {
    let folder = tempfile::tempdir().expect("a folder");
    let _backend = contender::backend(folder.path());
    let controller = feed::Controller::start(options.routes).await;
    let mut contenders = Vec::new();
    for kind in [
        Kind::Nginx,
        Kind::Haproxy,
        Kind::Ours { routes: 1 },
        Kind::Ours { routes: options.routes },
    ] {
        let contender = Contender::start(kind, folder.path(), &controller).await;
        eprintln!("{} is ready, {} KB", contender.name, contender.memory_kb());
        contenders.push(contender);
    }
    let mut rows = Vec::new();
    for (case, path, tls, changes) in CASES {
        for contender in &contenders {
            if changes && !contender.is_ours() {
                continue;
            }
            let mut taken = Vec::new();
            for _ in 0..options.rounds {
                let changing = changes.then(|| controller.change());
                taken.push(
                    load::run(
                        contender,
                        path,
                        tls,
                        Duration::from_secs(options.seconds),
                        folder.path(),
                    )
                    .await,
                );
                if let Some(changing) = changing {
                    changing.abort();
                }
            }
            let figures = Figures::median(taken);
            println!("{case:<26} {:<22} {figures}", contender.name);
            rows.push(json!({"case": case, "contender": contender.name, "figures": figures.json()}));
        }
    }
    for contender in &contenders {
        for tls in [false, true] {
            let bytes = idle::bytes(contender, tls, options.idle).await;
            let case = if tls { "idle connection, TLS" } else { "idle connection" };
            println!("{case:<26} {:<22} {bytes} bytes", contender.name);
            rows.push(json!({"case": case, "contender": contender.name, "bytes": bytes}));
        }
    }
    for contender in &contenders {
        println!(
            "{:<26} {:<22} {} KB",
            "memory at the end",
            contender.name,
            contender.memory_kb()
        );
    }
    if let Some(path) = &options.out {
        std::fs::write(path, json!({"rows": rows}).to_string()).expect("written");
    }
}
