//! The resources of a configuration as files of control groups: a pure plan of what is written where, for v1 and for
//! v2, and its execution. Swap is told by the specification together with memory; v2 counts it alone.

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxDevice, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::devices;
use super::error::{Context, Error, Result};
use super::groups::Groups;
use crate::cgroup::files;
use crate::cgroup::nodes;

/// One write: controller, file, value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which controller it is of.
    pub controller: &'static str,
    /// The file.
    pub file: String,
    /// What is written.
    pub value: String,
    /// Kernels without it are no error: it is deprecated, or only ever makes a limit tighter.
    pub lenient: bool,
}

pub(super) fn write(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Write {
    Write {
        controller,
        file: file.into(),
        value: value.to_string(),
        lenient: false,
    }
}

fn lenient(controller: &'static str, file: &str, value: impl ToString) -> Write {
    Write {
        lenient: true,
        ..write(controller, file, value)
    }
}

/// Applies `resources` to the container's groups; `own` devices may be used whatever the rules say.
pub fn apply(groups: &Groups, resources: &LinuxResources, own: &[LinuxDevice]) -> Result<()> {
    let mut v1 = plan_v1(resources);
    let rules = devices::rules(resources.devices().as_deref().unwrap_or_default(), own);
    match (groups.v1("devices"), groups.unified()) {
        (None, Some(group)) if !rules.is_empty() => {
            nodes::guard(&group.dir, &rules, true).at("set device rules in", &group.dir)?;
        }
        _ => v1.extend(devices::for_v1(&rules)),
    }
    for one in v1 {
        match groups.v1(one.controller) {
            Some(group) => put(&group.dir, &one)?,
            None if groups.unified().is_some() => {}
            None => return Err(absent(&one)),
        }
    }
    // Beside v1 hierarchies the v2 one has what those lack.
    for one in plan_v2(resources)? {
        // What v2 calls io is blkio there.
        let name = if one.controller == "io" {
            "blkio"
        } else {
            one.controller
        };
        if groups.v1(name).is_some() {
            continue;
        }
        let Some(group) = groups.unified() else {
            return Err(absent(&one));
        };
        if one.controller != "cgroup" && !hand_down(&group.dir, one.controller) {
            return Err(absent(&one));
        }
        put(&group.dir, &one)?;
    }
    if resources.network().is_some() && groups.v1("net_cls").is_none() && groups.v1("net_prio").is_none() {
        let what = "linux.resources.network: this host has no hierarchy with net_cls and net_prio".to_owned();
        return Err(Error::Unsupported { what });
    }
    Ok(())
}

fn absent(one: &Write) -> Error {
    let what = format!(
        "{}: this host's control groups have no controller {}",
        one.file, one.controller
    );
    Error::Unsupported { what }
}

fn put(dir: &Path, one: &Write) -> Result<()> {
    let path = dir.join(&one.file);
    match files::write(&path, &one.value) {
        Err(e) if one.lenient && matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL)) => {
            Ok(())
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let what = format!("{}: this kernel does not have it", one.file);
            Err(Error::Unsupported { what })
        }
        Err(source) => Err(Error::File {
            operation: "set limit",
            path,
            source,
        }),
        Ok(()) => Ok(()),
    }
}

/// Makes `controller` available in the v2 group `dir`; whether it is now.
fn hand_down(dir: &Path, controller: &str) -> bool {
    let has = |folder: &Path, file: &str| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        text.split_whitespace().any(|one| one == controller)
    };
    let mut above: Vec<PathBuf> = dir.ancestors().skip(1).map(Path::to_owned).collect();
    above.retain(|folder| folder.join("cgroup.subtree_control").exists());
    for folder in above.iter().rev() {
        if !has(folder, "cgroup.subtree_control") && has(folder, "cgroup.controllers") {
            let _ = files::write(&folder.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    has(dir, "cgroup.controllers")
}

/// What v1 hierarchies are told, devices apart.
pub fn plan_v1(resources: &LinuxResources) -> Vec<Write> {
    let mut all = Vec::new();
    if let Some(memory) = resources.memory() {
        memory_v1(memory, &mut all);
    }
    if let Some(cpu) = resources.cpu() {
        cpu_v1(cpu, &mut all);
    }
    if let Some(pids) = resources.pids() {
        all.push(write("pids", "pids.max", maximum(pids.limit())));
    }
    if let Some(io) = resources.block_io() {
        io_v1(io, &mut all);
    }
    for page in resources.hugepage_limits().iter().flatten() {
        all.push(write(
            "hugetlb",
            format!("hugetlb.{}.limit_in_bytes", page.page_size()),
            page.limit(),
        ));
    }
    if let Some(network) = resources.network() {
        all.extend(
            network
                .class_id()
                .map(|class| write("net_cls", "net_cls.classid", class)),
        );
        for one in network.priorities().iter().flatten() {
            let value = format!("{} {}", one.name(), one.priority());
            all.push(write("net_prio", "net_prio.ifpriomap", value));
        }
    }
    all
}

fn maximum(limit: i64) -> String {
    if limit > 0 { limit.to_string() } else { "max".to_owned() }
}

fn memory_v1(memory: &LinuxMemory, all: &mut Vec<Write>) {
    let number = |file: &str, value: Option<i64>| value.map(|value| write("memory", file, value));
    all.extend(number("memory.limit_in_bytes", memory.limit()));
    all.extend(number("memory.soft_limit_in_bytes", memory.reservation()));
    all.extend(number("memory.memsw.limit_in_bytes", memory.swap()));
    all.extend(
        memory
            .kernel_tcp()
            .map(|value| lenient("memory", "memory.kmem.tcp.limit_in_bytes", value)),
    );
    all.extend(
        memory
            .swappiness()
            .map(|value| write("memory", "memory.swappiness", value)),
    );
    if memory.disable_oom_killer() == Some(true) {
        all.push(write("memory", "memory.oom_control", 1));
    }
}

fn cpu_v1(cpu: &LinuxCpu, all: &mut Vec<Write>) {
    all.extend(
        cpu.shares()
            .filter(|shares| *shares > 0)
            .map(|shares| write("cpu", "cpu.shares", shares)),
    );
    all.extend(cpu.period().map(|period| write("cpu", "cpu.cfs_period_us", period)));
    all.extend(cpu.quota().map(|quota| write("cpu", "cpu.cfs_quota_us", quota)));
    all.extend(cpu.burst().map(|burst| write("cpu", "cpu.cfs_burst_us", burst)));
    all.extend(cpu.idle().map(|idle| write("cpu", "cpu.idle", idle)));
    all.extend(
        cpu.realtime_period()
            .map(|period| write("cpu", "cpu.rt_period_us", period)),
    );
    all.extend(
        cpu.realtime_runtime()
            .map(|runtime| write("cpu", "cpu.rt_runtime_us", runtime)),
    );
    cpuset(cpu, all);
}

fn cpuset(cpu: &LinuxCpu, all: &mut Vec<Write>) {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    all.extend(set(cpu.cpus()).map(|cpus| write("cpuset", "cpuset.cpus", cpus)));
    all.extend(set(cpu.mems()).map(|mems| write("cpuset", "cpuset.mems", mems)));
}

fn io_v1(io: &LinuxBlockIo, all: &mut Vec<Write>) {
    all.extend(
        io.weight()
            .filter(|weight| *weight > 0)
            .map(|weight| write("blkio", "blkio.bfq.weight", weight)),
    );
    all.extend(
        io.leaf_weight()
            .filter(|weight| *weight > 0)
            .map(|weight| lenient("blkio", "blkio.leaf_weight", weight)),
    );
    for device in io.weight_device().iter().flatten() {
        let (major, minor) = (device.major(), device.minor());
        if let Some(weight) = device.weight().filter(|weight| *weight > 0) {
            all.push(write(
                "blkio",
                "blkio.bfq.weight_device",
                format!("{major}:{minor} {weight}"),
            ));
        }
    }
    for (file, list) in throttles(io) {
        for one in list {
            all.push(write(
                "blkio",
                file,
                format!("{}:{} {}", one.major(), one.minor(), one.rate()),
            ));
        }
    }
}

/// The v1 file of each kind of throttle.
fn throttles(io: &LinuxBlockIo) -> [(&'static str, &[LinuxThrottleDevice]); 4] {
    fn list(list: &Option<Vec<LinuxThrottleDevice>>) -> &[LinuxThrottleDevice] {
        list.as_deref().unwrap_or_default()
    }
    [
        ("blkio.throttle.read_bps_device", list(io.throttle_read_bps_device())),
        ("blkio.throttle.write_bps_device", list(io.throttle_write_bps_device())),
        ("blkio.throttle.read_iops_device", list(io.throttle_read_iops_device())),
        (
            "blkio.throttle.write_iops_device",
            list(io.throttle_write_iops_device()),
        ),
    ]
}

/// What the v2 hierarchy is told.
pub fn plan_v2(resources: &LinuxResources) -> Result<Vec<Write>> {
    let mut all = Vec::new();
    if let Some(memory) = resources.memory() {
        memory_v2(memory, &mut all)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_v2(cpu, &mut all);
    }
    if let Some(pids) = resources.pids() {
        all.push(write("pids", "pids.max", maximum(pids.limit())));
    }
    if let Some(io) = resources.block_io() {
        all.extend(
            io.weight()
                .filter(|weight| *weight > 0)
                .map(|weight| write("io", "io.bfq.weight", weight)),
        );
        for ((_, list), key) in throttles(io).into_iter().zip(["rbps", "wbps", "riops", "wiops"]) {
            for one in list {
                let value = format!("{}:{} {key}={}", one.major(), one.minor(), one.rate());
                all.push(write("io", "io.max", value));
            }
        }
    }
    for page in resources.hugepage_limits().iter().flatten() {
        all.push(write(
            "hugetlb",
            format!("hugetlb.{}.max", page.page_size()),
            page.limit(),
        ));
    }
    for (file, value) in resources.unified().iter().flatten() {
        let controller = ["memory", "cpu", "pids", "io", "cpuset", "hugetlb", "rdma", "misc"]
            .into_iter()
            .find(|controller| file.strip_prefix(controller).is_some_and(|rest| rest.starts_with('.')));
        if file.contains('/') || (controller.is_none() && !file.starts_with("cgroup.")) {
            let what = format!("linux.resources.unified: {file:?} is not a control group's file");
            return Err(Error::Unsupported { what });
        }
        all.push(write(controller.unwrap_or("cgroup"), file.clone(), value));
    }
    // The set of processors is a controller of its own.
    Ok(all)
}

fn memory_v2(memory: &LinuxMemory, all: &mut Vec<Write>) -> Result<()> {
    let number = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    all.extend(memory.limit().map(|limit| write("memory", "memory.max", number(limit))));
    all.extend(
        memory
            .reservation()
            .map(|value| write("memory", "memory.low", number(value))),
    );
    if let Some(swap) = memory.swap() {
        let alone = match memory.limit() {
            _ if swap < 0 => "max".to_owned(),
            Some(limit) if limit >= 0 && swap >= limit => (swap - limit).to_string(),
            _ => {
                let what =
                    "linux.resources.memory.swap counts memory as well and must not be below its limit".to_owned();
                return Err(Error::Unsupported { what });
            }
        };
        all.push(lenient("memory", "memory.swap.max", alone));
    }
    Ok(())
}

fn cpu_v2(cpu: &LinuxCpu, all: &mut Vec<Write>) {
    if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
        all.push(write("cpu", "cpu.weight", weight(shares)));
    }
    if cpu.quota().is_some() || cpu.period().is_some() {
        let quota = cpu
            .quota()
            .filter(|quota| *quota > 0)
            .map_or("max".to_owned(), |quota| quota.to_string());
        let period = cpu.period().filter(|period| *period > 0).unwrap_or(100_000);
        all.push(write("cpu", "cpu.max", format!("{quota} {period}")));
    }
    all.extend(cpu.burst().map(|burst| write("cpu", "cpu.max.burst", burst)));
    all.extend(cpu.idle().map(|idle| write("cpu", "cpu.idle", idle)));
    cpuset(cpu, all);
}

/// 2..=262144 shares as a weight of 1..=10000.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(value: serde_json::Value) -> LinuxResources {
        serde_json::from_value(value).unwrap()
    }

    fn told(writes: &[Write]) -> Vec<(String, String)> {
        writes.iter().map(|one| (one.file.clone(), one.value.clone())).collect()
    }

    fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
        wanted
            .iter()
            .map(|(file, value)| ((*file).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn both_layouts_are_told_the_same() {
        let wanted = resources(serde_json::json!({
            "memory": { "limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20 },
            "cpu": { "shares": 1024, "quota": 50_000, "period": 100_000, "cpus": "0-1" },
            "pids": { "limit": 0 },
        }));
        assert_eq!(
            told(&plan_v1(&wanted)),
            pairs(&[
                ("memory.limit_in_bytes", "67108864"),
                ("memory.soft_limit_in_bytes", "33554432"),
                ("memory.memsw.limit_in_bytes", "100663296"),
                ("cpu.shares", "1024"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpuset.cpus", "0-1"),
                ("pids.max", "max"),
            ])
        );
        assert_eq!(
            told(&plan_v2(&wanted).unwrap()),
            pairs(&[
                ("memory.max", "67108864"),
                ("memory.low", "33554432"),
                ("memory.swap.max", "33554432"),
                ("cpu.weight", "39"),
                ("cpu.max", "50000 100000"),
                ("cpuset.cpus", "0-1"),
                ("pids.max", "max"),
            ])
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let swap = resources(serde_json::json!({ "memory": { "limit": 100, "swap": 50 } }));
        assert!(plan_v2(&swap).is_err());
        for file in ["../x", "memory/max", "other.file"] {
            let unified = resources(serde_json::json!({ "unified": { file: "1" } }));
            assert!(plan_v2(&unified).is_err(), "{file}");
        }
        assert_eq!((weight(2), weight(262_144), weight(0)), (1, 10_000, 1));
    }
}
