//! A configuration that any runtime takes, and what has to be seen inside of any configuration: every property that is
//! set is looked at, whatever the case is about.

use serde_json::{Value, json};

use super::judge::{Outcome, ensure};
use super::seen::{Mount, Seen};

/// By number, without `CAP_`.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
/// What a container may do unless a case says otherwise.
const GRANTED: [&str; 13] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
];
/// Links that every container has.
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];
/// Nodes that every container has.
const NODES: [(&str, &str); 7] = [
    ("/dev/null", "char 1:3"),
    ("/dev/zero", "char 1:5"),
    ("/dev/full", "char 1:7"),
    ("/dev/random", "char 1:8"),
    ("/dev/urandom", "char 1:9"),
    ("/dev/tty", "char 5:0"),
    ("/dev/pts/ptmx", "char 5:2"),
];
/// Limits by their names in the configuration and in the kernel's table.
const LIMITS: [(&str, &str); 16] = [
    ("RLIMIT_CPU", "Max cpu time"),
    ("RLIMIT_FSIZE", "Max file size"),
    ("RLIMIT_DATA", "Max data size"),
    ("RLIMIT_STACK", "Max stack size"),
    ("RLIMIT_CORE", "Max core file size"),
    ("RLIMIT_RSS", "Max resident set"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
    ("RLIMIT_AS", "Max address space"),
    ("RLIMIT_LOCKS", "Max file locks"),
    ("RLIMIT_SIGPENDING", "Max pending signals"),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
    ("RLIMIT_NICE", "Max nice priority"),
    ("RLIMIT_RTPRIO", "Max realtime priority"),
    ("RLIMIT_RTTIME", "Max realtime timeout"),
];

/// Names as a configuration has them.
pub fn names(all: &[&str]) -> Value {
    json!(all.iter().map(|name| format!("CAP_{name}")).collect::<Vec<_>>())
}

/// All capabilities that can be granted here, in all five sets.
pub fn every_capability() -> Value {
    let granted = obtainable();
    let all = CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(number, _)| granted & (1 << number) != 0);
    let all = names(&all.map(|(_, name)| *name).collect::<Vec<_>>());
    json!({ "bounding": all, "effective": all, "permitted": all, "inheritable": all, "ambient": all })
}

/// New namespaces, the usual mounts, few privileges.
pub fn template(id: &str) -> Value {
    let quiet = ["nosuid", "noexec", "nodev"];
    let granted = names(&GRANTED);
    json!({
        "ociVersion": "1.0.2",
        "hostname": "conformance",
        "process": {
            "terminal": false, "user": { "uid": 0, "gid": 0 }, "args": ["/probe", "see"], "cwd": "/",
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "capabilities": {
                "bounding": granted, "effective": granted, "permitted": granted, "inheritable": granted,
                "ambient": granted,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
        },
        "root": { "path": "rootfs" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": quiet },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": quiet },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
        },
    })
}

fn list<'a>(config: &'a Value, path: &str) -> &'a [Value] {
    config
        .pointer(path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn texts<'a>(config: &'a Value, path: &str) -> Vec<&'a str> {
    list(config, path).iter().filter_map(Value::as_str).collect()
}

fn sysctls(config: &Value) -> Vec<(String, String)> {
    let all = config
        .pointer("/linux/sysctl")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let file = |key: &str| format!("/proc/sys/{}", key.replace('.', "/"));
    all.map(|(key, value)| (file(key), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// The probe's words to look at all that `config` speaks of.
pub fn asked(config: &Value) -> Vec<String> {
    let mut all = vec!["see".to_owned(), "/".to_owned()];
    all.extend(LINKS.iter().chain(&NODES).map(|(path, _)| (*path).to_owned()));
    let devices = list(config, "/linux/devices")
        .iter()
        .filter_map(|device| device["path"].as_str());
    let paths = texts(config, "/linux/maskedPaths")
        .into_iter()
        .chain(texts(config, "/linux/readonlyPaths"));
    all.extend(devices.chain(paths).map(str::to_owned));
    all.extend(sysctls(config).into_iter().map(|(path, _)| format!("={path}")));
    all
}

/// Fails at the first property of `config` that is not seen.
pub fn holds(config: &Value, seen: &Seen) -> Outcome {
    process(config, seen)?;
    user(config, seen)?;
    capabilities(config, seen)?;
    limits(config, seen)?;
    mounts(config, seen)?;
    nodes(config, seen)?;
    devices(config, seen)?;
    paths(config, seen)?;
    for (path, value) in sysctls(config) {
        seen.is(&format!("={path}"), value)?;
    }
    for (key, file) in [("uidMappings", "uid_map"), ("gidMappings", "gid_map")] {
        mapping(list(config, &format!("/linux/{key}")), file, seen)?;
    }
    for key in ["hostname", "domainname"] {
        if let Some(name) = config[key].as_str().filter(|name| !name.is_empty()) {
            seen.is(key, name)?;
        }
    }
    Ok(())
}

fn process(config: &Value, seen: &Seen) -> Outcome {
    let process = &config["process"];
    seen.is("cwd", process["cwd"].as_str().unwrap_or_default())?;
    seen.is("args", texts(process, "/args").join(" "))?;
    for (key, value) in texts(process, "/env")
        .into_iter()
        .filter_map(|entry| entry.split_once('='))
    {
        seen.is(&format!("env.{key}"), value)?;
    }
    let promised = process["noNewPrivileges"] == true;
    seen.is("status.NoNewPrivs", i32::from(promised))?;
    if let Some(score) = process["oomScoreAdj"].as_i64() {
        seen.is("oom_score_adj", score)?;
    }
    if config["linux"]["seccomp"].is_object() {
        seen.is("status.Seccomp", 2)?;
    }
    Ok(())
}

fn user(config: &Value, seen: &Seen) -> Outcome {
    let user = &config["process"]["user"];
    for (key, line) in [("uid", "status.Uid"), ("gid", "status.Gid")] {
        let id = user[key].as_u64().unwrap_or(0);
        seen.is(line, format!("{id} {id} {id} {id}"))?;
    }
    let groups: Vec<&str> = seen.get("status.Groups").split(' ').collect();
    for group in list(user, "/additionalGids") {
        let group = group.to_string();
        ensure(groups.contains(&group.as_str()), || {
            format!("group {group} is not among {groups:?}")
        })?;
    }
    match user["umask"].as_u64() {
        Some(umask) => seen.is("umask", format!("{umask:04o}")),
        None => Ok(()),
    }
}

/// What this process may have at all nobody below it can have more of.
fn obtainable() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

fn capabilities(config: &Value, seen: &Seen) -> Outcome {
    let wanted = &config["process"]["capabilities"];
    if wanted.is_null() {
        return Ok(());
    }
    let keys = [
        ("bounding", "Bnd"),
        ("effective", "Eff"),
        ("permitted", "Prm"),
        ("inheritable", "Inh"),
        ("ambient", "Amb"),
    ];
    for (key, line) in keys {
        let numbers = texts(wanted, &format!("/{key}")).into_iter().filter_map(|name| {
            let name = name.strip_prefix("CAP_")?;
            CAPABILITIES.iter().position(|known| *known == name)
        });
        let bits = numbers.fold(0u64, |bits, number| bits | 1 << number) & obtainable();
        seen.is(&format!("status.Cap{line}"), format!("{bits:016x}"))?;
    }
    Ok(())
}

fn limits(config: &Value, seen: &Seen) -> Outcome {
    for limit in list(config, "/process/rlimits") {
        let known = LIMITS.iter().find(|(name, _)| limit["type"] == *name);
        let Some((_, line)) = known else { continue };
        seen.is(&format!("limit.{line}"), format!("{} {}", limit["soft"], limit["hard"]))?;
    }
    Ok(())
}

fn is_bind(mount: &Value) -> bool {
    let kind = mount["type"].as_str().unwrap_or_default();
    kind == "bind"
        || texts(mount, "/options")
            .iter()
            .any(|word| matches!(*word, "bind" | "rbind"))
}

fn last_part(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

fn fits(wanted: &Value, found: &Mount) -> bool {
    let source = wanted["source"].as_str().unwrap_or_default();
    if wanted["destination"] != found.target.as_str() {
        return false;
    }
    if is_bind(wanted) {
        return last_part(source) == last_part(&found.root);
    }
    wanted["type"] == found.kind.as_str() && (source.is_empty() || source == found.source)
}

/// All of them, in the order in which they stand.
fn mounts(config: &Value, seen: &Seen) -> Outcome {
    let all = seen.mounts();
    let mut at = 0;
    // A v1 host shows several hierarchies as one folder.
    let plain = list(config, "/mounts").iter().filter(|mount| mount["type"] != "cgroup");
    for wanted in plain {
        let found = all[at..].iter().position(|found| fits(wanted, found));
        let Some(found) = found else {
            let out_of_order = all.iter().any(|found| fits(wanted, found));
            let what = if out_of_order { "out of order" } else { "missing" };
            return ensure(false, || format!("mount {} is {what}", wanted["destination"]));
        };
        at += found + 1;
    }
    Ok(())
}

fn nodes(config: &Value, seen: &Seen) -> Outcome {
    for (path, target) in LINKS {
        seen.is(path, format!("link {target}"))?;
    }
    for (path, device) in NODES {
        seen.has(path, device)?;
    }
    for (target, kind) in [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
    ] {
        let found = seen.mount(target)?.kind;
        ensure(found == kind, || format!("at {target} is a {found}, not a {kind}"))?;
    }
    if config["root"]["readonly"] == true {
        seen.has("/", "writable=false")?;
    }
    Ok(())
}

fn devices(config: &Value, seen: &Seen) -> Outcome {
    for device in list(config, "/linux/devices") {
        let path = device["path"].as_str().unwrap_or_default();
        let number = format!("{}:{}", device["major"], device["minor"]);
        let kind = match device["type"].as_str() {
            Some("b") => format!("block {number}"),
            Some("p") => "fifo".to_owned(),
            _ => format!("char {number}"),
        };
        seen.has(path, &kind)?;
        if let Some(mode) = device["fileMode"].as_u64() {
            seen.has(path, &format!(" {mode:04o} "))?;
        }
        let (uid, gid) = (device["uid"].as_u64(), device["gid"].as_u64());
        if let (Some(uid), Some(gid)) = (uid, gid) {
            seen.has(path, &format!(" {uid}:{gid} "))?;
        }
    }
    Ok(())
}

fn paths(config: &Value, seen: &Seen) -> Outcome {
    for path in texts(config, "/linux/maskedPaths") {
        let there = seen.get(path);
        ensure(!there.contains("readable=true"), || {
            format!("masked {path} can be read: {there}")
        })?;
    }
    for path in texts(config, "/linux/readonlyPaths") {
        let there = seen.get(path);
        ensure(!there.contains("writable=true"), || {
            format!("read-only {path} can be written: {there}")
        })?;
    }
    Ok(())
}

fn mapping(wanted: &[Value], file: &str, seen: &Seen) -> Outcome {
    if wanted.is_empty() {
        return Ok(());
    }
    let lines = wanted
        .iter()
        .map(|one| format!("{} {} {}", one["containerID"], one["hostID"], one["size"]));
    seen.is(file, lines.collect::<Vec<_>>().join(","))
}
