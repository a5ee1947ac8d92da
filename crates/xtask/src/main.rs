//! `cargo xtask`: the project's own commands (build what is shipped, enforce the invariants, run what CI runs).
//!
//! Nothing here is shipped and no other crate depends on it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool: its terminal is its only interface"
)]

mod bench;
mod churn;
mod conformance;
#[path = "../../../tests/src/debian.rs"]
mod debian;
mod demo;
mod dist;
mod fuzz;
mod leftovers;
#[path = "../../../tests/src/machine.rs"]
mod machine;
mod needs;
mod postgres;
mod shell;
mod suite;
mod tidy;
mod v2;
#[allow(dead_code, reason = "the test kit, whose file this is, uses all of it")]
#[path = "../../../tests/src/weed.rs"]
mod weed;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "The project's own commands",
    disable_version_flag = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build, start a platform in the background, push a sample app, and say what to try next
    Demo {
        /// Directory that the platform keeps everything in
        #[arg(long, default_value = "/var/lib/paas")]
        state: std::path::PathBuf,
        /// End the platform and its apps
        #[arg(long)]
        stop: bool,
        /// With --stop: remove its state too
        #[arg(long, requires = "stop")]
        purge: bool,
        /// Cargo profile to build with
        #[arg(long, default_value = "quick", value_parser = ["dev", "quick", "release"])]
        profile: String,
    },
    /// Measure the platform on this machine
    Bench {
        #[command(subcommand)]
        what: bench::What,
    },
    /// Feed the parsers of what tenants and sandboxes can send with made-up inputs
    Fuzz {
        /// Only this target
        target: Option<String>,
        /// Seconds for each target
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Build the static programs that run inside sandboxes into dist/libexec and dist/buildpacks
    Guest {
        /// Cargo profile to build with
        #[arg(long, default_value = "quick", value_parser = ["dev", "quick", "release"])]
        profile: String,
    },
    /// Set up what the tests need, build everything, run the whole suite, and check that nothing is left behind
    Test {
        /// Cargo profile of the programs under test
        #[arg(long, default_value = "quick", value_parser = ["dev", "quick", "release"])]
        profile: String,
        /// For cargo nextest, to run a part of the suite
        #[arg(last = true)]
        nextest: Vec<String>,
    },
    /// What has to pass before a change is merged: format, invariants, lints, then `test`
    Ci {
        /// Cargo profile of the programs under test
        #[arg(long, default_value = "quick", value_parser = ["dev", "quick", "release"])]
        profile: String,
    },
    /// Start and stop sandboxes while their agent is killed again and again, and check that nothing is left
    Churn {
        /// Sandboxes to be started
        #[arg(long, default_value_t = 1000)]
        count: u32,
        /// Of the random numbers, to repeat a run; else by the clock
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Check the invariants that the compiler does not see
    Tidy,
    /// Run the OCI conformance suite on paas-init, runc and crun, and write the table of it to docs/oci-conformance.md
    Conformance,
    /// Run the sandbox suite on a kernel with control groups v2 alone (user-mode Linux); a part of `test`
    V2 {
        /// Only tests whose name contains this
        #[arg(default_value = "")]
        filter: String,
    },
    /// Build everything that is shipped into dist/: `guest` plus dist/bin/paas and dist/bin/paasd
    Dist {
        /// Cargo profile to build with
        #[arg(long, default_value = "quick", value_parser = ["dev", "quick", "release"])]
        profile: String,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo {
            state,
            stop,
            purge,
            profile,
        } => {
            let demo = demo::Demo { state, profile };
            if stop { demo.stop(purge) } else { demo.start() }
        }
        Command::Bench { what } => bench::run(&what),
        Command::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Command::Guest { profile } => dist::guest(&profile),
        Command::Test { profile, nextest } => suite::test(&profile, &nextest),
        Command::Ci { profile } => suite::ci(&profile),
        Command::Churn { count, seed } => churn::run(count, seed),
        Command::Conformance => conformance::run(),
        Command::Tidy => tidy::run(),
        Command::V2 { filter } => needs::ensure(needs::Purpose::Test).and_then(|()| v2::run(&filter)),
        Command::Dist { profile } => dist::dist(&profile),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
