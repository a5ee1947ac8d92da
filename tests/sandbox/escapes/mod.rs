//! Attempts to get out of a sandbox, each by its class. Every one fails against the platform's
//! sandboxes, and every one is shown to be able to succeed: against a bundle that differs from the
//! platform's own in the lines that are named (`bundle`).
//!
//! The attempts themselves are subcommands of the probe, in `tests/sandbox/probe/escape`.

mod bundle;
mod outside;
mod own;
mod table;
mod teardown;

use sandbox::Spec;
use sandbox::log::Stream;

use crate::kit::{Host, ended, records, text};
use bundle::{Bundle, Line};
use outside::Outside;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Held(String),
    Escaped(String),
}

impl Outcome {
    /// Of the attempt `name`, from what the probe printed.
    fn read(name: &str, output: &str) -> Outcome {
        let told = output
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        match told.and_then(|told| told.split_once(": ")) {
            Some(("held", why)) => Outcome::Held(why.to_owned()),
            Some(("escaped", what)) => Outcome::Escaped(what.to_owned()),
            _ => panic!("{name} told no outcome: {output}"),
        }
    }

    #[track_caller]
    fn held(self, name: &str, whom: &str) -> String {
        match self {
            Outcome::Held(why) => why,
            Outcome::Escaped(what) => panic!("{name} got out of {whom}: {what}"),
        }
    }

    #[track_caller]
    fn escaped(self, name: &str, whom: &str) -> String {
        match self {
            Outcome::Escaped(what) => what,
            Outcome::Held(why) => panic!("{name} should have got out of {whom}: {why}"),
        }
    }
}

/// A sandbox that makes one attempt, with the folder through which some of them look.
fn attempt_spec(host: &Host, outside: &Outside, name: &str) -> Spec {
    let mut argv = vec!["escape".to_owned(), name.to_owned()];
    argv.extend(outside.arguments(name));
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let mut spec = host.spec("attempt", &argv);
    spec.binds = vec![outside.bind()];
    spec
}

/// Runs the spec in a sandbox of the platform: what the attempt came to.
fn attempt(host: &Host, spec: &Spec, name: &str) -> Outcome {
    let (exit, records) = host.run(spec);
    assert_eq!(exit.code, Some(0), "{name}: {exit:?} {}", text(&records, Stream::Err));
    Outcome::read(name, &text(&records, Stream::Out))
}

/// An attempt whose weakness can be written into a bundle: fails in a sandbox and in the bundle
/// that says the same, succeeds once `lines` are changed.
fn shown(test: &str, lines: &[Line]) {
    let name = &test.replace('_', "-");
    let host = Host::new();
    let outside = Outside::new(&host);
    let spec = attempt_spec(&host, &outside, name);
    let real = attempt(&host, &spec, name).held(name, "a sandbox");
    let told = |lines: &[Line]| {
        let bundle = Bundle::new(&host, &spec, lines);
        Outcome::read(name, &bundle.run())
    };
    if !lines.iter().any(|line| matches!(line, Line::NoInit)) {
        told(&[]).held(name, "a bundle that says the same");
    }
    let reached = told(lines).escaped(name, "a weakened bundle");
    table::record(name, &real, &reached);
    drop(outside);
    host.finish();
}

/// All attempts that need no argument, in one sandbox.
fn all_at_once(host: &Host, spec: &mut Spec, except: &[&str]) {
    let names: Vec<String> = ATTEMPTS.iter().map(|(name, ..)| name.replace('_', "-")).collect();
    let names: Vec<&String> = names.iter().filter(|name| !except.contains(&name.as_str())).collect();
    spec.process.argv = ["/bin/probe", "escapes"].map(str::to_owned).to_vec();
    spec.process.argv.extend(names.iter().map(|name| (*name).clone()));
    let sandbox = host.create(spec);
    assert_eq!(ended(&sandbox).code, Some(0));
    let output = text(&records(&sandbox), Stream::Out);
    for name in names {
        Outcome::read(name, &output).held(name, "a sandbox");
    }
    sandbox.destroy().unwrap();
}

#[test]
fn every_attempt_fails_in_one_sandbox() {
    let host = Host::new();
    all_at_once(&host, &mut host.spec("all", &[]), &[]);
    host.finish();
}

#[test]
fn every_attempt_fails_for_root_inside() {
    let host = Host::new();
    let mut spec = host.spec("root", &[]);
    (spec.process.uid, spec.process.gid) = (0, 0);
    // Root inside is init's user, and reads what is root's.
    let its_right = ["setuid-program", "root-file", "signal-to-init"];
    all_at_once(&host, &mut spec, &its_right);
    host.finish();
}

macro_rules! attempts {
    ($($test:ident, $class:literal, [$($line:expr),*];)*) => {
        /// Those whose weakness is a line of a bundle.
        pub const ATTEMPTS: &[(&str, &str, &[Line])] = &[$((stringify!($test), $class, {
            #[allow(clippy::enum_glob_use, reason = "a table of lines")]
            use bundle::Line::*;
            &[$($line),*]
        })),*];

        mod shown {
            use super::bundle::Line::*;
            $(
                #[test]
                fn $test() {
                    super::shown(stringify!($test), &[$($line),*]);
                }
            )*
        }
    };
}

attempts! {
    user_namespace, "nested user namespace", [NoFilter];
    user_namespace_by_clone, "clone flags", [NoFilter];
    user_namespace_by_clone3, "clone flags out of a filter's sight", [NoFilter];
    another_abi, "filter bypass by int 0x80 and x32", [NoFilter];
    io_uring, "filter bypass by io_uring", [NoFilter];
    bpf, "kernel virtual machine", [NoFilter, Without("user"), Capability("CAP_SYS_ADMIN")];
    perf, "kernel counters", [NoFilter, Without("user"), Capability("CAP_SYS_ADMIN")];
    userfaultfd, "stalled kernel by page faults", [NoFilter];
    kernel_log, "kernel log", [NoFilter, Without("user"), Capability("CAP_SYSLOG")];
    keyring, "keyring", [NoFilter];
    process_memory, "process_vm_readv", [NoFilter];
    file_by_handle, "open_by_handle_at", [NoFilter, Without("user"), Root, Capability("CAP_DAC_READ_SEARCH")];
    terminal_injection, "TIOCSTI", [NoFilter];
    odd_sockets, "AF_VSOCK, AF_ALG and others", [NoFilter];
    raw_socket, "raw sockets", [NoFilter, Capability("CAP_NET_RAW")];
    chroot, "root within the root", [NoFilter, Capability("CAP_SYS_CHROOT")];
    mount, "procfs write redirection by a mount over it", [NoFilter, Capability("CAP_SYS_ADMIN")];
    mount_of_groups, "control group escape by a new mount (CVE-2022-0492)", [NoFilter];
    host_name, "host name", [NoFilter, Capability("CAP_SYS_ADMIN")];
    namespace_of_init, "joining the first process's namespaces", [NoInit];
    masked_paths, "what tells about the host below /proc", [NoMasks];
    core_pattern, "core_pattern", [NoReadOnly, Without("user"), Root];
    proc_writable, "sysrq and settings below /proc", [NoReadOnly, Without("user"), Root];
    sys_writable, "uevent_helper and settings below /sys", [Writable("/sys"), Without("user"), Root];
    device_creation, "device creation", [NoFilter, Without("user"), Root, Capability("CAP_MKNOD"), AllDevices];
    device_access, "device access", [Without("user"), Root, AllDevices, Device("/dev/loop-control", 10, 237)];
    setuid_program, "setuid programs", [NewPrivileges];
    memory_of_init, "memory, environment and root of the first process", [NoInit];
    root_file, "becoming root inside", [Capability("CAP_SETUID")];
    group_limits, "control group limits", [Writable("/sys/fs/cgroup"), Without("user"), Root];
    group_membership, "control group membership", [Writable("/sys/fs/cgroup"), Without("user"), Root];
    group_nesting, "nested control groups", [Writable("/sys/fs/cgroup"), Without("user"), Root];
    release_agent, "release_agent", [Writable("/sys/fs/cgroup"), Without("user"), Root];
    ptrace_of_init, "ptrace of the first process", [NoInit];
    signal_to_init, "signals to the first process", [NoInit];
    signal_to_neighbour, "signals across sandboxes", [Without("pid"), Without("user")];
    root_of_neighbour, "/proc/PID/root of others", [Without("pid"), Without("user")];
    processes_of_the_host, "processes of the host", [Without("pid"), Without("user")];
    abstract_socket, "abstract sockets", [Without("network")];
    shared_memory, "System V shared memory", [Without("ipc")];
    leaked_descriptor, "leaked descriptors (CVE-2024-21626)", [LeftOpen];
    shared_mounts, "mount propagation", [Shared("/shown")];
    zombie_flood, "zombie flood", [NoInit];
}
