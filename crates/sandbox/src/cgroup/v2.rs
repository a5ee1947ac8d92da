//! Hosts with one v2 hierarchy that has memory, cpu and pids.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::change::{self, Change};
use super::device::Device;
use super::files::{self, Mounts};
use super::meter::{self, Figure, PerDevice};
use super::share::{self, Share};
use super::{FREEZE, GroupPlan, Groups, SPAWNER_GROUP};
use crate::error::Context;
use crate::{Error, IoLimits, Limits, Oom, Result, Stats};

const NEEDED: [&str; 3] = ["memory", "cpu", "pids"];
/// Handed down if it is there.
const IO: &str = "io";
/// Of `io.bfq.weight`, where 100 is ordinary too.
const MAX_BFQ_WEIGHT: u32 = 1000;

/// See the module.
#[derive(Debug)]
pub struct Unified {
    root: PathBuf,
    parent: PathBuf,
    io: bool,
}

impl Unified {
    /// With the parent below the hierarchy's root, if the controllers are there.
    pub fn probe(mounts: &Mounts, parent: &str) -> Result<Option<Unified>> {
        let Some(root) = &mounts.unified else { return Ok(None) };
        let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let has = |wanted: &str| controllers.split_whitespace().any(|c| c == wanted);
        if !NEEDED.iter().all(|needed| has(needed)) {
            return Ok(None);
        }
        Ok(Some(Unified {
            root: root.clone(),
            parent: root.join(parent),
            io: has(IO),
        }))
    }

    fn group(&self, id: &str) -> PathBuf {
        self.parent.join(id)
    }

    /// Makes the parent and hands the controllers down to it.
    fn prepare(&self) -> Result<()> {
        files::make(&self.parent).at("make group", &self.parent)?;
        let mut folders: Vec<&Path> = self
            .parent
            .ancestors()
            .take_while(|a| a.starts_with(&self.root))
            .collect();
        folders.reverse();
        for folder in folders {
            let file = folder.join("cgroup.subtree_control");
            let present = std::fs::read_to_string(&file).at("read", &file)?;
            for needed in NEEDED.into_iter().chain(self.io.then_some(IO)) {
                if !present.split_whitespace().any(|c| c == needed) {
                    files::write(&file, format!("+{needed}")).at("hand controllers down in", &file)?;
                }
            }
        }
        Ok(())
    }

    fn changes(&self, id: &str, from: &Limits, to: &Limits) -> Vec<Change> {
        let group = self.group(id);
        let quota = |limits: &Limits| {
            let quota = limits.cpu_quota.map(files::quota_usec);
            quota.map_or("max 100000".to_owned(), |usec| format!("{usec} 100000"))
        };
        let mut changes = vec![
            Change::new(group.join("memory.max"), from.memory_bytes, to.memory_bytes),
            Change::new(group.join("cpu.weight"), from.cpu_weight, to.cpu_weight),
            Change::new(group.join("cpu.max"), quota(from), quota(to)),
            Change::new(group.join("pids.max"), from.pids, to.pids),
        ];
        let rest = share::rest(&group).join("memory.max");
        if rest.exists() {
            changes.push(Change::new(rest, from.memory_bytes, to.memory_bytes));
        }
        changes.retain(|change| change.from != change.to);
        changes
    }

    fn io_changes(&self, id: &str, from: &IoLimits, to: &IoLimits, devices: &[Device]) -> Vec<Change> {
        let group = self.group(id);
        if !self.io {
            return Vec::new();
        }
        let limit = |limit: Option<u64>| limit.map_or("max".to_owned(), |n| n.to_string());
        let limits = |io: &IoLimits| {
            let (rbps, wbps) = (limit(io.read_bps), limit(io.write_bps));
            let (riops, wiops) = (limit(io.read_iops), limit(io.write_iops));
            format!("rbps={rbps} wbps={wbps} riops={riops} wiops={wiops}")
        };
        let mut changes = Vec::new();
        let (before, after) = (limits(from), limits(to));
        if before != after {
            let line = |device, limits: &str| format!("{device} {limits}");
            changes.extend(
                devices
                    .iter()
                    .map(|device| Change::new(group.join("io.max"), line(device, &before), line(device, &after))),
            );
        }
        for (name, most) in [("io.weight", 10_000), ("io.bfq.weight", MAX_BFQ_WEIGHT)] {
            let file = group.join(name);
            if from.weight != to.weight && file.exists() {
                let of = |io: &IoLimits| io.weight.unwrap_or(100).min(most);
                changes.push(Change::new(file, of(from), of(to)));
            }
        }
        changes
    }

    /// Makes sure that a lower limit can be met: here the kernel would kill to meet it. What
    /// can be dropped is dropped, and whoever allocates meanwhile waits.
    fn make_room(&self, id: &str, bytes: u64) -> Result<()> {
        let high = self.group(id).join("memory.high");
        files::write(&high, bytes).at("set limit", &high)?;
        let current = self.group(id).join("memory.current");
        let used_bytes = files::number(&current).at("read", current)?;
        if used_bytes <= bytes {
            return Ok(());
        }
        Err(Error::MemoryInUse {
            id: id.to_owned(),
            used_bytes,
            limit_bytes: bytes,
        })
    }
}

impl Groups for Unified {
    fn layout(&self) -> &'static str {
        "v2"
    }

    fn create(&self, id: &str, limits: &Limits) -> Result<()> {
        self.prepare()?;
        let group = self.group(id);
        files::make(&group).at("make group", &group)?;
        let set = |name: &str, value: String| {
            let path = group.join(name);
            files::write(&path, value).at("set limit", path)
        };
        set("memory.max", limits.memory_bytes.to_string())?;
        if group.join("memory.swap.max").exists() {
            set("memory.swap.max", "0".to_owned())?;
        }
        set("cpu.weight", limits.cpu_weight.clamp(1, 10_000).to_string())?;
        if let Some(cores) = limits.cpu_quota {
            set("cpu.max", format!("{} 100000", files::quota_usec(cores)))?;
        }
        set("pids.max", limits.pids.to_string())
    }

    fn update(&self, id: &str, from: &Limits, to: &Limits, devices: &[Device]) -> Result<()> {
        let mut changes = self.changes(id, from, to);
        changes.extend(self.io_changes(id, &from.io, &to.io, devices));
        if to.memory_bytes >= from.memory_bytes {
            return change::all_or_nothing(&changes);
        }
        let done = self
            .make_room(id, to.memory_bytes)
            .and_then(|()| change::all_or_nothing(&changes));
        let high = self.group(id).join("memory.high");
        files::write(&high, "max").at("set limit", high)?;
        done
    }

    fn divide(&self, id: &str, memory_bytes: u64, shares: &[(usize, u64)]) -> Result<Vec<Share>> {
        let group = self.group(id);
        share::prepare_v2(id, &group, memory_bytes)?;
        let made = shares.iter().map(|&(at, bytes)| share::v2(&group, at, bytes));
        made.collect()
    }

    fn plan(&self, id: &str) -> GroupPlan {
        let group = self.group(id);
        let peak = group.join("memory.peak");
        GroupPlan {
            tasks: Vec::new(),
            views: vec![(group.clone(), String::new())],
            oom_counter: group.join("memory.events"),
            oom_event_control: None,
            memory_peak: peak.exists().then_some(peak),
            memory_limit: group.join("memory.max"),
            pids_events: group.join("pids.events"),
            pids_limit: group.join("pids.max"),
            pids_announced: true,
        }
    }

    fn entry(&self, id: &str) -> Result<Option<OwnedFd>> {
        let group = self.group(id);
        Ok(Some(std::fs::File::open(&group).at("open group", group)?.into()))
    }

    fn kill(&self, id: &str) -> Result<()> {
        let file = self.group(id).join("cgroup.kill");
        match files::write(&file, 1) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.at("kill through", file),
        }
    }

    fn freeze(&self, id: &str, frozen: bool) -> Result<()> {
        let done = files::freeze(&self.group(id), frozen, Instant::now() + FREEZE);
        super::frozen_in_time(id, done)
    }

    fn is_frozen(&self, id: &str) -> bool {
        let state = std::fs::read_to_string(self.group(id).join("cgroup.freeze"));
        state.is_ok_and(|state| state.trim() == "1")
    }

    fn figures(&self, id: &str) -> Vec<Figure> {
        let group = self.group(id);
        let at = |name: &str| group.join(name);
        vec![
            Figure::needed(at("memory.current"), |stats, text| {
                stats.memory_bytes = meter::number(text);
                stats.memory_peak = stats.memory_bytes;
            }),
            Figure::new(at("memory.stat"), |stats, text| {
                let idle = files::keyed(text, "inactive_file").unwrap_or(0);
                stats.memory_bytes = stats.memory_bytes.saturating_sub(idle);
                stats.memory_kernel = files::keyed(text, "kernel").unwrap_or(0);
            }),
            Figure::new(at("memory.peak"), |stats, text| stats.memory_peak = meter::number(text)),
            Figure::new(at("memory.events"), |stats, text| {
                stats.oom_kills = files::keyed(text, "oom_kill").unwrap_or(0);
            }),
            Figure::new(at("cpu.stat"), take_cpu),
            Figure::new(at("pids.current"), |stats, text| stats.pids = meter::number(text)),
            Figure::new(at("pids.events"), |stats, text| {
                stats.pids_refused = files::keyed(text, "max").unwrap_or(0);
            }),
            Figure::new(at("io.stat"), take_io),
            Figure::new(at("cpu.pressure"), meter::take_cpu_pressure),
            Figure::new(at("memory.pressure"), meter::take_memory_pressure),
            Figure::new(at("io.pressure"), meter::take_io_pressure),
        ]
    }

    fn missing(&self, disks: &[Device]) -> Vec<String> {
        if !self.io {
            return vec!["the use of disks is neither limited nor measured: there is no io controller".to_owned()];
        }
        let enabled = std::fs::read_to_string(self.root.join("io.cost.qos")).unwrap_or_default();
        let weighs = |disk: &Device| {
            let named = enabled
                .lines()
                .any(|line| line.starts_with(&format!("{disk} ")) && line.contains("enable=1"));
            named || disk.schedulers().contains("[bfq]")
        };
        if disks.iter().any(weighs) {
            return Vec::new();
        }
        vec![
            "I/O weights have no effect: the disk has neither a cost model (io.cost.qos) nor the scheduler bfq"
                .to_owned(),
        ]
    }

    fn oom(&self, id: &str) -> Option<Oom> {
        let group = self.group(id);
        if files::keyed_in(&group.join("memory.events"), "oom_kill") == 0 {
            return None;
        }
        let limit_bytes = files::number(&group.join("memory.max")).unwrap_or(0);
        let peak_bytes = files::number(&group.join("memory.peak")).unwrap_or(limit_bytes);
        Some(Oom {
            limit_bytes,
            peak_bytes,
        })
    }

    fn pids_refused(&self, id: &str) -> u64 {
        files::keyed_in(&self.group(id).join("pids.events"), "max")
    }

    fn folders(&self, id: &str) -> Vec<PathBuf> {
        vec![self.group(id)]
    }

    fn parents(&self) -> Vec<PathBuf> {
        vec![self.parent.clone()]
    }

    fn unified_parent(&self) -> Option<PathBuf> {
        Some(self.parent.clone())
    }

    fn adopt_spawner(&self, pid: i32) -> io::Result<()> {
        let group = self.parent.join(SPAWNER_GROUP);
        files::make(&group)?;
        files::write(&group.join("cgroup.procs"), pid)
    }
}

fn take_cpu(stats: &mut Stats, text: &str) {
    let number = |key| files::keyed(text, key).unwrap_or(0);
    stats.cpu_usec = number("usage_usec");
    stats.throttled = number("throttled_usec");
    stats.cpu_periods = number("nr_periods");
    stats.throttled_periods = number("nr_throttled");
}

/// Lines `254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn take_io(stats: &mut Stats, text: &str) {
    let mut sums = PerDevice::default();
    for line in text.lines() {
        let (device, figures) = line.split_once(' ').unwrap_or((line, ""));
        let sum = sums.of(device);
        for (key, value) in figures.split(' ').filter_map(|figure| figure.split_once('=')) {
            let value: u64 = value.parse().unwrap_or(0);
            match key {
                "rbytes" => sum.read_bytes += value,
                "wbytes" => sum.write_bytes += value,
                "rios" => sum.reads += value,
                "wios" => sum.writes += value,
                _ => {}
            }
        }
    }
    stats.io = sums.total();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_disks_are_summed() {
        let mut stats = Stats::default();
        take_io(
            &mut stats,
            "254:0 rbytes=100 wbytes=7 rios=2 wios=1 dbytes=0 dios=0\n254:16 rbytes=1 wbytes=0 rios=1 wios=0\n7:0\n",
        );
        assert_eq!((stats.io.read_bytes, stats.io.write_bytes), (101, 7));
        assert_eq!((stats.io.reads, stats.io.writes), (3, 1));
    }
}
