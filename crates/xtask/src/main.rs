//! `cargo xtask`: the project's own commands (build what is shipped, enforce the invariants, run what CI runs).
//!
//! Nothing here is shipped and no other crate depends on it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool: its terminal is its only interface"
)]

mod dist;
mod leftovers;
mod needs;
mod postgres;
mod shell;
mod suite;
mod tidy;
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
    /// Check the invariants that the compiler does not see
    Tidy,
    /// Build everything that is shipped into dist/: `guest` plus dist/bin/paas and dist/bin/paasd
    Dist {
        /// Cargo profile to build with
        #[arg(long, default_value = "quick", value_parser = ["dev", "quick", "release"])]
        profile: String,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Guest { profile } => dist::guest(&profile),
        Command::Test { profile, nextest } => suite::test(&profile, &nextest),
        Command::Ci { profile } => suite::ci(&profile),
        Command::Tidy => tidy::run(),
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
