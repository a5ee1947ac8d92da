//! What the kernel itself keeps from an app: calls, devices, other domains, and what it counts per user.

use std::collections::BTreeMap;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox::Sandbox;

use crate::kit::{Host, eventually, printed, records, text};
use crate::lifecycle::exec_output;

/// As the kernel numbers them.
const EPERM: &str = "1";
const ENOSYS: &str = "38";

#[test]
fn every_call_that_is_not_on_the_list_is_refused() {
    let host = Host::new();
    let output = host.output(&["filtered"]);
    let answers: BTreeMap<&str, &str> = output.lines().filter_map(|line| line.split_once('=')).collect();
    let mut calls = 0;
    for (what, errno) in &answers {
        let (kind, number) = what.split_once(' ').unwrap();
        let number: u32 = number.parse().unwrap();
        let wanted: &[&str] = match (kind, number) {
            ("unknown", _) => &[ENOSYS],
            // Local and internet sockets; asking the kernel. Without IPv6, or as the wrong type: not the filter's.
            ("family", 1 | 2) => &["0"],
            ("family", 0 | 10 | 16) => &["0", "22", "94", "97"],
            // The null device has no terminal, and no filter: what is allowed is answered by it.
            ("request", 0x5401 | 0x541B) => &["25"],
            _ => &[EPERM],
        };
        assert!(wanted.contains(errno), "{what}: {errno}");
        calls += 1;
    }
    assert!(calls > 150, "{output}");
    host.finish();
}

#[test]
fn a_sandbox_is_one_domain_of_its_own() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("scoped", &["abstract-serve", "inside"]));
    printed(&sandbox, "serving");
    let version = host.runtime().isolation().landlock;
    // A listener of the host's in the sandbox's own network: there no namespace keeps it apart.
    let network = std::fs::File::open(format!("/proc/{}/ns/net", sandbox.init_pid())).unwrap();
    let listener = std::thread::spawn(move || {
        nix::sched::setns(&network, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let name = SocketAddr::from_abstract_name("outside").unwrap();
        let listener = UnixListener::bind_addr(&name).unwrap();
        UnixStream::connect_addr(&name).unwrap();
        listener
    });
    let _listener = listener.join().unwrap();
    let connect = |name: &str| exec_output(&sandbox, &["abstract-connect", name]).1;
    assert_eq!(connect("inside"), "0\n", "its processes are in the same one");
    assert_eq!(exec_output(&sandbox, &["signal", "2", "0"]).1, "0\n");
    assert_eq!(connect("outside"), if version >= 6 { "1\n" } else { "0\n" });
    assert_eq!(
        host.runtime()
            .isolation()
            .missing
            .iter()
            .any(|m| m.contains("Landlock")),
        version < 6
    );
    sandbox.destroy().unwrap();
    host.finish();
}

/// Its group in the v2 hierarchy, if there is one.
fn unified_group(host: &Host, sandbox: &Sandbox) -> Option<PathBuf> {
    let parents = host.groups();
    let parent = parents
        .iter()
        .find(|parent| parent.join("cgroup.controllers").exists())?;
    let own = sandbox.init_pid().to_string();
    let groups = std::fs::read_dir(parent).unwrap().flatten().map(|entry| entry.path());
    let holds = |group: &PathBuf| {
        let pids = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        pids.lines().any(|pid| pid == own)
    };
    groups.into_iter().find(holds)
}

fn node(folder: &Path, name: &str, minor: u64) -> PathBuf {
    let path = folder.join(name);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    let number = nix::sys::stat::makedev(1, minor);
    nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFCHR, mode, number).unwrap();
    path
}

#[test]
fn its_group_has_the_devices_of_a_sandbox_only() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("devices", &["sleep"]));
    printed(&sandbox, "asleep");
    let group = unified_group(&host, &sandbox);
    let isolation = host.runtime().isolation();
    let (missing, layout) = (isolation.missing, isolation.cgroups);
    let unjudged = missing.iter().any(|m| m.contains("judges the use of devices"));
    assert!(group.is_some() || unjudged, "{missing:?}");
    // Where there is nothing but version 2, nothing but this judges the use of devices.
    assert!(layout != "v2" || !unjudged, "{missing:?}");
    if let Some(group) = group {
        // The host's root in the sandbox's group: it has nodes and every privilege, the group's rules are all there is.
        let (null, log) = (node(host.dir.path(), "null", 3), node(host.dir.path(), "log", 11));
        let look = "for f in \"$1\" \"$2\"; do if true <\"$f\"; then echo open; else echo refused; fi; done; \
                    for n in 3 11; do if mknod \"$4/made\" c 1 $n; then echo made; else echo not made; fi; rm -f \"$4/made\"; done";
        let script = format!("{look}; echo $$ >\"$3/cgroup.procs\"; {look}");
        let output = Command::new("sh")
            .args(["-c", &script, "sh"])
            .args([&null, &log, &group, host.dir.path()])
            .output()
            .unwrap();
        let seen = String::from_utf8(output.stdout).unwrap();
        let seen: Vec<&str> = seen.lines().collect();
        let free = ["open", "open", "made", "made"];
        let inside = if unjudged {
            free
        } else {
            ["open", "refused", "made", "not made"]
        };
        assert_eq!(seen, [free, inside].concat(), "{missing:?}");
    }
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn one_that_takes_every_inotify_instance_takes_none_of_anothers() {
    let host = Host::new();
    let hoarder = host.create(&host.spec("hoarder", &["inotify-fill"]));
    let told = || text(&records(&hoarder), sandbox::log::Stream::Out);
    eventually("it has them all", || told().contains("instances="));
    let first = told().lines().next().unwrap().to_owned();
    // The limit is the kernel's, per owner of the namespace.
    assert_ne!(first, "instances=0");
    assert_eq!(host.output(&["inotify-count"]), first);
    hoarder.destroy().unwrap();
    host.finish();
}
