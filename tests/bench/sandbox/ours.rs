//! The contender that is measured: sandboxes of this crate.

use crate::contender::{Contender, Cycle, Standing, Start, now_ns, stamp};
use crate::meters::private_kib;
use crate::place::{APP_INSIDE, Place, USER};
use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sandbox::log::Position;
use sandbox::net::NetworkConfig;
use sandbox::{Config, IoLimits, Limits, LogPolicy, Network, ParkSpec, Parking, Process, Runtime, Sandbox, Spec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Above the ranges that tests take.
const UID_BASE: u32 = 30_200 * 65_536;
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks into a log that announces nothing.
const LOOK: Duration = Duration::from_millis(1);

/// Parked sandboxes that are kept ready while one after the other is started.
const POOL: usize = 4;
/// Parked sandboxes at most.
const MAX_POOL: usize = 1000;

/// One runtime, and what its sandboxes are to be.
pub struct Ours {
    runtime: Runtime,
    place: Arc<Place>,
    state: PathBuf,
    network: Network,
    parks: bool,
    blanks: bool,
    phases: Phases,
}

/// When each step of a start was done, microseconds since it was asked for.
pub type Phases = Arc<Mutex<BTreeMap<String, Vec<u64>>>>;

/// How one of ours differs from the others.
pub struct Variant {
    /// Part of names.
    pub name: &'static str,
    /// First of its ranges of uids.
    pub uids: u32,
    pub network: Network,
    /// Whether sandboxes are built before they are asked for.
    pub parks: bool,
    /// Private layers that are kept ready.
    pub disks: usize,
    /// Blank sandboxes that are kept ready.
    pub blanks: usize,
}

/// Memory and processes that every contender's app may have.
pub const LIMITS: Limits = Limits {
    memory_bytes: 64 << 20,
    cpu_weight: 100,
    cpu_quota: None,
    pids: 64,
    io: IoLimits {
        weight: None,
        read_bps: None,
        write_bps: None,
        read_iops: None,
        write_iops: None,
    },
};

impl Ours {
    /// With a runtime of its own.
    pub fn new(place: &Arc<Place>, init: &Path, variant: Variant) -> Result<Self> {
        let Variant {
            name,
            uids,
            network,
            parks,
            disks,
            blanks,
        } = variant;
        let subnet = "10.189.0.0/20".parse().map_err(|_| anyhow::anyhow!("no subnet"))?;
        let state = place.path().join(format!("state-{name}"));
        let config = Config {
            state_dir: state.clone(),
            init_path: init.to_owned(),
            cgroup_parent: format!("paas/{}-{name}", place.name),
            uid_base: self::uids(uids),
            network: NetworkConfig::new("bench", "paasb0", subnet, state.join("net")),
            parked: Parking {
                max: if parks { MAX_POOL } else { 0 },
                disks,
                blanks,
            },
        };
        Ok(Self {
            runtime: Runtime::open(config).context("failed to open the runtime")?,
            place: Arc::clone(place),
            state,
            network,
            parks,
            blanks: blanks > 0,
            phases: Phases::default(),
        })
    }

    /// Where the steps of its starts are noted.
    pub fn phases(&self) -> Phases {
        Arc::clone(&self.phases)
    }

    fn create(&self, spec: &Spec) -> Result<Sandbox> {
        let sandbox = self.runtime.create(spec)?;
        let report = sandbox.start_report();
        if self.parks && !report.is_none_or(|report| report.parked) {
            bail!("no parked sandbox was taken");
        }
        Ok(sandbox)
    }

    fn note(&self, sandbox: &Sandbox) {
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        for phase in sandbox.start_report().into_iter().flat_map(|report| &report.phases) {
            let at = u64::try_from(phase.at.as_micros()).unwrap_or(u64::MAX);
            phases.entry(phase.name.clone()).or_default().push(at);
        }
    }

    fn spec(&self, id: &str, stays: bool) -> Spec {
        let id = id.to_owned();
        Spec {
            id,
            ..spec(&self.place, stays, &self.network)
        }
    }
}

/// First host uid of the ranges that begin `at` ranges above the first.
pub const fn uids(at: u32) -> u32 {
    UID_BASE + at * 65_536
}

/// The sandbox of the app, without a name.
pub fn spec(place: &Place, stays: bool, network: &Network) -> Spec {
    let mut argv = vec![APP_INSIDE.to_owned()];
    argv.extend(stays.then(|| "stay".to_owned()));
    Spec {
        id: "any".to_owned(),
        hostname: "bench".to_owned(),
        layers: vec![place.rootfs()],
        disk_bytes: 64 << 20,
        inodes: 4096,
        binds: Vec::new(),
        process: Process {
            argv,
            env: Vec::new(),
            cwd: "/home/vcap".into(),
            uid: USER,
            gid: USER,
            terminal: false,
            rlimits: Vec::new(),
        },
        limits: LIMITS,
        network: network.clone(),
        log: LogPolicy::default(),
        files: Vec::new(),
        sidecars: Vec::new(),
    }
}

impl Contender for Ours {
    fn prepare(&self, starts: usize) -> Result<()> {
        if self.parks {
            let shape = ParkSpec::whole(&self.spec("any", true));
            self.runtime.park(&shape, starts.max(POOL)).context("failed to park")?;
        }
        if self.blanks {
            self.runtime.make_ready(false).context("failed to make blank ones")?;
        }
        match self.runtime.await_parked(Instant::now() + PATIENCE) {
            true => Ok(()),
            false => bail!("what is to be kept ready is not ready within {PATIENCE:?}"),
        }
    }

    fn cycle(&self, id: &str) -> Result<Cycle> {
        let spec = self.spec(id, false);
        let asked_ns = now_ns();
        let sandbox = self.create(&spec)?;
        if self.blanks && !sandbox.start_report().is_some_and(|report| report.blank) {
            bail!("no blank sandbox was taken");
        }
        self.note(&sandbox);
        ended(&sandbox)?;
        let logged = logged(&sandbox)?;
        sandbox.destroy()?;
        // Waits for what is removed in the background: it is neither to be left out nor to be the next start's noise.
        self.runtime.list()?;
        let gone_ns = now_ns();
        let began_ns = stamp(&logged)?;
        let start = Start { asked_ns, began_ns };
        Ok(Cycle { start, gone_ns })
    }

    fn start(&self, id: &str, _many: bool) -> Result<Box<dyn Standing>> {
        let spec = self.spec(id, true);
        let asked_ns = now_ns();
        let sandbox = self.create(&spec)?;
        Ok(Box::new(Inside { sandbox, asked_ns }))
    }

    fn clear(&self) -> Result<()> {
        self.runtime.sweep(&Default::default()).context("failed to clear up")?;
        self.runtime.clone().close().context("failed to close the runtime")
    }

    fn shared_kib(&self) -> u64 {
        spawners(&self.state).map(private_kib).sum()
    }
}

/// Processes of the host's root that serve this state folder: the spawner and what it keeps ready.
fn spawners(state: &Path) -> impl Iterator<Item = i32> {
    let state = state.to_string_lossy().into_owned();
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = std::process::id().to_string();
    folders
        .filter(move |folder| folder.file_name() != own.as_str())
        .filter_map(move |folder| {
            let pid = folder.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(folder.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&line).contains(&state).then_some(pid)
        })
}

/// Waits until its init is gone.
fn ended(sandbox: &Sandbox) -> Result<()> {
    let pidfd = sandbox.pidfd();
    let timeout = Timespec {
        tv_sec: PATIENCE.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    let ready = poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], Some(&timeout));
    match ready.context("failed to wait")? {
        0 => bail!("it did not end within {PATIENCE:?}"),
        _ => Ok(()),
    }
}

/// What the app said so far.
fn logged(sandbox: &Sandbox) -> Result<Vec<u8>> {
    let batch = sandbox
        .log()
        .read(Position::default(), 1 << 16)
        .context("failed to read the log")?;
    let lines: Vec<Vec<u8>> = batch.records.into_iter().map(|record| record.payload).collect();
    Ok(lines.join(&b'\n'))
}

/// A running sandbox.
struct Inside {
    sandbox: Sandbox,
    asked_ns: u64,
}

impl Standing for Inside {
    fn start(&mut self) -> Result<Start> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = logged(&self.sandbox)?;
            if !text.is_empty() {
                let (asked_ns, began_ns) = (self.asked_ns, stamp(&text)?);
                return Ok(Start { asked_ns, began_ns });
            }
            if Instant::now() > deadline {
                bail!("its app said nothing within {PATIENCE:?}");
            }
            // sleeps: the log announces nothing, and what it says of the time is exact however late it is read.
            std::thread::sleep(LOOK);
        }
    }

    fn kill(self: Box<Self>) -> Result<()> {
        self.sandbox.kill()?;
        Ok(self.sandbox.destroy()?)
    }

    fn private_kib(&self) -> u64 {
        let init = self.sandbox.init_pid();
        let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap_or_default();
        let apps = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        private_kib(init) + apps.map(private_kib).sum::<u64>()
    }
}
