//! Opening, dying, coming back, giving back, and leaving nothing behind.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    mount::MsFlags,
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::world::{FAR, HOST, Host, connect, output, say, seen_as, within};
use crate::net::{
    Cidr, Egress, Error, Lease, Network, NetworkConfig, Rule,
    firewall::{Change, Firewall},
    nft::Nft,
    rules::Scope,
};

/// Set for the process that `a_killed_agent...` kills.
pub const DOOMED: &str = "PAAS_TEST_DOOMED_AGENT_FOLDER";

pub fn surroundings() -> String {
    let sysctl = |key: &str| fs::read_to_string(Path::new("/proc/sys/net/ipv4").join(key)).expect(key);
    let links = output("ip", &["-o", "link"]);
    let names: Vec<&str> = links.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    [
        names.join(" "),
        output("ip", &["-o", "-4", "addr"]),
        output("nft", &["list", "ruleset"]),
        sysctl("conf/up0/forwarding"),
        sysctl("ip_forward"),
    ]
    .concat()
}

#[test]
fn destroy_leaves_the_host_as_it_was() {
    let host = Host::enter("destroy");
    let before = surroundings();
    let network = Network::open(host.config()).expect("open");
    let leases: Vec<Lease> = (0..4).map(|_| network.lease().expect("lease")).collect();
    assert_ne!(surroundings(), before);
    assert!(surroundings().contains(&leases[0].host_interface));
    network.destroy().expect("destroy");
    assert_eq!(surroundings(), before);
    let inside = within(&leases[0].netns, || output("ip", &["-o", "link"]));
    assert!(!inside.contains("eth0"), "{inside}");
    for folder in ["net", "run"] {
        let left = fs::read_dir(host.folder.join(folder)).expect("folder").count();
        assert_eq!(left, 0, "no file is left in {folder}");
    }
}

#[test]
fn forwarding_goes_off_with_the_last_network_that_needs_it() {
    let host = Host::enter("two");
    let before = surroundings();
    let first = Network::open(host.config()).expect("open");
    let mut config = NetworkConfig::new(
        "other",
        "paasoth0",
        "10.98.0.0/24".parse().expect("block"),
        host.folder.join("o"),
    );
    config.run_dir = host.folder.join("run");
    config.resolvers = vec![FAR];
    let second = Network::open(config).expect("open beside it");
    first.destroy().expect("destroy");
    host.serve(8080);
    let lease = second.lease().expect("lease");
    assert_eq!(seen_as(&lease, (FAR, 8080)).expect("the other still works"), HOST);
    second.destroy().expect("destroy");
    assert_eq!(surroundings(), before);
}

#[test]
fn a_network_is_open_once_and_refuses_what_cannot_work() {
    let host = Host::enter("once");
    let network = Network::open(host.config()).expect("open");
    assert!(matches!(Network::open(host.config()), Err(Error::Busy { .. })));
    network.close().expect("close");
    let with = |change: fn(&mut NetworkConfig)| {
        let mut config = host.config();
        change(&mut config);
        Network::open(config).expect_err("must be refused").to_string()
    };
    let told = with(|config| config.subnet = "10.97.0.0/20".parse().expect("block"));
    assert!(
        told.contains("10.99.0.0/20") && told.contains("ip link delete paastst0"),
        "{told}"
    );
    let told = with(|config| config.subnet = "198.51.100.0/24".parse().expect("block"));
    assert!(told.contains("overlaps 198.51.100.0/24 on up0"), "{told}");
    let told = with(|config| config.uplink = Some("nope0".to_owned()));
    assert!(told.contains("nope0"), "{told}");
    for change in [
        (|c| c.name = "Bad Name".to_owned()) as fn(&mut NetworkConfig),
        |c| c.bridge = "paas".to_owned(),
        |c| c.bridge = "paas0v1".to_owned(),
        |c| c.bridge = "muchtoolong0".to_owned(),
        |c| c.subnet = "10.0.0.0/8".parse().expect("block"),
        |c| c.subnet = "10.0.0.0/30".parse().expect("block"),
        |c| c.pool_size = 0,
        |c| c.resolvers = vec![Ipv4Addr::LOCALHOST],
    ] {
        let told = with(change);
        assert!(told.contains("remedy:"), "{told}");
    }
    Network::open(host.config())
        .expect("and opens again")
        .destroy()
        .expect("destroy");
}

#[test]
fn a_host_that_forbids_forwarding_is_told_so_and_left_as_it_was() {
    let host = Host::enter("readonly");
    let before = surroundings();
    // A mount namespace of this thread alone, where kernel settings cannot be written.
    unshare(CloneFlags::CLONE_NEWNS).expect("mount namespace");
    let mount = |source: Option<&str>, target: &str, flags| {
        nix::mount::mount(source, target, None::<&str>, flags, None::<&str>).expect("mount");
    };
    mount(None, "/", MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    mount(Some("/proc/sys"), "/proc/sys", MsFlags::MS_BIND);
    mount(
        None,
        "/proc/sys",
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
    );
    let told = Network::open(host.config()).expect_err("cannot work").to_string();
    assert!(told.contains("/proc/sys/net/") && told.contains("read-only"), "{told}");
    assert_eq!(surroundings(), before);
}

#[test]
fn a_small_subnet_runs_out_with_a_clear_error_and_recovers_after_the_rest() {
    let host = Host::enter("exhausted");
    let mut config = host.config();
    config.subnet = "10.99.0.0/29".parse().expect("block");
    config.quarantine = Duration::from_millis(1500);
    let network = Network::open(config).expect("open");
    let mut leases: Vec<Lease> = (0..5).map(|_| network.lease().expect("lease")).collect();
    let distinct: BTreeSet<Ipv4Addr> = leases.iter().map(|lease| lease.address).collect();
    assert_eq!(distinct.len(), 5);
    let Err(Error::Pool { source }) = network.lease() else {
        panic!("must be exhausted")
    };
    assert!(matches!(*source, Error::Exhausted { held: 5, .. }), "{source}");
    let first = leases.remove(0);
    let (address, since) = (first.address, Instant::now());
    network.release(first);
    assert!(network.lease().is_err(), "it rests first");
    let again = loop {
        if let Ok(lease) = network.lease() {
            break lease;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "never free again");
        std::thread::yield_now();
    };
    assert_eq!(again.address, address);
    assert!(
        since.elapsed() >= Duration::from_millis(1400),
        "after {:?}",
        since.elapsed()
    );
    network.destroy().expect("destroy");
}

#[test]
fn a_released_address_is_cut_off_even_if_a_process_lingers() {
    let host = Host::enter("released");
    host.serve(8080);
    let network = Network::open(host.config()).expect("open");
    let lease = network.lease().expect("lease");
    let lingering = lease.netns.try_clone().expect("clone");
    let ghost = Lease {
        netns: lingering,
        id: lease.id.clone(),
        host_interface: String::new(),
        ..lease
    };
    seen_as(&ghost, (FAR, 8080)).expect("leased");
    network.release(Lease {
        netns: ghost.netns.try_clone().expect("clone"),
        id: String::new(),
        host_interface: String::new(),
        ..ghost
    });
    // Any answer of the thread comes after the release.
    network.sweep().expect("sweep");
    let quick = within(&ghost.netns, || {
        std::net::TcpStream::connect_timeout(&(FAR, 8080).into(), Duration::from_millis(300))
    });
    assert!(quick.is_err());
    network.destroy().expect("destroy");
}

/// Not a test by itself: the agent that the next test kills.
#[test]
fn doomed_agent() {
    let Some(folder) = std::env::var_os(DOOMED) else { return };
    let network = Network::open(config_in(Path::new(&folder))).expect("open");
    let narrow = Rule::tcp(Cidr::ANY, [8080.into()]);
    let kept = network
        .lease_with(&Egress {
            allow: vec![narrow],
            deny: vec![],
        })
        .expect("lease");
    let lost = network.lease().expect("lease");
    let spawn = |lease: &Lease| {
        within(&lease.netns, || {
            Command::new("sleep")
                .arg("600")
                .stdout(Stdio::null())
                .spawn()
                .expect("sleep")
                .id()
        })
    };
    let line = format!(
        "\nready {} {} {} {}\n",
        kept.address,
        spawn(&kept),
        lost.address,
        spawn(&lost)
    );
    std::io::stdout().write_all(line.as_bytes()).expect("tell");
    std::io::stdin().lines().next();
    panic!("should have been killed");
}

fn config_in(folder: &Path) -> NetworkConfig {
    let mut config = NetworkConfig::new("test", "paastst0", "10.99.0.0/20".parse().expect("block"), folder);
    config.resolvers = vec![FAR];
    config.run_dir = folder.join("run");
    config.pool_size = 3;
    config
}

/// A process that stands for a sandbox, ended with the test.
struct Sandbox(Pid);

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

#[test]
fn a_killed_agent_leaves_its_sandboxes_connected_for_the_next_to_adopt() {
    let host = Host::enter("killed");
    host.serve(8080);
    host.serve(9090);
    let before = surroundings();
    let folder = host.folder.join("net");
    let this = std::env::current_exe().expect("path of the tests");
    let module = module_path!().split_once("::").expect("crate::module").1;
    let mut agent = Command::new(this)
        .args(["--exact", &format!("{module}::doomed_agent"), "--nocapture"])
        .env(DOOMED, &folder)
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
    let words: Vec<&str> = ready.split(' ').collect();
    let (kept, lost): (Ipv4Addr, Ipv4Addr) = (words[1].parse().expect("address"), words[3].parse().expect("address"));
    let sandboxes = [words[2], words[4]].map(|pid| Sandbox(Pid::from_raw(pid.parse().expect("pid"))));
    agent.kill().expect("kill -9");
    agent.wait().expect("wait");

    let network = Network::open(config_in(&folder)).expect("open again");
    let netns = |pid: &str| {
        File::open(format!("/proc/{pid}/ns/net"))
            .expect("the sandbox lives")
            .into()
    };
    let lease = network.adopt("one", kept, netns(words[2])).expect("adopt");
    assert_eq!((lease.id.as_str(), lease.address), ("one", kept));
    seen_as(&lease, (FAR, 8080)).expect("connected as before");
    assert!(connect(&lease, (FAR, 9090)).is_err(), "under its policy as before");
    let nobody = network
        .adopt("two", Ipv4Addr::new(10, 99, 3, 3), netns(words[2]))
        .expect_err("no such")
        .to_string();
    assert!(nobody.contains("10.99.3.3") && nobody.contains("two"), "{nobody}");

    let swept = network.sweep().expect("sweep");
    assert!(swept.contains(&lost) && !swept.contains(&kept), "{swept:?}");
    let links = output("ip", &["-o", "link"]);
    assert!(
        !links.contains(&format!("v{:x}@", lost.octets()[3])),
        "the abandoned one is cut off: {links}"
    );
    let old: BTreeSet<Ipv4Addr> = swept.iter().copied().chain([kept]).collect();
    for _ in 0..4 {
        let fresh = network.lease().expect("lease");
        assert!(!old.contains(&fresh.address), "{} is used again at once", fresh.address);
    }
    network.set_policy(kept, &Egress::public()).expect("policy");
    seen_as(&lease, (FAR, 9090)).expect("and follows the new agent");
    drop(sandboxes);
    network.destroy().expect("destroy");
    assert_eq!(surroundings(), before);
}

#[test]
fn rules_flushed_by_another_program_come_back() {
    let _host = Host::enter("flushed");
    let scope = Scope {
        resolvers: vec![FAR],
        ..Scope::bare("test", "paastst0", "up0", "10.99.0.0/20".parse().expect("block"))
    };
    let nft = Nft::find("paas-test").expect("nft");
    let mut firewall = Firewall::open(scope, nft).expect("open");
    assert!(firewall.obstacles().expect("look").is_empty());
    output(
        "nft",
        &["add table inet other; add chain inet other way { type filter hook forward priority 0; policy drop; }"],
    );
    assert_eq!(firewall.obstacles().expect("look"), ["inet other way"]);
    output("nft", &["delete table inet other"]);
    let address = |last| Ipv4Addr::new(10, 99, 0, last);
    let changes = [
        Change::Admit(address(2), Arc::new(Egress::public())),
        Change::Admit(address(3), Arc::new(Egress::none())),
        Change::Admit(address(4), Arc::new(Egress::public())),
        Change::Expel(address(4)),
        Change::Expel(address(5)),
    ];
    assert!(firewall.apply(&changes).iter().all(Result::is_ok));
    let listing = || output("nft", &["list", "ruleset"]);
    let before = listing();
    assert!(firewall.present().expect("look"));
    output("nft", &["flush", "ruleset"]);
    assert!(!firewall.present().expect("look"));
    firewall.restore(&Arc::new(Egress::public())).expect("restore");
    assert!(firewall.present().expect("look"));
    let normal = |text: &str| {
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| line.replace(|c: char| c.is_ascii_digit(), "#"))
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(normal(&listing()), normal(&before));
    firewall.destroy().expect("destroy");
    assert_eq!(listing(), "");
}

#[test]
fn leases_from_many_threads_are_distinct_and_quick() {
    let host = Host::enter("bench");
    let mut config = host.config();
    config.pool_size = 64;
    let network = Network::open(config).expect("open");
    // The first lease that finds the pool empty waits for it; the measured ones find it full.
    let warm: Vec<Lease> = (0..64).map(|_| network.lease().expect("lease")).collect();
    let full = Instant::now();
    while network.idle() < 64 {
        assert!(full.elapsed() < Duration::from_secs(60), "the pool does not fill");
        std::thread::yield_now();
    }
    let mut times: Vec<Duration> = Vec::new();
    let mut leases = warm;
    for _ in 0..48 {
        let start = Instant::now();
        leases.push(network.lease().expect("lease"));
        times.push(start.elapsed());
    }
    times.sort();
    let burst = Instant::now();
    let more: Vec<Lease> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..25).map(|_| network.lease().expect("lease")).collect::<Vec<_>>()))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    let rate = 200.0 / burst.elapsed().as_secs_f64();
    leases.extend(more);
    say(&format!(
        "lease from the pool: p50 {:?}, p90 {:?}, max {:?}; burst of 200: {rate:.0}/s",
        times[24], times[43], times[47]
    ));
    let distinct: BTreeSet<Ipv4Addr> = leases.iter().map(|lease| lease.address).collect();
    assert_eq!(distinct.len(), leases.len());
    let policies = Instant::now();
    std::thread::scope(|scope| {
        for lease in &leases[..50] {
            scope.spawn(|| network.set_policy(lease.address, &Egress::none()).expect("policy"));
        }
    });
    say(&format!("50 policy changes at once: {:?}", policies.elapsed()));
    let ended = Instant::now();
    for lease in leases {
        network.release(lease);
    }
    network.sweep().expect("sweep");
    say(&format!("312 releases: {:?}", ended.elapsed()));
    network.destroy().expect("destroy");
    say(&format!("destroy: {:?}", ended.elapsed()));
}
