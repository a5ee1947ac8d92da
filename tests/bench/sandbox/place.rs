//! Where the benchmark happens: a folder with the root file system that all share, and what must not be left of it.

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The app, compiled on the spot.
const APP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/bench/sandbox/app/main.rs");
/// The app within the root file system.
pub const APP_INSIDE: &str = "/bin/stamp";
/// For what was killed to be gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// User and group of the app.
pub const USER: u32 = 2000;

/// Everything lies below one folder and begins with one name.
pub struct Place {
    folder: tempfile::TempDir,
    /// Prefix of the names of sandboxes and control groups.
    pub name: String,
}

impl Place {
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("paas-bench-")
            .tempdir()
            .context("failed to make a folder")?;
        let place = Self {
            folder,
            name: format!("paasbench{}", std::process::id()),
        };
        // Those within user namespaces have to get through.
        open(place.path())?;
        place.fill()?;
        Ok(place)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// Where everything that is not the app's own words is told.
    pub fn messages(&self) -> Result<std::fs::File> {
        let path = self.path().join("messages");
        let file = std::fs::File::options().create(true).append(true).open(&path);
        file.with_context(|| format!("failed to open {}", path.display()))
    }

    /// The end of the messages, for an error.
    pub fn last_messages(&self) -> String {
        let text = std::fs::read(self.path().join("messages")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    fn fill(&self) -> Result<()> {
        let rootfs = self.rootfs();
        for name in [
            "bin",
            "dev",
            "etc",
            "home/vcap",
            "proc",
            "root",
            "run",
            "sys",
            "tmp",
            "usr/lib",
            "var/tmp",
        ] {
            let path = rootfs.join(name);
            std::fs::create_dir_all(&path).with_context(|| format!("failed to make {}", path.display()))?;
        }
        let passwd = format!("root:x:0:0::/root:/bin/sh\nvcap:x:{USER}:{USER}::/home/vcap:/bin/sh\n");
        std::fs::write(rootfs.join("etc/passwd"), passwd).context("failed to write etc/passwd")?;
        std::os::unix::fs::chown(rootfs.join("home/vcap"), Some(USER), Some(USER)).context("failed to own home")?;
        let app = rootfs.join("bin/stamp");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition", "2024", "--crate-name", "stamp", "-O"]);
        rustc.args([
            "-C",
            "panic=abort",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=symbols",
            "-o",
        ]);
        let output = rustc.arg(&app).arg(APP).output().context("failed to run rustc")?;
        if !output.status.success() {
            bail!("the app does not compile: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// What of all this is still on the machine, a line each; empty after everybody has cleared up.
    pub fn leftovers(&self) -> Vec<String> {
        let own = self.path().to_string_lossy().into_owned();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mounts.lines().filter(|line| line.contains(&own));
        let mut left: Vec<String> = mounts.map(|line| format!("mount: {line}")).collect();
        left.extend(processes(&own).map(|(pid, line)| format!("process {pid}: {line}")));
        left.extend(
            self.groups()
                .iter()
                .map(|path| format!("control group: {}", path.display())),
        );
        left
    }

    /// Removes what a failure left: processes and groups whose runtime ended before it could.
    pub fn clear_up(&self) {
        let own = self.path().to_string_lossy().into_owned();
        let deadline = Instant::now() + PATIENCE;
        while !self.leftovers().is_empty() && Instant::now() < deadline {
            let groups = self.groups();
            let inside = groups
                .iter()
                .map(|group| std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default());
            let inside: Vec<i32> = inside
                .flat_map(|pids| pids.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
                .collect();
            for pid in inside.into_iter().chain(processes(&own).map(|(pid, _)| pid)) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            for group in groups {
                let _ = std::fs::remove_dir(group);
            }
            // sleeps: only where something was left, whose end nobody announces.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Control groups of the benchmark in every hierarchy, innermost first.
    pub fn groups(&self) -> Vec<PathBuf> {
        let all = walk(Path::new("/sys/fs/cgroup"), 5);
        let ours = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&self.name))
        };
        let mut found: Vec<PathBuf> = all.into_iter().filter(ours).collect();
        found.reverse();
        found
    }
}

/// Lets everybody through a folder.
pub fn open(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, mode).with_context(|| format!("failed to open {}", path.display()))
}

/// Folders below `root`, each before what it holds.
fn walk(root: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            if depth > 1 {
                found.extend(walk(&entry.path(), depth - 1));
            }
        }
    }
    found
}

/// Processes whose command lines name `part`, but this program itself.
fn processes(part: &str) -> impl Iterator<Item = (i32, String)> {
    let own = std::process::id().cast_signed();
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    folders.filter_map(move |folder| {
        let pid = folder.file_name().to_str()?.parse().ok().filter(|pid| *pid != own)?;
        let line = std::fs::read(folder.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(part).then_some((pid, line))
    })
}
