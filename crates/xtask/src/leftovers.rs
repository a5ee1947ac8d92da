//! What a test run may not leave on the machine: processes, control groups, mounts, network parts, loop devices.
//!
//! A list is taken before and after; only what is new counts, so a platform that already runs here does no harm.

use crate::shell;
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Names of everything that tests make begin with this.
const PREFIX: &str = "paas";
/// Programs of ours, and what they run under.
const PROGRAMS: [&str; 4] = ["paasd", "paas-init", "paas-lifecycle", "paas"];
/// What goes asynchronously has this long.
const GRACE: Duration = Duration::from_secs(10);

/// What is there now, a line each.
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Looks at the machine.
    pub fn take() -> Self {
        let mut found = BTreeSet::new();
        found.extend(processes());
        found.extend(groups());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        found.extend(matching("mount", &mounts, |line| {
            line.split(' ').nth(4).is_some_and(|at| at.contains("/paas"))
        }));
        found.extend(matching(
            "network namespace",
            &shell::output("ip", &["netns", "list"]),
            is_ours,
        ));
        found.extend(entries("interface", "/sys/class/net"));
        found.extend(matching(
            "firewall",
            &shell::output("nft", &["list", "tables"]),
            is_ours,
        ));
        let loops = shell::output("losetup", &["--list", "--noheadings", "--output", "NAME,BACK-FILE"]);
        found.extend(matching("loop device", &loops, |line| line.contains("/paas")));
        Self(found)
    }

    /// Fails where there is more than there was, after waiting for what is still going.
    pub fn check(&self) -> Result<()> {
        let deadline = Instant::now() + GRACE;
        loop {
            let now = Self::take();
            let new: Vec<&str> = now.0.difference(&self.0).map(String::as_str).collect();
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

fn processes() -> impl Iterator<Item = String> {
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    folders.filter_map(|folder| {
        let pid: u32 = folder.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(folder.path().join("comm")).ok()?;
        let line = std::fs::read(folder.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let ours = PROGRAMS.contains(&name.trim()) || line.contains("/paas-test-");
        ours.then(|| format!("process {pid}: {}", line.trim()))
    })
}

fn groups() -> impl Iterator<Item = String> {
    let folders = walkdir::WalkDir::new("/sys/fs/cgroup")
        .max_depth(4)
        .into_iter()
        .flatten();
    let ours = folders.filter(|entry| entry.file_type().is_dir() && is_ours(&entry.file_name().to_string_lossy()));
    ours.map(|entry| format!("control group: {}", entry.path().display()))
}

fn entries(what: &'static str, folder: &str) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| is_ours(name))
        .map(move |name| format!("{what}: {name}"))
}

fn matching(what: &'static str, text: &str, is_ours: impl Fn(&str) -> bool) -> Vec<String> {
    text.lines()
        .filter(|line| is_ours(line))
        .map(|line| format!("{what}: {}", line.trim()))
        .collect()
}

/// Whether some word of the line begins with our prefix.
fn is_ours(line: &str) -> bool {
    line.split_whitespace().any(|word| word.starts_with(PREFIX))
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
        let own = |snapshot: &Snapshot| snapshot.0.iter().any(|line| line.contains(script.to_str().unwrap()));
        let during = Snapshot::take();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(own(&during) && !own(&Snapshot::take()));
        assert!(is_ours("table inet paas-dev") && !is_ours("table inet my-paas"));
    }
}
