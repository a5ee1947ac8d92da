//! Control groups: what is configured stands in the files of the group that the process is in.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::judge::{Outcome, Trouble, ensure};
use super::kit::Bundle;

cases!("runtime-tools": linux_cgroups_blkio linux_cgroups_cpus linux_cgroups_devices linux_cgroups_hugetlb
       linux_cgroups_memory linux_cgroups_network linux_cgroups_pids linux_cgroups_relative_blkio
       linux_cgroups_relative_cpus linux_cgroups_relative_devices linux_cgroups_relative_hugetlb
       linux_cgroups_relative_memory linux_cgroups_relative_network linux_cgroups_relative_pids);

const GROUPS: &str = "/sys/fs/cgroup";

/// The v1 hierarchy with `controller`, if this machine has one.
fn hierarchy(controller: &str) -> Result<PathBuf, Trouble> {
    let path = Path::new(GROUPS).join(controller);
    if path.join("cgroup.procs").exists() {
        Ok(path)
    } else {
        Err(Trouble::Impossible(format!(
            "no hierarchy with {controller} is mounted on this machine"
        )))
    }
}

/// The group of the container's process.
fn group(bundle: &Bundle, controller: &str) -> Result<PathBuf, Trouble> {
    let root = hierarchy(controller)?;
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid()))?;
    let mut lines = text
        .lines()
        .filter_map(|line| line.split(':').skip(1).collect::<Vec<_>>().try_into().ok());
    let path = lines.find_map(|[list, path]: [&str; 2]| list.split(',').any(|one| one == controller).then_some(path));
    let path = path.ok_or_else(|| format!("its process is in no group of {controller}"))?;
    ensure(path.contains(&bundle.id), || {
        format!("its process is in the group {path} of {controller}")
    })?;
    Ok(root.join(path.trim_start_matches('/')))
}

/// Creates the container with `resources`, and looks at (controller, file, value); files this kernel lacks are left out.
fn written(bundle: &mut Bundle, resources: &Value, wanted: &[(&str, &str, String)]) -> Outcome {
    for (key, value) in resources.as_object().into_iter().flatten() {
        bundle.config["linux"]["resources"][key] = value.clone();
    }
    bundle.create()?;
    for (controller, file, value) in wanted {
        let path = group(bundle, controller)?.join(file);
        let found = std::fs::read_to_string(&path).map_err(|error| format!("{file}: {error}"))?;
        let found = found.trim();
        ensure(found.lines().any(|line| line == value), || {
            format!("{file} is {found:?}, not {value:?}")
        })?;
    }
    bundle.finish()
}

fn relative(bundle: &mut Bundle) {
    bundle.config["linux"]["cgroupsPath"] = json!(format!("{}-relative", bundle.id));
}

fn has(controller: &str, file: &str) -> bool {
    // Roots lack most files; what a group has is seen in one.
    Path::new(GROUPS).join(controller).join(file).exists()
}

/// A whole block device, which need not be used by anybody.
fn block_device() -> Result<(u64, u64), Trouble> {
    let all = std::fs::read_dir("/sys/block")?.flatten();
    let mut numbers = all.filter_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    numbers
        .next()
        .ok_or_else(|| Trouble::Impossible("this machine has no block device".to_owned()))
}

/// Weights where the kernel has them, throttles everywhere. Leaf weights went with the kernel's old scheduler.
fn blkio(bundle: &mut Bundle, rate: u64, with_weight: bool) -> Outcome {
    hierarchy("blkio")?;
    let (major, minor) = block_device()?;
    let throttle = json!([{ "major": major, "minor": minor, "rate": rate }]);
    let mut io = json!({
        "throttleReadBpsDevice": throttle, "throttleWriteBpsDevice": throttle,
        "throttleReadIOPSDevice": throttle, "throttleWriteIOPSDevice": throttle,
    });
    let line = format!("{major}:{minor} {rate}");
    let files = [
        "read_bps_device",
        "write_bps_device",
        "read_iops_device",
        "write_iops_device",
    ];
    let files = files.map(|file| format!("blkio.throttle.{file}"));
    let mut wanted: Vec<(&str, &str, String)> = files
        .iter()
        .map(|file| ("blkio", file.as_str(), line.clone()))
        .collect();
    if with_weight {
        io["weight"] = json!(500);
        wanted.push(("blkio", "blkio.bfq.weight", "500".to_owned()));
    }
    written(bundle, &json!({ "blockIO": io }), &wanted)
}

fn linux_cgroups_blkio(bundle: &mut Bundle) -> Outcome {
    blkio(bundle, 102_400, true)?;
    blkio(bundle, 204_800, true)?;
    bundle.config["linux"]["resources"]
        .as_object_mut()
        .unwrap()
        .remove("blockIO");
    blkio(bundle, 102_400, false)
}

fn linux_cgroups_relative_blkio(bundle: &mut Bundle) -> Outcome {
    relative(bundle);
    blkio(bundle, 102_400, true)
}

fn cpus(bundle: &mut Bundle, shares: u64, period: u64, quota: i64, set: &str) -> Outcome {
    hierarchy("cpu")?;
    let mut cpu = json!({ "shares": shares, "period": period, "quota": quota, "cpus": set, "mems": "0" });
    let mut wanted = vec![
        ("cpu", "cpu.shares", shares.to_string()),
        ("cpu", "cpu.cfs_period_us", period.to_string()),
        ("cpu", "cpu.cfs_quota_us", quota.to_string()),
        ("cpuset", "cpuset.cpus", set.to_owned()),
        ("cpuset", "cpuset.mems", "0".to_owned()),
    ];
    // Only where time is left for real-time processes of any group at all.
    if has("cpu", "cpu.rt_runtime_us") && realtime_left() {
        cpu["realtimePeriod"] = json!(1_000_000);
        cpu["realtimeRuntime"] = json!(950_000);
        wanted.push(("cpu", "cpu.rt_runtime_us", "950000".to_owned()));
    }
    written(bundle, &json!({ "cpu": cpu }), &wanted)
}

fn realtime_left() -> bool {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    own.lines().any(|line| line.ends_with(":cpu,cpuacct:/"))
}

fn last_cpu() -> usize {
    std::thread::available_parallelism().map_or(0, |count| count.get() - 1)
}

fn linux_cgroups_cpus(bundle: &mut Bundle) -> Outcome {
    let all = format!("0-{}", last_cpu());
    for (shares, period, quota) in [(1024, 100_000, 50_000), (2048, 500_000, 200_000)] {
        for set in ["0", all.as_str()] {
            cpus(bundle, shares, period, quota, set)?;
        }
    }
    // Nothing set: what any group has.
    bundle.config["linux"]["resources"]["cpu"] = json!({});
    let wanted = [
        ("cpu", "cpu.shares", "1024".to_owned()),
        ("cpu", "cpu.cfs_quota_us", "-1".to_owned()),
        ("cpuset", "cpuset.cpus", all),
    ];
    written(bundle, &json!({}), &wanted)
}

fn linux_cgroups_relative_cpus(bundle: &mut Bundle) -> Outcome {
    relative(bundle);
    cpus(bundle, 1024, 100_000, 50_000, &format!("0-{}", last_cpu()))
}

fn devices(bundle: &mut Bundle) -> Outcome {
    hierarchy("devices")?;
    let rules = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" },
        { "allow": true, "type": "b", "major": 8, "minor": 20, "access": "rw" },
        { "allow": true, "type": "b", "major": 10, "minor": 200, "access": "r" },
    ]);
    let lines = ["c 10:229 rwm", "b 8:20 rw", "b 10:200 r"];
    let wanted = lines.map(|line| ("devices", "devices.list", line.to_owned()));
    written(bundle, &json!({ "devices": rules }), &wanted)
}

fn linux_cgroups_devices(bundle: &mut Bundle) -> Outcome {
    devices(bundle)
}

fn linux_cgroups_relative_devices(bundle: &mut Bundle) -> Outcome {
    relative(bundle);
    devices(bundle)
}

fn hugetlb(bundle: &mut Bundle) -> Outcome {
    hierarchy("hugetlb")?;
    let limits = json!([{ "pageSize": "2MB", "limit": 2u64 << 30 }]);
    let wanted = [("hugetlb", "hugetlb.2MB.limit_in_bytes", (2u64 << 30).to_string())];
    written(bundle, &json!({ "hugepageLimits": limits }), &wanted)?;
    bundle.config["linux"]["resources"]["hugepageLimits"] = json!([{ "pageSize": "3MB", "limit": 3 << 20 }]);
    super::judge::refused("pages of a size that there is not", bundle.create())
}

fn linux_cgroups_hugetlb(bundle: &mut Bundle) -> Outcome {
    hugetlb(bundle)
}

fn linux_cgroups_relative_hugetlb(bundle: &mut Bundle) -> Outcome {
    relative(bundle);
    hugetlb(bundle)
}

/// Deprecated limits of the kernel's own memory are given too, and may be left undone where the kernel has dropped them.
fn memory(bundle: &mut Bundle, limit: i64, swappiness: u64) -> Outcome {
    hierarchy("memory")?;
    let memory = json!({
        "limit": limit, "reservation": limit, "swap": limit, "kernel": limit, "kernelTCP": limit,
        "swappiness": swappiness, "disableOOMKiller": true,
    });
    let limit = limit.to_string();
    let wanted = [
        ("memory", "memory.limit_in_bytes", limit.clone()),
        ("memory", "memory.soft_limit_in_bytes", limit.clone()),
        ("memory", "memory.memsw.limit_in_bytes", limit.clone()),
        ("memory", "memory.kmem.tcp.limit_in_bytes", limit),
        ("memory", "memory.swappiness", swappiness.to_string()),
        ("memory", "memory.oom_control", "oom_kill_disable 1".to_owned()),
    ];
    let there = wanted.into_iter().filter(|(controller, file, _)| has(controller, file));
    written(bundle, &json!({ "memory": memory }), &there.collect::<Vec<_>>())
}

fn linux_cgroups_memory(bundle: &mut Bundle) -> Outcome {
    for (limit, swappiness) in [(50_593_792, 10), (50_593_792, 50), (151_781_376, 100)] {
        memory(bundle, limit, swappiness)?;
    }
    Ok(())
}

fn linux_cgroups_relative_memory(bundle: &mut Bundle) -> Outcome {
    relative(bundle);
    memory(bundle, 50_593_792, 50)
}

fn network(bundle: &mut Bundle) -> Outcome {
    hierarchy("net_cls")?;
    hierarchy("net_prio")?;
    let network = json!({ "classID": 255, "priorities": [{ "name": "lo", "priority": 10 }] });
    let wanted = [
        ("net_cls", "net_cls.classid", "255".to_owned()),
        ("net_prio", "net_prio.ifpriomap", "lo 10".to_owned()),
    ];
    written(bundle, &json!({ "network": network }), &wanted)
}

fn linux_cgroups_network(bundle: &mut Bundle) -> Outcome {
    network(bundle)
}

fn linux_cgroups_relative_network(bundle: &mut Bundle) -> Outcome {
    relative(bundle);
    network(bundle)
}

fn pids(bundle: &mut Bundle) -> Outcome {
    hierarchy("pids")?;
    written(
        bundle,
        &json!({ "pids": { "limit": 1000 } }),
        &[("pids", "pids.max", "1000".to_owned())],
    )
}

fn linux_cgroups_pids(bundle: &mut Bundle) -> Outcome {
    pids(bundle)
}

fn linux_cgroups_relative_pids(bundle: &mut Bundle) -> Outcome {
    relative(bundle);
    pids(bundle)
}
