//! The host's side as a whole: creates sandboxes, finds them again, clears up.

mod leases;
mod pool;

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cgroup::{self, Groups};
use crate::disk::{self, Disk};
use crate::error::Context;
use crate::inside::Plan;
use crate::net::{self, Lease};
use crate::record::{self, CONTROL, Folders, LOG, Record, SCRATCH};
use crate::sandbox::{Sandbox, wait_end};
use crate::spawner::Client;
use crate::spec::fill_address;
use crate::wire::{self, Answer, Ask, Report};
use crate::{Config, Error, Isolation, Phase, Result, Spec, StartReport, check, host, sys};

/// Uids per sandbox.
const RANGE: u32 = 65_536;
/// All ids stay below: the terminals' file system of older kernels reads them as signed.
const END_OF_IDS: u32 = 1 << 31;
/// Sandboxes per host.
const MAX_RANGES: u32 = 16_384;
/// From the fork of an init to the app's own program.
const START_SECONDS: u64 = 30;
/// For the lock of an agent that has just died to be free.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// For what has been killed to be gone.
const END_SECONDS: u64 = 10;

/// Path inside, content, mode.
type WrittenFile = (PathBuf, Vec<u8>, u32);

/// Creates and finds the sandboxes of one host. Cheap to clone; all methods block, from any
/// thread.
#[derive(Clone, Debug)]
pub struct Runtime {
    inner: Arc<Inner>,
}

/// What a runtime and its sandboxes share.
#[derive(Debug)]
pub struct Inner {
    config: Config,
    pub folders: Folders,
    pub groups: Box<dyn Groups>,
    pub spawner: Client,
    disk: Box<dyn Disk>,
    missing: Vec<String>,
    ranges: Mutex<BTreeSet<u32>>,
    network: Mutex<Option<Arc<net::Network>>>,
    /// Sandboxes whose address this agent has leased or adopted.
    adopted: Mutex<HashSet<String>>,
    pool: pool::Pool,
    pub boot: String,
    _lock: File,
}

impl Runtime {
    /// Finds out what this host can do and starts the spawner, or finds the one that runs.
    pub fn open(config: Config) -> Result<Runtime> {
        host::check()?;
        if config.uid_base < RANGE || config.uid_base > END_OF_IDS - RANGE {
            return Err(Error::Host {
                reason: format!("uid ranges cannot begin at {}", config.uid_base),
            });
        }
        let folders = Folders::open(&config.state_dir)?;
        let lock = lock(folders.root())?;
        let groups = cgroup::open(&config.cgroup_parent)?;
        let (disk, missing) = disk::open(&folders.templates());
        let mut ranges = BTreeSet::new();
        for id in folders.list()? {
            ranges.extend(folders.read(&id)?.map(|record| record.uid_base));
        }
        let init_path = std::fs::canonicalize(&config.init_path).at("find", &config.init_path)?;
        let spawner = Client::new(folders.root(), &init_path);
        let inner = Inner {
            config,
            folders,
            groups,
            spawner,
            disk,
            missing,
            ranges: Mutex::new(ranges),
            network: Mutex::new(None),
            adopted: Mutex::new(HashSet::new()),
            pool: pool::Pool::default(),
            boot: record::boot_id(),
            _lock: lock,
        };
        inner.settle_spawner()?;
        Ok(Runtime { inner: Arc::new(inner) })
    }

    /// Builds a sandbox and starts its app; returns when the app's program runs. On failure
    /// nothing is left behind.
    pub fn create(&self, spec: &Spec) -> Result<Sandbox> {
        check::spec(spec)?;
        let inner = &self.inner;
        let dir = inner.folders.sandbox(&spec.id);
        match std::fs::DirBuilder::new().create(&dir) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(Error::Exists { id: spec.id.clone() }),
            Err(e) => return Err(e).at("make folder", dir),
        }
        inner.clone().build(spec).inspect_err(|_| {
            if let Err(error) = inner.wipe(&spec.id) {
                tracing::warn!(sandbox = %spec.id, %error, "a sandbox that failed to start left something behind");
            }
        })
    }

    /// The sandbox `id` as an earlier agent left it, alive or ended; `None` if there is none
    /// that was ever started.
    pub fn adopt(&self, id: &str) -> Result<Option<Sandbox>> {
        let Some(record) = self.inner.folders.read(id)? else {
            return Ok(None);
        };
        let Some(pid) = record.pid else { return Ok(None) };
        let pidfd = self.inner.find(&record);
        let lease = match (&pidfd, record.address) {
            (Some(_), Some(address)) => self.inner.adopt_lease(id, pid, address),
            _ => None,
        };
        let pidfd = match pidfd {
            Some(pidfd) => pidfd,
            // Readable for good, as the pidfd of an ended process.
            None => rustix::event::eventfd(1, rustix::event::EventfdFlags::CLOEXEC).on("adopt", id)?,
        };
        Ok(Some(Sandbox::new(self.inner.clone(), record, pidfd, None, lease)))
    }

    /// Names of all sandboxes that have anything left on this host.
    pub fn list(&self) -> Result<Vec<String>> {
        let mut names: BTreeSet<String> = self.inner.folders.list()?.into_iter().collect();
        names.extend(cgroup::list(&*self.inner.groups));
        Ok(names.into_iter().collect())
    }

    /// Destroys every sandbox not in `keep`; returns their names. One that resists does not
    /// protect the others; the first error is returned at the end.
    pub fn sweep(&self, keep: &HashSet<String>) -> Result<Vec<String>> {
        let mut gone = Vec::new();
        let mut first_error = None;
        for id in self.list()?.into_iter().filter(|id| !keep.contains(id)) {
            match self.inner.wipe(&id) {
                Ok(()) => gone.push(id),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        self.inner.sweep_network()?;
        first_error.map_or(Ok(gone), Err)
    }

    /// What is and what is not available on this host.
    pub fn isolation(&self) -> Isolation {
        let inner = &self.inner;
        let mut missing = inner.missing.clone();
        missing.extend(host::missing(inner.groups.layout()));
        let namespaces = ["user", "mount", "pid", "net", "ipc", "uts", "cgroup"];
        Isolation {
            cgroups: inner.groups.layout().to_owned(),
            disk: inner.disk.name().to_owned(),
            kernel: host::kernel(),
            namespaces: namespaces.map(str::to_owned).to_vec(),
            seccomp: true,
            missing,
        }
    }

    /// Ends the spawner and removes the empty parent groups: for uninstalling, and for tests.
    /// Sandboxes that still run go on.
    pub fn close(self) -> Result<()> {
        self.inner.spawner.retire();
        if let Some(network) = self.inner.lock_network().take()
            && let Some(network) = Arc::into_inner(network)
        {
            let all_gone = self.list()?.is_empty();
            let closed = if all_gone { network.destroy() } else { network.close() };
            closed.map_err(|e| Error::Network {
                operation: "close the network".to_owned(),
                source: Box::new(e),
            })?;
        }
        cgroup::remove_parents(&*self.inner.groups);
        Ok(())
    }
}

impl Inner {
    fn settle_spawner(&self) -> Result<()> {
        let pid = self.spawner.pid()?;
        if self.spawner.take_started() {
            self.groups.adopt_spawner(pid).map_err(|source| Error::Spawner {
                operation: "move to its group",
                source,
            })?;
        }
        Ok(())
    }

    fn build(self: Arc<Inner>, spec: &Spec) -> Result<Sandbox> {
        let began = Instant::now();
        let dir = self.folders.sandbox(&spec.id);
        let mut record = Record {
            id: spec.id.clone(),
            uid_base: self.take_range()?,
            boot: self.boot.clone(),
            pid: None,
            start_ticks: 0,
            created_ns: sys::now_ns(),
            limits: spec.limits,
            disk: None,
            address: None,
        };
        // From here on the range is found in the record and given back by `wipe`.
        self.folders
            .write(&record)
            .inspect_err(|_| self.give_range(record.uid_base))?;
        let log = dir.join(LOG);
        std::fs::create_dir(&log).at("make folder", &log)?;
        std::os::unix::fs::chown(&log, Some(record.uid_base), Some(record.uid_base)).at("own folder", &log)?;
        std::fs::create_dir(dir.join(SCRATCH)).at("make folder", dir.join(SCRATCH))?;
        self.groups.create(&spec.id, &spec.limits)?;
        let disk = self.disk.prepare(&dir, spec.disk_bytes, spec.inodes)?;
        record.disk = Some(disk.clone());
        let (lease, resolvers) = self.lease(spec)?;
        if let Some(lease) = &lease {
            record.address = Some(lease.address);
            self.folders
                .write(&record)
                .inspect_err(|_| self.release(&spec.id, lease.address))?;
        }
        let mut plan = Plan {
            spec: spec.clone(),
            dir,
            uid_base: record.uid_base,
            disk,
            groups: self.groups.plan(&spec.id),
        };
        plan.spec.files.extend(resolvers);
        if let Some(lease) = &lease {
            fill_address(&mut plan.spec.process.env, lease.address);
        }
        let (pidfd, upper) = self.start(&plan, &mut record, lease.as_ref())?;
        let phases = vec![Phase {
            name: "app runs".to_owned(),
            at: began.elapsed(),
        }];
        let report = StartReport { parked: false, phases };
        Ok(Sandbox::new(self, record, pidfd, Some(upper), lease).with_report(report))
    }

    /// Has the spawner fork an init and waits until the app runs: its pidfd and the private
    /// layer's root.
    fn start(&self, plan: &Plan, record: &mut Record, lease: Option<&Lease>) -> Result<(OwnedFd, OwnedFd)> {
        let id = &record.id.clone();
        let (ours, theirs) = wire::pair().on("make socket", id)?;
        let control = wire::listen(&plan.dir, CONTROL).on("make control socket", id)?;
        let plan_fd = wire::to_memfd(plan).on("write plan", id)?;
        let group = self.groups.entry(id)?;
        let mut fds = vec![plan_fd.as_fd(), theirs.as_fd(), control.as_fd()];
        fds.extend(group.as_ref().map(AsFd::as_fd));
        fds.extend(lease.map(|lease| lease.netns.as_fd()));
        let ask = Ask::Create {
            id: id.clone(),
            uid_base: record.uid_base,
            group: group.is_some(),
            netns: lease.is_some(),
        };
        let answer = self.spawner.ask(&ask, &fds);
        if self.spawner.take_started() {
            self.settle_spawner()?;
        }
        let (Answer::Created { pid }, mut fds) = answer? else {
            return Err(io::ErrorKind::InvalidData).on("start", id);
        };
        drop((theirs, control, plan_fd));
        let pidfd = fds.pop().ok_or(io::ErrorKind::InvalidData).on("start", id)?;
        record.pid = Some(pid);
        record.start_ticks = record::start_ticks(pid).unwrap_or(0);
        self.folders.write(record)?;
        let program = plan.spec.process.argv.first().map_or("", String::as_str);
        let upper = await_start(&ours, id, program)?;
        let keep = Ask::Keep { id: id.clone() };
        if let Err(error) = self.spawner.ask(&keep, &[upper.as_fd()]) {
            tracing::warn!(sandbox = %id, %error, "the private layer will not be readable after a restart of the agent");
        }
        Ok((pidfd, upper))
    }

    /// The init of a record, if it lives.
    pub fn find(&self, record: &Record) -> Option<OwnedFd> {
        let pid = record.pid.filter(|_| record.boot == self.boot)?;
        let known = rustix::process::Pid::from_raw(pid)?;
        let pidfd = rustix::process::pidfd_open(known, rustix::process::PidfdFlags::empty()).ok()?;
        // Checked after the pidfd is held: from here on the pid cannot pass to another process.
        (record::start_ticks(pid) == Some(record.start_ticks)).then_some(pidfd)
    }

    /// Ends and removes all of `id`, however much of it there is. Can be repeated.
    pub fn wipe(&self, id: &str) -> Result<()> {
        if !record::valid_id(id) {
            return Err(Error::Invalid {
                id: id.to_owned(),
                reason: "not a sandbox's name".to_owned(),
            });
        }
        let record = self.folders.read(id)?;
        self.groups.kill(id)?;
        if let Some(pidfd) = record.as_ref().and_then(|record| self.find(record)) {
            let _ = sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
            wait_end(id, pidfd.as_fd(), Duration::from_secs(END_SECONDS), "end")?;
        }
        cgroup::remove(&*self.groups, id, Instant::now() + Duration::from_secs(END_SECONDS))?;
        // Only now can nothing answer on its address any more.
        if let Some(address) = record.as_ref().and_then(|record| record.address) {
            self.release(id, address);
            self.lock_adopted().remove(id);
        }
        self.spawner.ask_if_running(&Ask::Forget { id: id.to_owned() });
        let dir = self.folders.sandbox(id);
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).at("remove folder", dir),
            _ => {}
        }
        if let Some(record) = record {
            self.give_range(record.uid_base);
        }
        Ok(())
    }

    fn take_range(&self) -> Result<u32> {
        let mut taken = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        let room = ((END_OF_IDS - self.config.uid_base) / RANGE).min(MAX_RANGES);
        let free = (0..room)
            .map(|at| self.config.uid_base + at * RANGE)
            .find(|base| !taken.contains(base));
        let base = free.ok_or(Error::Full)?;
        taken.insert(base);
        Ok(base)
    }

    fn give_range(&self, base: u32) {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner).remove(&base);
    }
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .at("open", &path)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // A process that a killed agent was just starting holds on until its exec.
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(std::fs::TryLockError::WouldBlock) => return Err(Error::Locked { path: root.to_owned() }),
            Err(std::fs::TryLockError::Error(e)) => return Err(e).at("lock", path),
        }
    }
}

/// Follows the reports of an init until its app runs; the private layer's root.
fn await_start(socket: &OwnedFd, id: &str, program: &str) -> Result<OwnedFd> {
    let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
    let mut upper = None;
    loop {
        let report = match wire::receive_until::<Report>(socket.as_fd(), deadline) {
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                let (operation, seconds) = ("start", START_SECONDS);
                return Err(Error::Deadline {
                    operation,
                    id: id.to_owned(),
                    seconds,
                    detail: String::new(),
                });
            }
            other => other.on("start", id)?,
        };
        match report {
            Some((Report::Built, mut fds)) => upper = fds.pop(),
            Some((Report::Started { .. }, _)) => {
                return upper.ok_or(io::ErrorKind::InvalidData).on("start", id);
            }
            Some((
                Report::Failed {
                    stage,
                    errno,
                    program: own,
                },
                _,
            )) => {
                let (id, source) = (id.to_owned(), io::Error::from_raw_os_error(errno));
                return Err(if own {
                    Error::Program {
                        id,
                        program: program.to_owned(),
                        source,
                    }
                } else {
                    Error::Start { id, stage, source }
                });
            }
            // Killed before it could say anything: most likely for memory.
            None => {
                let stage = "it was killed before its app ran (is its memory limit too small?)".to_owned();
                return Err(Error::Start {
                    id: id.to_owned(),
                    stage,
                    source: io::ErrorKind::UnexpectedEof.into(),
                });
            }
        }
    }
}
