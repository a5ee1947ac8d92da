//! The same sandbox as a bundle for an OCI runtime, weakened line by line: what a sandbox of the
//! platform cannot be, for want of words for it.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sandbox::Spec;
use sandbox::oci::{Place, from_spec};
use serde_json::{Value, json};

use crate::kit::{Host, eventually};

/// What is changed in a bundle's configuration.
#[derive(Clone, Copy, Debug)]
pub enum Line {
    /// Nothing: only what a bundle does not have in any case, the platform's init.
    NoInit,
    /// `linux.seccomp` is left out.
    NoFilter,
    /// One capability, in all five sets.
    Capability(&'static str),
    /// A namespace less (`user` takes the mappings along).
    Without(&'static str),
    /// It runs as root.
    Root,
    /// `process.noNewPrivileges` is false.
    NewPrivileges,
    /// `linux.maskedPaths` is empty.
    NoMasks,
    /// `linux.readonlyPaths` is empty.
    NoReadOnly,
    /// The mount there is writable.
    Writable(&'static str),
    /// Every device may be opened and made.
    AllDevices,
    /// A device node of the host: path and numbers.
    Device(&'static str, u32, u32),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::NoInit => write!(f, "no init: the app is the first process"),
            Line::NoFilter => write!(f, "no system call filter"),
            Line::Capability(name) => write!(f, "`{name}`"),
            Line::Without(name) => write!(f, "no {name} namespace"),
            Line::Root => write!(f, "uid 0"),
            Line::NewPrivileges => write!(f, "new privileges allowed"),
            Line::NoMasks => write!(f, "no masked paths"),
            Line::NoReadOnly => write!(f, "no read-only paths"),
            Line::Writable(path) => write!(f, "`{path}` writable"),
            Line::AllDevices => write!(f, "all devices allowed"),
            Line::Device(path, ..) => write!(f, "a node `{path}`"),
        }
    }
}

impl Line {
    fn apply(self, config: &mut Value) {
        match self {
            Line::NoInit => {}
            Line::NoFilter => drop(object(&mut config["linux"]).remove("seccomp")),
            Line::Capability(name) => {
                for set in object(&mut config["process"]["capabilities"]).values_mut() {
                    list(set).push(json!(name));
                }
            }
            Line::Without(kind) => {
                list(&mut config["linux"]["namespaces"]).retain(|one| one["type"] != kind);
                if kind == "user" {
                    object(&mut config["linux"]).retain(|key, _| !key.ends_with("idMappings"));
                }
                if kind == "ipc" {
                    // Queues of the host's cannot be mounted from within a user namespace.
                    list(&mut config["mounts"]).retain(|mount| mount["type"] != "mqueue");
                }
                if kind == "network" {
                    // Without it, /sys cannot be mounted anew from within a user namespace.
                    list(&mut config["mounts"]).retain(|mount| mount["destination"] != "/sys");
                    list(&mut config["mounts"]).retain(|mount| mount["destination"] != "/sys/fs/cgroup");
                }
            }
            Line::Root => config["process"]["user"] = json!({ "uid": 0, "gid": 0 }),
            Line::NewPrivileges => config["process"]["noNewPrivileges"] = json!(false),
            Line::NoMasks => config["linux"]["maskedPaths"] = json!([]),
            Line::NoReadOnly => config["linux"]["readonlyPaths"] = json!([]),
            Line::Writable(path) => {
                let mounts = list(&mut config["mounts"]).iter_mut();
                for mount in mounts.filter(|mount| mount["destination"] == path) {
                    list(&mut mount["options"]).retain(|option| option != "ro");
                }
            }
            Line::AllDevices => {
                config["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
            }
            Line::Device(path, major, minor) => {
                let node = json!({ "path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666 });
                config["linux"]["devices"] = json!([node]);
            }
        }
    }
}

fn object(value: &mut Value) -> &mut serde_json::Map<String, Value> {
    value.as_object_mut().expect("an object")
}

fn list(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().expect("a list")
}

/// A bundle on disk.
pub struct Bundle {
    pub dir: PathBuf,
    pub config: Value,
    id: String,
}

impl Bundle {
    /// `spec` with some lines changed.
    pub fn new(host: &Host, spec: &Spec, lines: &[Line]) -> Bundle {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("paas-w{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = host.dir.path().join(&id);
        let root = dir.join("root");
        let user_namespace = !lines.iter().any(|line| matches!(line, Line::Without("user")));
        // Beyond the ranges that the runtime under test hands out.
        let uid_base = host.uids().end - 65_536;
        std::fs::create_dir(&dir).unwrap();
        copy(&spec.layers[0], &root, if user_namespace { uid_base } else { 0 });
        for folder in ["tmp", "var", "var/tmp"] {
            std::fs::create_dir(root.join(folder)).unwrap();
            std::fs::set_permissions(root.join(folder), std::fs::Permissions::from_mode(0o1777)).unwrap();
        }
        let place = Place {
            root: root.clone(),
            uid_base,
            cgroups: Path::new("/").join(&id),
            masked: Vec::new(),
        };
        let mut config = serde_json::to_value(from_spec(spec, &place)).unwrap();
        lines.iter().for_each(|line| line.apply(&mut config));
        Bundle { dir, config, id }
    }

    /// What it printed, to its end. `prepare` can put a launcher before the runtime.
    pub fn run(&self, prepare: impl FnOnce(Command) -> Command) -> String {
        std::fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
        let output = self.dir.join("output");
        let file = File::create(&output).unwrap();
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.dir.join("runc"));
        let mut command = prepare(command);
        command.arg("run").args(
            self.config["paas-runc"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str),
        );
        command.arg("--bundle").arg(&self.dir).arg(&self.id);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let mut child = command.spawn().unwrap();
        eventually("the bundle has ended", || child.try_wait().unwrap().is_some());
        std::fs::read_to_string(output).unwrap()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let mut delete = Command::new("runc");
        delete
            .arg("--root")
            .arg(self.dir.join("runc"))
            .args(["delete", "--force", &self.id]);
        let _ = delete.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&self.dir);
        // Should it have left a group in some hierarchy.
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        for root in hierarchies.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]) {
            let _ = std::fs::remove_dir(root.join(&self.id));
        }
    }
}

/// Copies a tree of folders and files with owners shifted by `shift`.
fn copy(from: &Path, to: &Path, shift: u32) {
    use std::os::unix::fs::MetadataExt;
    let meta = from.symlink_metadata().unwrap();
    if meta.is_dir() {
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()), shift);
        }
    } else {
        std::fs::copy(from, to).unwrap();
    }
    std::os::unix::fs::chown(to, Some(meta.uid() + shift), Some(meta.gid() + shift)).unwrap();
    // After the owner, whose change takes setuid away.
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(meta.mode() & 0o7777)).unwrap();
}
