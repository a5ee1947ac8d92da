//! System calls that confine: filters of system calls, Landlock domains, programs that judge devices.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// One instruction of a system call filter.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// Puts the filter in force for this thread and all it starts; needs no_new_privs.
pub fn seccomp_load(program: &[Instruction]) -> io::Result<()> {
    seccomp_load_with(program, 0)
}

/// The same with `SECCOMP_FILTER_FLAG_*` bits; needs no_new_privs or the privilege to do without.
pub fn seccomp_load_with(program: &[Instruction], flags: u32) -> io::Result<()> {
    seccomp_filter(program, flags).map(drop)
}

/// The same, with a descriptor on which calls that the filter leaves to somebody else are told.
pub fn seccomp_listen(program: &[Instruction], flags: u32) -> io::Result<OwnedFd> {
    const NEW_LISTENER: u32 = 8;
    let fd = seccomp_filter(program, flags | NEW_LISTENER)?;
    // SAFETY: with the flag the kernel returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn seccomp_filter(program: &[Instruction], flags: u32) -> io::Result<libc::c_long> {
    #[repr(C)]
    struct Program {
        len: libc::c_ushort,
        filter: *const Instruction,
    }
    const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = Program {
        len,
        filter: program.as_ptr(),
    };
    // SAFETY: `program` describes a live slice of `len` instructions of the kernel's layout.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
}

/// Which version of Landlock the kernel has; 0 for none.
pub fn landlock_version() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag nothing is read and nothing is made.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// Puts this thread, and all it starts, into a domain of its own: `scoped` (`LANDLOCK_SCOPE_*`) says what cannot
/// reach out of it. Needs no_new_privs or the privilege to do without, and version 6.
pub fn landlock_scope(scoped: u64, flags: u32) -> io::Result<()> {
    #[repr(C)]
    struct Ruleset {
        handled_access_fs: u64,
        handled_access_net: u64,
        scoped: u64,
    }
    let ruleset = Ruleset {
        handled_access_fs: 0,
        handled_access_net: 0,
        scoped,
    };
    // SAFETY: the kernel reads `ruleset`, of the size given, and makes a descriptor.
    let made = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const ruleset,
            size_of::<Ruleset>(),
            0u32,
        )
    })?;
    // SAFETY: it is new and nobody else's.
    let made = unsafe { OwnedFd::from_raw_fd(made as RawFd) };
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, made.as_raw_fd(), flags) }).map(drop)
}

/// Loads a program that judges the use of devices; it lives for as long as its descriptor or a group that has it.
pub fn bpf_load_device(program: &[u64]) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: u32 = 5;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel: u32,
        flags: u32,
    }
    let count = u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel: 0,
        flags: 0,
    };
    // SAFETY: `load` has the size given, `program` and the licence outlive the call; nothing is written.
    let made = check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(made as RawFd) })
}

/// Makes the program judge for the v2 group `group` and what is below it. `beside` others there, or in place of the
/// one that was attached so before.
pub fn bpf_attach_device(group: BorrowedFd<'_>, program: BorrowedFd<'_>, beside: bool) -> io::Result<()> {
    const BPF_PROG_ATTACH: u32 = 8;
    const BPF_CGROUP_DEVICE: u32 = 6;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
        replaced: u32,
    }
    let attach = Attach {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: if beside { BPF_F_ALLOW_MULTI } else { 0 },
        replaced: 0,
    };
    // SAFETY: `attach` has the size given; nothing is written.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) }).map(drop)
}
