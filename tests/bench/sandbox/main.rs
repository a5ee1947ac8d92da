//! `cargo xtask bench sandbox`: how long a sandbox takes to start and to go, and what it costs to have, beside runc,
//! crun, bubblewrap and the bare app, in one run on one root file system.
//!
//! Every contender starts the same static app, which writes the time of its first instruction to its standard output:
//! the one thing that every runtime passes on. What it took is that time minus the time of the request, on one clock.
//! Contenders take turns, so that all see the same machine. It judges nothing by time: it says which aims are met.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark's result")]
#![allow(clippy::exit, reason = "nothing of it runs on")]

mod bundle;
mod contender;
mod external;
mod measure;
mod meters;
mod ours;
mod place;
mod report;
mod results;

use anyhow::{Context as _, Result, bail};
use contender::{Contender, Seat};
use external::{External, Kind};
use ours::{Ours, Phases, Variant};
use place::Place;
use results::Results;
use sandbox::Network;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Names of contenders that aims are about.
const BARE: &str = "fork+exec";
const COLD: &str = "ours, cold";
const PARKED: &str = "ours, parked";
const BLANK: &str = "ours, blank ready";
const CRUN: &str = "crun";
const CRUN_SAME: &str = "crun, as ours";

/// Where contenders note the steps of their starts, by name.
type Steps = Vec<(&'static str, Phases)>;

/// What is asked for.
struct Arguments {
    /// Starts of each contender, one at a time.
    rounds: usize,
    /// Sandboxes at once.
    rush: usize,
    /// Sandboxes that stay.
    crowd: usize,
    /// Which measurements, all where empty.
    parts: Vec<String>,
    /// Only contenders whose name begins so, all where empty.
    only: Vec<String>,
    /// Adds to what earlier runs measured.
    add: bool,
    build: String,
    init: PathBuf,
    out: PathBuf,
}

impl Arguments {
    fn read(all: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self {
            rounds: 300,
            rush: 100,
            crowd: 500,
            parts: Vec::new(),
            only: Vec::new(),
            add: false,
            build: String::new(),
            init: PathBuf::new(),
            out: PathBuf::new(),
        };
        // Cargo adds one that is for its own harness.
        for argument in all.filter(|argument| argument != "--bench") {
            let (name, value) = argument.split_once('=').unwrap_or((&argument, ""));
            let number = || value.parse().with_context(|| format!("{argument}: not a number"));
            match name {
                "--rounds" => arguments.rounds = number()?,
                "--rush" => arguments.rush = number()?,
                "--crowd" => arguments.crowd = number()?,
                "--part" => arguments.parts.push(value.to_owned()),
                "--only" => arguments.only.push(value.to_owned()),
                "--add" => arguments.add = true,
                "--build" => value.clone_into(&mut arguments.build),
                "--init" => arguments.init = value.into(),
                "--out" => arguments.out = value.into(),
                _ => bail!("{argument}: unknown; run it as `cargo xtask bench sandbox`"),
            }
        }
        if arguments.init.as_os_str().is_empty() || arguments.out.as_os_str().is_empty() {
            bail!("run it as `cargo xtask bench sandbox`");
        }
        Ok(arguments)
    }

    fn has(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|asked| asked == part)
    }

    fn wants(&self, contender: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| contender.starts_with(name.as_str()))
    }
}

fn main() -> ExitCode {
    let outcome = Arguments::read(std::env::args().skip(1)).and_then(|arguments| {
        if cfg!(debug_assertions) {
            bail!("this is a debug build, which says nothing: use --profile quick or release");
        }
        listen()?;
        run(&arguments)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if measure::STOP.load(Ordering::Relaxed) => {
            eprintln!("ended early; everything is cleared up");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Takes the signals that ask for an end, which comes after the step that is being measured.
fn listen() -> Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Before any other thread is started: all of them inherit it. Children do not.
    signals.thread_block().context("failed to block signals")?;
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            measure::STOP.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

fn run(arguments: &Arguments) -> Result<()> {
    let place = Arc::new(Place::new()?);
    let mut results = if arguments.add {
        Results::load(&arguments.out)?
    } else {
        Results::default()
    };
    results.machine = machine();
    results.build.clone_from(&arguments.build);
    let outcome = seats(arguments, &place).and_then(|(seats, steps)| {
        let outcome = all(arguments, &place, &seats, &mut results);
        for (name, phases) in steps {
            let mut phases = phases.lock().unwrap_or_else(PoisonError::into_inner);
            results.times(name).phases = std::mem::take(&mut *phases);
        }
        outcome
    });
    if outcome.is_err() {
        place.clear_up();
    }
    let left = place.leftovers();
    let left = match left.is_empty() {
        true => Ok(()),
        false => Err(anyhow::anyhow!("left behind: {}", left.join("\n"))),
    };
    // Both are worth knowing: what failed may be why something was left.
    match (outcome, left) {
        (Err(error), Err(left)) => return Err(error.context(left)),
        (outcome, left) => outcome.and(left)?,
    }
    results.save(&arguments.out)?;
    print!("{}", report::text(&results));
    println!("as JSON: {}", arguments.out.display());
    Ok(())
}

fn all(arguments: &Arguments, place: &Place, seats: &[Seat], results: &mut Results) -> Result<()> {
    // The first start of each formats images, fills caches, compiles filters.
    measure::cycles(seats, 2, &place.name, &mut Results::default())?;
    if arguments.has("cycle") {
        measure::cycles(seats, arguments.rounds, &place.name, results)?;
    }
    if arguments.has("kill") {
        measure::kills(seats, arguments.rounds, &place.name, results)?;
    }
    if arguments.has("rush") {
        measure::rush(
            seats,
            arguments.rush,
            arguments.rounds.div_ceil(100),
            &place.name,
            results,
        )?;
    }
    if arguments.has("crowd") {
        measure::crowd(seats, arguments.crowd, &place.name, results)?;
    }
    Ok(())
}

/// Everybody who takes part, and the steps of those that tell of them.
fn seats(arguments: &Arguments, place: &Arc<Place>) -> Result<(Vec<Seat>, Steps)> {
    let external = |kind| -> Box<dyn Contender> {
        let place = Arc::clone(place);
        Box::new(External { kind, place })
    };
    let mut contenders: Vec<(&str, Box<dyn Contender>)> = vec![(BARE, external(Kind::Bare))];
    let mut steps = Vec::new();
    for (name, variant) in variants().into_iter().filter(|(name, _)| arguments.wants(name)) {
        let ours = Ours::new(place, &arguments.init, variant)?;
        if let Err(error) = ours.prepare(1) {
            println!("{name} is left out: {error:#}");
            ours.clear()?;
            continue;
        }
        steps.push((name, ours.phases()));
        contenders.push((name, Box::new(ours)));
    }
    contenders.push(("bubblewrap", external(Kind::Bubblewrap)));
    let others = [
        (CRUN, CRUN_SAME, "crun", Path::new("crun"), "crun"),
        ("runc", "runc, as ours", "runc", Path::new("runc"), "runc"),
        (
            "paas-init run",
            "paas-init run, as ours",
            "paas-init",
            &arguments.init,
            "crun",
        ),
    ];
    for (plain, same, name, program, default_of) in others {
        let runtime = bundle::Runtime {
            name,
            program,
            default_of,
        };
        contenders.push((plain, external(Kind::Oci(bundle::default(place, runtime)?))));
        let spec = |stays| ours::spec(place, stays, &Network::None);
        let bundle = bundle::same(place, runtime, spec, ours::uids(2400))?;
        contenders.push((same, external(Kind::Oci(bundle))));
    }
    let wanted = contenders.into_iter().filter(|(name, _)| arguments.wants(name));
    let seats: Result<Vec<Seat>> = wanted.map(|(name, contender)| Seat::new(name, contender)).collect();
    Ok((seats?, steps))
}

/// Ours, each as often as it differs.
fn variants() -> Vec<(&'static str, Variant)> {
    let variant = |name, uids, parks, disks, blanks| Variant {
        name,
        uids,
        network: Network::None,
        parks,
        disks,
        blanks,
    };
    vec![
        (PARKED, variant("parked", 0, true, 0, 0)),
        (BLANK, variant("blank", 600, false, 4, 4)),
        ("ours, cold, disk ready", variant("disks", 1100, false, 4, 0)),
        (COLD, variant("cold", 1700, false, 0, 0)),
    ]
}

/// What it runs on, in words.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let cpu = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = read("/proc/meminfo");
    let memory = memory
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "kernel {}, {cores} x {}, {} GiB",
        read("/proc/sys/kernel/osrelease").trim(),
        cpu.map_or("CPU", |(_, name)| name),
        memory >> 20,
    )
}
