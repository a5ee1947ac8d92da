//! A sandbox's specification as that of an OCI runtime. Pure: the same sandbox on the same place gives
//! the same text, whatever the host.
//!
//! What a bundle has no words for travels as annotations: the layers and the private layer that the
//! bundle's root stands for, files to be written into it, network policy, how output is kept.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    self as oci, Capabilities, Linux, LinuxCapabilities, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType,
    LinuxIdMappingBuilder, LinuxMemory, LinuxNamespace, LinuxNamespaceType, LinuxPids, LinuxResources, Mount,
    PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Root, User,
};
use serde_json::json;

use super::profile;
use crate::cgroup::{quota_usec, shares};
use crate::inside::layout::{self, DEV, KernelMount, NODES, PROC, PTS, QUEUES, SHM, SYS, TTY_GROUP};
use crate::sys::attr;
use crate::{Bind, Limits, Process, Rlimit, RlimitKind, Spec};

/// The version of the runtime specification that is spoken; runtimes of 1.0 take it as well.
const VERSION: &str = "1.0.2";
/// Ids of a sandbox's user namespace.
const RANGE: u32 = 65_536;
/// Microseconds over which the CPU ceiling is counted.
const PERIOD: u64 = 100_000;

/// Where on a host a sandbox is to be: what its specification leaves open.
#[derive(Clone, Debug)]
pub struct Place {
    /// The bundle's root: the layers with the private layer over them, owned as the mappings say.
    pub root: PathBuf,
    /// First host uid (and gid) of its 65536.
    pub uid_base: u32,
    /// Its group, below each hierarchy's root; absolute.
    pub cgroups: PathBuf,
    /// Further paths of this host to be hidden.
    pub masked: Vec<String>,
}

impl Place {
    /// With what this host has to hide besides.
    pub fn here(root: &Path, uid_base: u32, cgroups: &Path) -> Place {
        Place {
            root: root.to_owned(),
            uid_base,
            cgroups: cgroups.to_owned(),
            masked: crate::inside::masks::thermal(),
        }
    }
}

/// The sandbox `spec` as a bundle's configuration.
pub fn from_spec(spec: &Spec, place: &Place) -> oci::Spec {
    let mut root = Root::default();
    root.set_path(place.root.clone()).set_readonly(Some(false));
    let mut all = oci::Spec::default();
    all.set_version(VERSION.to_owned())
        .set_root(Some(root))
        .set_hostname(Some(spec.hostname.clone()))
        .set_process(Some(process(&spec.process)))
        .set_mounts(Some(mounts(spec)))
        .set_annotations(Some(annotations(spec)))
        .set_linux(Some(linux(spec, place)));
    all
}

fn process(process: &Process) -> oci::Process {
    let mut user = User::default();
    user.set_uid(process.uid).set_gid(process.gid).set_umask(Some(0o022));
    let none = || Some(Capabilities::new());
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(none())
        .set_effective(none())
        .set_inheritable(none())
        .set_permitted(none())
        .set_ambient(none());
    let env = process
        .env
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mut all = oci::Process::default();
    all.set_terminal(Some(process.terminal))
        .set_user(user)
        .set_args(Some(process.argv.clone()))
        .set_env(Some(env))
        .set_cwd(process.cwd.clone())
        .set_capabilities(Some(capabilities))
        .set_rlimits(Some(rlimits(&process.rlimits)))
        .set_no_new_privileges(Some(true))
        .set_oom_score_adj(Some(layout::OOM_SCORE));
    all
}

/// The last of each kind: a kind may stand there once.
fn rlimits(wanted: &[Rlimit]) -> Vec<PosixRlimit> {
    let mut all: Vec<PosixRlimit> = Vec::new();
    for limit in layout::rlimits(wanted) {
        let kind = match limit.resource {
            RlimitKind::Nofile => PosixRlimitType::RlimitNofile,
            RlimitKind::Core => PosixRlimitType::RlimitCore,
            RlimitKind::Nproc => PosixRlimitType::RlimitNproc,
            RlimitKind::Stack => PosixRlimitType::RlimitStack,
            RlimitKind::Memlock => PosixRlimitType::RlimitMemlock,
            RlimitKind::Fsize => PosixRlimitType::RlimitFsize,
            RlimitKind::As => PosixRlimitType::RlimitAs,
        };
        let one = PosixRlimitBuilder::default()
            .typ(kind)
            .soft(limit.soft.min(limit.hard))
            .hard(limit.hard)
            .build()
            .expect("every field has a default");
        all.retain(|earlier| earlier.typ() != kind);
        all.push(one);
    }
    all
}

fn mounts(spec: &Spec) -> Vec<Mount> {
    let mut all: Vec<Mount> = spec.binds.iter().map(bind).collect();
    let shm_bytes = layout::shm_bytes(spec.limits.memory_bytes).to_string();
    let tty = TTY_GROUP.to_string();
    let cgroup = KernelMount {
        kind: "cgroup",
        target: "/sys/fs/cgroup",
        options: &[],
        attributes: SYS.attributes,
    };
    // Read-only once it is filled.
    let dev = KernelMount {
        attributes: DEV.attributes | attr::RDONLY,
        ..DEV
    };
    all.extend([
        kernel(&PROC, &[]),
        kernel(&dev, &[]),
        kernel(&PTS, &[("gid", &tty)]),
        kernel(&SHM, &[("size", &shm_bytes)]),
        kernel(&QUEUES, &[]),
        kernel(&SYS, &[]),
        kernel(&cgroup, &[]),
    ]);
    all
}

fn kernel(mount: &KernelMount, more: &[(&str, &str)]) -> Mount {
    let mut options = flags(mount.attributes);
    if mount.kind == "devpts" {
        options.push("newinstance".to_owned());
    }
    let settings = mount.options.iter().chain(more);
    options.extend(settings.map(|(key, value)| format!("{key}={value}")));
    let mut all = Mount::default();
    all.set_destination(mount.target.into())
        .set_typ(Some(mount.kind.to_owned()))
        .set_source(Some(mount.kind.into()))
        .set_options(Some(options));
    all
}

fn bind(bind: &Bind) -> Mount {
    let mut options = vec!["rbind".to_owned(), "rprivate".to_owned()];
    options.extend(flags(
        attr::NOSUID | attr::NODEV | if bind.readonly { attr::RDONLY } else { 0 },
    ));
    let mut all = Mount::default();
    all.set_destination(bind.target.clone())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(bind.source.clone()))
        .set_options(Some(options));
    all
}

fn flags(attributes: u64) -> Vec<String> {
    let names = [
        (attr::NOSUID, "nosuid"),
        (attr::NODEV, "nodev"),
        (attr::NOEXEC, "noexec"),
        (attr::RDONLY, "ro"),
    ];
    let set = names.into_iter().filter(|(bit, _)| attributes & bit != 0);
    set.map(|(_, name)| name.to_owned()).collect()
}

fn linux(spec: &Spec, place: &Place) -> Linux {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let namespaces = [Pid, Network, Ipc, Uts, Mount, Cgroup, User].map(|kind| {
        let mut one = LinuxNamespace::default();
        one.set_typ(kind);
        one
    });
    let mapping = LinuxIdMappingBuilder::default()
        .container_id(0u32)
        .host_id(place.uid_base)
        .size(RANGE)
        .build()
        .expect("every field has a default");
    let masked = layout::MASKED.iter().map(|&path| path.to_owned());
    let mut all = Linux::default();
    all.set_namespaces(Some(namespaces.to_vec()))
        .set_uid_mappings(Some(vec![mapping]))
        .set_gid_mappings(Some(vec![mapping]))
        .set_resources(Some(resources(&spec.limits)))
        .set_cgroups_path(Some(place.cgroups.clone()))
        .set_seccomp(Some(profile::platform()))
        .set_rootfs_propagation(Some("private".to_owned()))
        .set_masked_paths(Some(masked.chain(place.masked.iter().cloned()).collect()))
        .set_readonly_paths(Some(layout::READ_ONLY.map(str::to_owned).to_vec()));
    all
}

fn resources(limits: &Limits) -> LinuxResources {
    let bytes = i64::try_from(limits.memory_bytes).unwrap_or(i64::MAX);
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(bytes)).set_swap(Some(bytes));
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(Some(shares(limits.cpu_weight)));
    if let Some(cores) = limits.cpu_quota {
        let quota = i64::try_from(quota_usec(cores)).unwrap_or(i64::MAX);
        cpu.set_quota(Some(quota)).set_period(Some(PERIOD));
    }
    let mut pids = LinuxPids::default();
    pids.set_limit(i64::from(limits.pids));
    let mut all = LinuxResources::default();
    all.set_devices(Some(devices()))
        .set_memory(Some(memory))
        .set_cpu(Some(cpu))
        .set_pids(Some(pids));
    all
}

/// Nothing but the nodes below `/dev` and terminals may be opened, and nothing may be made.
fn devices() -> Vec<LinuxDeviceCgroup> {
    let mut nothing = LinuxDeviceCgroup::default();
    nothing.set_allow(false).set_access(Some("rwm".to_owned()));
    let mut all = vec![nothing];
    // Terminals: major 136 whatever the minor, and the multiplexer.
    let terminals = [(136, None), (5, Some(2))];
    let nodes = NODES.map(|(_, major, minor)| (i64::from(major), Some(i64::from(minor))));
    for (major, minor) in nodes.into_iter().chain(terminals) {
        let mut one = LinuxDeviceCgroup::default();
        one.set_allow(true)
            .set_typ(Some(LinuxDeviceType::C))
            .set_major(Some(major))
            .set_minor(minor)
            .set_access(Some("rw".to_owned()));
        all.push(one);
    }
    all
}

/// Prefix of the platform's annotations.
const PREFIX: &str = "paas.sandbox.";

fn annotations(spec: &Spec) -> HashMap<String, String> {
    let files: Vec<_> = spec
        .files
        .iter()
        .map(|(path, content, mode)| json!({ "path": path, "bytes": content.len(), "mode": format!("{mode:04o}") }))
        .collect();
    let all = [
        ("id", json!(spec.id)),
        ("layers", json!(spec.layers)),
        ("disk", json!({ "bytes": spec.disk_bytes, "inodes": spec.inodes })),
        ("files", json!(files)),
        ("network", json!(spec.network)),
        ("log", json!(spec.log)),
        ("sidecars", json!(spec.sidecars)),
    ];
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    all.into_iter()
        .map(|(key, value)| (format!("{PREFIX}{key}"), text(value)))
        .collect()
}

#[cfg(test)]
mod tests;
