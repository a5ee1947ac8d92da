//! The contender that is measured: sandboxes of this crate.

use crate::contender::{Contender, Cycle, Standing, Start, now_ns, stamp};
use crate::meters::private_kib;
use crate::place::{APP_INSIDE, Place, USER};
use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sandbox::log::Position;
use sandbox::net::NetworkConfig;
use sandbox::{Config, Limits, LogPolicy, Network, Process, Runtime, Sandbox, Spec};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Above the ranges that tests take.
const UID_BASE: u32 = 60_300 * 65_536;
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks into a log that announces nothing.
const LOOK: Duration = Duration::from_millis(1);

/// One runtime, and what its sandboxes are to be.
pub struct Ours {
    runtime: Runtime,
    place: Arc<Place>,
    network: Network,
}

/// A runtime in the benchmark's folder.
pub fn open(place: &Place, init: &Path) -> Result<Runtime> {
    let subnet = "10.189.0.0/20".parse().map_err(|_| anyhow::anyhow!("no subnet"))?;
    let config = Config {
        state_dir: place.path().join("state"),
        init_path: init.to_owned(),
        cgroup_parent: format!("paas/{}", place.name),
        uid_base: UID_BASE,
        network: NetworkConfig::new("bench", "paasb0", subnet, place.path().join("net")),
    };
    Runtime::open(config).context("failed to open the runtime")
}

/// Memory and processes that every contender's app may have.
pub const LIMITS: Limits = Limits {
    memory_bytes: 64 << 20,
    cpu_weight: 100,
    cpu_quota: None,
    pids: 64,
};

impl Ours {
    pub fn new(runtime: Runtime, place: Arc<Place>, network: Network) -> Self {
        Self {
            runtime,
            place,
            network,
        }
    }

    /// The sandbox of the app.
    pub fn spec(&self, id: &str, stays: bool) -> Spec {
        let mut argv = vec![APP_INSIDE.to_owned()];
        argv.extend(stays.then(|| "stay".to_owned()));
        Spec {
            id: id.to_owned(),
            hostname: "bench".to_owned(),
            layers: vec![self.place.rootfs()],
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
            network: self.network.clone(),
            log: LogPolicy::default(),
            files: Vec::new(),
        }
    }
}

impl Contender for Ours {
    fn cycle(&self, id: &str) -> Result<Cycle> {
        let spec = self.spec(id, false);
        let asked_ns = now_ns();
        let sandbox = self.runtime.create(&spec)?;
        ended(&sandbox)?;
        let logged = logged(&sandbox)?;
        sandbox.destroy()?;
        let gone_ns = now_ns();
        let began_ns = stamp(&logged)?;
        let start = Start { asked_ns, began_ns };
        Ok(Cycle { start, gone_ns })
    }

    fn start(&self, id: &str, _many: bool) -> Result<Box<dyn Standing>> {
        let spec = self.spec(id, true);
        let asked_ns = now_ns();
        let sandbox = self.runtime.create(&spec)?;
        Ok(Box::new(Inside { sandbox, asked_ns }))
    }

    fn clear(&self) -> Result<()> {
        self.runtime.sweep(&Default::default()).context("failed to clear up")?;
        Ok(())
    }

    fn shared_kib(&self) -> u64 {
        spawners(&self.place.path().join("state")).map(private_kib).sum()
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
