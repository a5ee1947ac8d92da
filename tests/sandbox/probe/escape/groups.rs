//! Attempts on control groups.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Outcome, error_name};

pub const ALL: &[(&str, super::Attempt)] = &[
    ("group-limits", limits),
    ("group-membership", membership),
    ("group-nesting", nesting),
    ("release-agent", release_agent),
];

/// Every group that shows: the root of the view and what is below it.
fn folders() -> Vec<PathBuf> {
    let mut all = vec![PathBuf::from("/sys/fs/cgroup")];
    all.extend(crate::list("/sys/fs/cgroup").into_iter().map(|name| Path::new("/sys/fs/cgroup").join(name)));
    all.retain(|folder| folder.is_dir());
    all
}

fn each(names: &[&str], attempt: impl Fn(&Path) -> Outcome) -> Outcome {
    let mut refused = Vec::new();
    for folder in folders() {
        for path in names.iter().map(|name| folder.join(name)) {
            match attempt(&path) {
                Ok(reached) => return Ok(reached),
                // A file of another layout.
                Err(error) if error == "ENOENT" => {}
                Err(error) => refused.push(error),
            }
        }
    }
    refused.sort();
    refused.dedup();
    Err(if refused.is_empty() { "nothing there".into() } else { refused.join(", ") })
}

/// Writes the limit that holds.
fn limits(_: &[String]) -> Outcome {
    each(&["memory.limit_in_bytes", "memory.max", "pids.max"], |path| {
        let limit = std::fs::read(path).map_err(|e| error_name(&e))?;
        let mut file = OpenOptions::new().write(true).open(path).map_err(|e| error_name(&e))?;
        file.write_all(&limit).map_err(|e| error_name(&e))?;
        Ok("its own limits".into())
    })
}

/// Moves itself to where it is.
fn membership(_: &[String]) -> Outcome {
    each(&["cgroup.procs", "tasks"], |path| {
        let mut file = OpenOptions::new().write(true).open(path).map_err(|e| error_name(&e))?;
        file.write_all(b"0").map_err(|e| error_name(&e))?;
        Ok("a place in the groups".into())
    })
}

fn nesting(_: &[String]) -> Outcome {
    each(&["nested"], |path| {
        std::fs::create_dir(path).map_err(|e| error_name(&e))?;
        let _ = std::fs::remove_dir(path);
        Ok("groups of its own".into())
    })
}

/// Only opened: what is written there, the host's root runs.
fn release_agent(_: &[String]) -> Outcome {
    each(&["release_agent", "../release_agent", "notify_on_release"], |path| {
        OpenOptions::new().write(true).open(path).map_err(|e| error_name(&e))?;
        Ok("what the host runs when a group is empty".into())
    })
}
