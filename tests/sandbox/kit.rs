//! A host for each test: its own state folder, groups, uids, layer, and at the end proof that
//! nothing of it is left.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sandbox::log::{Position, Record, Stream};
use sandbox::net::NetworkConfig;
use sandbox::{Config, Exit, Limits, LogPolicy, Network, ParkSpec, Parking, Process, Runtime, Sandbox, Spec};

/// No single wait of a test takes longer on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The static probe, compiled when it is older than its source.
pub fn probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sandbox/probe/main.rs");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let binary = folder.join("probe");
        let modified = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
        let folders = ["", "escape"].map(|name| source.with_file_name(name));
        let files = folders
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten());
        let newest = files.filter_map(|file| modified(&file.path())).max();
        let stale = || modified(&binary) < newest;
        if !stale() {
            return binary;
        }
        // Tests are processes of their own: one compiles, the others wait.
        let lock = std::fs::File::create(folder.join("probe.lock")).unwrap();
        lock.lock().unwrap();
        if stale() {
            let draft = folder.join("probe.new");
            let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
            let status = Command::new(rustc)
                .args([
                    "--edition",
                    "2024",
                    "-O",
                    "-C",
                    "target-feature=+crt-static",
                    "-C",
                    "strip=symbols",
                    "-o",
                ])
                .args([&draft, &source])
                .status()
                .unwrap();
            assert!(status.success(), "the probe does not compile");
            std::fs::rename(&draft, &binary).unwrap();
        }
        binary
    })
}

/// Which kind of parked sandbox every start is made of: `whole`, `shape`, `blank`, or not set.
pub const STARTS: &str = "SANDBOX_TEST_STARTS";

fn parking() -> Parking {
    match std::env::var(STARTS).as_deref() {
        Ok("blank") => Parking {
            max: 0,
            disks: 1,
            blanks: 1,
        },
        Ok(_) => Parking {
            max: 1,
            disks: 1,
            blanks: 0,
        },
        Err(_) => Parking::default(),
    }
}

/// One test's host.
pub struct Host {
    pub runtime: Option<Runtime>,
    pub dir: Folder,
    pub parent: String,
    pub layer: PathBuf,
    pub init_path: PathBuf,
    pub parked: Parking,
    uid_base: u32,
}

/// The init under test, or a shipped one that is named.
fn init_path() -> PathBuf {
    std::env::var("PAAS_INIT")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_paas-init").to_owned())
        .into()
}

/// The test's folder: its own, or that of the test that started this process.
pub enum Folder {
    Own(tempfile::TempDir),
    Lent(PathBuf),
}

impl Folder {
    pub fn path(&self) -> &Path {
        match self {
            Folder::Own(dir) => dir.path(),
            Folder::Lent(path) => path,
        }
    }
}

/// What another process needs to act on the same host.
pub type Identity = (PathBuf, String, u32);

impl Host {
    pub fn identity(&self) -> Identity {
        (self.dir.path().to_owned(), self.parent.clone(), self.uid_base)
    }

    /// The host of another process.
    pub fn again((dir, parent, uid_base): Identity) -> Host {
        let layer = dir.join("layer");
        let mut host = Host {
            runtime: None,
            dir: Folder::Lent(dir),
            parent,
            layer,
            init_path: init_path(),
            parked: parking(),
            uid_base,
        };
        host.open();
        host
    }

    pub fn new() -> Host {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let dir = tempfile::Builder::new().prefix("paas-sandbox-").tempdir().unwrap();
        let layer = dir.path().join("layer");
        build_layer(&layer);
        let parent = format!("paas/t{pid}-{count}");
        // Ranges of tests running at once must not overlap, and all ids stay below 2^31.
        let uid_base = (100 + (pid * 16 + count * 4) % 30_000) * 65_536;
        let mut host = Host {
            runtime: None,
            dir: Folder::Own(dir),
            parent,
            layer,
            init_path: init_path(),
            parked: parking(),
            uid_base,
        };
        host.open();
        host
    }

    /// Opens the runtime again, with other settings.
    pub fn reopen(&mut self) {
        drop(self.runtime.take());
        self.open();
    }

    /// Opens the runtime (again).
    pub fn open(&mut self) {
        self.runtime = Some(Runtime::open(self.config()).unwrap());
    }

    pub fn config(&self) -> Config {
        // As distinct as the ranges of uids.
        let id = self.uid_base / 65_536 / 4;
        let subnet = format!("10.{}.{}.0/24", 190 + id / 250 % 60, id % 250).parse().unwrap();
        let mut network = NetworkConfig::new(
            &format!("t{id}"),
            &format!("ptb{id}"),
            subnet,
            self.dir.path().join("net"),
        );
        // Some tests need more addresses, one after the other, than there are.
        network.quarantine = Duration::from_millis(500);
        Config {
            state_dir: self.dir.path().join("state"),
            init_path: self.init_path.clone(),
            cgroup_parent: self.parent.clone(),
            uid_base: self.uid_base,
            network,
            parked: self.parked,
        }
    }

    pub fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    /// The probe with one subcommand, under ordinary limits.
    pub fn spec(&self, id: &str, argv: &[&str]) -> Spec {
        let mut all = vec!["/bin/probe".to_owned()];
        all.extend(argv.iter().map(|&a| a.to_owned()));
        Spec {
            id: id.to_owned(),
            hostname: "inside".to_owned(),
            layers: vec![self.layer.clone()],
            disk_bytes: 32 << 20,
            inodes: 2048,
            binds: Vec::new(),
            process: Process {
                argv: all,
                env: vec![("GREETING".to_owned(), "hello".to_owned())],
                cwd: "/home/vcap".into(),
                uid: 2000,
                gid: 2000,
                terminal: false,
                rlimits: Vec::new(),
            },
            limits: Limits {
                memory_bytes: 64 << 20,
                cpu_weight: 100,
                cpu_quota: None,
                pids: 64,
                io: sandbox::IoLimits::default(),
            },
            network: Network::None,
            log: LogPolicy::default(),
            files: Vec::new(),
            sidecars: Vec::new(),
        }
    }

    pub fn create(&self, spec: &Spec) -> Sandbox {
        self.park_for(spec);
        self.runtime()
            .create(spec)
            .unwrap_or_else(|e| panic!("create {}: {}", spec.id, chain(&e)))
    }

    /// Parks what `spec` needs, if this run is about that.
    pub fn park_for(&self, spec: &Spec) {
        let wish = match std::env::var(STARTS).as_deref() {
            Ok("whole") => ParkSpec::whole(spec),
            Ok("shape") => ParkSpec::shape(spec),
            Ok("blank") => {
                let networked = matches!(spec.network, Network::Isolated { .. });
                self.runtime().make_ready(networked).unwrap();
                self.runtime().await_parked(Instant::now() + Duration::from_secs(5));
                return;
            }
            _ => return,
        };
        // A specification that is refused shall be refused by the start.
        if self.runtime().park(&wish, 1).is_ok() {
            self.runtime().await_parked(Instant::now() + Duration::from_secs(5));
        }
    }

    /// Runs to the end: the exit and everything logged.
    pub fn run(&self, spec: &Spec) -> (Exit, Vec<Record>) {
        let sandbox = self.create(spec);
        let exit = ended(&sandbox);
        let records = records(&sandbox);
        sandbox.destroy().unwrap();
        (exit, records)
    }

    /// Runs the probe and gives what it printed.
    pub fn output(&self, argv: &[&str]) -> String {
        let (exit, records) = self.run(&self.spec("once", argv));
        assert_eq!(exit.code, Some(0), "{argv:?}: {exit:?} {}", text(&records, Stream::Err));
        text(&records, Stream::Out)
    }

    /// First and last host uid this test may use.
    pub fn uids(&self) -> std::ops::Range<u32> {
        self.uid_base..self.uid_base + 16 * 65_536
    }

    /// Closes the runtime and proves that nothing is left.
    pub fn finish(self) {
        self.finish_with(|_| {});
    }

    /// The same, and `more` is proven before the folder goes.
    pub fn finish_with(mut self, more: impl FnOnce(&Host)) {
        let runtime = self.runtime.take().unwrap();
        assert_eq!(runtime.list().unwrap(), Vec::<String>::new(), "sandboxes left");
        runtime.close().unwrap();
        let sandboxes = self.dir.path().join("state/sandboxes");
        assert_eq!(std::fs::read_dir(sandboxes).unwrap().count(), 0, "folders left");
        eventually("no process is left", || self.processes().is_empty());
        eventually("no control group is left", || self.groups().is_empty());
        eventually("no loop device is left", || self.loops().is_empty());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "mounts left");
        more(&self);
    }

    /// Processes of this test's uids.
    pub fn processes(&self) -> Vec<i32> {
        let uids = self.uids();
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|e| {
            use std::os::unix::fs::MetadataExt;
            let pid = e.file_name().to_str()?.parse().ok()?;
            uids.contains(&e.metadata().ok()?.uid()).then_some(pid)
        })
        .collect()
    }

    /// Control groups of this test.
    pub fn groups(&self) -> Vec<PathBuf> {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path());
        let all = hierarchies
            .filter(|p| p.join("cgroup.procs").exists())
            .chain([PathBuf::from("/sys/fs/cgroup")]);
        all.map(|root| root.join(&self.parent))
            .filter(|path| path.exists())
            .collect()
    }

    /// Loop devices over this test's images.
    pub fn loops(&self) -> Vec<String> {
        let own = self.dir.path().to_str().unwrap();
        let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
        devices
            .filter_map(|e| std::fs::read_to_string(e.path().join("loop/backing_file")).ok())
            .filter(|file| file.contains(own))
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A test that failed half-way must not leave its sandboxes to the machine.
        if self.runtime.is_none() && !std::thread::panicking() {
            return;
        }
        if let Some(runtime) = self.runtime.take().or_else(|| Runtime::open(self.config()).ok()) {
            let _ = runtime.sweep(&Default::default());
            let _ = runtime.close();
        }
    }
}

/// A root with the probe, a few files, and a home of the app's user.
pub fn build_layer(layer: &Path) {
    for folder in ["bin", "etc", "home/vcap", "root", "usr/lib"] {
        std::fs::create_dir_all(layer.join(folder)).unwrap();
    }
    std::fs::copy(probe(), layer.join("bin/probe")).unwrap();
    std::fs::write(
        layer.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nvcap:x:2000:2000::/home/vcap:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(layer.join("etc/secret"), "only for root\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(layer.join("etc/secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::copy(probe(), layer.join("bin/setuid-probe")).unwrap();
    std::fs::set_permissions(layer.join("bin/setuid-probe"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::chown(layer.join("home/vcap"), Some(2000), Some(2000)).unwrap();
}

/// Waits for the end.
pub fn ended(sandbox: &Sandbox) -> Exit {
    readable(sandbox.pidfd(), PATIENCE);
    sandbox.exit().unwrap().expect("a sandbox that is gone has an exit")
}

pub fn readable(fd: impl AsFd, patience: Duration) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::try_from(patience).unwrap()).unwrap();
    assert_eq!(ready, 1, "nothing happened within {patience:?}");
}

/// Everything logged so far.
pub fn records(sandbox: &Sandbox) -> Vec<Record> {
    let mut all = Vec::new();
    let mut position = Position::default();
    loop {
        let batch = sandbox.log().read(position, 1 << 20).unwrap();
        if batch.records.is_empty() {
            return all;
        }
        position = batch.next;
        all.extend(batch.records);
    }
}

/// Lines of one stream.
pub fn text(records: &[Record], stream: Stream) -> String {
    let lines = records.iter().filter(|r| r.stream == stream);
    lines
        .map(|r| String::from_utf8_lossy(&r.payload).into_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Waits until the app has printed `line`.
pub fn printed(sandbox: &Sandbox, line: &str) {
    eventually(&format!("{line:?} is logged"), || {
        text(&records(sandbox), Stream::Out).lines().any(|l| l == line)
    });
}

/// Waits for a state of the kernel that announces itself to nobody.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        // sleeps: only called for what the kernel and init announce to nobody.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Compiles it where it has to be; on a kernel without a compiler's means it is only found.
#[test]
fn the_probe_answers() {
    let output = Command::new(probe()).args(["say", "here"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here\n");
}
