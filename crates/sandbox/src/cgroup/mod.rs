//! Control groups of sandboxes: limits, figures, kill. One module per layout behind one
//! trait: `v2` (one hierarchy for all) and `hybrid` (v1 hierarchies for limits, a v2 group
//! beside them for kill and pressure); `absent` where the agent may not make any.
//!
//! Only groups below the configured parent are ever made, changed or removed.

mod absent;
mod change;
pub mod device;
pub(crate) mod files;
mod hybrid;
pub mod meter;
pub mod nodes;
mod one_by_one;
pub mod share;
mod v2;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::Context;
use crate::{Error, Limits, Oom, Result, users};
use device::Device;
use meter::Figure;
use share::Share;

pub use files::{keyed, quota_usec, shares};

/// Group of the spawner itself; no sandbox's name begins so.
pub const SPAWNER_GROUP: &str = "_spawner";

/// For everything in a group to stop.
const FREEZE: Duration = Duration::from_secs(5);

/// What init needs to know about its groups; paths of the host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GroupPlan {
    /// v1 `tasks` files to join.
    pub tasks: Vec<PathBuf>,
    /// Groups shown read-only below `/sys/fs/cgroup`: (host folder, name inside or empty).
    pub views: Vec<(PathBuf, String)>,
    /// Where kills for memory are counted, as lines of `key value`.
    pub oom_counter: PathBuf,
    /// v1: the file through which a kill for memory is announced on an event descriptor.
    pub oom_event_control: Option<PathBuf>,
    /// Peak memory, if the kernel keeps it.
    pub memory_peak: Option<PathBuf>,
    /// The memory limit of the moment.
    pub memory_limit: PathBuf,
    /// Where refused forks are counted.
    pub pids_events: PathBuf,
    /// The process limit of the moment.
    pub pids_limit: PathBuf,
    /// Whether a change of that file is announced to who polls it.
    pub pids_announced: bool,
}

/// The groups of sandboxes in one layout.
pub trait Groups: Send + Sync + std::fmt::Debug {
    /// `v2`, `hybrid`, `v1` or `none`.
    fn layout(&self) -> &'static str;
    /// Makes the groups of `id` and sets the limits.
    fn create(&self, id: &str, limits: &Limits) -> Result<()>;
    /// Makes what a process of `id` has to be born in; whether that was everything. If not, `create` has to follow
    /// before that process goes on.
    fn begin(&self, id: &str, limits: &Limits) -> Result<bool> {
        self.create(id, limits).map(|()| true)
    }
    /// Replaces limits by others, all or none; lower memory than what is in use is an error.
    /// Limits of I/O hold for `devices`.
    fn update(&self, id: &str, from: &Limits, to: &Limits, devices: &[Device]) -> Result<()>;
    /// Gives processes of `id` memory limits of their own below its `memory_bytes`, each by a number and its bytes;
    /// nothing where there are no groups. Nobody in it may start processes meanwhile.
    fn divide(&self, id: &str, memory_bytes: u64, shares: &[(usize, u64)]) -> Result<Vec<Share>>;
    /// What its init needs.
    fn plan(&self, id: &str) -> GroupPlan;
    /// The v2 group, to start init in.
    fn entry(&self, id: &str) -> Result<Option<OwnedFd>>;
    /// Sends a kill to everything in it; no wait.
    fn kill(&self, id: &str) -> Result<()>;
    /// Stops (or continues) everything in it; returns when it has stopped.
    fn freeze(&self, id: &str, frozen: bool) -> Result<()>;
    /// Whether it has been told to stop.
    fn is_frozen(&self, id: &str) -> bool;
    /// Where its figures are.
    fn figures(&self, id: &str) -> Vec<Figure>;
    /// What is weaker than intended for sandboxes on `disks`.
    fn missing(&self, disks: &[Device]) -> Vec<String>;
    /// Figures of a kill for memory, if there was one.
    fn oom(&self, id: &str) -> Option<Oom>;
    /// Times a fork was refused.
    fn pids_refused(&self, id: &str) -> u64;
    /// The folders of `id`, existing or not.
    fn folders(&self, id: &str) -> Vec<PathBuf>;
    /// The parent folders, existing or not.
    fn parents(&self) -> Vec<PathBuf>;
    /// The v2 parent, if there is a v2 hierarchy; existing or not.
    fn unified_parent(&self) -> Option<PathBuf>;
    /// Moves the process `pid` (the spawner) out of the agent's groups.
    fn adopt_spawner(&self, pid: i32) -> io::Result<()>;
}

/// The layout of this host, with `parent` as the group all others are made in.
pub fn open(parent: &str) -> Result<Box<dyn Groups>> {
    let valid = !parent.is_empty() && parent.split('/').all(|p| !p.is_empty() && p != "." && p != "..");
    if !valid {
        return Err(Error::Host {
            reason: format!("{parent:?} is not a usable group name"),
        });
    }
    if users::confined() {
        return Ok(Box::new(absent::Absent));
    }
    let mounts = files::Mounts::read().map_err(|e| Error::Host {
        reason: format!("control groups: {e}"),
    })?;
    if let Some(groups) = v2::Unified::probe(&mounts, parent)? {
        return Ok(Box::new(groups));
    }
    match hybrid::Hybrid::probe(&mounts, parent)? {
        Some(groups) => Ok(Box::new(groups)),
        None => Err(Error::Host {
            reason: "no control group hierarchy with memory, cpu and pids is mounted".to_owned(),
        }),
    }
}

/// Makes the rules for devices hold in all groups of sandboxes; in words if that cannot be.
pub fn guard_devices(groups: &dyn Groups) -> Option<String> {
    let weaker = |why: String| Some(format!("no control group judges the use of devices: {why}"));
    if groups.parents().is_empty() {
        // That there are no groups at all is told where it belongs.
        return None;
    }
    let Some(parent) = groups.unified_parent() else {
        return weaker("no v2 hierarchy is mounted".to_owned());
    };
    // Once for all: it holds for what is below, and an agent's successor replaces it.
    let guarded = files::make(&parent).and_then(|()| nodes::guard(&parent, &nodes::of_sandboxes(), false));
    guarded.err().and_then(|e| weaker(e.to_string()))
}

/// The error of a group that does not stop.
fn frozen_in_time(id: &str, done: io::Result<()>) -> Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(Error::Deadline {
            operation: "freeze",
            id: id.to_owned(),
            seconds: FREEZE.as_secs(),
            detail: "; something inside is stuck in the kernel".to_owned(),
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::NotRunning { id: id.to_owned() }),
        other => other.on("freeze", id),
    }
}

/// Removes the groups of `id`, waiting for the kernel to let go of them until `deadline`.
pub fn remove(groups: &dyn Groups, id: &str, deadline: Instant) -> Result<()> {
    for folder in groups.folders(id) {
        files::remove_group(&folder, deadline).map_err(|source| Error::File {
            operation: "remove group",
            path: folder.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Names of all sandboxes that have a group left.
pub fn list(groups: &dyn Groups) -> Vec<String> {
    let mut names: Vec<String> = groups.parents().iter().flat_map(|p| files::subgroups(p)).collect();
    names.retain(|n| n != SPAWNER_GROUP);
    names.sort();
    names.dedup();
    names
}

/// Removes the spawner's group and the parents, as far as they are empty.
pub fn remove_parents(groups: &dyn Groups) {
    let soon = Instant::now() + Duration::from_millis(500);
    for parent in groups.parents() {
        let _ = files::remove_group(&parent.join(SPAWNER_GROUP), soon);
        // Two levels (`paas/<name>`), each only if nobody else has groups there.
        if std::fs::remove_dir(&parent).is_ok()
            && let Some(above) = parent.parent()
        {
            // The root of a hierarchy is a mount point and stays in any case.
            let _ = std::fs::remove_dir(above);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_parents_that_lead_elsewhere() {
        for parent in ["", "/", "a//b", "../x", "a/.."] {
            assert!(open(parent).is_err(), "{parent}");
        }
    }

    #[test]
    fn limits_are_set_counted_and_removed() {
        let parent = format!("paas/unit{}", std::process::id());
        let groups = open(&parent).unwrap();
        let limits = Limits {
            memory_bytes: 64 << 20,
            cpu_weight: 200,
            cpu_quota: Some(0.5),
            pids: 20,
            io: crate::IoLimits::default(),
        };
        groups.create("a", &limits).unwrap();
        assert!(groups.folders("a").iter().all(|f| f.is_dir()));
        let shares = groups
            .divide("a", limits.memory_bytes, &[(0, 16 << 20), (2, 8 << 20)])
            .unwrap();
        assert_eq!(shares.len(), 2);
        let mut meter = meter::Meter::new(groups.figures("a"), true);
        let stats = meter.read(&mut [0; meter::BUFFER_BYTES]).unwrap();
        assert_eq!((stats.pids, stats.oom_kills), (0, 0));
        assert_eq!(groups.oom("a"), None);
        assert_eq!(list(&*groups), ["a"]);
        remove(&*groups, "a", Instant::now() + Duration::from_secs(2)).unwrap();
        remove(&*groups, "a", Instant::now()).unwrap();
        remove_parents(&*groups);
        assert!(groups.parents().iter().all(|p| !p.exists()));
    }
}
