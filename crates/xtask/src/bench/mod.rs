//! `cargo xtask bench`: builds what is measured and runs the benchmark, which lies under `tests/bench`.

use crate::workspace::{cargo, root};
use crate::{dist, shell};
use anyhow::Result;

/// Runs one benchmark on what is shipped, built as it is shipped.
pub fn run(what: &str, rounds: u32) -> Result<()> {
    dist::dist("quick")?;
    let program = format!("bench-{what}");
    let arguments = [
        "run",
        "--quiet",
        "--profile",
        "quick",
        "--package",
        "tests",
        "--bin",
        &program,
        "--",
    ];
    shell::run(cargo(&root()).args(arguments).arg(rounds.to_string()))
}
