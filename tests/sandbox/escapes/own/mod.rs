//! Attempts whose weakened twin is no line of a bundle: each has a test of its own, named as in `table::OWN`.

mod descriptors;
mod mounts;
mod numbers;
mod shared;
mod started;
mod targets;
mod teardown;

use std::process::{Command, Stdio};

use super::{Outcome, attempt, attempt_spec, table};
use crate::kit::Host;

/// What a command of the host's printed; that it failed is told by that alone.
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A script in a mount namespace of its own, with its arguments from `$1` on.
fn apart(script: &str, arguments: &[&std::path::Path]) -> String {
    output(
        Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .args(arguments),
    )
}
