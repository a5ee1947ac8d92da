//! Runtimes under test, bundles, and containers of one case that are gone when it ends, however it ends.

use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};
use serde_json::{Value, json};

use super::judge::{Outcome, Trouble, ensure};
use super::seen::Seen;

/// No single wait of a case takes longer on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// A v2 hierarchy beside v1 ones.
const HYBRID: &str = "/sys/fs/cgroup/unified";

/// A program that makes containers.
#[derive(Clone, Copy, Debug)]
pub struct Runtime {
    pub name: &'static str,
}

/// Ours first.
pub const RUNTIMES: [Runtime; 3] = [
    Runtime { name: "paas-init" },
    Runtime { name: "runc" },
    Runtime { name: "crun" },
];

impl Runtime {
    pub fn is_ours(self) -> bool {
        self.name == "paas-init"
    }

    /// Whether it has to run in a mount namespace of its own: it refuses a v2 hierarchy with controllers beside v1
    /// ones, so it is not shown one.
    pub fn is_apart(self) -> bool {
        self.name == "crun" && Path::new(HYBRID).join("cgroup.controllers").exists()
    }

    /// A suite without the others would not be this suite.
    pub fn require(self) {
        assert!(nix::unistd::geteuid().is_root(), "containers are made by root");
        let there = self.is_ours() || Command::new(self.name).arg("--version").output().is_ok();
        assert!(
            there,
            "{} is not installed: `cargo xtask conformance` installs it",
            self.name
        );
    }

    /// The command that runs it.
    fn command(self) -> Command {
        match self.name {
            "paas-init" => Command::new(env!("CARGO_BIN_EXE_paas-init")),
            _ if self.is_apart() => {
                let mut command = Command::new("unshare");
                let script = format!("umount -l {HYBRID} && exec crun \"$@\"");
                command.args(["--mount", "sh", "-c", &script, "crun"]);
                command
            }
            name => Command::new(name),
        }
    }
}

/// The static probe, compiled when it is older than its source.
fn probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oci/probe/main.rs");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let binary = folder.join("oci-probe");
        let modified = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
        let stale = || modified(&binary).is_none_or(|built| Some(built) < modified(&source));
        if !stale() {
            return binary;
        }
        // Cases are processes of their own: one compiles, the others wait.
        let lock = File::create(folder.join("oci-probe.lock")).unwrap();
        lock.lock().unwrap();
        if stale() {
            let draft = folder.join("oci-probe.new");
            let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
            let options = [
                "--edition",
                "2024",
                "-O",
                "-C",
                "target-feature=+crt-static",
                "-C",
                "strip=symbols",
                "-o",
            ];
            let status = Command::new(rustc)
                .args(options)
                .args([&draft, &source])
                .status()
                .unwrap();
            assert!(status.success(), "the probe does not compile");
            std::fs::rename(&draft, &binary).unwrap();
        }
        binary
    })
}

/// The first process of a container.
struct First {
    pid: Pid,
    fd: OwnedFd,
    code: Option<i32>,
}

/// A bundle with the probe in its root, and the container made from it by one runtime.
pub struct Bundle {
    pub runtime: Runtime,
    pub id: String,
    pub config: Value,
    dir: tempfile::TempDir,
    first: Option<First>,
    wrapper: Option<String>,
}

impl Bundle {
    pub fn new(runtime: Runtime) -> Bundle {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("paas-conf-{}-{count}", std::process::id());
        let dir = tempfile::Builder::new().prefix(&id).tempdir().unwrap();
        // Users of a container's own have to get there.
        set_mode(dir.path(), 0o755);
        let root = dir.path().join("rootfs");
        for folder in ["proc", "sys", "dev", "tmp", "etc", "mnt"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        set_mode(&root.join("tmp"), 0o1777);
        std::fs::copy(probe(), root.join("probe")).unwrap();
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        let config = super::expect::template(&id);
        Bundle {
            runtime,
            id,
            config,
            dir,
            first: None,
            wrapper: None,
        }
    }

    /// Has a shell run the runtime, as `"$@"` of `script`.
    pub fn wrap(&mut self, script: &str) {
        self.wrapper = Some(script.to_owned());
    }

    /// No shell any more.
    pub fn unwrap(&mut self) {
        self.wrapper = None;
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the bundle, as text.
    pub fn file(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn root(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// What the container's process is to do.
    pub fn args(&mut self, args: &[&str]) {
        let all: Vec<&str> = ["/probe"].iter().chain(args).copied().collect();
        self.config["process"]["args"] = json!(all);
    }

    /// The runtime with its state below the bundle, and `words`.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.runtime.command();
        if let Some(script) = &self.wrapper {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", script, "sh"])
                .arg(command.get_program())
                .args(command.get_args());
            command = shell;
        }
        command
            .arg("--root")
            .arg(self.path().join("state"))
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Runs it; what it said, if it failed.
    pub fn call(&self, words: &[&str]) -> Result<Vec<u8>, String> {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        if status.success() {
            return Ok(stdout);
        }
        Err(format!(
            "{}: {}",
            words.join(" "),
            last_line(&String::from_utf8_lossy(&stderr))
        ))
    }

    pub fn write_config(&self) {
        let text = serde_json::to_vec_pretty(&self.config).unwrap();
        std::fs::write(self.path().join("config.json"), text).unwrap();
    }

    /// Creates the container, its output going to a file.
    pub fn create(&mut self) -> Result<(), String> {
        self.create_with(&[])
    }

    /// The same with further words.
    pub fn create_with(&mut self, more: &[&str]) -> Result<(), String> {
        self.write_config();
        let (bundle, pid_file) = (self.file(""), self.file("first"));
        let mut words = vec!["create", "--bundle", &bundle, "--pid-file", &pid_file];
        words.extend(more);
        words.push(&self.id);
        // The container's process has them too, so they are files.
        let (out, err) = (
            File::create(self.file("out")).unwrap(),
            File::create(self.file("err")).unwrap(),
        );
        let status = self.command(&words).stdout(out).stderr(err).status().unwrap();
        if !status.success() {
            let text = std::fs::read_to_string(self.file("err")).unwrap();
            return Err(format!("create: {}", last_line(&text)));
        }
        let text = std::fs::read_to_string(&pid_file).map_err(|error| format!("pid file: {error}"))?;
        self.hold(&text)
    }

    /// Holds the process, so that its end is an event.
    pub fn hold(&mut self, pid: &str) -> Result<(), String> {
        let pid = pid
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .ok_or("there is no pid in the pid file")?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("its process: {error}"))?;
        self.first = Some(First { pid, fd, code: None });
        Ok(())
    }

    /// The first process's number.
    pub fn pid(&self) -> i32 {
        self.first.as_ref().map_or(0, |first| first.pid.as_raw_nonzero().get())
    }

    pub fn start(&self) -> Result<(), String> {
        self.call(&["start", &self.id]).map(drop)
    }

    pub fn delete(&self) -> Result<(), String> {
        self.call(&["delete", &self.id]).map(drop)
    }

    pub fn kill(&self, signal: &str) -> Result<(), String> {
        self.call(&["kill", &self.id, signal]).map(drop)
    }

    pub fn state(&self) -> Result<Value, String> {
        let text = self.call(&["state", &self.id])?;
        serde_json::from_slice(&text).map_err(|error| format!("state is no JSON: {error}"))
    }

    /// The status, or `none` if there is no such container.
    pub fn status(&self) -> String {
        let status = self
            .state()
            .map(|state| state["status"].as_str().unwrap_or("?").to_owned());
        status.unwrap_or_else(|_| "none".to_owned())
    }

    /// Fails unless the container has this status.
    pub fn is(&self, wanted: &str) -> Outcome {
        let status = self.status();
        ensure(status == wanted, || format!("it is {status}, not {wanted}"))
    }

    /// Waits for the end of its process: the code, or 128 and the number of the signal.
    pub fn ended(&mut self) -> Result<i32, String> {
        let first = self.first.as_mut().ok_or("it was never created")?;
        if let Some(code) = first.code {
            return Ok(code);
        }
        readable(&first.fd, PATIENCE)?;
        let status = waitpid(Some(first.pid), WaitOptions::empty()).ok().flatten();
        let code = status.and_then(|(_, status)| {
            status
                .exit_status()
                .or(status.terminating_signal().map(|signal| 128 + signal))
        });
        let code = code.unwrap_or(-1);
        first.code = Some(code);
        Ok(code)
    }

    /// Waits for the end of its process, and for the runtime to know.
    pub fn stopped(&mut self) -> Outcome {
        self.ended()?;
        self.is("stopped")
    }

    /// Runs the container to its end: what its process told.
    pub fn run(&mut self) -> Result<Seen, Trouble> {
        self.create()?;
        self.start()?;
        self.stopped()?;
        let seen = self.seen();
        self.delete()?;
        Ok(seen)
    }

    /// Kills it if need be, and deletes it.
    pub fn finish(&mut self) -> Outcome {
        if self.status() != "stopped" {
            self.kill("KILL")?;
        }
        self.stopped()?;
        Ok(self.delete()?)
    }

    /// Runs the probe, which has to find everything as it is configured.
    pub fn inside(&mut self) -> Result<Seen, Trouble> {
        let words = super::expect::asked(&self.config);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.args(&words);
        let seen = self.run()?;
        super::expect::holds(&self.config, &seen)?;
        Ok(seen)
    }

    pub fn seen(&self) -> Seen {
        Seen::parse(&self.output())
    }

    /// What its process wrote.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.file("out")).unwrap_or_default()
    }

    /// What was written to its root.
    pub fn written(&self, name: &str) -> String {
        std::fs::read_to_string(self.root().join(name)).unwrap_or_default()
    }

    /// Removes what the case left of its container.
    pub fn clear(&mut self) -> Result<(), String> {
        self.sweep()
    }

    fn sweep(&mut self) -> Result<(), String> {
        let _ = self.call(&["delete", "--force", &self.id]);
        if let Some(first) = &self.first {
            let _ = rustix::process::pidfd_send_signal(&first.fd, rustix::process::Signal::KILL);
            self.ended()?;
        }
        Ok(())
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if !matches!(&self.first, Some(First { code: Some(_), .. })) {
            let _ = self.sweep();
        }
        // Some runtimes leave their mounts on the host where the container has no mount namespace of its own. What is
        // mounted there is the host's, so the folder is only removed when nothing is mounted below it any more.
        for target in mounts_below(self.dir.path()).iter().rev() {
            let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
        }
        if !mounts_below(self.dir.path()).is_empty() {
            self.dir.disable_cleanup(true);
        }
    }
}

/// What is mounted at or below `path`, outer ones first.
pub fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let targets = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    targets.filter(|target| target.starts_with(path)).collect()
}

/// Waits until there is something to read, or the end of what can be.
pub fn readable(fd: &OwnedFd, patience: Duration) -> Result<(), String> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = rustix::event::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(format!("nothing happened within {} s", patience.as_secs())),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// What the first who connects sends: a text and a descriptor.
pub fn received(listener: &UnixListener) -> Result<(String, OwnedFd), String> {
    let told = |error: std::io::Error| error.to_string();
    readable(&OwnedFd::from(listener.try_clone().map_err(told)?), PATIENCE)?;
    let (mut socket, _) = listener.accept().map_err(told)?;
    let mut text = vec![0u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [std::io::IoSliceMut::new(&mut text)];
    let got = recvmsg(&socket, &mut into, &mut control, RecvFlags::empty()).map_err(|error| error.to_string())?;
    let fds = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    text.truncate(got.bytes);
    // Who sends it closes the connection.
    socket.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    socket.read_to_end(&mut text).map_err(told)?;
    let fd = fds.ok_or("no descriptor came")?;
    Ok((String::from_utf8_lossy(&text).into_owned(), fd))
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or("no reason given").trim().to_owned()
}

pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Control groups with `name` in their path's last part, at the top of any hierarchy.
pub fn groups_of(name: &str) -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let roots = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
    let below = roots.flat_map(|root| {
        let relative = format!("{name}-relative");
        [
            root.join(name),
            root.join(&relative),
            root.join("paas/oci").join(relative),
        ]
    });
    below.filter(|path| path.is_dir()).collect()
}
