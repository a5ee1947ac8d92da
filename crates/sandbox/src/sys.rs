//! The system calls that no safe wrapper offers. Each function here is safe to call or
//! says what its caller must uphold; nothing else in the crate speaks raw.

mod confine;

use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

pub use confine::*;

/// `MOUNT_ATTR_*` bits as the kernel numbers them.
pub mod attr {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    /// Access times: none of the bits of the mask is `RELATIME`.
    pub const TIME_MASK: u64 = 0x70;
    pub const RELATIME: u64 = 0;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const IDMAP: u64 = 0x0010_0000;
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// How a mount shares what is mounted below it, as `MS_*`.
pub mod propagation {
    pub const UNBINDABLE: u64 = 1 << 17;
    pub const PRIVATE: u64 = 1 << 18;
    pub const SLAVE: u64 = 1 << 19;
    pub const SHARED: u64 = 1 << 20;
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one, with the child's pid and (from [`clone_process`]) pidfd.
    Parent(i32, Option<OwnedFd>),
}

#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Forks with new namespaces (`CLONE_NEW*` bits; with `CLONE_PARENT` as a sibling), into the v2 control group `cgroup`.
///
/// # Safety
/// The process must have one thread only: the child goes on using heap and locks as the
/// parent left them.
pub unsafe fn clone_process(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: namespaces | CLONE_PIDFD,
        pidfd: &raw mut pidfd as u64,
        // A sibling's end is told as this process's own would be.
        exit_signal: if namespaces & libc::CLONE_PARENT as u64 == 0 {
            libc::SIGCHLD as u64
        } else {
            0
        },
        ..CloneArgs::default()
    };
    if let Some(group) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: no stack and no CLONE_VM is given, so the child runs on its own copy of this
    // stack; `args` and `pidfd` outlive the call.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked::Parent(pid as i32, Some(pidfd)))
}

/// Plain fork.
///
/// # Safety
/// As for [`clone_process`].
pub unsafe fn fork() -> io::Result<Forked> {
    // SAFETY: the caller has a single thread.
    let pid = check(libc::c_long::from(unsafe { libc::fork() }))?;
    Ok(if pid == 0 {
        Forked::Child
    } else {
        Forked::Parent(pid as i32, None)
    })
}

/// Ends the process without running anything else.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any code and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on except `keep`.
///
/// # Safety
/// The caller drops or uses no owner of a closed descriptor afterwards.
pub unsafe fn close_all_except(first: RawFd, keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|&fd| fd >= first).collect();
    keep.sort_unstable();
    let mut from = first as u32;
    for fd in keep {
        let fd = fd as u32;
        if fd > from {
            close_range(from, fd - 1, 0)?;
        }
        from = fd + 1;
    }
    close_range(from, u32::MAX, 0)
}

/// Marks every descriptor from `first` on to be closed by the next execve.
pub fn cloexec_from(first: RawFd) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    close_range(first as u32, u32::MAX, CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, last: u32, flags: u32) -> io::Result<()> {
    // SAFETY: plain numbers; ownership is the concern of the callers above.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// A change of a mount's attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountChange {
    /// `attr` bits to be set.
    pub set: u64,
    /// `attr` bits to be cleared before.
    pub clear: u64,
    /// One of `propagation`, or 0 to leave it.
    pub propagation: u64,
}

/// Sets attributes of the mount `fd` stands for (and below it, if `recursive`), with
/// `IDMAP` from the user namespace `userns`.
pub fn mount_setattr(fd: BorrowedFd<'_>, set: u64, userns: Option<BorrowedFd<'_>>, recursive: bool) -> io::Result<()> {
    let change = MountChange {
        set,
        ..MountChange::default()
    };
    mount_change(fd, change, userns, recursive)
}

/// The same for any change.
pub fn mount_change(
    fd: BorrowedFd<'_>,
    change: MountChange,
    userns: Option<BorrowedFd<'_>>,
    recursive: bool,
) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let mut attr = MountAttr {
        set: change.set,
        clear: change.clear,
        propagation: change.propagation,
        userns_fd: 0,
    };
    if let Some(userns) = userns {
        attr.set |= self::attr::IDMAP;
        attr.userns_fd = userns.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a constant empty C string, `attr` has the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Sets the parameter `key` of the file system that is being configured in `fs` to a descriptor.
pub fn fsconfig_set_fd(fs: BorrowedFd<'_>, key: &CStr, fd: BorrowedFd<'_>) -> io::Result<()> {
    const FSCONFIG_SET_FD: libc::c_uint = 5;
    // SAFETY: `key` is a C string that lives through the call, and this command takes no value.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            fs.as_raw_fd(),
            FSCONFIG_SET_FD,
            key.as_ptr(),
            0usize,
            fd.as_raw_fd(),
        )
    })
    .map(drop)
}

/// Which kind of namespace `fd` stands for, as its `CLONE_NEW*` bit.
pub fn namespace_kind(fd: BorrowedFd<'_>) -> io::Result<i32> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xB703;
    // SAFETY: the request takes no argument.
    let kind = check(libc::c_long::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE)
    }))?;
    Ok(kind as i32)
}

/// Joins a new, empty session keyring.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0usize) }).map(drop)
}

/// Brings the loopback interface of the current network namespace up.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq that lives through the call.
    check(libc::c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request)
    }))
    .map(drop)
}

/// Number of a loop device that was free a moment ago.
pub fn loop_get_free(control: BorrowedFd<'_>) -> io::Result<u32> {
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
    // SAFETY: the request takes no argument.
    let number = check(libc::c_long::from(unsafe {
        libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE)
    }))?;
    Ok(number as u32)
}

/// Ties the loop device `device` to the file `image` until its last user is gone.
pub fn loop_configure(device: BorrowedFd<'_>, image: BorrowedFd<'_>) -> io::Result<()> {
    const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    #[repr(C)]
    struct LoopInfo {
        numbers: [u64; 5],
        number: u32,
        encrypt_type: u32,
        encrypt_key_size: u32,
        flags: u32,
        names: [u8; 64 + 64 + 32],
        init: [u64; 2],
    }
    #[repr(C)]
    struct LoopConfig {
        fd: u32,
        block_size: u32,
        info: LoopInfo,
        reserved: [u64; 8],
    }
    // SAFETY: plain integers, for which all zeroes is valid.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = image.as_raw_fd() as u32;
    config.block_size = 4096;
    config.info.flags = LO_FLAGS_AUTOCLEAR;
    // SAFETY: LOOP_CONFIGURE reads a loop_config, which `LoopConfig` mirrors.
    check(libc::c_long::from(unsafe {
        libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config)
    }))
    .map(drop)
}

/// Replaces this process; returns only on failure.
pub fn exec(program: &CStr, argv: &[std::ffi::CString], env: &[std::ffi::CString]) -> io::Error {
    match nix::unistd::execve(program, argv, env) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Sets this process's I/O priority: class 1 (real time) to 3 (idle), 0 for none, and a level in it.
pub fn set_io_priority(class: u16, level: u16) -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(class) << 13 | libc::c_int::from(level);
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) }).map(drop)
}

/// How this process is to be scheduled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// For ordinary ones.
    pub nice: i32,
    /// For real time ones.
    pub priority: u32,
    /// For those with deadlines, nanoseconds.
    pub runtime: u64,
    /// The same.
    pub deadline: u64,
    /// The same.
    pub period: u64,
}

/// Sets it.
pub fn set_scheduling(wanted: &Scheduling) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: wanted.policy,
        flags: 0,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    };
    // SAFETY: the kernel reads as much of `attributes` as its size says.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0u32) }).map(drop)
}

/// Sets which kind of system this process sees (`PER_*`).
pub fn set_personality(kind: u64) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_personality, kind) }).map(drop)
}

/// Gives `SIGPIPE` and all others their default action again and unblocks them.
pub fn reset_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no code; numbers that cannot be set are refused.
        let _ = unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Sets the host name of the namespace `uts` from a thread whose own is `home`.
pub fn set_host_name(uts: BorrowedFd<'_>, home: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let kind = nix::sched::CloneFlags::CLONE_NEWUTS;
    nix::sched::setns(uts, kind)?;
    let set = nix::unistd::sethostname(name);
    // To go on with a sandbox's host name would be a lie at most: nothing else depends on it.
    nix::sched::setns(home, kind)?;
    Ok(set?)
}

/// Where the code of this program is, in it and all that are forked from it. Read once.
pub fn code() -> &'static [(usize, usize)] {
    static CODE: OnceLock<Vec<(usize, usize)>> = OnceLock::new();
    CODE.get_or_init(|| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let code = maps
            .lines()
            .filter(|line| line.contains(" r-xp ") && line.contains('/'));
        let number = |text: &str| usize::from_str_radix(text, 16).ok();
        let range = |line: &str| {
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            number(from).zip(number(to))
        };
        code.filter_map(range).collect()
    })
}

/// Gives back the pages of this process's code; they come again from the file when they are needed. An execution then
/// has less to take down.
pub fn forget_code() -> io::Result<()> {
    for (from, to) in code() {
        // SAFETY: a private mapping of a file that can be executed and not written has nothing that is not in the file.
        check(libc::c_long::from(unsafe {
            libc::madvise(*from as *mut libc::c_void, to - from, libc::MADV_DONTNEED)
        }))?;
    }
    Ok(())
}

/// Sends `signal` to a process (or, negative, a group; -1 for all that may be reached).
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(libc::c_long::from(unsafe { libc::kill(pid, signal) })).map(drop)
}

/// Sends `signal` through a pidfd.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: no siginfo is given, plain numbers otherwise.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0usize, 0u32) }).map(drop)
}

/// The clock that only goes forward, the same for host and sandboxes, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Unix time in nanoseconds.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
