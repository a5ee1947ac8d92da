//! Rules that tell, and the policy that leases begin under.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::world::{self, FAR, Host, PATIENCE, connect, seen_as};
use crate::net::{Cidr, Egress, Network, Protocol, Rule, RuleLog, Told};

/// What is told until something is told of `port`.
fn until_port(log: &mut RuleLog, port: u16) -> Vec<Told> {
    let begun = Instant::now();
    let mut all = Vec::new();
    while begun.elapsed() < PATIENCE {
        all.extend(log.read(Duration::from_millis(200)).expect("read").told);
        if all.iter().any(|told| told.ports.is_some_and(|(_, to)| to == port)) {
            return all;
        }
    }
    panic!("nothing was told of port {port}: {all:?}");
}

#[test]
fn rules_that_tell_tell_of_connections_once_and_of_nothing_else() {
    let host = Host::enter("told");
    for port in [8080, 8081, 8082] {
        host.serve(port);
    }
    let network = Network::open(host.config()).expect("open");
    let lease = network.lease().expect("lease");
    let mut log = network.rule_log().expect("open the log");
    let another = network.rule_log().expect_err("one reader at a time").to_string();
    assert!(another.contains("packet log"), "{another}");
    let told = |port: u16| Rule {
        log: true,
        ..Rule::tcp(Cidr::ANY, [port.into()])
    };
    let ping = Rule {
        log: true,
        ..Rule::of(Cidr::ANY, Protocol::Icmp)
    };
    let silent = Rule::tcp(Cidr::ANY, [8081.into()]);
    let rules = [told(8080), silent, told(8082), ping];
    let policy = Egress::together([rules.as_slice()]);
    network.set_policy(lease.address, &policy).expect("policy");
    for port in [8080, 8081] {
        seen_as(&lease, (FAR, port)).expect("allowed");
    }
    connect(&lease, (FAR, 9999)).expect_err("refused, and nobody is told");
    world::ping(&lease, FAR).expect("allowed");
    seen_as(&lease, (FAR, 8082)).expect("allowed");
    let all = until_port(&mut log, 8082);
    let ports: Vec<u16> = all.iter().filter_map(|told| Some(told.ports?.1)).collect();
    assert_eq!(ports, [8080, 8082]);
    assert!(all.iter().any(|told| told.icmp == Some((8, 0))), "{all:?}");
    assert!(
        all.iter()
            .all(|told| (told.source, told.destination) == (lease.address, FAR))
    );
    network.destroy().expect("destroy");
}

#[test]
fn a_flood_of_connections_is_told_of_within_bounds() {
    let host = Host::enter("flood");
    let network = Network::open(host.config()).expect("open");
    let lease = network.lease().expect("lease");
    let mut log = network.rule_log().expect("open the log");
    let rule = Rule {
        log: true,
        ..Rule::of(Cidr::ANY, Protocol::Udp)
    };
    let policy = Egress::together([[rule].as_slice()]);
    network.set_policy(lease.address, &policy).expect("policy");
    world::within(&lease.netns, || {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
        for port in 10_000..12_000 {
            let _ = socket.send_to(b"x", (FAR, port));
        }
    });
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < Duration::from_millis(600) {
        count += log.read(Duration::from_millis(100)).expect("read").told.len();
    }
    let most = crate::net::LOG_BURST + 2 * crate::net::LOG_RATE;
    assert!((1..=most as usize).contains(&count), "{count} of 2000, at most {most}");
    network.destroy().expect("destroy");
}

#[test]
fn leases_begin_under_the_policy_that_was_set_for_them() {
    let host = Host::enter("begin");
    host.serve(8080);
    let network = Network::open(host.config()).expect("open");
    let before = network.lease().expect("lease");
    let closed = Egress::together([[Rule::tcp(Cidr::ANY, [9.into()])].as_slice()]);
    network.set_default_policy(&closed).expect("set");
    // More than were ready.
    let after: Vec<_> = (0..5).map(|_| network.lease().expect("lease")).collect();
    for lease in &after {
        assert_eq!(lease.under.as_deref(), Some(&closed));
        connect(lease, (FAR, 8080)).expect_err("closed");
    }
    seen_as(&before, (FAR, 8080)).expect("what there is keeps its policy");
    let open = network.lease_with(&Egress::public()).expect("lease");
    seen_as(&open, (FAR, 8080)).expect("its own policy");
    let wide = Egress::together([[Rule::all(Cidr::ANY)].as_slice()]);
    network.set_default_policy(&wide).expect("set");
    seen_as(&network.lease().expect("lease"), (FAR, 8080)).expect("opened");
    network.destroy().expect("destroy");
}
