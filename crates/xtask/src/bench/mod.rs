//! `cargo xtask bench`: builds what is measured and runs the benchmark, which lies under `tests/bench`.

use crate::needs::{self, Purpose};
use crate::workspace::{cargo, root};
use crate::{dist, shell};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use std::process::Command;

/// What can be measured.
#[derive(Subcommand)]
pub enum What {
    /// A push by phases, beside the language's own installer
    Push {
        /// Rounds; medians are told
        #[arg(long, default_value_t = 10)]
        rounds: u32,
    },
    /// Pushes and starts of an app with many files of dependencies and of a small one, beside the installer by hand
    Staging {
        /// Rounds; medians are told
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// Only the app whose name begins so, added to what earlier runs measured
        #[arg(long, value_parser = ["Node", "Flask"])]
        only: Option<String>,
    },
    /// A platform on many hosts under load that loses one part after the other: what each costs, as a table
    Failures {
        /// Instances of the app
        #[arg(long, default_value_t = 30)]
        instances: u32,
    },
    /// The commonest reads of the API with many apps in the database, on both engines
    Api {
        /// Apps in the database
        #[arg(long, default_value_t = 10_000)]
        apps: u32,
        /// Times that each is asked
        #[arg(long, default_value_t = 100)]
        rounds: u32,
        /// Cargo profile to build with; an unoptimised build says nothing
        #[arg(long, default_value = "quick", value_parser = ["quick", "release"])]
        profile: String,
    },
    /// The planner alone: very many instances on very many cells
    Placement {
        /// Instances that are wanted
        #[arg(long, default_value_t = 1_000_000)]
        instances: u32,
        /// Cells
        #[arg(long, default_value_t = 10_000)]
        cells: u32,
        /// Cargo profile to build with; an unoptimised build says nothing
        #[arg(long, default_value = "quick", value_parser = ["quick", "release"])]
        profile: String,
    },
    /// The router beside nginx and haproxy
    Router {
        /// Seconds of each run
        #[arg(long, default_value_t = 5)]
        seconds: u32,
        /// Runs of each; medians are told
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Cargo profile to build with; an unoptimised build says nothing
        #[arg(long, default_value = "quick", value_parser = ["quick", "release"])]
        profile: String,
        /// Build, but do not measure
        #[arg(long)]
        no_run: bool,
    },
    /// Starts of sandboxes, beside runc, crun, bubblewrap and the bare app
    Sandbox(Sandbox),
}

/// How sandboxes are measured.
#[derive(Args)]
pub struct Sandbox {
    /// Starts of each contender, one at a time
    #[arg(long, default_value_t = 300)]
    rounds: u32,
    /// Few rounds: whether it works, not how long it takes
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Only this measurement; can be repeated
    #[arg(long, value_parser = ["cycle", "kill", "rush", "crowd"])]
    part: Vec<String>,
    /// Only contenders whose name begins so; can be repeated
    #[arg(long)]
    only: Vec<String>,
    /// Sandboxes that are started at once
    #[arg(long, default_value_t = 100)]
    rush: u32,
    /// Sandboxes that stay
    #[arg(long, default_value_t = 500)]
    crowd: u32,
    /// Add to what earlier runs measured
    #[arg(long)]
    add: bool,
    /// Cargo profile to build with; an unoptimised build is refused
    #[arg(long, default_value = "quick", value_parser = ["quick", "release"])]
    profile: String,
    /// Build, but do not measure
    #[arg(long)]
    no_run: bool,
}

/// Runs one benchmark on what is shipped, built as it is shipped.
pub fn run(what: &What) -> Result<()> {
    match what {
        What::Push { rounds } => platform("bench-push", *rounds, None),
        What::Staging { rounds, only } => platform("bench-staging", *rounds, only.as_deref()),
        What::Failures { instances } => {
            needs::ensure(Purpose::Test)?;
            platform("bench-failures", *instances, None)
        }
        What::Api { apps, rounds, profile } => api(*apps, *rounds, profile),
        What::Placement {
            instances,
            cells,
            profile,
        } => placement(*instances, *cells, profile),
        What::Router {
            seconds,
            rounds,
            profile,
            no_run,
        } => router(*seconds, *rounds, profile, *no_run),
        What::Sandbox(options) => sandbox(options),
    }
}

/// A program of the test kit, on a platform of what is shipped.
fn platform(program: &str, rounds: u32, only: Option<&str>) -> Result<()> {
    dist::dist("quick")?;
    let arguments = [
        "run",
        "--quiet",
        "--profile",
        "quick",
        "--package",
        "tests",
        "--bin",
        program,
        "--",
    ];
    shell::run(cargo(&root()).args(arguments).arg(rounds.to_string()).args(only))
}

/// A benchmark of one crate, built and run by cargo.
fn benchmark(package: &str, name: &str, profile: &str) -> Command {
    let mut command = cargo(&root());
    command.args(["bench", "--quiet", "--profile", profile]);
    command.args(["--package", package, "--bench", name]);
    command
}

fn api(apps: u32, rounds: u32, profile: &str) -> Result<()> {
    needs::ensure(Purpose::Test)?;
    let out = root().join("target/bench-api.json");
    let mut command = benchmark("controller", "api", profile);
    command
        .arg("--")
        .arg(format!("--apps={apps}"))
        .arg(format!("--rounds={rounds}"))
        .arg(format!("--out={}", out.display()));
    shell::run(&mut command)
}

fn placement(instances: u32, cells: u32, profile: &str) -> Result<()> {
    let out = root().join("target/bench-placement.json");
    let mut command = benchmark("scheduler", "placement", profile);
    command
        .arg("--")
        .arg(format!("--instances={instances}"))
        .arg(format!("--cells={cells}"))
        .arg(format!("--out={}", out.display()));
    shell::run(&mut command)
}

/// In a network of its own, so that nothing else comes by.
fn router(seconds: u32, rounds: u32, profile: &str, no_run: bool) -> Result<()> {
    if !shell::is_root() {
        bail!(
            "it needs a network of its own, which only root may make: run `sudo env \"PATH=$PATH\" cargo xtask bench router`"
        );
    }
    // Nothing else needs these.
    for program in ["nginx", "haproxy", "wrk"] {
        let there = Command::new(program).arg("-v").output();
        if there.is_err() {
            bail!("{program} is not there: run `sudo apt-get install --no-install-recommends nginx haproxy wrk`");
        }
    }
    let build = || benchmark("router", "router", profile);
    shell::run(build().arg("--no-run"))?;
    if no_run {
        return Ok(());
    }
    let out = root().join("target/bench-router.json");
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "sh",
        "-c",
        "ip link set lo up && ulimit -n \"$(ulimit -Hn)\" && exec \"$@\"",
        "sh",
    ]);
    command
        .arg(build().get_program())
        .current_dir(root())
        .args(build().get_args())
        .arg("--");
    command
        .arg(format!("--seconds={seconds}"))
        .arg(format!("--rounds={rounds}"))
        .arg(format!("--out={}", out.display()));
    shell::run(&mut command)
}

fn sandbox(options: &Sandbox) -> Result<()> {
    if !shell::is_root() {
        bail!("it starts real sandboxes, which only root may: run `sudo env \"PATH=$PATH\" cargo xtask bench sandbox`");
    }
    needs::ensure(Purpose::Bench)?;
    let init = dist::init(&options.profile)?;
    let mut command = benchmark("sandbox", "sandbox", &options.profile);
    if options.no_run {
        return shell::run(command.arg("--no-run"));
    }
    let rounds = if options.quick { 10 } else { options.rounds };
    let crowd = if options.quick {
        options.crowd.min(50)
    } else {
        options.crowd
    };
    command.arg("--").arg(format!("--init={}", init.display()));
    command.arg(format!("--out={}", root().join("target/bench-sandbox.json").display()));
    command.arg(format!("--build={}", options.profile));
    command
        .arg(format!("--rounds={rounds}"))
        .arg(format!("--rush={}", options.rush))
        .arg(format!("--crowd={crowd}"));
    command.args(options.part.iter().map(|part| format!("--part={part}")));
    command.args(options.only.iter().map(|only| format!("--only={only}")));
    command.args(options.add.then_some("--add"));
    shell::run(&mut command)
}
