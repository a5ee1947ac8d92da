//! What real programs ask the kernel for: calls seen in common runtimes, each with ordinary arguments, all of
//! which have to be allowed. Not a list of what is allowed.

use super::emit::tests::{Call, run};
use super::{Action, names, program};

/// Every one of them: the C library's start, memory, files, signals, time.
const ALL: &str = "execve brk arch_prctl set_tid_address set_robust_list rseq prlimit64 getrandom mmap munmap mprotect \
    mremap madvise openat open close read write pread64 pwrite64 readv writev lseek fstat stat lstat newfstatat statx \
    access faccessat faccessat2 readlink readlinkat getcwd chdir fcntl dup dup2 dup3 pipe pipe2 poll ppoll select \
    pselect6 rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack kill tgkill futex clone vfork wait4 waitid exit \
    exit_group getpid getppid gettid getuid geteuid getgid getegid getgroups uname sysinfo clock_gettime \
    clock_nanosleep nanosleep gettimeofday sched_yield sched_getaffinity prctl umask mkdir mkdirat unlink unlinkat \
    rename renameat renameat2 chmod fchmod fchmodat chown fchown fsync fdatasync ftruncate getdents64 utimensat \
    symlink symlinkat link linkat rmdir statfs fstatfs flock getrusage times getpgrp setsid setpgid";
/// Of servers: sockets and what waits for them.
const SERVERS: &str = "connect accept accept4 bind listen getsockname getpeername setsockopt getsockopt shutdown \
    sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg sendfile splice epoll_create1 epoll_ctl epoll_wait epoll_pwait \
    epoll_pwait2 eventfd2 timerfd_create timerfd_settime signalfd4 inotify_init1 inotify_add_watch inotify_rm_watch";
/// The loop of Node, the memory protection of its engine, `fs.cp`.
const NODE: &str = "pkey_alloc pkey_mprotect pkey_free membarrier capget copy_file_range fallocate getpriority \
    setpriority sched_setaffinity mincore rt_sigpending memfd_create getrlimit setrlimit";
/// Modules of the standard library: `mmap`, `multiprocessing`, `posix`, `resource`, `shutil`.
const PYTHON: &str = "msync memfd_create copy_file_range shmget shmat shmctl shmdt semget semop semtimedop mq_open \
    mq_timedsend mq_timedreceive setitimer getitimer alarm getxattr setxattr listxattr sched_getparam \
    sched_getscheduler sched_rr_get_interval preadv pwritev preadv2 pwritev2 sync truncate \
    getsid getpgid setresuid setresgid pidfd_open pidfd_send_signal close_range";
/// The scheduler of Go, its profiler, its processes by descriptor.
const GO: &str = "mincore timer_create timer_settime timer_delete setitimer pidfd_open pidfd_send_signal copy_file_range \
    openat2 getrlimit setrlimit tkill fchownat fchdir";
/// The virtual machine of Java: its heap's pages, its threads' priorities, its tools.
const JAVA: &str = "mincore mlock munlock getcpu sched_get_priority_max sched_get_priority_min sched_getparam \
    getpriority setpriority clock_getres times restart_syscall fallocate membarrier fadvise64 rt_sigtimedwait \
    rt_sigsuspend sync_file_range readahead shmget shmat shmctl ptrace";
/// Ruby, PHP, .NET and browsers without their own sandbox.
const OTHERS: &str = "timer_create timer_settime timer_gettime timer_getoverrun timer_delete getresuid getresgid pause \
    vmsplice tee io_setup io_submit io_getevents io_destroy seccomp landlock_create_ruleset landlock_add_rule \
    landlock_restrict_self mseal map_shadow_stack cachestat futex_waitv process_mrelease fchmodat2 setxattrat";

/// Calls that are judged, as runtimes make them.
const JUDGED: &[(libc::c_long, &[u64])] = &[
    // glibc's threads, musl's, a fork, a vfork with a descriptor of the child.
    (libc::SYS_clone, &[0x003d_0f00]),
    (libc::SYS_clone, &[0x007d_0f00]),
    (libc::SYS_clone, &[0x0120_0011]),
    (libc::SYS_clone, &[0x0000_5111]),
    (libc::SYS_socket, &[10, 0x80801, 0]),
    // Go listens with the multipath protocol.
    (libc::SYS_socket, &[2, 0x80801, 262]),
    (libc::SYS_socket, &[1, 0x80001, 0]),
    // Addresses of interfaces.
    (libc::SYS_socket, &[16, 0x80003, 0]),
    (libc::SYS_socketpair, &[1, 0x80001, 0]),
    (libc::SYS_personality, &[0xffff_ffff]),
    (libc::SYS_ioctl, &[1, libc::TIOCGWINSZ]),
    (libc::SYS_ioctl, &[1, libc::TCGETS]),
    (libc::SYS_ioctl, &[3, libc::FIONBIO]),
    (libc::SYS_ioctl, &[3, libc::FIOCLEX]),
    (libc::SYS_ioctl, &[3, libc::FIONREAD]),
    (libc::SYS_ioctl, &[3, libc::SIOCGIFCONF]),
    (libc::SYS_ioctl, &[3, libc::SIOCGIFMTU]),
    (libc::SYS_mknod, &[0, 0o010_644, 0]),
    (libc::SYS_mknodat, &[0, 0, 0o100_644, 0]),
];

#[test]
fn what_runtimes_do_is_allowed() {
    for (who, calls) in [
        ("all", ALL),
        ("servers", SERVERS),
        ("node", NODE),
        ("python", PYTHON),
        ("go", GO),
        ("java", JAVA),
        ("others", OTHERS),
    ] {
        for name in calls.split_whitespace() {
            let number = names::number(name).unwrap_or_else(|| panic!("{name} is no call"));
            assert_eq!(run(program(), &Call::new(number, &[])), Action::Allow, "{who}: {name}");
        }
    }
    for (number, args) in JUDGED {
        assert_eq!(
            run(program(), &Call::new(*number as u32, args)),
            Action::Allow,
            "{number} {args:x?}"
        );
    }
}

/// What they try first and do without: the answer has to be one that they take as "this kernel cannot".
#[test]
fn what_runtimes_only_try_is_refused_as_they_expect() {
    let answer = |number: libc::c_long, args: &[u64]| run(program(), &Call::new(number as u32, args));
    assert_eq!(answer(libc::SYS_clone3, &[]), Action::Errno(libc::ENOSYS as u16));
    for number in [
        libc::SYS_io_uring_setup,
        libc::SYS_get_mempolicy,
        libc::SYS_perf_event_open,
    ] {
        assert_eq!(answer(number, &[]), Action::Errno(libc::EPERM as u16), "{number}");
    }
}
