//! Namespaces: inherited, new, joined, and ids shifted by one.

use std::fs::read_link;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::judge::{Outcome, Trouble, ensure, refused};
use super::kit::Bundle;

cases!("runtime-tools": linux_ns_itype linux_ns_nopath linux_ns_path linux_ns_path_type linux_uid_mappings);

/// Names in the configuration and below `/proc/PID/ns`.
const KINDS: [(&str, &str); 7] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("user", "user"),
    ("uts", "uts"),
];

fn kind_of(file: &str) -> &'static str {
    KINDS
        .iter()
        .find(|(_, name)| *name == file)
        .map_or("", |(kind, _)| *kind)
}

/// Which namespace the process `pid` is in.
fn namespace(pid: impl std::fmt::Display, file: &str) -> Result<String, Trouble> {
    Ok(read_link(format!("/proc/{pid}/ns/{file}"))?.display().to_string())
}

/// The list of namespaces with `kind` at `path`, or a new one.
fn set(bundle: &mut Bundle, kind: &str, path: Option<&str>) {
    let all = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    all.retain(|one| one["type"] != kind);
    all.push(match path {
        Some(path) => json!({ "type": kind, "path": path }),
        None => json!({ "type": kind }),
    });
}

fn linux_ns_itype(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["namespaces"] = json!([]);
    bundle.config.as_object_mut().unwrap().remove("hostname");
    // Its own network has to be new for that.
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| mount["type"] != "sysfs");
    bundle.create()?;
    for (_, file) in KINDS {
        if file == "mnt" && bundle.runtime.is_apart() {
            continue;
        }
        let (own, its) = (namespace("self", file)?, namespace(bundle.pid(), file)?);
        ensure(own == its, || format!("{file} is not inherited"))?;
    }
    bundle.finish()
}

fn linux_ns_nopath(bundle: &mut Bundle) -> Outcome {
    for (kind, _) in KINDS {
        set(bundle, kind, None);
    }
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 1000 }]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.create()?;
    for (_, file) in KINDS {
        let (own, its) = (namespace("self", file)?, namespace(bundle.pid(), file)?);
        ensure(own != its, || format!("{file} is inherited"))?;
    }
    bundle.finish()
}

/// A process in a namespace of its own.
struct Apart(Child);

impl Apart {
    fn new(option: &str) -> Result<Apart, Trouble> {
        let script = "echo there; exec sleep 1000";
        let mut command = Command::new("unshare");
        command.args([option, "--fork", "--kill-child", "sh", "-c", script]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = [0u8; 6];
        // Until it is where it is to be.
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line)?;
        Ok(Apart(child))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn linux_ns_path(bundle: &mut Bundle) -> Outcome {
    let before = bundle.config.clone();
    for (file, option) in [
        ("ipc", "--ipc"),
        ("mnt", "--mount"),
        ("net", "--net"),
        ("pid", "--pid"),
        ("uts", "--uts"),
    ] {
        let apart = Apart::new(option)?;
        // Those who ask for a new one get it for their children.
        let link = if file == "pid" { "pid_for_children" } else { file };
        let wanted = namespace(apart.0.id(), link)?;
        ensure(wanted != namespace("self", file)?, || {
            format!("{file} of the helper is not its own")
        })?;
        bundle.config = before.clone();
        set(
            bundle,
            kind_of(file),
            Some(&format!("/proc/{}/ns/{link}", apart.0.id())),
        );
        bundle.create().map_err(|why| format!("{file}: {why}"))?;
        let its = namespace(bundle.pid(), file)?;
        ensure(its == wanted, || format!("{file} is {its}, not {wanted}"))?;
        bundle.finish()?;
    }
    Ok(())
}

fn linux_ns_path_type(bundle: &mut Bundle) -> Outcome {
    let before = bundle.config.clone();
    let wrong = [
        ("cgroup", "ipc"),
        ("ipc", "mnt"),
        ("mnt", "net"),
        ("net", "pid"),
        ("pid", "user"),
        ("user", "uts"),
        ("uts", "cgroup"),
    ];
    for (file, other) in wrong {
        bundle.config = before.clone();
        set(
            bundle,
            kind_of(file),
            Some(&format!("/proc/{}/ns/{other}", std::process::id())),
        );
        let made = bundle.create();
        if made.is_ok() {
            bundle.finish()?;
        }
        refused(&format!("{file} from the path of {other}"), made)?;
    }
    Ok(())
}

/// Maps of users and groups.
pub fn maps(config: &mut Value, uids: (u32, u32, u32), gids: (u32, u32, u32)) {
    let map = |(inside, outside, size)| json!([{ "containerID": inside, "hostID": outside, "size": size }]);
    config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "type": "user" }));
    config["linux"]["uidMappings"] = map(uids);
    config["linux"]["gidMappings"] = map(gids);
}

fn linux_uid_mappings(bundle: &mut Bundle) -> Outcome {
    maps(&mut bundle.config, (0, 1000, 2000), (0, 1000, 3000));
    bundle.inside().map(drop)
}
