//! What a sandbox is asked to be and what it reports back: plain data, shared by the
//! host side and by `paas-init`. No system calls here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Parking;
use crate::net::{Egress, NetworkConfig};
use crate::unprivileged::Lack;

/// Longest line an app may log before it is split into several records, in bytes.
pub const MAX_LINE: usize = 61_440;

/// Most processes beside the app's.
pub const MAX_SIDECARS: usize = 8;

/// Stands for the sandbox's own address, which nobody knows before it is made, in values of an environment.
pub const ADDRESS: &str = "{sandbox.address}";

/// Puts the address where [`ADDRESS`] stands for it.
pub(crate) fn fill_address(env: &mut [(String, String)], address: std::net::Ipv4Addr) {
    for (_, value) in env.iter_mut().filter(|(_, value)| value.contains(ADDRESS)) {
        *value = value.replace(ADDRESS, &address.to_string());
    }
}

/// How a [`crate::Runtime`] is set up on one host.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder owned by this runtime alone (one agent at a time holds its lock).
    pub state_dir: PathBuf,
    /// The `paas-init` executable.
    pub init_path: PathBuf,
    /// `paas/<name>`: the group below each hierarchy's root that holds every sandbox's group.
    pub cgroup_parent: String,
    /// First host uid (and gid) of the ranges of 65536 handed to sandboxes.
    pub uid_base: u32,
    /// Bridge, subnet and resolvers; set up with the first sandbox that wants a network.
    pub network: NetworkConfig,
    /// What is kept ready.
    pub parked: Parking,
}

/// Everything needed to create one sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Name of the sandbox on this host: 1..=64 of `[A-Za-z0-9_.-]`, starting with a letter or digit.
    pub id: String,
    /// Host name seen inside, 1..=63 bytes.
    pub hostname: String,
    /// Folders rooted at `/`, uppermost first, shown read-only below the private layer.
    pub layers: Vec<PathBuf>,
    /// Hard size limit of the private writable layer in bytes.
    pub disk_bytes: u64,
    /// Most files and folders the private layer can hold.
    pub inodes: u64,
    /// Host folders or files shown inside.
    pub binds: Vec<Bind>,
    /// What to run.
    pub process: Process,
    /// What it may use.
    pub limits: Limits,
    /// What it may reach.
    pub network: Network,
    /// How its output is kept.
    pub log: LogPolicy,
    /// Small files written before the start: (absolute path inside, content, mode).
    /// They, and folders that have to be made for them, belong to the process's user.
    pub files: Vec<(PathBuf, Vec<u8>, u32)>,
    /// What runs beside the process, at most [`MAX_SIDECARS`].
    #[serde(default)]
    pub sidecars: Vec<Sidecar>,
}

/// A process beside the app's: the same user in the same sandbox, below the same limits. It shares its fate: the
/// first of them to end by itself ends the sandbox, and a signal to the app is one to all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// 1..=64 of `[A-Za-z0-9_.-]`, starting with a letter or digit; one of each name.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment, as [`Process::env`].
    pub env: Vec<(String, String)>,
    /// Working folder, absolute, must exist.
    pub cwd: PathBuf,
    /// Most memory that it may use of the sandbox's; `None`: it is limited with all the others alone.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
}

/// A host folder or file shown inside a sandbox; always nosuid and nodev.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute host path; trusted.
    pub source: PathBuf,
    /// Absolute path inside; made if missing.
    pub target: PathBuf,
    /// Refuse writes.
    pub readonly: bool,
}

/// The app's first process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments; a program without `/` is looked up in `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited. [`ADDRESS`] in a value becomes the sandbox's address.
    pub env: Vec<(String, String)>,
    /// Working folder, absolute, must exist.
    pub cwd: PathBuf,
    /// User inside, 1..=65535 (0 only for trusted helpers; it has no capabilities either).
    pub uid: u32,
    /// Group inside.
    pub gid: u32,
    /// Give it a terminal as standard input, output and error.
    pub terminal: bool,
    /// Limits beyond the defaults; each is clamped to what this host permits.
    pub rlimits: Vec<Rlimit>,
}

/// One resource limit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which.
    pub resource: RlimitKind,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// The resource limits that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RlimitKind {
    /// Open files.
    Nofile,
    /// Core file bytes.
    Core,
    /// Processes of the user.
    Nproc,
    /// Stack bytes.
    Stack,
    /// Locked memory bytes.
    Memlock,
    /// File size bytes.
    Fsize,
    /// Address space bytes.
    As,
}

/// What the sandbox as a whole may use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, the kernel's for it included, without swap; bytes, at least 4 MiB.
    pub memory_bytes: u64,
    /// Share of the CPU under contention, 1..=10000, 100 is ordinary.
    pub cpu_weight: u32,
    /// Ceiling in cores, `None` for no ceiling.
    pub cpu_quota: Option<f64>,
    /// Most processes and threads, at least 4.
    pub pids: u32,
    /// Its use of disks.
    #[serde(default)]
    pub io: IoLimits,
}

/// Limits for the disks that the private layer and the layers are on. What this host cannot
/// hold is told by [`Isolation::missing`] and left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoLimits {
    /// Share under contention, 1..=10000, 100 is ordinary; `None` leaves it to the kernel.
    pub weight: Option<u32>,
    /// Most bytes read per second; `None` for no limit, as for the following.
    pub read_bps: Option<u64>,
    /// Most bytes written per second.
    pub write_bps: Option<u64>,
    /// Most reads per second.
    pub read_iops: Option<u64>,
    /// Most writes per second.
    pub write_iops: Option<u64>,
}

/// What a sandbox may reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Loopback only.
    None,
    /// An address of its own behind NAT, and an egress policy.
    Isolated {
        /// What it may connect to.
        policy: Egress,
    },
}

/// How output is kept.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LogPolicy {
    /// Bytes per second that are kept in the long run; `u64::MAX` for no limit.
    pub rate_bytes_per_second: u64,
    /// Bytes that may come at once.
    pub burst_bytes: u64,
    /// Oldest segments are deleted beyond this.
    pub keep_bytes: u64,
    /// Longer lines are split; at most [`MAX_LINE`].
    pub max_line: usize,
}

impl Default for LogPolicy {
    fn default() -> LogPolicy {
        LogPolicy {
            rate_bytes_per_second: 1 << 20,
            burst_bytes: 2 << 20,
            keep_bytes: 32 << 20,
            max_line: MAX_LINE,
        }
    }
}

/// How the app's first process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, if it exited.
    pub code: Option<i32>,
    /// Signal, if one killed it.
    pub signal: Option<i32>,
    /// Set when the memory limit was the cause.
    pub oom: Option<Oom>,
    /// Start, unix nanoseconds.
    pub started_ns: u64,
    /// End, unix nanoseconds.
    pub ended_ns: u64,
    /// Times a fork was refused because of the process limit.
    #[serde(default)]
    pub pids_refused: u64,
    /// Which sidecar it was that ended, and the app with it: code and signal are that one's, or it was killed at its
    /// own memory limit.
    #[serde(default)]
    pub sidecar: Option<String>,
}

/// The figures of a kill for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oom {
    /// The limit in bytes.
    pub limit_bytes: u64,
    /// The most that was used, bytes.
    pub peak_bytes: u64,
}

/// A sandbox's use of the host right now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Memory in use without cache that can be dropped, bytes.
    pub memory_bytes: u64,
    /// Most memory ever in use, bytes.
    pub memory_peak: u64,
    /// CPU time used, microseconds.
    pub cpu_usec: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes used in the private layer.
    pub disk_bytes: u64,
    /// Microseconds spent held back by the CPU ceiling.
    pub throttled: u64,
    /// Periods of 100 ms in which it ran under a CPU ceiling.
    pub cpu_periods: u64,
    /// Those in which the ceiling was reached.
    pub throttled_periods: u64,
    /// Memory of the kernel's that is charged to it, in `memory_bytes`; bytes.
    pub memory_kernel: u64,
    /// Processes killed because memory ran out.
    pub oom_kills: u64,
    /// Times a fork was refused because of the process limit.
    pub pids_refused: u64,
    /// Its use of disks since its start.
    pub io: IoUsage,
    /// What it waits for; `None` where the kernel does not measure it.
    pub pressure: Option<Pressure>,
}

/// What was read and written. Bytes that a loop device passes on are counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoUsage {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// How much of the time something inside had to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// For the CPU.
    pub cpu: Stall,
    /// For disks.
    pub io: Stall,
    /// For memory.
    pub memory: Stall,
}

/// Waiting for one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Percent of the last ten seconds in which at least one process waited.
    pub some_avg10: f32,
    /// The same since the start, microseconds.
    pub some_usec: u64,
    /// Percent of the last ten seconds in which every process waited.
    pub full_avg10: f32,
    /// The same since the start, microseconds.
    pub full_usec: u64,
}

/// A further process in a running sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working folder inside.
    pub cwd: PathBuf,
    /// User (and group) inside.
    pub uid: u32,
    /// (rows, columns) for a terminal, `None` for three pipes.
    pub tty: Option<(u16, u16)>,
}

/// What this host offers and what it lacks, for operators.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Isolation {
    /// `v2`, `hybrid`, `v1`, or `none` for an agent without root.
    pub cgroups: String,
    /// How the private layer is limited: `loop-ext4` or `tmpfs`.
    pub disk: String,
    /// Kernel release.
    pub kernel: String,
    /// Namespaces every sandbox has of its own.
    pub namespaces: Vec<String>,
    /// Whether a system call filter is in force.
    pub seccomp: bool,
    /// Version of Landlock, 0 for none; from 6 on every sandbox is a domain that neither signals nor connects to
    /// abstract sockets outside.
    #[serde(default)]
    pub landlock: u32,
    /// What is missing or weaker than intended, in words for an operator.
    pub missing: Vec<String>,
    /// The part of it that is so because the agent is not the host's root; empty where it is.
    pub unprivileged: Vec<Lack>,
}
