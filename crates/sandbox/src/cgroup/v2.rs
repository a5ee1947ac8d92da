//! Hosts with one v2 hierarchy that has memory, cpu and pids.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::files::{self, Mounts};
use super::{GroupPlan, Groups, SPAWNER_GROUP, Usage};
use crate::error::Context;
use crate::{Limits, Oom, Result};

const NEEDED: [&str; 3] = ["memory", "cpu", "pids"];

/// See the module.
#[derive(Debug)]
pub struct Unified {
    root: PathBuf,
    parent: PathBuf,
}

impl Unified {
    /// With the parent below the hierarchy's root, if the controllers are there.
    pub fn probe(mounts: &Mounts, parent: &str) -> Result<Option<Unified>> {
        let Some(root) = &mounts.unified else { return Ok(None) };
        let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        if !NEEDED
            .iter()
            .all(|needed| controllers.split_whitespace().any(|c| c == *needed))
        {
            return Ok(None);
        }
        Ok(Some(Unified {
            root: root.clone(),
            parent: root.join(parent),
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
            for needed in NEEDED {
                if !present.split_whitespace().any(|c| c == needed) {
                    files::write(&file, format!("+{needed}")).at("hand controllers down in", &file)?;
                }
            }
        }
        Ok(())
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

    fn limit(&self, id: &str, limits: &Limits, before: &Limits) -> Result<()> {
        let group = self.group(id);
        let set = |name: &str, value: String| {
            let path = group.join(name);
            files::write(&path, value).at("set limit", path)
        };
        if limits.memory_bytes != before.memory_bytes {
            set("memory.max", limits.memory_bytes.to_string())?;
        }
        if limits.cpu_weight != before.cpu_weight {
            set("cpu.weight", limits.cpu_weight.clamp(1, 10_000).to_string())?;
        }
        if limits.cpu_quota != before.cpu_quota {
            let quota = limits.cpu_quota.map(|cores| files::quota_usec(cores).to_string());
            set("cpu.max", format!("{} 100000", quota.as_deref().unwrap_or("max")))?;
        }
        if limits.pids != before.pids {
            set("pids.max", limits.pids.to_string())?;
        }
        Ok(())
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
            pids_events: group.join("pids.events"),
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
        let file = self.group(id).join("cgroup.freeze");
        files::write(&file, u8::from(frozen)).at("freeze through", file)
    }

    fn usage(&self, id: &str) -> Result<Usage> {
        let group = self.group(id);
        let current = group.join("memory.current");
        let used = files::number(&current).at("read", current)?;
        let idle = files::keyed_in(&group.join("memory.stat"), "inactive_file");
        let cpu = std::fs::read_to_string(group.join("cpu.stat")).unwrap_or_default();
        Ok(Usage {
            memory_bytes: used.saturating_sub(idle),
            memory_peak: files::number(&group.join("memory.peak")).unwrap_or(used),
            cpu_usec: files::keyed(&cpu, "usage_usec").unwrap_or(0),
            throttled_usec: files::keyed(&cpu, "throttled_usec").unwrap_or(0),
            pids: files::number(&group.join("pids.current")).unwrap_or(0),
        })
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

    fn adopt_spawner(&self, pid: i32) -> io::Result<()> {
        let group = self.parent.join(SPAWNER_GROUP);
        files::make(&group)?;
        files::write(&group.join("cgroup.procs"), pid)
    }
}
