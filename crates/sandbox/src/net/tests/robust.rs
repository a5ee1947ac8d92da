//! Many sandboxes, and agents that never come back.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{
    lifecycle::{DOOMED, surroundings},
    world::{FAR, HOST, Host, output, say, seen_as},
};
use crate::net::{Lease, Network, NetworkConfig};

/// More than a bridge has ports.
const MANY: usize = 1100;

#[test]
fn more_sandboxes_than_a_bridge_has_ports() {
    let host = Host::enter("many");
    host.serve(8080);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("each lease is a descriptor");
    let mut config = host.config();
    config.pool_size = 64;
    let network = Network::open(config).expect("open");
    let begin = Instant::now();
    let leases: Vec<Lease> = (0..MANY).map(|_| network.lease().expect("lease")).collect();
    say(&format!("{MANY} leases in {:?}", begin.elapsed()));
    let distinct: BTreeSet<_> = leases.iter().map(|lease| lease.address).collect();
    assert_eq!(distinct.len(), MANY);
    for lease in [&leases[0], &leases[MANY / 2], &leases[MANY - 1]] {
        assert_eq!(seen_as(lease, (FAR, 8080)).expect("reachable"), HOST);
    }
    network.destroy().expect("destroy");
}

/// An agent that is killed with everything it started.
fn killed_agent(folder: &Path) {
    let this = std::env::current_exe().expect("path of the tests");
    let module = module_path!().split_once("::").expect("crate::module").1;
    let doomed = module.replace("robust", "lifecycle::doomed_agent");
    let mut agent = Command::new(this)
        .args(["--exact", &doomed, "--nocapture"])
        .env(DOOMED, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("agent");
    let mut lines = BufReader::new(agent.stdout.take().expect("piped"))
        .lines()
        .map_while(Result::ok);
    let ready = lines
        .find(|line| line.starts_with("ready "))
        .expect("the agent gets ready");
    agent.kill().expect("kill -9");
    agent.wait().expect("wait");
    for pid in ready
        .split(' ')
        .filter(|word| !word.contains('.'))
        .filter_map(|word| word.parse().ok())
    {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

#[test]
fn what_a_killed_agent_left_goes_when_another_network_is_opened() {
    let host = Host::enter("abandoned");
    let before = surroundings();
    let folder = host.folder.join("net");
    killed_agent(&folder);
    let left = surroundings();
    assert!(
        left.contains("paastst0") && left.contains("table ip paas-test"),
        "{left}"
    );
    let forwarding = || fs::read_to_string("/proc/sys/net/ipv4/conf/up0/forwarding").expect("setting");
    assert_eq!(forwarding().trim(), "1", "the kill left it on");

    // The kernel removes the interfaces of a dead namespace in its own time; nobody is told.
    let begin = Instant::now();
    while output("ip", &["-o", "link"]).contains("paastst0v") {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{}",
            output("ip", &["-o", "link"])
        );
        std::thread::yield_now();
    }
    let subnet = "10.98.0.0/24".parse().expect("block");
    let mut config = NetworkConfig::new("other", "paasoth0", subnet, host.folder.join("other"));
    config.run_dir = folder.join("run");
    config.resolvers = vec![FAR];
    let other = Network::open(config).expect("open");
    let now = surroundings();
    assert!(!now.contains("paastst0") && !now.contains("paas-test"), "{now}");
    assert_eq!(forwarding().trim(), "1", "the other needs it");
    other.destroy().expect("destroy");
    assert_eq!(surroundings(), before, "and as it was before the first");
}
