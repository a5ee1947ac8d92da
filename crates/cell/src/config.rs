//! What an agent is told: plain data, checked before anything is touched. Where the values come from is the daemon's.

use crate::error::{Error, file};
use crate::{stack, unpack};
use api::Controllers;
use blobstore::Blobstore;
use blobstore::pack::TreeLimits;
use identity::Proof;
use model::id::CellId;
use sandbox::net::{Egress, NetworkConfig};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Part of the host's memory that is offered where nothing else is set, in percent.
const MEMORY_PERCENT: u64 = 90;
/// Memory of a blank sandbox that waits, in MiB: about twice what was measured (`docs/benchmarks.md`).
pub const PARKED_MB: u64 = 2;
/// Most blank sandboxes that wait: more than a host starts in the time it takes to make another.
const MAX_PARKED: usize = 64;

/// Configuration of a cell.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its id; `None` to keep one in the state folder, made at the first start.
    pub id: Option<CellId>,
    /// Name for people; empty for the host's name.
    pub name: String,
    /// Zone, for spreading instances.
    pub zone: String,
    /// Tags that work can ask for.
    pub tags: Vec<String>,
    /// Folder of this cell: caches, stacks, sandboxes, ledger, logs that wait.
    pub state_dir: PathBuf,
    /// The controllers, any of which it may talk to.
    pub controllers: Controllers,
    /// What the cell proves itself by.
    pub proof: Proof,
    /// Where layers and packages come from and go to.
    pub blobs: Blobstore,
    /// The program `paas-init`.
    pub init_path: PathBuf,
    /// The program `paas-lifecycle`, shown in sandboxes as `/.paas/lifecycle`.
    pub lifecycle_path: PathBuf,
    /// Folder of the built-in buildpacks, shown in builds as `/.paas/buildpacks`.
    pub buildpacks_dir: PathBuf,
    /// Group below each control group hierarchy's root that holds every sandbox's group, such as `paas/dev`.
    pub cgroup_parent: String,
    /// First host uid of the ranges handed to sandboxes.
    pub uid_base: u32,
    /// The network of sandboxes.
    pub network: NetworkConfig,
    /// What apps and tasks may connect to as long as no controller ever said so.
    pub egress_running: Egress,
    /// What builds may connect to as long as no controller ever said so.
    pub egress_staging: Egress,
    /// What the cell offers.
    pub capacity: Capacity,
    /// How much is kept of what can be fetched again.
    pub caches: Caches,
    /// Bounds on what users and their builds send.
    pub limits: CellLimits,
    /// Certificates of every sandbox.
    pub platform: stack::Platform,
    /// Folder of runtimes and packages, shown in builds, which take them from there instead of the world.
    pub mirror_dir: Option<PathBuf>,
    /// Variables that builds get and users can override: proxies, mirrors.
    pub staging_env: Vec<(String, String)>,
    /// Version of this program.
    pub version: String,
}

/// What a cell offers to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Memory in MiB; `None` for 90 % of the host's.
    pub memory_mb: Option<u64>,
    /// Disk in MiB; `None` for what the state folder's file system has in all, less the caches.
    pub disk_mb: Option<u64>,
    /// Most pieces of work at once.
    pub max_work: u32,
}

/// Sizes of the caches, in bytes of what is not in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caches {
    /// Unpacked layers.
    pub layers_bytes: u64,
    /// Packages laid out.
    pub packages_bytes: u64,
    /// Uploaded buildpacks, as archives.
    pub archives_bytes: u64,
}

/// Bounds, each with the name that errors tell.
#[derive(Debug, Clone, Copy)]
pub struct CellLimits {
    /// One layer, unpacked.
    pub layer: unpack::Limits,
    /// One package.
    pub package: TreeLimits,
    /// One layer as a build wrote it, compressed.
    pub layer_compressed_bytes: u64,
    /// `result.json` of a build.
    pub result_bytes: u64,
    /// Layers of one build.
    pub result_layers: usize,
    /// Files and folders in the private layer of an app.
    pub inodes: u64,
    /// Files and folders in the private layer of a build.
    pub build_inodes: u64,
    /// Log bytes per second of work whose own limit is not set.
    pub log_bytes_per_second: u64,
    /// Log of one sandbox that is kept until it is shipped.
    pub log_keep_bytes: u64,
    /// Logs of ended work that wait for a controller, together.
    pub log_tails_bytes: u64,
    /// Sandboxes made at once.
    pub starts_at_once: usize,
    /// Blank sandboxes kept ready for whatever is started next; 0 for none. [`PARKED_MB`] of memory each are not
    /// offered to work.
    pub parked: usize,
    /// Layers unpacked at once.
    pub unpacks_at_once: usize,
    /// Exec sessions at once.
    pub sessions: usize,
    /// Time from SIGTERM to SIGKILL when everything is torn down, at most.
    pub teardown_grace: Duration,
}

impl Default for Capacity {
    /// 90 % of memory, the disk there is, 250 pieces of work.
    fn default() -> Self {
        Self {
            memory_mb: None,
            disk_mb: None,
            max_work: 250,
        }
    }
}

impl Default for Caches {
    /// 10 GiB of layers, 2 GiB of packages.
    fn default() -> Self {
        Self {
            layers_bytes: 10 * GIB,
            packages_bytes: 2 * GIB,
            archives_bytes: 2 * GIB,
        }
    }
}

impl Default for CellLimits {
    fn default() -> Self {
        Self {
            layer: unpack::Limits {
                bytes: 8 * GIB,
                entries: 1_000_000,
            },
            package: TreeLimits::default(),
            layer_compressed_bytes: 4 * GIB,
            result_bytes: 16 * MIB,
            result_layers: 400,
            inodes: 200_000,
            build_inodes: 400_000,
            log_bytes_per_second: MIB,
            log_keep_bytes: 32 * MIB,
            log_tails_bytes: 512 * MIB,
            starts_at_once: 16,
            parked: 0,
            unpacks_at_once: 4,
            sessions: 32,
            teardown_grace: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// A cell on this host with defaults for everything that can have one.
    #[must_use]
    pub fn new(
        state_dir: PathBuf,
        controllers: Controllers,
        proof: impl Into<Proof>,
        blobs: Blobstore,
        libexec: &Path,
        network: NetworkConfig,
    ) -> Self {
        Self {
            id: None,
            name: String::new(),
            zone: "default".to_owned(),
            tags: Vec::new(),
            controllers,
            proof: proof.into(),
            blobs,
            init_path: libexec.join("paas-init"),
            lifecycle_path: libexec.join("paas-lifecycle"),
            buildpacks_dir: libexec.parent().unwrap_or(libexec).join("buildpacks"),
            cgroup_parent: format!("paas/{}", network.name),
            uid_base: 1 << 20,
            egress_running: Egress::public(),
            egress_staging: Egress::public(),
            network,
            capacity: Capacity::default(),
            caches: Caches::default(),
            limits: CellLimits::default(),
            platform: stack::Platform::default(),
            mirror_dir: None,
            staging_env: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state_dir,
        }
    }

    /// Finds what can't work, before anything is touched.
    ///
    /// # Errors
    /// [`Error::Config`] with everything that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let mut wrong = Vec::new();
        for (what, path) in [("init_path", &self.init_path), ("lifecycle_path", &self.lifecycle_path)] {
            if !path.is_file() {
                wrong.push(format!("{what}: there is no program {}", path.display()));
            }
        }
        if !self.buildpacks_dir.is_dir() {
            wrong.push(format!(
                "buildpacks_dir: there is no folder {}",
                self.buildpacks_dir.display()
            ));
        }
        if let Some(mirror) = self.mirror_dir.as_ref().filter(|mirror| !mirror.is_dir()) {
            wrong.push(format!("mirror_dir: there is no folder {}", mirror.display()));
        }
        if !self.state_dir.is_absolute() {
            wrong.push(format!(
                "state_dir: {} is not an absolute path",
                self.state_dir.display()
            ));
        }
        if self.limits.parked > MAX_PARKED {
            wrong.push(format!("parked: {} is more than {MAX_PARKED}", self.limits.parked));
        }
        if let Err(error) = self.network.check() {
            wrong.push(format!("network: {}", crate::error::chain(&error)));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::Config {
            reason: wrong.join("; "),
        })
    }

    /// Folder of a part of the cell.
    pub(crate) fn dir(&self, part: &str) -> PathBuf {
        self.state_dir.join(part)
    }

    /// Memory and disk that are offered, in MiB: without what waits for work. Blocking.
    ///
    /// # Errors
    /// The host's figures can't be read.
    pub(crate) fn offered(&self) -> Result<(u64, u64), Error> {
        let memory_mb = match self.capacity.memory_mb {
            Some(megabytes) => megabytes,
            None => memory_kib()? / 1024 * MEMORY_PERCENT / 100,
        };
        let memory_mb = memory_mb.saturating_sub(self.limits.parked as u64 * PARKED_MB);
        let disk_mb = match self.capacity.disk_mb {
            Some(megabytes) => megabytes,
            None => {
                let stat = rustix::fs::statvfs(&self.state_dir)
                    .map_err(|error| file("measure", &self.state_dir)(error.into()))?;
                let bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
                bytes.saturating_sub(self.caches.layers_bytes.min(bytes / 4)) / MIB
            }
        };
        Ok((memory_mb, disk_mb))
    }

    /// The cell's id, kept in the state folder where none is configured. Blocking.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub(crate) fn identity(&self) -> Result<CellId, Error> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        let path = self.dir("id");
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| Error::Config {
                reason: format!("{} does not hold the id of a cell", path.display()),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let id = CellId(uuid::Uuid::now_v7());
                let fresh = path.with_extension("new");
                fs::write(&fresh, format!("{id}\n"))
                    .and_then(|()| fs::File::open(&fresh)?.sync_all())
                    .and_then(|()| fs::rename(&fresh, &path))
                    .map_err(file("write", &path))?;
                Ok(id)
            }
            Err(error) => Err(file("read", &path)(error)),
        }
    }
}

fn memory_kib() -> Result<u64, Error> {
    let path = Path::new("/proc/meminfo");
    let text = fs::read_to_string(path).map_err(file("read", path))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    number.ok_or_else(|| Error::Config {
        reason: format!("{} names no MemTotal: set the memory of the cell", path.display()),
    })
}
