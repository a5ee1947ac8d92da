//! The same sandbox as a bundle for an OCI runtime, weakened line by line: what a sandbox of the
//! platform cannot be, for want of words for it.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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
    /// The runtime is started with a folder of the host open, and told to pass it on.
    LeftOpen,
    /// The mount there takes part in what happens at its source.
    Shared(&'static str),
    /// The keyring of whoever starts it is kept.
    CallersKeyring,
}

/// Who runs a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// What a weakened bundle takes, for it does as it is told.
    Runc,
    /// The runtime under test.
    Ours,
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
            Line::LeftOpen => write!(f, "a folder of the host passed on as a descriptor"),
            Line::Shared(path) => write!(f, "`{path}` a shared mount"),
            Line::CallersKeyring => write!(f, "the keyring of whoever started it"),
        }
    }
}

impl Line {
    fn apply(self, config: &mut Value) {
        match self {
            // What stands in no configuration.
            Line::NoInit | Line::LeftOpen | Line::CallersKeyring => {}
            Line::Shared(path) => {
                let mounts = list(&mut config["mounts"]).iter_mut();
                for mount in mounts.filter(|mount| mount["destination"] == path) {
                    let options = list(&mut mount["options"]);
                    options.retain(|option| option != "rprivate");
                    options.push(json!("rshared"));
                }
            }
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
    pub id: String,
    /// Below which its root lies.
    pub root: PathBuf,
    /// Of `run`, for runc alone.
    options: Vec<&'static str>,
    /// What the runtime finds open.
    left_open: Option<PathBuf>,
    init: PathBuf,
}

impl Bundle {
    /// `spec` with some lines changed.
    pub fn new(host: &Host, spec: &Spec, lines: &[Line]) -> Bundle {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("paas-w{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = host.dir.path().join(&id);
        let root = dir.join("root");
        // Nobody may look into a test's folder; what is left open in it leads nowhere else.
        let passable = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(host.dir.path(), passable).unwrap();
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
        let mut bundle = Bundle {
            dir,
            config,
            id,
            root,
            options: Vec::new(),
            left_open: None,
            init: host.init_path.clone(),
        };
        for line in lines {
            match line {
                Line::LeftOpen => bundle.pass_on(host.dir.path()),
                Line::CallersKeyring => bundle.options.push("--no-new-keyring"),
                _ => {}
            }
        }
        bundle
    }

    /// Has the runtime find `folder` open, and pass it on.
    fn pass_on(&mut self, folder: &Path) {
        self.leave_open(folder);
        self.options.extend(["--preserve-fds", "1"]);
    }

    /// Has the runtime find `folder` open.
    pub fn leave_open(&mut self, folder: &Path) {
        self.left_open = Some(folder.to_owned());
    }

    fn program(&self, runner: Runner) -> Command {
        let program = match runner {
            Runner::Runc => Path::new("runc"),
            Runner::Ours => &self.init,
        };
        let mut command = match &self.left_open {
            None => Command::new(program),
            Some(folder) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "exec 3<\"$0\"; exec \"$@\""]).args([folder, program]);
                shell
            }
        };
        command.arg("--root").arg(self.state());
        command
    }

    /// Where the runtime keeps what it knows.
    fn state(&self) -> PathBuf {
        self.dir.join("runtime")
    }

    /// Starts it; what it prints goes to a file.
    pub fn start(&self, runner: Runner) -> Child {
        std::fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
        let file = File::create(self.output_file()).unwrap();
        let mut command = self.program(runner);
        command.arg("run");
        if runner == Runner::Runc {
            command.args(&self.options);
        }
        command.arg("--bundle").arg(&self.dir).arg(&self.id);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        command.spawn().unwrap()
    }

    fn output_file(&self) -> PathBuf {
        self.dir.join("output")
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.output_file()).unwrap()
    }

    /// Runs it to its end: whether all went well, and what it printed.
    pub fn run_by(&self, runner: Runner) -> (bool, String) {
        let mut child = self.start(runner);
        let mut status = None;
        eventually("the bundle has ended", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        (status.is_some_and(|status| status.success()), self.output())
    }

    /// What it printed, to its end.
    pub fn run(&self) -> String {
        self.run_by(Runner::Runc).1
    }

    /// Starts it by the runtime under test and leaves it alone.
    pub fn detach(&self) {
        std::fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
        let mut command = self.program(Runner::Ours);
        command
            .args(["run", "--detach", "--bundle"])
            .arg(&self.dir)
            .arg(&self.id);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "the bundle does not start");
    }

    /// What a runtime's command answers about it; the name comes after `words`, then `more`.
    pub fn ask(&self, runner: Runner, words: &[&str], more: &[&str]) -> String {
        let mut command = self.program(runner);
        let output = command.args(words).arg(&self.id).args(more).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Its first process, while it runs.
    pub fn pid(&self, runner: Runner) -> i32 {
        let state: Value = serde_json::from_str(&self.ask(runner, &["state"], &[])).unwrap();
        i32::try_from(state["pid"].as_i64().unwrap()).unwrap()
    }

    /// A mount more, bound from `source`.
    pub fn bind(&mut self, source: &Path, target: &str) {
        let mount = json!({ "destination": target, "type": "bind", "source": source, "options": ["bind"] });
        list(&mut self.config["mounts"]).push(mount);
    }

    /// Without the mounts at and below `path`.
    pub fn unmount(&mut self, path: &str) {
        list(&mut self.config["mounts"]).retain(|mount| !mount["destination"].as_str().unwrap().starts_with(path));
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for runner in [Runner::Runc, Runner::Ours] {
            let mut delete = self.program(runner);
            delete.args(["delete", "--force", &self.id]);
            let _ = delete.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
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
