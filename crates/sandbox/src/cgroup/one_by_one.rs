//! The end of all processes of a v1 group, for hosts without a v2 hierarchy that could do it in
//! one step.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::files;
use crate::sys;

/// For a group to be frozen; what is in an uninterruptible wait has to come back first.
const FREEZE: Duration = Duration::from_secs(1);

/// Kills every process of the group `processes`. If there is a `freezer` group with the same
/// processes, none can start another one meanwhile; what is frozen dies when it is let go.
pub fn kill(processes: &Path, freezer: Option<&Path>) -> io::Result<()> {
    if let Some(freezer) = freezer {
        // A group that does not freeze in time is killed as it is.
        let _ = freeze(freezer, true, Instant::now() + FREEZE);
    }
    let killed = kill_listed(processes);
    match freezer.map(|freezer| freeze(freezer, false, Instant::now())) {
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => killed,
    }
}

fn kill_listed(group: &Path) -> io::Result<()> {
    // Without a freezer a fork can escape one round, not all of them.
    for _ in 0..64 {
        let listed = match listed(group) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if listed.is_empty() {
            break;
        }
        let held: Vec<(i32, OwnedFd)> = listed
            .into_iter()
            .filter_map(|pid| Some((pid, pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?)))
            .collect();
        // A number may have passed to a stranger before it was held. What is listed now, and
        // was held before, is either in the group or has ended.
        let still = self::listed(group).unwrap_or_default();
        for (_, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
            let _ = sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
    Ok(())
}

fn listed(group: &Path) -> io::Result<Vec<i32>> {
    let text = std::fs::read_to_string(group.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|l| l.parse().ok()).filter(|&p| p > 1).collect())
}

/// Stops or continues everything in the v1 freezer group `group`.
pub fn freeze(group: &Path, frozen: bool, deadline: Instant) -> io::Result<()> {
    let state = group.join("freezer.state");
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    files::write(&state, wanted)?;
    while std::fs::read_to_string(&state)?.trim() != wanted {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // The kernel tells nobody when the last one has stopped.
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
