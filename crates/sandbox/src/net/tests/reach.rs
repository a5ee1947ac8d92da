//! Who reaches whom.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use super::world::{self, FAR, HOST, Host, MTU, PATIENCE, RESOLVER, ask_udp, connect, output, seen_as, within};
use crate::net::{Cidr, Egress, Icmp, MAX_CONNECTIONS, Network, Ports, Protocol, Rule, host};

/// A refusal must be an answer, not a silence that the app has to wait out.
const PROMPT: Duration = Duration::from_secs(2);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Ten times in a row, as refusals that the kernel rates would dry up.
fn refused_often(what: &str, lease: &crate::net::Lease, to: (Ipv4Addr, u16)) {
    for _ in 0..10 {
        refused(what, || connect(lease, to));
    }
}

fn refused<T: std::fmt::Debug>(what: &str, attempt: impl FnOnce() -> std::io::Result<T>) {
    let start = Instant::now();
    let error = attempt().expect_err(what);
    assert!(
        start.elapsed() < PROMPT,
        "{what}: {error} only after {:?}",
        start.elapsed()
    );
}

fn block(text: &str) -> Cidr {
    text.parse().expect(text)
}

#[test]
fn the_world_is_reached_through_the_hosts_address_and_mtu() {
    let host = Host::enter("world");
    host.serve(8080);
    host.echo_dns();
    let network = Network::open(host.config()).expect("open");
    assert_eq!(network.uplink(), "up0");
    let lease = network.lease().expect("lease");
    assert_eq!(seen_as(&lease, (FAR, 8080)).expect("reachable"), HOST);
    assert_eq!(ask_udp(&lease, (RESOLVER, 53)).expect("answer"), 8);
    let links = within(&lease.netns, || output("ip", &["-o", "link"]));
    assert!(
        links.contains("eth0") && links.contains(&format!("mtu {MTU} ")),
        "{links}"
    );
    let inside = within(&lease.netns, || output("ip", &["-6", "addr"]));
    assert_eq!(inside.trim(), "", "no IPv6 inside");
    let host_side = output("ip", &["-6", "-o", "addr"]);
    assert!(!host_side.contains("paastst"), "nor on the host's ends: {host_side}");
    network.destroy().expect("destroy");
}

#[test]
fn a_resolver_on_the_host_itself_is_reachable_and_nothing_else_there() {
    let host = Host::enter("resolver");
    let socket = UdpSocket::bind((HOST, 53)).expect("bind");
    let _other = TcpListener::bind((HOST, 54)).expect("bind");
    let mut config = host.config();
    config.resolvers = vec![HOST];
    config.default_policy = Egress::none();
    let network = Network::open(config).expect("open");
    let lease = network.lease().expect("lease");
    let server = std::thread::spawn(move || {
        let mut packet = [0; 64];
        let (length, from) = socket.recv_from(&mut packet).expect("question");
        socket.send_to(&packet[..length], from).expect("answer");
    });
    assert_eq!(ask_udp(&lease, (HOST, 53)).expect("answer"), 8);
    server.join().expect("answered");
    refused("another port", || connect(&lease, (HOST, 54)));
    network.destroy().expect("destroy");
}

#[test]
fn a_name_resolves_and_a_package_registry_answers_over_tls() {
    let machine_registry = output("npm", &["config", "get", "registry"]);
    let Some(url) = machine_registry.lines().rev().find(|line| line.starts_with("https://")) else {
        world::say("skipped: npm names no https registry on this machine");
        return;
    };
    let curl = [
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}/%{ssl_verify_result}",
        "--max-time",
        "30",
        url,
    ];
    if output("curl", &curl) != "200/0" {
        world::say("skipped: this machine itself does not reach its registry");
        return;
    }
    let host = Host::enter("registry");
    host.relay_tcp(443);
    let mut config = host.config();
    config.resolvers = host::resolvers().expect("the machine's resolvers");
    for resolver in &config.resolvers {
        host.relay_dns(*resolver);
    }
    let network = Network::open(config).expect("open");
    let lease = network.lease().expect("lease");
    assert_eq!(within(&lease.netns, || output("curl", &curl)), "200/0");
    network.set_policy(lease.address, &Egress::none()).expect("policy");
    let cut_off = within(&lease.netns, || output("curl", &curl));
    assert!(
        cut_off.contains("connect"),
        "a name resolves still, but nothing answers: {cut_off}"
    );
    network.destroy().expect("destroy");
}

#[test]
fn nothing_of_the_host_is_reachable_but_the_host_reaches_the_sandbox() {
    let host = Host::enter("host");
    host.serve(8080);
    let network = Network::open(host.config()).expect("open");
    let lease = network.lease().expect("lease");
    let service = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 7000)).expect("bind");
    let datagrams = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7000)).expect("bind");
    for address in [network.gateway(), HOST] {
        TcpStream::connect((address, 7000)).expect("the service is there");
        refused_often("service of the host", &lease, (address, 7000));
        refused("closed port of the host", || connect(&lease, (address, 7001)));
        refused("datagram service of the host", || ask_udp(&lease, (address, 7000)));
    }
    datagrams.set_nonblocking(true).expect("set");
    assert!(datagrams.recv(&mut [0; 64]).is_err(), "no datagram came through");
    drop(service);

    let app = within(&lease.netns, || {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).expect("bind")
    });
    let mut caller = TcpStream::connect_timeout(&(lease.address, 8080).into(), PATIENCE).expect("host to sandbox");
    let (mut served, from) = app.accept().expect("accept");
    assert_eq!(from.ip(), network.gateway());
    served.write_all(b"pong").expect("answer");
    let mut answer = [0; 4];
    caller.read_exact(&mut answer).expect("answer");
    assert_eq!(&answer, b"pong");
    // And nobody from outside does.
    let gateway = HOST;
    within(&host.world, || {
        world::ip(&format!("route add 10.99.0.0/20 via {gateway}\n"))
    });
    let outside = within(&host.world, || {
        TcpStream::connect_timeout(&(lease.address, 8080).into(), Duration::from_millis(300))
    });
    assert!(outside.is_err(), "the world does not reach a sandbox");
    network.destroy().expect("destroy");
}

#[test]
fn only_callers_that_are_named_reach_a_sandbox_from_elsewhere() {
    let host = Host::enter("callers");
    within(&host.world, || {
        world::ip(&format!("route add 10.99.0.0/20 via {HOST}\n"))
    });
    let caller = Ipv4Addr::new(198, 51, 100, 1);
    for callers in [vec![], vec![block("198.51.100.0/24")]] {
        let named = !callers.is_empty();
        let mut config = host.config();
        config.default_policy = Egress::none();
        config.callers = callers;
        let network = Network::open(config).expect("open");
        let lease = network.lease().expect("lease");
        let app = within(&lease.netns, || {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).expect("bind")
        });
        let called = within(&host.world, || {
            TcpStream::connect_timeout(&(lease.address, 8080).into(), Duration::from_millis(500))
        });
        assert_eq!(called.is_ok(), named, "{called:?}");
        if let Ok(mut called) = called {
            let (mut served, from) = app.accept().expect("accept");
            assert_eq!(from.ip(), caller);
            served.write_all(b"pong").expect("answer");
            let mut answer = [0; 4];
            called.read_exact(&mut answer).expect("answer");
        }
        refused("to answer is not to call", || connect(&lease, (caller, 8080)));
        network.destroy().expect("destroy");
    }
}

#[test]
fn neighbours_do_not_see_each_other_and_cannot_pose_as_one_another() {
    let host = Host::enter("neighbour");
    host.serve(8080);
    let network = Network::open(host.config()).expect("open");
    let (one, two) = (network.lease().expect("lease"), network.lease().expect("lease"));
    let _app = within(&two.netns, || {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).expect("bind")
    });
    TcpStream::connect_timeout(&(two.address, 8080).into(), PATIENCE).expect("it is there");
    refused_often("neighbour", &one, (two.address, 8080));
    refused("datagram to a neighbour", || ask_udp(&one, (two.address, 8080)));
    let anything = Egress {
        allow: vec![Rule::all(Cidr::ANY), Rule::all(block("10.99.0.0/20"))],
        deny: vec![],
    };
    network.set_policy(one.address, &anything).expect("policy");
    refused("neighbour, even if a policy allows it", || {
        connect(&one, (two.address, 8080))
    });

    // As root inside, with the neighbour's address: nothing comes out, to nobody.
    within(&one.netns, || {
        world::ip(&format!("addr add {}/32 dev eth0\n", two.address))
    });
    let spoof = |to: (Ipv4Addr, u16)| {
        let from = two.address;
        within(&one.netns, move || {
            let socket = UdpSocket::bind((from, 0)).expect("bind");
            socket.send_to(b"spoof", to).expect("leaves the sandbox's own stack");
        });
    };
    let listener = within(&host.world, || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9000)).expect("bind")
    });
    spoof((FAR, 9000));
    // The same way in its own name, after it: once this is there, the first would be too.
    within(&one.netns, || {
        let own = UdpSocket::bind((one.address, 0)).expect("bind");
        own.send_to(b"honest", (FAR, 9000)).expect("send");
    });
    listener.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut packet = [0; 16];
    let length = listener.recv(&mut packet).expect("the honest one");
    assert_eq!(&packet[..length], b"honest");
    // A direct neighbour entry past the gateway does not help either: ports are isolated, even where the
    // kernel does not show bridged frames to the rules.
    let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
    let mac = crate::net::link::mac_of(two.address)
        .map(|byte| format!("{byte:02x}"))
        .join(":");
    within(&one.netns, || {
        world::ip(&format!(
            "route add {0}/32 dev eth0\nneigh replace {0} lladdr {mac} dev eth0 nud permanent\n",
            two.address
        ));
        world::ip(&format!("addr del {}/32 dev eth0\n", two.address));
    });
    let inbox = within(&two.netns, || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9000)).expect("bind")
    });
    inbox.set_read_timeout(Some(PATIENCE)).expect("set");
    let send = |text: &[u8]| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.send_to(text, (two.address, 9000));
    within(&one.netns, || send(b"direct").expect("leaves the sandbox's own stack"));
    send(b"host").expect("send");
    let length = inbox.recv(&mut packet).expect("the host's");
    assert_eq!(&packet[..length], b"host", "frames between ports are not forwarded");
    assert_eq!(seen_as(&two, (FAR, 8080)).expect("undisturbed"), HOST);
    network.destroy().expect("destroy");
}

#[test]
fn metadata_and_multicast_are_closed_to_all_but_a_rule_that_names_them() {
    let host = Host::enter("metadata");
    host.serve(80);
    let network = Network::open(host.config()).expect("open");
    let lease = network.lease().expect("lease");
    assert_eq!(
        seen_as(&lease, (FAR, 80)).expect("the world listens on every address"),
        HOST
    );
    refused("metadata service", || connect(&lease, (METADATA, 80)));
    let wide = Egress {
        allow: vec![Rule::all(Cidr::ANY)],
        deny: vec![],
    };
    network.set_policy(lease.address, &wide).expect("policy");
    refused("metadata service under a wide policy", || {
        connect(&lease, (METADATA, 80))
    });
    let named = Rule::tcp(block("169.254.169.254/32"), [80.into()]);
    network
        .set_policy(
            lease.address,
            &Egress {
                allow: vec![named],
                deny: vec![],
            },
        )
        .expect("policy");
    assert_eq!(seen_as(&lease, (METADATA, 80)).expect("an operator opened it"), HOST);
    refused("anything else", || connect(&lease, (FAR, 80)));
    network.destroy().expect("destroy");
}

#[test]
fn a_policy_changes_under_a_running_sandbox_and_ends_what_it_forbids() {
    let host = Host::enter("policy");
    host.serve(8080);
    host.serve(9090);
    host.echo_dns();
    let network = Network::open(host.config()).expect("open");
    let lease = network.lease().expect("lease");
    let other = network.lease().expect("lease");
    let mut open = connect(&lease, (FAR, 8080)).expect("public");
    let mut octets = [0; 4];
    open.read_exact(&mut octets).expect("greeting");

    let only_9090 = Rule::tcp(
        block("203.0.113.0/24"),
        [Ports {
            first: 9000,
            last: 9099,
        }],
    );
    let narrow = Egress {
        allow: vec![only_9090],
        deny: vec![],
    };
    network.set_policy(lease.address, &narrow).expect("policy");
    refused("port 8080", || connect(&lease, (FAR, 8080)));
    seen_as(&lease, (FAR, 9090)).expect("port 9090");
    refused("another block", || connect(&lease, (Ipv4Addr::new(192, 0, 2, 1), 9090)));
    refused("the open connection", || {
        open.write_all(b"x")?;
        open.read_exact(&mut [0])
    });
    assert_eq!(
        ask_udp(&lease, (RESOLVER, 53)).expect("names resolve under every policy"),
        8
    );
    seen_as(&other, (FAR, 8080)).expect("the neighbour is as free as before");

    let deny = Egress {
        deny: vec![Rule::all(block("203.0.113.80/32"))],
        ..Egress::public()
    };
    network.set_policy(lease.address, &deny).expect("policy");
    refused("denied before allowed", || connect(&lease, (FAR, 9090)));
    network.set_policy(lease.address, &Egress::public()).expect("policy");
    seen_as(&lease, (FAR, 8080)).expect("free again");
    let stranger = network
        .set_policy(Ipv4Addr::new(10, 99, 9, 9), &deny)
        .expect_err("nobody's")
        .to_string();
    assert!(stranger.contains("10.99.9.9"), "{stranger}");
    let rules = output("nft", &["list", "chains"]);
    assert_eq!(
        rules.matches("chain egress-").count(),
        1,
        "unused policies are gone: {rules}"
    );
    network.destroy().expect("destroy");
}

#[test]
fn a_change_ends_what_it_forbids_from_outside_too_and_nothing_else() {
    let host = Host::enter("ended");
    host.serve(8080);
    host.serve(9090);
    let network = Network::open(host.config()).expect("open");
    let lease = network.lease().expect("lease");
    let mut stays = connect(&lease, (FAR, 9090)).expect("public");
    stays.read_exact(&mut [0; 4]).expect("greeting");
    // A stream of datagrams that the sandbox only asked for once.
    let far = within(&host.world, || {
        // The answers have to come from where the question went.
        world::ip(&format!("addr add {FAR}/32 dev lo\n"));
        UdpSocket::bind((FAR, 9000)).expect("bind")
    });
    let app = within(&lease.netns, || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7000)).expect("bind")
    });
    app.set_read_timeout(Some(PATIENCE)).expect("set");
    app.send_to(b"more", (FAR, 9000)).expect("ask");
    let mut packet = [0; 16];
    let (_, caller) = far.recv_from(&mut packet).expect("asked");
    far.send_to(b"before", caller).expect("send");
    assert_eq!(app.recv(&mut packet).expect("flows"), 6);

    let groups = [vec![Rule::tcp(block("203.0.113.0/24"), [9090.into()])], vec![]];
    let policy = Egress::together(groups.iter().map(Vec::as_slice));
    network.set_policy(lease.address, &policy).expect("policy");
    far.send_to(b"after it", caller).expect("send");
    stays.write_all(b"x").expect("allowed still");
    stays.read_exact(&mut [0]).expect("the same connection goes on");
    // What the host sends arrives after what the world sent before it.
    let honest = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
    honest.send_to(b"host", (lease.address, 7000)).expect("send");
    let length = app.recv(&mut packet).expect("the host's");
    assert_eq!(
        &packet[..length],
        b"host",
        "nothing came of the flow that is forbidden now"
    );
    network.destroy().expect("destroy");
}

#[test]
fn icmp_is_allowed_by_type_and_what_is_to_be_counted_is() {
    let host = Host::enter("icmp");
    host.serve(8080);
    let network = Network::open(host.config()).expect("open");
    let lease = network.lease().expect("lease");
    let answers = || world::ping(&lease, FAR).is_ok();
    assert!(answers());
    let icmp = |kind| Rule {
        icmp: Some(Icmp { kind, code: None }),
        ..Rule::of(Cidr::ANY, Protocol::Icmp)
    };
    let told = Rule {
        log: true,
        ..Rule::tcp(Cidr::ANY, [8080.into()])
    };
    let allow = |rules: Vec<Rule>| Egress::together([rules.as_slice()]);
    network
        .set_policy(lease.address, &allow(vec![icmp(13)]))
        .expect("policy");
    assert!(!answers(), "another type");
    network
        .set_policy(lease.address, &allow(vec![icmp(8), told]))
        .expect("policy");
    assert!(answers(), "echo requests");
    assert_eq!(network.counted(lease.address).expect("read")[0].packets, 0);
    seen_as(&lease, (FAR, 8080)).expect("allowed");
    assert!(network.counted(lease.address).expect("read")[0].packets >= 3);
    network.destroy().expect("destroy");
}

#[test]
fn networks_that_the_host_is_attached_to_are_opened_by_name_only() {
    let host = Host::enter("attached");
    host.serve(8080);
    let network = Network::open(host.config()).expect("open");
    let lease = network.lease().expect("lease");
    // The world's own address on the uplink: another machine beside this one.
    let beside = Ipv4Addr::new(198, 51, 100, 1);
    seen_as(&lease, (FAR, 8080)).expect("far away");
    refused("a machine beside the host", || connect(&lease, (beside, 8080)));
    let named = Rule::tcp(block("198.51.100.1/32"), [8080.into()]);
    network
        .set_policy(lease.address, &Egress::together([[named].as_slice()]))
        .expect("policy");
    assert_eq!(seen_as(&lease, (beside, 8080)).expect("named"), HOST);
    network.destroy().expect("destroy");
}

#[test]
fn one_sandbox_cannot_use_up_the_connections_of_all() {
    let host = Host::enter("connections");
    host.serve(8080);
    let network = Network::open(host.config()).expect("open");
    let (greedy, modest) = (network.lease().expect("lease"), network.lease().expect("lease"));
    within(&greedy.netns, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
        for port in 10_000..10_100 + u16::try_from(MAX_CONNECTIONS).expect("fits") {
            // Refusals arrive as errors of later sends.
            let _ = socket.send_to(b"x", (FAR, port));
        }
    });
    refused("one more", || connect(&greedy, (FAR, 8080)));
    assert_eq!(
        seen_as(&modest, (FAR, 8080)).expect("the neighbour is not affected"),
        HOST
    );
    network.destroy().expect("destroy");
}
