//! Rules for specifications, applied before anything is made.

use std::path::{Component, Path, PathBuf};

use crate::record::valid_id;
use crate::{Bind, Error, ExecSpec, Limits, MAX_SIDECARS, Network, ParkSpec, Result, Sidecar, Spec};

/// Folders that can be laid over each other.
const MAX_LAYERS: usize = 400;
const MAX_BINDS: usize = 64;
const MAX_FILES: usize = 256;
/// Together, for files written before the start.
const MAX_FILE_BYTES: usize = 4 << 20;
/// The kernel's own limit for arguments and environment is about 2 MiB.
const MAX_COMMAND_BYTES: usize = 1 << 20;
const MIN_MEMORY: u64 = 4 << 20;
const MIN_DISK: u64 = 1 << 20;
const MAX_DISK: u64 = 1 << 42;
const MIN_PIDS: u32 = 4;
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;
/// A process that waits for less would seem stuck.
const MIN_IO_BYTES: u64 = 4096;
const MAX_ID: u32 = 65_535;

/// The first broken rule, if any.
pub fn spec(spec: &Spec) -> Result<()> {
    reason(spec).map_err(|reason| Error::Invalid {
        id: spec.id.clone(),
        reason,
    })
}

/// The same for what is to be parked.
pub fn park(spec: &ParkSpec) -> Result<()> {
    let (layers, binds) = spec
        .root
        .as_ref()
        .map_or((None, &[][..]), |r| (Some(&r.layers[..]), &r.binds[..]));
    layers
        .map_or(Ok(()), |layers| root(layers, binds))
        .and_then(|()| disk(spec.disk_bytes, spec.inodes))
        .and_then(|()| limits_reason(&spec.limits))
        .map_err(|reason| Error::Invalid {
            id: "(to be parked)".to_owned(),
            reason,
        })
}

/// The same for a further process in `id`.
pub fn exec(id: &str, exec: &ExecSpec) -> Result<()> {
    command(&exec.argv, &exec.env, &exec.cwd, exec.uid).map_err(|reason| Error::Invalid {
        id: id.to_owned(),
        reason,
    })
}

/// The same for new limits of `id`.
pub fn limits(id: &str, limits: &Limits) -> Result<()> {
    limits_reason(limits).map_err(|reason| Error::Invalid {
        id: id.to_owned(),
        reason,
    })
}

fn limits_reason(limits: &Limits) -> std::result::Result<(), String> {
    ensure(limits.memory_bytes >= MIN_MEMORY, || {
        "its memory limit is below 4 MiB".into()
    })?;
    ensure(WEIGHTS.contains(&limits.cpu_weight), || {
        "its CPU weight is not 1 to 10000".into()
    })?;
    let quota_ok = limits.cpu_quota.is_none_or(|cores| cores > 0.0 && cores < 10_000.0);
    ensure(quota_ok, || "its CPU ceiling is not a positive number of cores".into())?;
    ensure(limits.pids >= MIN_PIDS, || {
        format!("its process limit is below {MIN_PIDS}")
    })?;
    let io = &limits.io;
    ensure(io.weight.is_none_or(|weight| WEIGHTS.contains(&weight)), || {
        "its I/O weight is not 1 to 10000".into()
    })?;
    let bytes_ok = [io.read_bps, io.write_bps]
        .into_iter()
        .flatten()
        .all(|b| b >= MIN_IO_BYTES);
    ensure(bytes_ok, || {
        format!("an I/O limit is below {MIN_IO_BYTES} bytes per second")
    })?;
    let ops = [io.read_iops, io.write_iops].into_iter().flatten();
    ensure(ops.into_iter().all(|n| (1..=u64::from(u32::MAX)).contains(&n)), || {
        "an I/O limit is not a usable number of operations per second".into()
    })
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> std::result::Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn reason(spec: &Spec) -> std::result::Result<(), String> {
    ensure(valid_id(&spec.id), || {
        "its name must be 1 to 64 letters, digits, dots, dashes or underscores".into()
    })?;
    let host_ok = matches!(spec.hostname.len(), 1..=63)
        && spec
            .hostname
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    ensure(host_ok, || format!("host name {:?} is not usable", spec.hostname))?;
    root(&spec.layers, &spec.binds)?;
    disk(spec.disk_bytes, spec.inodes)?;
    ensure(spec.files.len() <= MAX_FILES, || format!("more than {MAX_FILES} files"))?;
    let bytes: usize = spec.files.iter().map(|(_, content, _)| content.len()).sum();
    ensure(bytes <= MAX_FILE_BYTES, || {
        format!("its files are larger than {MAX_FILE_BYTES} bytes")
    })?;
    for (path, _, _) in &spec.files {
        inside(path)?;
    }
    limits_reason(&spec.limits)?;
    match &spec.network {
        Network::None => {}
        Network::Isolated { policy } => policy.check().map_err(|e| e.to_string())?,
    }
    let process = &spec.process;
    ensure(process.gid <= MAX_ID, || {
        format!("group {} is above {MAX_ID}", process.gid)
    })?;
    command(&process.argv, &process.env, &process.cwd, process.uid)?;
    sidecars(&spec.sidecars, process.uid, spec.limits.memory_bytes)
}

fn sidecars(sidecars: &[Sidecar], uid: u32, memory_bytes: u64) -> std::result::Result<(), String> {
    ensure(sidecars.len() <= MAX_SIDECARS, || {
        format!("more than {MAX_SIDECARS} sidecars")
    })?;
    for (at, sidecar) in sidecars.iter().enumerate() {
        let name = &sidecar.name;
        ensure(valid_id(name), || format!("{name:?} is not a sidecar's name"))?;
        let once = sidecars[..at].iter().all(|other| other.name != *name);
        ensure(once, || format!("two sidecars are called {name}"))?;
        command(&sidecar.argv, &sidecar.env, &sidecar.cwd, uid)
            .map_err(|reason| format!("sidecar {name}: {reason}"))?;
        let share_ok = sidecar
            .memory_bytes
            .is_none_or(|bytes| (MIN_MEMORY..=memory_bytes).contains(&bytes));
        ensure(share_ok, || {
            format!("the memory limit of sidecar {name} is not between 4 MiB and the sandbox's own")
        })?;
    }
    Ok(())
}

fn root(layers: &[PathBuf], binds: &[Bind]) -> std::result::Result<(), String> {
    ensure(matches!(layers.len(), 1..=MAX_LAYERS), || {
        format!("it needs 1 to {MAX_LAYERS} layers")
    })?;
    for layer in layers {
        ensure(layer.is_absolute(), || {
            format!("layer {} is not an absolute path", layer.display())
        })?;
    }
    ensure(binds.len() <= MAX_BINDS, || format!("more than {MAX_BINDS} binds"))?;
    for bind in binds {
        ensure(bind.source.is_absolute(), || {
            format!("bind source {} is not absolute", bind.source.display())
        })?;
        inside(&bind.target)?;
    }
    Ok(())
}

fn disk(bytes: u64, inodes: u64) -> std::result::Result<(), String> {
    ensure((MIN_DISK..=MAX_DISK).contains(&bytes), || {
        "its disk is smaller than 1 MiB or absurd".into()
    })?;
    ensure((16..=1 << 31).contains(&inodes), || {
        "it needs at least 16 inodes".into()
    })
}

fn command(argv: &[String], env: &[(String, String)], cwd: &Path, uid: u32) -> std::result::Result<(), String> {
    ensure(argv.first().is_some_and(|program| !program.is_empty()), || {
        "its command is empty".into()
    })?;
    let bytes = argv.iter().map(String::len).sum::<usize>() + env.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    ensure(bytes <= MAX_COMMAND_BYTES, || {
        format!("command and environment exceed {MAX_COMMAND_BYTES} bytes")
    })?;
    let no_nul =
        argv.iter().all(|a| !a.contains('\0')) && env.iter().all(|(k, v)| !k.contains('\0') && !v.contains('\0'));
    ensure(no_nul, || "command or environment contain a NUL".into())?;
    let keys_ok = env.iter().all(|(key, _)| !key.is_empty() && !key.contains('='));
    ensure(keys_ok, || "a variable's name is empty or contains '='".into())?;
    ensure(uid <= MAX_ID, || format!("user {uid} is above {MAX_ID}"))?;
    inside(cwd)
}

/// An absolute path without `..`.
fn inside(path: &Path) -> std::result::Result<(), String> {
    let plain = path
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    ensure(path.is_absolute() && plain, || {
        format!("{} is not a plain absolute path", path.display())
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::{Limits, LogPolicy, Process};

    fn good() -> Spec {
        Spec {
            id: "a".into(),
            hostname: "a".into(),
            layers: vec!["/layer".into()],
            disk_bytes: 64 << 20,
            inodes: 1000,
            binds: vec![],
            process: Process {
                argv: vec!["/x".into()],
                env: vec![],
                cwd: "/".into(),
                uid: 2000,
                gid: 2000,
                terminal: false,
                rlimits: vec![],
            },
            limits: Limits {
                memory_bytes: 64 << 20,
                cpu_weight: 100,
                cpu_quota: None,
                pids: 100,
                io: crate::IoLimits::default(),
            },
            network: Network::None,
            log: LogPolicy::default(),
            files: vec![],
            sidecars: Vec::new(),
        }
    }

    fn sidecar(name: &str) -> Sidecar {
        Sidecar {
            name: name.to_owned(),
            argv: vec!["/x".into()],
            env: vec![],
            cwd: "/".into(),
            memory_bytes: None,
        }
    }

    #[test]
    fn each_rule_is_held() {
        assert!(spec(&good()).is_ok());
        let breaks: [fn(&mut Spec); 20] = [
            |s| s.id = "../x".into(),
            |s| s.hostname = "a b".into(),
            |s| s.layers.clear(),
            |s| s.layers[0] = "rel".into(),
            |s| s.disk_bytes = 0,
            |s| s.inodes = 1,
            |s| s.files.push(("/a/../../b".into(), vec![], 0)),
            |s| s.files.push(("/a".into(), vec![0; MAX_FILE_BYTES + 1], 0)),
            |s| s.limits.memory_bytes = 1,
            |s| s.limits.cpu_quota = Some(f64::NAN),
            |s| s.limits.pids = 0,
            |s| s.limits.io.write_bps = Some(1),
            |s| s.limits.io.weight = Some(0),
            |s| s.process.argv = vec![String::new()],
            |s| s.process.env.push(("a=b".into(), String::new())),
            |s| s.process.uid = 70_000,
            |s| s.sidecars = vec![sidecar("a"); 2],
            |s| s.sidecars = (0..9).map(|n| sidecar(&n.to_string())).collect(),
            |s| s.sidecars = vec![sidecar("a b")],
            |s| {
                s.sidecars = vec![Sidecar {
                    argv: vec![],
                    ..sidecar("a")
                }];
            },
        ];
        for (at, break_it) in breaks.iter().enumerate() {
            let mut bad = good();
            break_it(&mut bad);
            assert!(matches!(spec(&bad), Err(Error::Invalid { .. })), "{at}");
        }
    }
}
