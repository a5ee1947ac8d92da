//! Hosts where the limits are in v1 hierarchies. If a v2 hierarchy is mounted beside them,
//! each sandbox has a group there too: it can kill and freeze everything at once, shows
//! pressure, and a process can be born in it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::files::{self, Mounts};
use super::{GroupPlan, Groups, SPAWNER_GROUP, Usage};
use crate::error::Context;
use crate::{Limits, Oom, Result};

/// See the module.
#[derive(Debug)]
pub struct Hybrid {
    memory: PathBuf,
    cpu: PathBuf,
    pids: PathBuf,
    cpuacct: Option<PathBuf>,
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
        let cpuacct = at("cpuacct").filter(|path| *path != cpu);
        Ok(Some(Hybrid {
            memory,
            cpu,
            pids,
            cpuacct,
            unified,
        }))
    }

    fn set_limits(&self, id: &str, limits: &Limits) -> Result<()> {
        let memory = self.memory.join(id);
        let set = |path: PathBuf, value: u64| files::write(&path, value).at("set limit", path);
        set(memory.join("memory.limit_in_bytes"), limits.memory_bytes)?;
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

    fn cpu_usec(&self, id: &str) -> u64 {
        if let Some(unified) = &self.unified {
            return files::keyed_in(&unified.join(id).join("cpu.stat"), "usage_usec");
        }
        let group = self.cpuacct.as_ref().unwrap_or(&self.cpu).join(id);
        files::number(&group.join("cpuacct.usage")).unwrap_or(0) / 1000
    }

    /// Without a v2 group: every process in turn, until none is left to be seen.
    fn kill_each(&self, id: &str) -> io::Result<()> {
        for _ in 0..64 {
            let list = match std::fs::read_to_string(self.pids.join(id).join("cgroup.procs")) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            };
            let pids: Vec<i32> = list.lines().filter_map(|l| l.parse().ok()).filter(|&p| p > 1).collect();
            if pids.is_empty() {
                break;
            }
            for pid in pids {
                let _ = crate::sys::kill(pid, libc::SIGKILL);
            }
        }
        Ok(())
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

    fn limit(&self, id: &str, limits: &Limits, before: &Limits) -> Result<()> {
        let set = |path: PathBuf, value: i64| files::write(&path, value).at("set limit", path);
        if limits.memory_bytes != before.memory_bytes {
            let memory = self.memory.join(id);
            let mut both = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"].map(|name| memory.join(name));
            // Memory with swap may never be less than memory alone.
            if limits.memory_bytes > before.memory_bytes {
                both.reverse();
            }
            for path in both.into_iter().filter(|path| path.exists()) {
                set(path, limits.memory_bytes as i64)?;
            }
        }
        let cpu = self.cpu.join(id);
        if limits.cpu_weight != before.cpu_weight {
            set(cpu.join("cpu.shares"), files::shares(limits.cpu_weight) as i64)?;
        }
        if limits.cpu_quota != before.cpu_quota {
            set(cpu.join("cpu.cfs_period_us"), 100_000)?;
            let quota = limits.cpu_quota.map_or(-1, |cores| files::quota_usec(cores) as i64);
            set(cpu.join("cpu.cfs_quota_us"), quota)?;
        }
        if limits.pids != before.pids {
            set(self.pids.join(id).join("pids.max"), i64::from(limits.pids))?;
        }
        Ok(())
    }

    fn plan(&self, id: &str) -> GroupPlan {
        let memory = self.memory.join(id);
        let mut joined = vec![memory.clone(), self.cpu.join(id), self.pids.join(id)];
        if self.unified.is_none() {
            joined.extend(self.cpuacct.as_ref().map(|c| c.join(id)));
        }
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
            pids_events: self.pids.join(id).join("pids.events"),
            pids_announced: false,
        }
    }

    fn entry(&self, id: &str) -> Result<Option<OwnedFd>> {
        let Some(unified) = &self.unified else { return Ok(None) };
        let folder = unified.join(id);
        Ok(Some(std::fs::File::open(&folder).at("open group", folder)?.into()))
    }

    fn kill(&self, id: &str) -> Result<()> {
        let Some(unified) = &self.unified else {
            return self.kill_each(id).on("kill processes", id);
        };
        let file = unified.join(id).join("cgroup.kill");
        match files::write(&file, 1) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.kill_each(id).on("kill processes", id),
            other => other.at("kill through", file),
        }
    }

    fn freeze(&self, id: &str, frozen: bool) -> Result<()> {
        let Some(unified) = &self.unified else { return Ok(()) };
        let file = unified.join(id).join("cgroup.freeze");
        files::write(&file, u8::from(frozen)).at("freeze through", file)
    }

    fn usage(&self, id: &str) -> Result<Usage> {
        let memory = self.memory.join(id);
        let used = memory.join("memory.usage_in_bytes");
        let used = files::number(&used).at("read", used)?;
        let idle = files::keyed_in(&memory.join("memory.stat"), "total_inactive_file");
        Ok(Usage {
            memory_bytes: used.saturating_sub(idle),
            memory_peak: files::number(&memory.join("memory.max_usage_in_bytes")).unwrap_or(0),
            cpu_usec: self.cpu_usec(id),
            throttled_usec: files::keyed_in(&self.cpu.join(id).join("cpu.stat"), "throttled_time") / 1000,
            pids: files::number(&self.pids.join(id).join("pids.current")).unwrap_or(0),
        })
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
        match &self.unified {
            Some(unified) => all.push(unified.clone()),
            None => all.extend(self.cpuacct.clone()),
        }
        all.dedup();
        all
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::time::{Duration, Instant};

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
        };
        groups.create("a", &limits).unwrap();
        assert!(groups.entry("a").unwrap().is_none());
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        for tasks in groups.plan("a").tasks {
            files::write(&tasks, child.id()).unwrap();
        }
        assert_eq!(groups.usage("a").unwrap().pids, 1);
        groups.kill("a").unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        groups.kill("a").unwrap();
        crate::cgroup::remove(&groups, "a", Instant::now() + Duration::from_secs(2)).unwrap();
        crate::cgroup::remove_parents(&groups);
        assert!(groups.parents().iter().all(|p| !p.exists()));
    }
}
