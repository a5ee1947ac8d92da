//! The host's side as a whole: creates sandboxes, finds them again, clears up.

mod leases;
mod pool;
mod reaper;
mod start;

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cgroup::device::{self, Device};
use crate::cgroup::{self, Groups};
use crate::disk::{self, Disk};
use crate::error::Context;
use crate::gauge::Gauges;
use crate::net;
use crate::record::{self, Folders, Record};
use crate::sandbox::{Sandbox, wait_end};
use crate::spawner::Client;
use crate::wire::Ask;
use crate::{Config, Error, Isolation, Network, ParkSpec, Result, Spec, Stats, check, host, sys, unprivileged};
use pool::{Parked, Pool};
use reaper::Reaper;
use start::{Clock, Ground, Made, Remains, Seat};

/// Uids per sandbox.
const RANGE: u32 = 65_536;
/// All ids stay below: the terminals' file system of older kernels reads them as signed.
const END_OF_IDS: u32 = 1 << 31;
/// Sandboxes per host.
const MAX_RANGES: u32 = 16_384;
/// For the lock of an agent that has just died to be free.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const UTS: &str = "/proc/self/ns/uts";
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
    pub gauges: Gauges,
    disk: Box<dyn Disk>,
    missing: Vec<String>,
    ranges: Mutex<BTreeSet<u32>>,
    network: Mutex<Option<Arc<net::Network>>>,
    /// Sandboxes whose address this agent has leased or adopted.
    adopted: Mutex<HashSet<String>>,
    pool: Arc<Pool>,
    reaper: Reaper,
    /// The namespace of the host's name.
    uts: File,
    pub boot: String,
    /// Whether the kernel mounts roots of sandboxes out of mounts that are attached nowhere, as far as is known.
    mounts_roots: AtomicBool,
    /// Whether the agent is root of a user namespace only.
    confined: bool,
    _lock: File,
}

impl Runtime {
    /// Finds out what this host can do and starts the spawner, or finds the one that runs.
    pub fn open(config: Config) -> Result<Runtime> {
        host::check()?;
        if !unprivileged::confined() && (config.uid_base < RANGE || config.uid_base > END_OF_IDS - RANGE) {
            return Err(Error::Host {
                reason: format!("uid ranges cannot begin at {}", config.uid_base),
            });
        }
        let folders = Folders::open(&config.state_dir)?;
        let lock = lock(folders.root())?;
        let groups = cgroup::open(&config.cgroup_parent)?;
        let (disk, mut missing) = disk::open(&folders.templates());
        missing.extend(cgroup::guard_devices(&*groups));
        let mut ranges = BTreeSet::new();
        for id in folders.list()? {
            ranges.extend(folders.read(&id)?.map(|record| record.uid_base));
        }
        let init_path = std::fs::canonicalize(&config.init_path).at("find", &config.init_path)?;
        let spawner = Client::new(folders.root(), &init_path);
        let mut parking = config.parked;
        let confined = unprivileged::confined();
        if confined {
            // There the app's user is part of what a sandbox is born with, so that nothing fits everything.
            parking.blanks = 0;
        }
        let pool = Pool::new(parking, disk.can_stock());
        let inner = Inner {
            config,
            folders,
            groups,
            spawner,
            gauges: Gauges::new(),
            disk,
            missing,
            ranges: Mutex::new(ranges),
            network: Mutex::new(None),
            adopted: Mutex::new(HashSet::new()),
            pool: Arc::new(pool),
            reaper: Reaper::default(),
            uts: File::open(UTS).at("open", UTS)?,
            boot: record::boot_id(),
            mounts_roots: AtomicBool::new(true),
            confined,
            _lock: lock,
        };
        inner.settle_spawner()?;
        inner.clear_parked_before()?;
        Ok(Runtime { inner: Arc::new(inner) })
    }

    /// Builds a sandbox, out of a parked one if one fits, else out of a blank one if there is one,
    /// and starts its app; returns when the app's program runs. On failure nothing is left behind.
    pub fn create(&self, spec: &Spec) -> Result<Sandbox> {
        let clock = Clock::start();
        check::spec(spec)?;
        let inner = &self.inner;
        let _starting = inner.pool.starting();
        inner.reaper.finish_one(&spec.id)?;
        let networked = matches!(spec.network, Network::Isolated { .. });
        inner.keep_ready();
        let created = match inner.pool.take(spec) {
            Some(parked) => Some(inner.create_parked(parked, spec, clock)),
            None => inner
                .pool
                .take_blank(networked)
                .map(|seat| inner.create_blank(seat, spec, clock)),
        };
        match created {
            // It died while it waited.
            Some(Err(Error::Start { source, .. })) if source.kind() == io::ErrorKind::UnexpectedEof => {}
            Some(other) => return other,
            None => {}
        }
        inner.create_cold(spec, Clock::start())
    }

    /// The sandbox `id` as an earlier agent left it, alive or ended; `None` if there is none
    /// that was ever started.
    pub fn adopt(&self, id: &str) -> Result<Option<Sandbox>> {
        self.inner.reaper.finish_one(id)?;
        let Some(record) = self.inner.folders.read(id)? else {
            return Ok(None);
        };
        let Some(pid) = record.pid.filter(|_| !record.parked) else {
            return Ok(None);
        };
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

    /// Names of all sandboxes that have anything left on this host. What is parked is nobody's
    /// and not among them.
    pub fn list(&self) -> Result<Vec<String>> {
        let inner = &self.inner;
        inner.reaper.finish()?;
        let mut names: BTreeSet<String> = inner.folders.list()?.into_iter().collect();
        let mut seats: HashSet<String> = inner.pool.names().into_iter().collect();
        for id in &names {
            seats.extend(inner.folders.read(id)?.map(|record| record.seat().to_owned()));
        }
        // A seat that is just being laid has no folder of a sandbox, but one of its own.
        let parked = inner.folders.parked();
        let groups = cgroup::list(&*inner.groups).into_iter();
        names.extend(groups.filter(|name| !seats.contains(name) && !parked.join(name).exists()));
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

    /// The figures of every sandbox that is held, in no order. Those that have just ended are
    /// left out.
    pub fn stats_all(&self) -> Vec<(String, Stats)> {
        self.inner.gauges.read_all(&self.inner.spawner)
    }

    /// The folder with the log segments of `id`.
    pub fn log_dir(&self, id: &str) -> PathBuf {
        self.inner.folders.sandbox(id).join(record::LOG)
    }

    /// The policy that networks of sandboxes begin under, for those made from now on: one of these is ready soonest.
    pub fn set_default_policy(&self, policy: &net::Egress) -> Result<()> {
        self.inner.set_default_policy(policy)
    }

    /// Opens what rules that tell (`log`) tell of, from now on. One reader at a time.
    pub fn rule_log(&self) -> Result<net::RuleLog> {
        self.inner.rule_log()
    }

    /// What is and what is not available on this host.
    pub fn isolation(&self) -> Isolation {
        let inner = &self.inner;
        let mut missing = inner.missing.clone();
        missing.extend(host::missing(inner.groups.layout()));
        missing.extend(inner.groups.missing(&inner.devices(None)));
        let namespaces = ["user", "mount", "pid", "net", "ipc", "uts", "cgroup"];
        Isolation {
            cgroups: inner.groups.layout().to_owned(),
            disk: inner.disk.name().to_owned(),
            kernel: host::kernel(),
            namespaces: namespaces.map(str::to_owned).to_vec(),
            seccomp: true,
            landlock: sys::landlock_version(),
            missing,
            unprivileged: unprivileged::lacks(),
        }
    }

    /// Ends the spawner and removes the empty parent groups: for uninstalling, and for tests.
    /// Sandboxes that still run go on.
    pub fn close(self) -> Result<()> {
        self.inner.drain()?;
        self.inner.reaper.finish()?;
        self.inner.spawner.retire();
        let all_gone = self.list()?.is_empty();
        self.inner.close_network(all_gone)?;
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

    fn create_cold(self: &Arc<Inner>, spec: &Spec, mut clock: Clock) -> Result<Sandbox> {
        let dir = self.folders.sandbox(&spec.id);
        match std::fs::DirBuilder::new().create(&dir) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(Error::Exists { id: spec.id.clone() }),
            Err(e) => return Err(e).at("make folder", dir),
        }
        let ground = Ground::from(&ParkSpec::shape(spec));
        // Memory is divided before the app runs and after its process is there, which only one that waits tells.
        let divided = spec.sidecars.iter().any(|sidecar| sidecar.memory_bytes.is_some());
        let known = Some(spec).filter(|_| !divided);
        let seat = self.lay((&spec.id, &dir), &ground, known, &mut clock)?;
        self.go(seat, ground.limits(), spec, Made::Anew, clock)
    }

    fn create_parked(self: &Arc<Inner>, mut parked: Parked, spec: &Spec, mut clock: Clock) -> Result<Sandbox> {
        if self.folders.sandbox(&spec.id).exists() {
            self.pool.give_back(parked);
            return Err(Error::Exists { id: spec.id.clone() });
        }
        let informed = self.inform(&mut parked.seat, spec);
        clock.step("app told");
        match informed.and_then(|()| self.name_folder(&parked.seat, spec)) {
            Ok(dir) => self.go(parked.seat.moved(dir), &parked.spec.limits, spec, Made::Parked, clock),
            Err(error) => {
                // Somebody else has the name by now. What was told of one start is not taken for another.
                self.pool.spoil(parked);
                Err(error)
            }
        }
    }

    fn create_blank(self: &Arc<Inner>, seat: Seat, spec: &Spec, mut clock: Clock) -> Result<Sandbox> {
        let dir = match self.name_folder(&seat, spec) {
            Ok(dir) => dir,
            Err(error) => {
                self.pool.give_back_blank(seat);
                return Err(error);
            }
        };
        let mut seat = seat.moved(dir);
        clock.step("blank taken");
        self.furnish_blank(&mut seat, spec, &mut clock)?;
        let ground = Ground::blank(seat.lease.is_some());
        self.go(seat, ground.limits(), spec, Made::Blank, clock)
    }

    /// Makes the folder of a seat that waited that of `spec`'s sandbox.
    fn name_folder(&self, seat: &Seat, spec: &Spec) -> Result<PathBuf> {
        let dir = self.folders.sandbox(&spec.id);
        let here = rustix::fs::CWD;
        match rustix::fs::renameat_with(here, &seat.dir, here, &dir, rustix::fs::RenameFlags::NOREPLACE) {
            Ok(()) => Ok(dir),
            Err(rustix::io::Errno::EXIST) => Err(Error::Exists { id: spec.id.clone() }),
            Err(e) => Err(e).at("name folder", dir),
        }
    }

    /// The disks a sandbox uses: those of its private layer, and those of its layers.
    pub fn devices(&self, upper: Option<&OwnedFd>) -> Vec<Device> {
        let mut devices = upper.map_or_else(Vec::new, |upper| device::below(upper.as_fd()));
        let more = device::below_path(self.folders.root());
        devices.extend(
            more.into_iter()
                .filter(|device| !devices.contains(device))
                .collect::<Vec<_>>(),
        );
        devices
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
        if !record::valid_id(id) && !record::is_seat(id) {
            return Err(Error::Invalid {
                id: id.to_owned(),
                reason: "not a sandbox's name".to_owned(),
            });
        }
        let dir = self.folders.sandbox(id);
        let record = self.folders.read(id)?;
        let init = record.as_ref().and_then(|record| self.find(record));
        let remains = Remains::of(record.as_ref(), id, dir);
        self.clear(&remains, init)?;
        self.lock_adopted().remove(id);
        Ok(())
    }

    /// The same for what a record may not tell; `init` is its first process, if that is known.
    fn clear(&self, remains: &Remains, init: Option<OwnedFd>) -> Result<()> {
        let seat = &remains.seat;
        self.groups.kill(seat)?;
        if let Some(pidfd) = init {
            let _ = sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
            wait_end(seat, pidfd.as_fd(), Duration::from_secs(END_SECONDS), "end")?;
        }
        cgroup::remove(&*self.groups, seat, Instant::now() + Duration::from_secs(END_SECONDS))?;
        // Only now can nothing answer on its address any more.
        if let Some(address) = remains.address {
            self.release(seat, address);
        }
        self.spawner.ask_if_running(&Ask::Forget { id: seat.clone() });
        // The record first: an agent that finds the rest of a folder must not take it for a sandbox's.
        record::forget_in(&remains.dir)?;
        match std::fs::remove_dir_all(&remains.dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).at("remove folder", &remains.dir),
            _ => {}
        }
        if let Some(base) = remains.uid_base {
            self.give_range(base);
        }
        Ok(())
    }

    /// The same where another error is on its way to the caller.
    fn clear_or_tell(&self, remains: &Remains) {
        if let Err(error) = self.clear(remains, None) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(sandbox = %remains.seat, error, "a sandbox that failed to start left something behind");
        }
    }

    /// Removes what an earlier agent had parked: its inits ended with it.
    fn clear_parked_before(&self) -> Result<()> {
        let parked = self.folders.parked();
        for entry in std::fs::read_dir(&parked).at("list", &parked)? {
            let dir = entry.at("list", &parked)?.path();
            let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let record = Folders::read_in(&dir)?;
            let init = record.as_ref().and_then(|record| self.find(record));
            self.clear(&Remains::of(record.as_ref(), &name, dir), init)?;
        }
        let disks = self.folders.disks();
        for entry in std::fs::read_dir(&disks).at("list", &disks)? {
            let dir = entry.at("list", &disks)?.path();
            std::fs::remove_dir_all(&dir).at("remove folder", dir)?;
        }
        Ok(())
    }

    fn take_range(&self) -> Result<u32> {
        if self.confined {
            // There is one range, that of the agent itself, and all share it.
            return Ok(0);
        }
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

impl Drop for Inner {
    fn drop(&mut self) {
        self.pool.close();
    }
}
