//! A bundle's `config.json`: read within limits, and held against the rules of the specification and of this
//! runtime before anything is made. Nothing of the host is looked at but the file.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use oci_spec::runtime::{
    Capability, Hook, Linux, LinuxIdMapping, LinuxNamespaceType as Namespace, Mount, Process, Spec,
};
use serde_json::Value;

use super::error::{Context, Error, Result};
use super::{filter, options};

/// Name of the file in a bundle.
pub const FILE: &str = "config.json";
/// Largest configuration, bytes. (The parser itself stops at 128 nested values.)
const MAX_BYTES: u64 = 4 << 20;
/// Most of anything that is listed.
const MAX_ITEMS: usize = 4096;
/// The kernel's own limit for arguments and environment is about 2 MiB.
const MAX_COMMAND_BYTES: usize = 1 << 20;
/// Lines of a map of ids, as the kernel limits them.
const MAX_MAPPINGS: usize = 340;

/// The configuration of the bundle, if it can be used, and what of it cannot be had.
pub fn load(bundle: &Path) -> Result<(Spec, Vec<String>)> {
    let path = bundle.join(FILE);
    let file = std::fs::File::open(&path).at("open", &path)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).at("read", &path)?;
    read(&bytes).map_err(|reason| Error::Config { path, reason })
}

/// The same from text; in words what is wrong.
pub fn parse(bytes: &[u8]) -> std::result::Result<Spec, String> {
    read(bytes).map(|(spec, _)| spec)
}

fn read(bytes: &[u8]) -> std::result::Result<(Spec, Vec<String>), String> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    let (spec, unknown) = match serde_json::from_slice::<Spec>(bytes) {
        Ok(spec) => (spec, Vec::new()),
        Err(error) => without_unknown(bytes).ok_or_else(|| error.to_string())?,
    };
    check(&spec)?;
    Ok((spec, unknown))
}

/// The configuration without what may be left out, and what that is.
fn without_unknown(bytes: &[u8]) -> Option<(Spec, Vec<String>)> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    let unknown = leave_out_unknown(&mut value);
    let spec = serde_json::from_value(value).ok()?;
    (!unknown.is_empty()).then_some((spec, unknown))
}

/// Until 1.1 a capability that nobody knows was an error; since then it is left out, with a warning.
fn leave_out_unknown(value: &mut Value) -> Vec<String> {
    let version = value["ociVersion"].as_str().unwrap_or_default();
    if !value["process"]["capabilities"].is_object() || version.starts_with("1.0.") {
        return Vec::new();
    }
    let mut unknown = Vec::new();
    let sets = value["process"]["capabilities"].as_object_mut().into_iter().flatten();
    for names in sets.filter_map(|(_, set)| set.as_array_mut()) {
        names.retain(|name| {
            let known = serde_json::from_value::<Capability>(name.clone()).is_ok();
            if !known && name.is_string() {
                unknown.push(format!("{name} is not a capability that is known here"));
            }
            known || !name.is_string()
        });
    }
    unknown.sort();
    unknown.dedup();
    unknown
}

type Checked = std::result::Result<(), String>;

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// The first broken rule, if any.
pub fn check(spec: &Spec) -> Checked {
    version(spec.version())?;
    let root = spec.root().as_ref().ok_or("root is missing")?;
    ensure(!root.path().as_os_str().is_empty(), || "root.path is empty".to_owned())?;
    let default = Linux::default();
    let linux = spec.linux().as_ref().unwrap_or(&default);
    let kinds = namespaces(spec)?;
    ids(linux, &kinds)?;
    if let Some(process) = spec.process() {
        self::process(process)?;
    }
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    counted("mounts", mounts.len())?;
    mounts.iter().try_for_each(mount)?;
    hooks(spec)?;
    ensure(
        kinds.contains(&Namespace::Uts) || (spec.hostname().is_none() && spec.domainname().is_none()),
        || "hostname and domainname need a uts namespace of the container's".to_owned(),
    )?;
    for (name, text) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let fits = text
            .as_ref()
            .is_none_or(|text| text.len() <= 64 && !text.contains('\0'));
        ensure(fits, || format!("{name} is longer than 64 bytes"))?;
    }
    paths("linux.maskedPaths", linux.masked_paths())?;
    paths("linux.readonlyPaths", linux.readonly_paths())?;
    sysctls(linux, &kinds)?;
    if let Some(word) = linux.rootfs_propagation().as_ref().filter(|word| !word.is_empty()) {
        ensure(options::propagation(word).is_some(), || {
            format!("linux.rootfsPropagation {word:?} is not known")
        })?;
    }
    if let Some(profile) = linux.seccomp() {
        filter::compile(profile).map_err(|reason| format!("linux.seccomp: {reason}"))?;
    }
    unsupported(spec, linux)
}

fn counted(name: &str, count: usize) -> Checked {
    ensure(count <= MAX_ITEMS, || format!("more than {MAX_ITEMS} {name}"))
}

/// Semantic versioning, of the major version that is spoken.
fn version(text: &str) -> Checked {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<Option<u32>> = core.split('.').map(|part| part.parse().ok()).collect();
    match parts.as_slice() {
        [Some(1), Some(_), Some(_)] => Ok(()),
        [Some(_), Some(_), Some(_)] => Err(format!("ociVersion {text:?} is not supported, 1.x.y is")),
        _ => Err(format!("ociVersion {text:?} is not a version")),
    }
}

/// Kinds of namespaces that are the container's own, made or joined.
fn namespaces(spec: &Spec) -> std::result::Result<HashSet<Namespace>, String> {
    let mut kinds = HashSet::new();
    let all = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    for one in all.into_iter().flatten() {
        ensure(kinds.insert(one.typ()), || {
            format!("namespace {} stands twice", one.typ())
        })?;
        let absolute = one.path().as_ref().is_none_or(|path| path.is_absolute());
        ensure(absolute, || {
            format!("the path of namespace {} is not absolute", one.typ())
        })?;
    }
    Ok(kinds)
}

fn ids(linux: &Linux, kinds: &HashSet<Namespace>) -> Checked {
    let own = |list: &Option<Vec<LinuxIdMapping>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let mapped = own(linux.uid_mappings()) || own(linux.gid_mappings());
    ensure(kinds.contains(&Namespace::User) || !mapped, || {
        "there are id mappings, but no user namespace".to_owned()
    })?;
    let all = linux.namespaces().iter().flatten();
    let made = all
        .into_iter()
        .any(|one| one.typ() == Namespace::User && one.path().is_none());
    ensure(
        !made || (own(linux.uid_mappings()) && own(linux.gid_mappings())),
        || "a new user namespace needs uidMappings and gidMappings".to_owned(),
    )?;
    mappings(linux.uid_mappings())?;
    mappings(linux.gid_mappings())
}

fn mappings(list: &Option<Vec<LinuxIdMapping>>) -> Checked {
    let list = list.as_deref().unwrap_or_default();
    ensure(list.len() <= MAX_MAPPINGS, || {
        format!("more than {MAX_MAPPINGS} id mappings")
    })?;
    list.iter().try_for_each(|one| {
        let ends = |first: u32| u64::from(first) + u64::from(one.size()) <= u64::from(u32::MAX);
        ensure(
            one.size() > 0 && ends(one.host_id()) && ends(one.container_id()),
            || {
                format!(
                    "an id mapping of {} ids from {} to {} is not possible",
                    one.size(),
                    one.container_id(),
                    one.host_id()
                )
            },
        )
    })
}

/// The rules for a process.
pub fn process(process: &Process) -> Checked {
    let args = process.args().as_deref().unwrap_or_default();
    ensure(args.first().is_some_and(|program| !program.is_empty()), || {
        "process.args is empty".to_owned()
    })?;
    let env = process.env().as_deref().unwrap_or_default();
    let bytes: usize = args.iter().chain(env).map(|text| text.len() + 1).sum();
    ensure(bytes <= MAX_COMMAND_BYTES, || {
        format!("process.args and env exceed {MAX_COMMAND_BYTES} bytes")
    })?;
    ensure(!args.iter().chain(env).any(|text| text.contains('\0')), || {
        "process.args or env contain a NUL".to_owned()
    })?;
    ensure(process.cwd().is_absolute(), || {
        format!("process.cwd {:?} is not absolute", process.cwd())
    })?;
    let mut kinds = HashSet::new();
    for limit in process.rlimits().iter().flatten() {
        let kind = limit.typ().to_string();
        ensure(limit.soft() <= limit.hard(), || {
            format!("process.rlimits: {kind} is softer than it is hard")
        })?;
        ensure(kinds.insert(kind.clone()), || {
            format!("process.rlimits: {kind} stands twice")
        })?;
    }
    counted(
        "process.user.additionalGids",
        process.user().additional_gids().iter().flatten().count(),
    )?;
    let score = process.oom_score_adj().unwrap_or(0);
    ensure((-1000..=1000).contains(&score), || {
        format!("process.oomScoreAdj {score} is not within -1000 and 1000")
    })
}

fn mount(mount: &Mount) -> Checked {
    let destination = mount.destination();
    let name = destination.display();
    ensure(!destination.as_os_str().is_empty(), || {
        "a mount has no destination".to_owned()
    })?;
    let options = options::parse(mount.options().as_deref().unwrap_or_default())
        .map_err(|reason| format!("mount {name}: {reason}"))?;
    let is_bind = options.bind.is_some() || mount.typ().as_deref() == Some("bind");
    ensure(!is_bind || mount.source().is_some(), || {
        format!("mount {name}: a bind needs a source")
    })?;
    ensure(is_bind || mount.typ().is_some(), || {
        format!("mount {name}: neither a type nor a bind")
    })?;
    let maps = mount.uid_mappings().is_some() || mount.gid_mappings().is_some();
    ensure(
        !maps || (mount.uid_mappings().is_some() && mount.gid_mappings().is_some()),
        || format!("mount {name}: uidMappings and gidMappings come together"),
    )?;
    ensure(is_bind || !(maps || options.idmap.is_some()), || {
        format!("mount {name}: only binds can shift owners")
    })?;
    // What the kernel tells of processes must not be replaced; libraries show other figures of the machine.
    let shown = [
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "slabinfo",
        "net/dev",
    ];
    match destination.strip_prefix("/proc") {
        Ok(below) if !below.as_os_str().is_empty() => {
            let kind = mount.typ().as_deref() == Some("proc");
            let harmless = shown.iter().any(|file| below == Path::new(file)) || below.starts_with("sys/fs/binfmt_misc");
            ensure(!kind && harmless, || {
                format!("mount {name}: nothing may be mounted there")
            })
        }
        _ => Ok(()),
    }
}

fn hooks(spec: &Spec) -> Checked {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    let one = |hook: &Hook| {
        ensure(hook.path().is_absolute(), || {
            format!("hook {:?} is not an absolute path", hook.path())
        })?;
        ensure(hook.timeout().is_none_or(|seconds| seconds > 0), || {
            format!("hook {}: its timeout is not positive", hook.path().display())
        })
    };
    super::hooks::Kind::ALL
        .iter()
        .flat_map(|kind| super::hooks::list(hooks, *kind))
        .try_for_each(one)
}

fn paths(name: &str, list: &Option<Vec<String>>) -> Checked {
    let list = list.as_deref().unwrap_or_default();
    counted(name, list.len())?;
    list.iter()
        .try_for_each(|path| ensure(path.starts_with('/'), || format!("{name}: {path:?} is not absolute")))
}

/// Only those that the container has of its own.
fn sysctls(linux: &Linux, kinds: &HashSet<Namespace>) -> Checked {
    for key in linux.sysctl().iter().flat_map(|all| all.keys()) {
        let plain = !key.is_empty() && !key.split(['.', '/']).any(|part| part.is_empty());
        ensure(plain, || format!("sysctl {key:?} is not a name"))?;
        let key = key.replace('/', ".");
        let of = |kind: Namespace| {
            ensure(kinds.contains(&kind), || {
                format!("sysctl {key} needs a namespace of kind {kind}")
            })
        };
        match key.as_str() {
            name if name.starts_with("net.") => of(Namespace::Network)?,
            name if name.starts_with("fs.mqueue.") => of(Namespace::Ipc)?,
            "kernel.domainname" => of(Namespace::Uts)?,
            "kernel.hostname" => return Err("sysctl kernel.hostname: use hostname".to_owned()),
            "kernel.sem" | "kernel.shm_rmid_forced" => of(Namespace::Ipc)?,
            name if name.starts_with("kernel.msg") || name.starts_with("kernel.shm") => of(Namespace::Ipc)?,
            _ => return Err(format!("sysctl {key} is not one that a container has of its own")),
        }
    }
    Ok(())
}

/// What would be ignored in silence otherwise.
fn unsupported(spec: &Spec, linux: &Linux) -> Checked {
    let process = spec.process().as_ref();
    let set = |text: Option<&String>| text.is_some_and(|text| !text.is_empty());
    let label = process.and_then(|process| process.selinux_label().as_ref());
    let profile = process.and_then(|process| process.apparmor_profile().as_ref());
    let refused = [
        (set(label), "process.selinuxLabel: SELinux is not supported"),
        (
            set(linux.mount_label().as_ref()),
            "linux.mountLabel: SELinux is not supported",
        ),
        (set(profile), "process.apparmorProfile: AppArmor is not supported"),
        (linux.intel_rdt().is_some(), "linux.intelRdt is not supported"),
        (linux.memory_policy().is_some(), "linux.memoryPolicy is not supported"),
        (
            linux.net_devices().as_ref().is_some_and(|all| !all.is_empty()),
            "linux.netDevices is not supported",
        ),
        (
            process.is_some_and(|process| process.exec_cpu_affinity().is_some()),
            "process.execCPUAffinity is not supported",
        ),
        (
            process.is_some_and(|process| process.command_line().is_some()),
            "process.commandLine is of another system",
        ),
        (spec.vm().is_some(), "vm: this is not a virtual machine"),
    ];
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err((*what).to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
