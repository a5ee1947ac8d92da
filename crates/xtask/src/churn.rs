//! `cargo xtask churn`: the sandbox suite's test of agents that are killed, at full size. The test itself, with what it
//! does and how it judges, is in `tests/sandbox/churn.rs`; here is what the machine as a whole may not keep.

use crate::leftovers::Snapshot;
use crate::needs::{self, Purpose};
use crate::shell;
use crate::workspace::{cargo, root};
use anyhow::{Result, bail};

/// Runs it for `count` sandboxes.
pub fn run(count: u32, seed: Option<u64>) -> Result<()> {
    if !shell::is_root() {
        bail!("real sandboxes are started, which only root may: run `sudo env \"PATH=$PATH\" cargo xtask churn`");
    }
    needs::ensure(Purpose::Test)?;
    needs::ensure_nextest()?;
    let before = Snapshot::take();
    let mut command = cargo(&root());
    // One after the other, with their figures, and without a second try.
    command
        .args([
            "nextest",
            "run",
            "--package",
            "sandbox",
            "--test",
            "inside",
            "--no-capture",
            "--retries",
            "0",
        ])
        .args(["--filterset", "test(churn::)"])
        .env("SANDBOX_CHURN", count.to_string());
    if let Some(seed) = seed {
        command.env("SANDBOX_CHURN_SEED", seed.to_string());
    }
    let outcome = shell::run(&mut command);
    outcome.and(before.check())
}
