//! One cell for one test: its own folder, bridge, subnet and control groups, and an agent in a process that can be
//! killed. Dropping it takes everything down and looks for what is left.

use crate::controller::{Controller, TOKEN};
use crate::world::World;
use blobstore::{Blobstore, Kind, Limits};
use cell::Config;
use model::id::{AppId, DropletId, OrgId, ProcessId, SpaceId, VersionId, WorkId};
use model::staging::{DropletLayer, LayerKind};
use model::work::{Assignment, Cause, InstanceSpec, Observation, Owner, Wanted, WorkKind, WorkSpec, WorkState};
use model::{Digest, Secret, SecretEnv};
use sandbox::net::NetworkConfig;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Blank sandboxes that every cell keeps ready, unless the environment says another number.
pub const PARKED: usize = 2;
/// The environment's variable.
const PARKED_VARIABLE: &str = "PAAS_CELL_TEST_PARKED";
/// Tells the agent's process its configuration: folder, controller, number of the slot.
const CONFIGURATION: &str = "PAAS_CELL_TEST_AGENT";

/// File that says that the cell's uplink leads to a world of the test's.
const WORLD: &str = "world";
/// File with the bytes per second that each sandbox may send.
const RATE: &str = "rate";

/// A cell under test.
pub struct Kit {
    pub controller: Controller,
    pub blobs: Blobstore,
    pub app: AppId,
    agent: Option<Child>,
    dir: PathBuf,
    // Goes before the number that its names are made of.
    pub world: Option<World>,
    slot: Slot,
}

/// A number below 200 that no other test of this machine uses.
struct Slot {
    number: u8,
    _lock: fs::File,
}

impl Slot {
    fn take() -> Self {
        let dir = std::env::temp_dir().join("paas-cell-slots");
        fs::create_dir_all(&dir).expect("folder");
        for number in 1..200 {
            let lock = fs::File::create(dir.join(number.to_string())).expect("lock file");
            if lock.try_lock().is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free slot");
    }
}

impl Kit {
    /// A cell that is up and known to its controller.
    pub async fn start() -> Self {
        Self::start_in(false).await
    }

    /// One whose uplink leads to a world of the test's.
    pub async fn start_with_world() -> Self {
        Self::start_in(true).await
    }

    async fn start_in(world: bool) -> Self {
        let slot = Slot::take();
        let dir = std::env::temp_dir().join(format!("paas-cell-{}-{}", slot.number, std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("folder");
        let blobs = Blobstore::open_directory(&dir.join("blobs"), Limits::default()).expect("blobs");
        let world = world.then(|| {
            fs::write(dir.join(WORLD), "").expect("written");
            World::make(slot.number)
        });
        let mut kit = Self {
            controller: Controller::start().await,
            world,
            blobs,
            app: AppId(Uuid::new_v4()),
            agent: None,
            dir,
            slot,
        };
        kit.start_agent().await;
        kit
    }

    /// Starts the agent's process and waits until it has registered and reported.
    pub async fn start_agent(&mut self) {
        let before = self.controller.seen(|seen| seen.registrations);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("agent.log"))
            .expect("log");
        let text = format!(
            "{}\n{}\n{}",
            self.dir.display(),
            self.controller.address,
            self.slot.number
        );
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["agent_process", "--exact", "--nocapture"])
            .env(CONFIGURATION, text)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("the agent's process");
        self.agent = Some(child);
        let agent = self.agent.as_mut().expect("it was started");
        let registered = self
            .controller
            .wait("registered", |seen| (seen.registrations > before).then_some(()));
        let ended = tokio::select! {
            () = registered => false,
            () = until("the agent ends", || !matches!(agent.try_wait(), Ok(None))) => true,
        };
        assert!(!ended, "the agent ended:\n{}", self.agent_log());
    }

    /// Runs the agent in this process, in place of one of its own.
    pub async fn run_here(
        &self,
    ) -> (
        CancellationToken,
        tokio::task::JoinHandle<Result<(), cell::Error>>,
        cell::Agent,
    ) {
        let (ready, agent) = tokio::sync::oneshot::channel();
        let shutdown = CancellationToken::new();
        let config = config(&self.dir, &self.controller.address.to_string(), self.slot.number);
        let running = tokio::spawn(cell::run(config, shutdown.clone(), ready));
        (shutdown, running, agent.await.expect("it is ready"))
    }

    /// `kill -9` of the agent.
    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().expect("it runs");
        agent.kill().expect("killed");
        agent.wait().expect("reaped");
    }

    /// What the agent wrote.
    pub fn agent_log(&self) -> String {
        fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }

    /// Stores a layer with these files (name, contents, mode).
    pub async fn layer(&self, files: &[(&str, &str, u32)]) -> DropletLayer {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, contents, mode) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_size(contents.len() as u64);
            tar.append_data(&mut header, name, contents.as_bytes()).expect("append");
        }
        let tar = tar.into_inner().expect("finish");
        let digest = Digest::from_sha256(Sha256::digest(&tar).into());
        let packed = zstd::encode_all(tar.as_slice(), 1).expect("compress");
        let size_bytes = packed.len() as u64;
        let stored = self.blobs.put_bytes(Kind::Layer, &digest, packed.into(), true);
        stored.await.expect("stored");
        DropletLayer {
            digest,
            size_bytes,
            kind: LayerKind::App,
            name: "app".to_owned(),
            file: None,
        }
    }

    /// A droplet whose processes all come from `InstanceSpec.command`.
    pub async fn droplet(&self) -> Vec<DropletLayer> {
        let metadata = "[[processes]]\ntype = \"web\"\ncommand = [\"exec python3 -m http.server $PORT\"]\n\
            direct = false\ndefault = true\nsource = \"test\"\n";
        vec![
            self.layer(&[("home/vcap/app/index.html", "hello from the app\n", 0o644)])
                .await,
            self.layer(&[("layers/config/metadata.toml", metadata, 0o644)]).await,
        ]
    }

    /// An instance of this droplet, with `command` in place of its own.
    pub fn instance(&self, layers: &[DropletLayer], command: Option<&str>) -> Assignment {
        let spec = WorkSpec {
            owner: self.owner(),
            limits: model::limits::Limits {
                memory_mb: 128,
                disk_mb: 64,
                pids: 64,
                log_bytes_per_second: None,
            },
            stack: "host".parse().expect("a name"),
            env: SecretEnv::default(),
            kind: WorkKind::Instance(InstanceSpec {
                process: ProcessId(Uuid::new_v4()),
                process_type: "web".parse().expect("a type"),
                version: VersionId(Uuid::new_v4()),
                index: 0,
                droplet: DropletId(Uuid::new_v4()),
                layers: layers.to_vec(),
                command: command.map(str::to_owned),
                health: model::health::HealthCheck::default(),
                port: Some(8080),
                grace_seconds: 5,
                uris: Vec::new(),
                sidecars: Vec::new(),
                image: None,
            }),
        };
        Assignment {
            work: WorkId(Uuid::now_v7()),
            epoch: 1,
            wanted: Wanted::Run,
            spec,
        }
    }

    /// Whose work it is in this test.
    pub fn owner(&self) -> Owner {
        Owner {
            app: self.app,
            app_name: "shop".parse().expect("a name"),
            space: SpaceId(Uuid::nil()),
            space_name: "dev".to_owned(),
            org: OrgId(Uuid::nil()),
            org_name: "dev".to_owned(),
        }
    }

    /// Lets each sandbox send so many bytes per second, from the next start of the agent on.
    pub fn set_rate(&self, bytes_out: u64) {
        fs::write(self.dir.join(RATE), bytes_out.to_string()).expect("written");
    }

    /// Waits until the work runs.
    pub async fn running(&self, work: WorkId) -> Observation {
        let running = self.controller.wait("running", |seen| {
            let found = seen.work.get(&work)?;
            let settled = matches!(found.state, WorkState::Running | WorkState::Exited(_));
            settled.then(|| found.clone())
        });
        let seen = running.await;
        assert_eq!(seen.state, WorkState::Running, "{}", self.agent_log());
        seen
    }

    /// Waits until the work has ended, and says why.
    pub async fn ended(&self, work: WorkId) -> Cause {
        let outcome = self
            .controller
            .wait("ended", |seen| match &seen.work.get(&work)?.state {
                WorkState::Exited(outcome) => Some(outcome.clone()),
                _ => None,
            });
        outcome.await.cause
    }

    /// Waits for a line of the work's own output that contains `text`.
    pub async fn line(&self, work: WorkId, text: &str) -> api::cell::LogLine {
        let found = self.controller.wait(text, |seen| {
            let mut own = seen.lines.iter().filter(|line| line.work == work);
            own.find(|line| line.text.contains(text)).cloned()
        });
        found.await
    }

    /// Waits until nothing of the work is left on this host.
    pub async fn gone(&self, work: WorkId) {
        let folder = self.dir.join("cell/sandboxes/sandboxes").join(work.to_string());
        until("the sandbox is gone", || !folder.exists()).await;
    }

    /// Control groups of this cell's sandbox or seat `name`.
    pub fn groups(&self, name: &str) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("groups").flatten();
        let root = Path::new("/sys/fs/cgroup").to_owned();
        let all = hierarchies.map(|entry| entry.path()).chain([root]);
        let groups = all.map(|hierarchy| hierarchy.join("paas").join(self::name(self.slot.number)).join(name));
        groups.filter(|group| group.exists()).collect()
    }

    /// Where the cell finds buildpacks.
    pub fn buildpacks(&self) -> PathBuf {
        self.dir.join("buildpacks")
    }

    /// Folder of the mirror that builds see.
    pub fn mirror(&self) -> PathBuf {
        self.dir.join("mirror")
    }

    /// Folder of the cell.
    pub fn state(&self) -> PathBuf {
        self.dir.join("cell")
    }
}

/// Waits for something that nothing tells of: files that vanish, servers that stop.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            // sleeps: there is no event to wait for.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: not within 60 s"));
}

/// `GET` of `path` at an instance.
pub async fn get(seen: &Observation, path: &str) -> String {
    let address = seen.address.expect("an address");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.get(format!("http://{address}:8080{path}")).send().await;
    answer.expect("answered").text().await.expect("text")
}

impl Drop for Kit {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        let config = config(&self.dir, "127.0.0.1:1", self.slot.number);
        let torn_down = cell::teardown(&config);
        if std::thread::panicking() {
            #[allow(clippy::print_stdout, reason = "part of a failed test's report")]
            {
                println!("the agent's log:\n{}", self.agent_log());
            }
            let _ = fs::remove_dir_all(&self.dir);
            return;
        }
        torn_down.expect("torn down");
        let left = leftovers(&self.dir, self.slot.number);
        fs::remove_dir_all(&self.dir).expect("folder removed");
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

/// What is left of a cell: mounts, processes, control groups, interfaces.
fn leftovers(dir: &Path, slot: u8) -> Vec<String> {
    let dir = dir.to_str().expect("text");
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    let mut left: Vec<String> = mounts
        .lines()
        .filter(|line| line.contains(dir))
        .map(str::to_owned)
        .collect();
    for entry in fs::read_dir("/proc").expect("processes").filter_map(Result::ok) {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(dir) {
            left.push(format!("process {}: {command}", entry.path().display()));
        }
    }
    for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("groups").filter_map(Result::ok) {
        let group = hierarchy.path().join("paas").join(name(slot));
        if group.exists() {
            left.push(group.display().to_string());
        }
    }
    let bridge = Path::new("/sys/class/net").join(bridge(slot));
    if bridge.exists() {
        left.push(bridge.display().to_string());
    }
    left
}

fn name(slot: u8) -> String {
    format!("celltest-{slot}")
}

fn bridge(slot: u8) -> String {
    format!("paasc{slot}")
}

/// The checkout's root.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("crates/cell lies in the root")
}

/// A program for the inside of sandboxes: as shipped or as built beside this test, whichever is newer.
fn guest(name: &str) -> PathBuf {
    let shipped = root().join("dist/libexec").join(name);
    let beside = std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.parent()?.join(name)));
    let built = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let newest = [Some(shipped), beside].into_iter().flatten().max_by_key(built);
    newest
        .filter(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: run `cargo xtask guest` first"))
}

fn config(dir: &Path, controller: &str, slot: u8) -> Config {
    let subnet = format!("10.199.{slot}.0/24").parse().expect("a block");
    let state = dir.join("cell");
    let mut network = NetworkConfig::new(&name(slot), &bridge(slot), subnet, state.join("network"));
    network.pool_size = 2;
    if dir.join(WORLD).exists() {
        network.uplink = Some(crate::world::uplink(slot));
    }
    if let Ok(rate) = fs::read_to_string(dir.join(RATE)) {
        network.rates = Some(sandbox::net::Rates {
            bytes_out: rate.parse().ok(),
            ..sandbox::net::Rates::default()
        });
    }
    let blobs = Blobstore::open_directory(&dir.join("blobs"), Limits::default()).expect("blobs");
    let token = Secret::new(TOKEN);
    let mut config = Config::new(
        state,
        api::Controllers::new([format!("http://{controller}")]).expect("an address"),
        token,
        blobs,
        &root().join("dist/libexec"),
        network,
    );
    config.init_path = guest("paas-init");
    config.lifecycle_path = guest("paas-lifecycle");
    config.uid_base = (1 << 24) + (u32::from(slot) << 20);
    config.capacity.memory_mb = Some(4096);
    let parked = std::env::var(PARKED_VARIABLE).map(|text| text.parse().expect("a number"));
    config.limits.parked = parked.unwrap_or(PARKED);
    fs::create_dir_all(dir.join("buildpacks")).expect("folder");
    config.buildpacks_dir = dir.join("buildpacks");
    fs::create_dir_all(dir.join("mirror")).expect("folder");
    config.mirror_dir = Some(dir.join("mirror"));
    config
}

/// The agent's process: runs until it is killed.
pub fn agent_process() {
    let Ok(text) = std::env::var(CONFIGURATION) else { return };
    let mut lines = text.lines();
    let mut next = || lines.next().expect("a configuration");
    let (dir, controller, slot) = (
        PathBuf::from(next()),
        next().to_owned(),
        next().parse().expect("a number"),
    );
    // Of a test that was itself killed nothing is to stay.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).expect("set");
    telemetry::install("info,cell=debug", telemetry::Format::Human).expect("a subscriber");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let (ready, _agent) = tokio::sync::oneshot::channel();
        let config = config(&dir, &controller, slot);
        if let Err(error) = cell::run(config, CancellationToken::new(), ready).await {
            let mut text = error.to_string();
            let mut next = std::error::Error::source(&error);
            while let Some(cause) = next {
                text.push_str(&format!(": {cause}"));
                next = cause.source();
            }
            panic!("{text}");
        }
    });
}
