//! What every sandbox looks like, as data: the kernel's file systems, device nodes, links, hidden and
//! read-only paths, limits every process gets. The platform's own init and its translation to an OCI
//! specification both read it here. No system calls.

use crate::sys::attr;
use crate::{Rlimit, RlimitKind};

/// A file system of the kernel's in every sandbox.
#[derive(Clone, Copy, Debug)]
pub struct KernelMount {
    /// Type as the kernel names it.
    pub kind: &'static str,
    /// Place inside.
    pub target: &'static str,
    /// Options of the file system; ids are those inside.
    pub options: &'static [(&'static str, &'static str)],
    /// `MOUNT_ATTR_*` bits.
    pub attributes: u64,
}

/// Processes; those of other users are not shown.
pub const PROC: KernelMount = KernelMount {
    kind: "proc",
    target: "/proc",
    options: &[("hidepid", "invisible")],
    attributes: attr::NOSUID | attr::NODEV | attr::NOEXEC,
};
/// Devices of the kernel.
pub const SYS: KernelMount = KernelMount {
    kind: "sysfs",
    target: "/sys",
    options: &[],
    attributes: attr::NOSUID | attr::NODEV | attr::NOEXEC | attr::RDONLY,
};
/// Nodes; read-only once it is filled.
pub const DEV: KernelMount = KernelMount {
    kind: "tmpfs",
    target: "/dev",
    options: &[("mode", "755"), ("size", "64k"), ("nr_inodes", "64")],
    attributes: attr::NOSUID | attr::NOEXEC,
};
/// Terminals.
pub const PTS: KernelMount = KernelMount {
    kind: "devpts",
    target: "/dev/pts",
    options: &[("mode", "620"), ("ptmxmode", "666")],
    attributes: attr::NOSUID | attr::NOEXEC,
};
/// Shared memory; its size depends on the sandbox: [`shm_bytes`].
pub const SHM: KernelMount = KernelMount {
    kind: "tmpfs",
    target: "/dev/shm",
    options: &[("mode", "1777")],
    attributes: attr::NOSUID | attr::NODEV | attr::NOEXEC,
};
/// Message queues.
pub const QUEUES: KernelMount = KernelMount {
    kind: "mqueue",
    target: "/dev/mqueue",
    options: &[],
    attributes: attr::NOSUID | attr::NODEV | attr::NOEXEC,
};

/// Size of shared memory in a sandbox with this much memory, which it counts against.
pub fn shm_bytes(memory_bytes: u64) -> u64 {
    (64 << 20).min(memory_bytes / 2)
}

/// Character devices below `/dev`: name, major, minor.
pub const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Symbolic links below `/dev`.
pub const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Group `tty` inside.
pub const TTY_GROUP: u32 = 5;

/// Shown as an empty file or folder.
pub const MASKED: [&str; 19] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/block",
    "/sys/class/block",
    "/sys/dev",
    "/sys/devices/virtual/block",
    "/sys/devices/virtual/dmi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/ext4",
];

/// Cannot be written.
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Makes the kernel choose the app rather than anything of the host when memory runs out.
pub const OOM_SCORE: i32 = 500;

/// Open files, unless asked for otherwise.
const DEFAULT_NOFILE: u64 = 16_384;

/// Limits of a process that asks for `wanted`: the defaults, then those; the last of a kind counts.
pub fn rlimits(wanted: &[Rlimit]) -> Vec<Rlimit> {
    let both = |resource, value| Rlimit {
        resource,
        soft: value,
        hard: value,
    };
    let mut all = vec![both(RlimitKind::Core, 0), both(RlimitKind::Nofile, DEFAULT_NOFILE)];
    all.extend_from_slice(wanted);
    all
}
