//! Hosts where the limits are in v1 hierarchies. If a v2 hierarchy is mounted beside them,
//! each sandbox has a group there too: it can kill and freeze everything at once, shows
//! pressure, and a process can be born in it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::change::{self, Change};
use super::device::Device;
use super::files::{self, Mounts};
use super::meter::{self, Figure, PerDevice};
use super::share::{self, Share};
use super::{FREEZE, GroupPlan, Groups, SPAWNER_GROUP, one_by_one};
use crate::error::Context;
use crate::{Error, IoLimits, IoUsage, Limits, Oom, Result, Stats};

/// Of `blkio.bfq.weight`, where 100 is ordinary too.
const MAX_IO_WEIGHT: u32 = 1000;

/// See the module.
#[derive(Debug)]
pub struct Hybrid {
    memory: PathBuf,
    cpu: PathBuf,
    pids: PathBuf,
    blkio: Option<PathBuf>,
    /// Only where there is no v2 hierarchy.
    cpuacct: Option<PathBuf>,
    /// As `cpuacct`.
    freezer: Option<PathBuf>,
    unified: Option<PathBuf>,
}

impl Hybrid {
    /// With parents below each hierarchy's root, if this host has what is needed.
    pub fn probe(mounts: &Mounts, parent: &str) -> Result<Option<Hybrid>> {
        let at = |controller| mounts.v1(controller).map(|root: &Path| root.join(parent));
        let (Some(memory), Some(cpu), Some(pids)) = (at("memory"), at("cpu"), at("pids")) else {
            return Ok(None);
        };
        let unified = mounts.unified.as_ref().map(|root| root.join(parent));
        let alone = |controller| at(controller).filter(|_| unified.is_none());
        Ok(Some(Hybrid {
            cpuacct: alone("cpuacct").filter(|path| *path != cpu),
            freezer: alone("freezer"),
            blkio: at("blkio"),
            memory,
            cpu,
            pids,
            unified,
        }))
    }

    fn set_limits(&self, id: &str, limits: &Limits) -> Result<()> {
        let memory = self.memory.join(id);
        let set = |path: PathBuf, value: u64| files::write(&path, value).at("set limit", path);
        set(memory.join("memory.limit_in_bytes"), limits.memory_bytes)?;
        // Memory and swap together: what the limit permits is never exceeded by swapping.
        let with_swap = memory.join("memory.memsw.limit_in_bytes");
        if with_swap.exists() {
            set(with_swap, limits.memory_bytes)?;
        }
        let cpu = self.cpu.join(id);
        set(cpu.join("cpu.shares"), files::shares(limits.cpu_weight))?;
        if let Some(cores) = limits.cpu_quota {
            set(cpu.join("cpu.cfs_period_us"), 100_000)?;
            set(cpu.join("cpu.cfs_quota_us"), files::quota_usec(cores))?;
        }
        set(self.pids.join(id).join("pids.max"), u64::from(limits.pids))
    }

    /// What makes limits out of others, in an order in which each step is valid: memory alone
    /// is never above memory and swap together.
    fn changes(&self, id: &str, from: &Limits, to: &Limits) -> Vec<Change> {
        let (memory, cpu) = (self.memory.join(id), self.cpu.join(id));
        let bytes = |name: &str| Change::new(memory.join(name), from.memory_bytes, to.memory_bytes);
        let mut changes = vec![bytes("memory.limit_in_bytes")];
        if memory.join("memory.memsw.limit_in_bytes").exists() {
            let raised = to.memory_bytes > from.memory_bytes;
            changes.insert(usize::from(!raised), bytes("memory.memsw.limit_in_bytes"));
        }
        let quota = |limits: &Limits| limits.cpu_quota.map_or(-1, |cores| files::quota_usec(cores) as i64);
        let shares = |limits: &Limits| files::shares(limits.cpu_weight);
        changes.extend([
            Change::new(cpu.join("cpu.shares"), shares(from), shares(to)),
            Change::new(cpu.join("cpu.cfs_quota_us"), quota(from), quota(to)),
            Change::new(self.pids.join(id).join("pids.max"), from.pids, to.pids),
        ]);
        changes.retain(|change| change.from != change.to);
        changes
    }

    fn io_changes(&self, id: &str, from: &IoLimits, to: &IoLimits, devices: &[Device]) -> Vec<Change> {
        let Some(blkio) = self.blkio.as_ref().map(|parent| parent.join(id)) else {
            return Vec::new();
        };
        let limits = |io: &IoLimits| [io.read_bps, io.write_bps, io.read_iops, io.write_iops];
        let names = ["read_bps", "write_bps", "read_iops", "write_iops"];
        let mut changes = Vec::new();
        for ((name, from), to) in names.into_iter().zip(limits(from)).zip(limits(to)) {
            let file = blkio.join(format!("blkio.throttle.{name}_device"));
            // Nought is no limit.
            let line = |device, limit: Option<u64>| format!("{device} {}", limit.unwrap_or(0));
            let changed = devices.iter().filter(|_| from != to);
            changes.extend(changed.map(|device| Change::new(file.clone(), line(device, from), line(device, to))));
        }
        let weight = blkio.join("blkio.bfq.weight");
        if from.weight != to.weight && weight.exists() {
            let of = |io: &IoLimits| io.weight.unwrap_or(100).min(MAX_IO_WEIGHT);
            changes.push(Change::new(weight, of(from), of(to)));
        }
        changes
    }
}

impl Groups for Hybrid {
    fn layout(&self) -> &'static str {
        if self.unified.is_some() { "hybrid" } else { "v1" }
    }

    fn create(&self, id: &str, limits: &Limits) -> Result<()> {
        for folder in self.folders(id) {
            files::make(&folder).at("make group", folder)?;
        }
        self.set_limits(id, limits)
    }

    fn begin(&self, id: &str, _limits: &Limits) -> Result<bool> {
        // Nothing in the v2 group limits anything, and the others can be joined later.
        if let Some(folder) = self.unified.as_ref().map(|unified| unified.join(id)) {
            files::make(&folder).at("make group", folder)?;
        }
        Ok(false)
    }

    fn update(&self, id: &str, from: &Limits, to: &Limits, devices: &[Device]) -> Result<()> {
        if from.cpu_quota.is_none() && to.cpu_quota.is_some() {
            let period = self.cpu.join(id).join("cpu.cfs_period_us");
            files::write(&period, 100_000).at("set limit", period)?;
        }
        let mut changes = self.changes(id, from, to);
        changes.extend(self.io_changes(id, &from.io, &to.io, devices));
        match change::all_or_nothing(&changes) {
            Err(error) if change::is_busy(&error) => Err(Error::MemoryInUse {
                id: id.to_owned(),
                used_bytes: files::number(&self.memory.join(id).join("memory.usage_in_bytes")).unwrap_or(0),
                limit_bytes: to.memory_bytes,
            }),
            other => other,
        }
    }

    fn divide(&self, id: &str, _memory_bytes: u64, shares: &[(usize, u64)]) -> Result<Vec<Share>> {
        let memory = self.memory.join(id);
        let made = shares.iter().map(|&(at, bytes)| share::v1(&memory, at, bytes));
        made.collect()
    }

    fn plan(&self, id: &str) -> GroupPlan {
        let memory = self.memory.join(id);
        let mut joined = vec![memory.clone(), self.cpu.join(id), self.pids.join(id)];
        let others = [&self.blkio, &self.cpuacct, &self.freezer];
        joined.extend(others.into_iter().flatten().map(|parent| parent.join(id)));
        joined.dedup();
        GroupPlan {
            tasks: joined.iter().map(|group| group.join("tasks")).collect(),
            views: vec![
                (memory.clone(), "memory".to_owned()),
                (self.cpu.join(id), "cpu".to_owned()),
                (self.pids.join(id), "pids".to_owned()),
            ],
            oom_counter: memory.join("memory.oom_control"),
            oom_event_control: Some(memory.join("cgroup.event_control")),
            memory_peak: Some(memory.join("memory.max_usage_in_bytes")),
            memory_limit: memory.join("memory.limit_in_bytes"),
            pids_events: self.pids.join(id).join("pids.events"),
            pids_limit: self.pids.join(id).join("pids.max"),
            pids_announced: false,
        }
    }

    fn entry(&self, id: &str) -> Result<Option<OwnedFd>> {
        let Some(unified) = &self.unified else { return Ok(None) };
        let folder = unified.join(id);
        Ok(Some(std::fs::File::open(&folder).at("open group", folder)?.into()))
    }

    fn kill(&self, id: &str) -> Result<()> {
        let one_by_one = || {
            let freezer = self.freezer.as_ref().map(|freezer| freezer.join(id));
            one_by_one::kill(&self.pids.join(id), freezer.as_deref()).on("kill processes", id)
        };
        let Some(unified) = &self.unified else {
            return one_by_one();
        };
        let file = unified.join(id).join("cgroup.kill");
        match files::write(&file, 1) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => one_by_one(),
            other => other.at("kill through", file),
        }
    }

    fn freeze(&self, id: &str, frozen: bool) -> Result<()> {
        let deadline = Instant::now() + FREEZE;
        let done = match (&self.unified, &self.freezer) {
            (Some(unified), _) => files::freeze(&unified.join(id), frozen, deadline),
            (None, Some(freezer)) => one_by_one::freeze(&freezer.join(id), frozen, deadline),
            (None, None) => {
                return Err(Error::Unsupported {
                    operation: "freeze",
                    id: id.to_owned(),
                    reason: "this host has neither a v2 control group hierarchy nor a v1 freezer",
                });
            }
        };
        super::frozen_in_time(id, done)
    }

    fn is_frozen(&self, id: &str) -> bool {
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        match (&self.unified, &self.freezer) {
            (Some(unified), _) => read(unified.join(id).join("cgroup.freeze")).trim() == "1",
            (None, Some(freezer)) => !matches!(read(freezer.join(id).join("freezer.state")).trim(), "THAWED" | ""),
            (None, None) => false,
        }
    }

    fn figures(&self, id: &str) -> Vec<Figure> {
        let (memory, cpu, pids) = (self.memory.join(id), self.cpu.join(id), self.pids.join(id));
        let mut figures = vec![
            Figure::needed(memory.join("memory.usage_in_bytes"), |stats, text| {
                stats.memory_bytes = meter::number(text);
            }),
            Figure::new(memory.join("memory.stat"), |stats, text| {
                let idle = files::keyed(text, "total_inactive_file").unwrap_or(0);
                stats.memory_bytes = stats.memory_bytes.saturating_sub(idle);
            }),
            Figure::new(memory.join("memory.max_usage_in_bytes"), |stats, text| {
                stats.memory_peak = meter::number(text);
            }),
            Figure::new(memory.join("memory.kmem.usage_in_bytes"), |stats, text| {
                stats.memory_kernel = meter::number(text);
            }),
            Figure::new(memory.join("memory.oom_control"), |stats, text| {
                stats.oom_kills = files::keyed(text, "oom_kill").unwrap_or(0);
            }),
            Figure::new(cpu.join("cpu.stat"), take_cpu),
            Figure::new(pids.join("pids.current"), |stats, text| {
                stats.pids = meter::number(text)
            }),
            Figure::new(pids.join("pids.events"), |stats, text| {
                stats.pids_refused = files::keyed(text, "max").unwrap_or(0);
            }),
        ];
        if let Some(blkio) = self.blkio.as_ref().map(|parent| parent.join(id)) {
            figures.push(Figure::new(
                blkio.join("blkio.throttle.io_service_bytes"),
                |stats, text| {
                    let total = per_device(text);
                    (stats.io.read_bytes, stats.io.write_bytes) = (total.reads, total.writes);
                },
            ));
            figures.push(Figure::new(blkio.join("blkio.throttle.io_serviced"), |stats, text| {
                let total = per_device(text);
                (stats.io.reads, stats.io.writes) = (total.reads, total.writes);
            }));
        }
        match &self.unified {
            Some(unified) => {
                let group = unified.join(id);
                figures.extend([
                    Figure::new(group.join("cpu.stat"), |stats, text| {
                        stats.cpu_usec = files::keyed(text, "usage_usec").unwrap_or(0);
                    }),
                    Figure::new(group.join("cpu.pressure"), meter::take_cpu_pressure),
                    Figure::new(group.join("memory.pressure"), meter::take_memory_pressure),
                    Figure::new(group.join("io.pressure"), meter::take_io_pressure),
                ]);
            }
            None => {
                let group = self.cpuacct.as_ref().unwrap_or(&self.cpu).join(id);
                figures.push(Figure::new(group.join("cpuacct.usage"), |stats, text| {
                    stats.cpu_usec = meter::number(text) / 1000;
                }));
            }
        }
        figures
    }

    fn missing(&self, disks: &[Device]) -> Vec<String> {
        let mut missing = Vec::new();
        if self.blkio.is_none() {
            missing.push("the use of disks is neither limited nor measured: no blkio hierarchy is mounted".to_owned());
            return missing;
        }
        missing
            .push("I/O limits do not hold for writes that an app leaves to the kernel (control groups v1)".to_owned());
        if !disks.iter().any(|disk| disk.schedulers().contains("[bfq]")) {
            missing.push("I/O weights have no effect: the disk's scheduler is not bfq".to_owned());
        }
        missing
    }

    fn oom(&self, id: &str) -> Option<Oom> {
        let memory = self.memory.join(id);
        if files::keyed_in(&memory.join("memory.oom_control"), "oom_kill") == 0 {
            return None;
        }
        let number = |name| files::number(&memory.join(name)).unwrap_or(0);
        Some(Oom {
            limit_bytes: number("memory.limit_in_bytes"),
            peak_bytes: number("memory.max_usage_in_bytes"),
        })
    }

    fn pids_refused(&self, id: &str) -> u64 {
        files::keyed_in(&self.pids.join(id).join("pids.events"), "max")
    }

    fn folders(&self, id: &str) -> Vec<PathBuf> {
        self.parents().into_iter().map(|parent| parent.join(id)).collect()
    }

    fn parents(&self) -> Vec<PathBuf> {
        let mut all = vec![self.memory.clone(), self.cpu.clone(), self.pids.clone()];
        let others = [&self.blkio, &self.cpuacct, &self.freezer, &self.unified];
        all.extend(others.into_iter().flatten().cloned());
        all.dedup();
        all
    }

    fn unified_parent(&self) -> Option<PathBuf> {
        self.unified.clone()
    }

    fn adopt_spawner(&self, pid: i32) -> io::Result<()> {
        for parent in self.parents() {
            let group = parent.join(SPAWNER_GROUP);
            files::make(&group)?;
            files::write(&group.join("cgroup.procs"), pid)?;
        }
        Ok(())
    }
}

fn take_cpu(stats: &mut Stats, text: &str) {
    stats.throttled = files::keyed(text, "throttled_time").unwrap_or(0) / 1000;
    stats.cpu_periods = files::keyed(text, "nr_periods").unwrap_or(0);
    stats.throttled_periods = files::keyed(text, "nr_throttled").unwrap_or(0);
}

/// Lines `7:0 Read 4096`, summed; as `reads` and `writes`, whatever they count.
fn per_device(text: &str) -> IoUsage {
    let mut sums = PerDevice::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(device), Some(kind), Some(count)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let count: u64 = count.parse().unwrap_or(0);
        match kind {
            "Read" => sums.of(device).reads += count,
            "Write" => sums.of(device).writes += count,
            _ => {}
        }
    }
    sums.total()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn without_a_v2_group_every_process_is_killed() {
        let mut mounts = Mounts::read().unwrap();
        mounts.unified = None;
        let parent = format!("paas/plain{}", std::process::id());
        // Pure v2 hosts have no such hierarchies.
        let Some(groups) = Hybrid::probe(&mounts, &parent).unwrap() else {
            return;
        };
        assert_eq!(groups.layout(), "v1");
        let limits = Limits {
            memory_bytes: 64 << 20,
            cpu_weight: 100,
            cpu_quota: None,
            pids: 20,
            io: crate::IoLimits::default(),
        };
        groups.create("a", &limits).unwrap();
        assert!(groups.entry("a").unwrap().is_none());
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        for tasks in groups.plan("a").tasks {
            files::write(&tasks, child.id()).unwrap();
        }
        let mut meter = meter::Meter::new(groups.figures("a"), false);
        assert_eq!(meter.read(&mut [0; meter::BUFFER_BYTES]).unwrap().pids, 1);
        // What is frozen dies of it, too.
        groups.freeze("a", true).unwrap();
        assert!(groups.is_frozen("a"));
        groups.kill("a").unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        groups.kill("a").unwrap();
        crate::cgroup::remove(&groups, "a", Instant::now() + Duration::from_secs(2)).unwrap();
        crate::cgroup::remove_parents(&groups);
        assert!(groups.parents().iter().all(|p| !p.exists()));
    }
}
