//! What a test run may not leave on the machine: processes, control groups, mounts, network parts, loop devices.
//!
//! A list is taken before and after; only what is new counts, so a platform that already runs here does no harm.

use crate::machine::{Thing, things};
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Names of everything that tests make begin with one of these.
const PREFIXES: [&str; 2] = ["paas", "ptb"];
/// Programs of ours, and what they run under.
const PROGRAMS: [&str; 5] = ["paasd", "paas-init", "paas-spawner", "paas-lifecycle", "paas"];
/// What goes asynchronously has this long.
const GRACE: Duration = Duration::from_secs(10);

/// What is there now.
pub struct Snapshot(BTreeSet<Thing>);

impl Snapshot {
    /// Looks at the machine.
    pub fn take() -> Self {
        Self(things().into_iter().filter(may_be_left).collect())
    }

    /// Fails where there is more than there was, after waiting for what is still going.
    pub fn check(&self) -> Result<()> {
        let deadline = Instant::now() + GRACE;
        loop {
            let now = Self::take();
            let new: Vec<String> = now.0.difference(&self.0).map(Thing::to_string).collect();
            if new.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the tests left something behind:\n  {}", new.join("\n  "));
            }
            // Nothing tells when the kernel has finished with a namespace or device.
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Whether a thing is of the kind that tests make.
fn may_be_left(thing: &Thing) -> bool {
    let text = thing.text.as_str();
    match thing.kind {
        "process" => {
            let name = text.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
            name.is_some_and(|(name, _)| PROGRAMS.contains(&name)) || text.contains("/paas-test-")
        }
        "control group" => text.rsplit('/').next().is_some_and(is_ours),
        "mount" => text.split(' ').nth(4).is_some_and(|at| at.contains("/paas")),
        "loop device" => text.contains("/paas"),
        "record of a network" | "forwarding" => true,
        _ => is_ours(text),
    }
}

/// Whether some word of the line begins with one of our prefixes.
fn is_ours(line: &str) -> bool {
    let ours = |word: &str| PREFIXES.iter().any(|prefix| word.starts_with(prefix));
    line.split_whitespace().any(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn what_is_new_is_found_and_what_was_there_is_not() {
        let folder = tempfile::Builder::new().prefix("paas-test-").tempdir().unwrap();
        let script = folder.path().join("wait");
        std::fs::write(&script, "echo ready; read line").unwrap();
        let mut shell = Command::new("sh");
        shell.arg(&script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        // Its command line can be read once it runs.
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        let own = |snapshot: &Snapshot| {
            snapshot
                .0
                .iter()
                .any(|thing| thing.text.contains(script.to_str().unwrap()))
        };
        let during = Snapshot::take();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(own(&during) && !own(&Snapshot::take()));
        assert!(is_ours("table inet paas-dev") && !is_ours("table inet my-paas"));
    }
}
