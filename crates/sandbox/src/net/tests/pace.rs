//! How fast a sandbox may talk, measured from inside, while its neighbour is as fast as ever.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use super::world::{FAR, Host, PATIENCE, connect, say, seen_as, within};
use crate::net::{Lease, Network, NetworkConfig, Rates};

/// The first part of a measurement, in which queues fill, and the rest, which counts.
const WARM: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_millis(1200);
/// What a figure may be off by.
const FACTOR: f64 = 1.5;
const MIB: u64 = 1 << 20;

/// Bytes per second that come out of a connection whose other end never stops.
fn speed(mut stream: &TcpStream) -> f64 {
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut buffer = vec![0; 256 << 10];
    let begin = Instant::now();
    let mut counted = 0;
    loop {
        let length = stream.read(&mut buffer).expect("more comes");
        if begin.elapsed() > WARM {
            counted += length;
        }
        if begin.elapsed() > WARM + MEASURED {
            return counted as f64 / (begin.elapsed() - WARM).as_secs_f64();
        }
    }
}

/// Writes until the other end has heard enough.
fn pour(mut stream: TcpStream) {
    std::thread::spawn(move || {
        let bytes = vec![7; 256 << 10];
        while stream.write_all(&bytes).is_ok() {}
    });
}

/// A connection from a sandbox to the world: its end, then the world's.
fn connection(host: &Host, lease: &Lease, port: u16) -> (TcpStream, TcpStream) {
    let listener = within(&host.world, || {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("bind")
    });
    let inside = connect(lease, (FAR, port)).expect("connect");
    (inside, listener.accept().expect("accept").0)
}

fn roughly(what: &str, measured: f64, wanted: u64) {
    say(&format!("{what}: {measured:.0} bytes/s of {wanted}"));
    let ratio = measured / wanted as f64;
    assert!(
        (1.0 / FACTOR..FACTOR).contains(&ratio),
        "{what}: {measured:.0} bytes/s, not {wanted}"
    );
}

#[test]
fn bandwidth_is_held_each_way_and_the_neighbour_does_not_feel_it() {
    let host = Host::enter("bandwidth");
    let network = Network::open(host.config()).expect("open");
    let (slow, quick) = (network.lease().expect("lease"), network.lease().expect("lease"));
    let rates = |bytes_in, bytes_out| Rates {
        bytes_in,
        bytes_out,
        ..Rates::default()
    };
    network
        .set_rates(&slow, &rates(Some(MIB / 2), Some(MIB)))
        .expect("limited");
    let (inside, outside) = connection(&host, &slow, 9001);
    let (inside_too, outside_too) = connection(&host, &slow, 9002);
    let (neighbour, its_peer) = connection(&host, &quick, 9003);
    pour(inside.try_clone().expect("clone"));
    pour(outside_too);
    pour(neighbour);
    let (out, into, free) = std::thread::scope(|scope| {
        let out = scope.spawn(|| speed(&outside));
        let into = scope.spawn(|| speed(&inside_too));
        let free = scope.spawn(|| speed(&its_peer));
        let join = |thread: std::thread::ScopedJoinHandle<'_, f64>| thread.join().expect("measured");
        (join(out), join(into), join(free))
    });
    roughly("out", out, MIB);
    roughly("in", into, MIB / 2);
    say(&format!("neighbour: {free:.0} bytes/s"));
    assert!(free > 10.0 * MIB as f64, "the neighbour has {free:.0} bytes/s");

    network.set_rates(&slow, &rates(None, Some(4 * MIB))).expect("changed");
    roughly("out, on the same connection", speed(&outside), 4 * MIB);
    network.set_rates(&slow, &Rates::default()).expect("free");
    let freed = speed(&outside);
    assert!(
        freed > 10.0 * MIB as f64,
        "not limited any more, but {freed:.0} bytes/s"
    );
    let refused = network
        .set_rates(&slow, &rates(Some(1), None))
        .expect_err("too slow")
        .to_string();
    assert!(refused.contains("bandwidth"), "{refused}");
    network.destroy().expect("destroy");
}

#[test]
fn packets_per_second_are_held() {
    const RATE: u32 = 200;
    let host = Host::enter("packets");
    let network = Network::open(host.config()).expect("open");
    let (noisy, calm) = (network.lease().expect("lease"), network.lease().expect("lease"));
    let rates = Rates {
        packets_out: Some(RATE),
        ..Rates::default()
    };
    network.set_rates(&noisy, &rates).expect("limited");
    let world = within(&host.world, || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9000)).expect("bind")
    });
    world.set_read_timeout(Some(PATIENCE)).expect("set");
    // Counted while it comes: the socket holds few.
    let counting = std::thread::spawn(move || {
        let (mut noise, mut packet) = (0u32, [0; 8]);
        while world.recv(&mut packet).is_ok_and(|_| &packet[..5] != b"calm!") {
            noise += 1;
        }
        noise
    });
    let begin = Instant::now();
    within(&noisy.netns, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
        while begin.elapsed() < MEASURED {
            let _ = socket.send_to(b"noise", (FAR, 9000));
            std::thread::yield_now();
        }
    });
    let seconds = begin.elapsed().as_secs_f64();
    within(&calm.netns, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
        socket.send_to(b"calm!", (FAR, 9000)).expect("send");
    });
    let noise = counting.join().expect("counted");
    let wanted = f64::from(RATE) * (seconds + 1.0);
    say(&format!("{noise} packets in {seconds:.2} s, at most {wanted:.0}"));
    let ratio = f64::from(noise) / wanted;
    assert!(
        (1.0 / FACTOR..FACTOR).contains(&ratio),
        "{noise} packets in {seconds} s"
    );
    network.destroy().expect("destroy");
}

#[test]
fn new_connections_per_second_and_at_once_are_held() {
    let host = Host::enter("connects");
    host.serve(8080);
    let network = Network::open(host.config()).expect("open");
    let (eager, calm) = (network.lease().expect("lease"), network.lease().expect("lease"));
    let rates = Rates {
        connections_per_second: Some(10),
        ..Rates::default()
    };
    network.set_rates(&eager, &rates).expect("limited");
    let begin = Instant::now();
    let made = (0..60).filter(|_| connect(&eager, (FAR, 8080)).is_ok()).count();
    let most = 10.0 * (begin.elapsed().as_secs_f64() + 1.0) * FACTOR;
    assert!(made >= 10 && (made as f64) < most, "{made} of at most {most:.1}");
    for _ in 0..20 {
        seen_as(&calm, (FAR, 8080)).expect("the neighbour connects as it likes");
    }

    let at_once = |count| Rates {
        connections: Some(count),
        ..Rates::default()
    };
    network.set_rates(&eager, &at_once(4)).expect("limited");
    let mut open: Vec<TcpStream> = (0..4)
        .map(|_| connect(&eager, (FAR, 8080)).expect("one of four"))
        .collect();
    connect(&eager, (FAR, 8080)).expect_err("the fifth");
    drop(open.pop());
    let begin = Instant::now();
    open.push(loop {
        match connect(&eager, (FAR, 8080)) {
            Ok(stream) => break stream,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "one was closed, but {error}"),
        }
    });
    network.set_rates(&eager, &Rates::default()).expect("free");
    open.extend((0..8).map(|_| connect(&eager, (FAR, 8080)).expect("any number")));
    network.destroy().expect("destroy");
}

#[test]
fn the_limits_of_a_network_hold_from_the_lease_on_and_after_an_adoption() {
    let host = Host::enter("paced");
    let paced = |rates| NetworkConfig { rates, ..host.config() };
    let limits = Rates {
        bytes_out: Some(MIB),
        connections: Some(3),
        ..Rates::default()
    };
    let network = Network::open(paced(Some(limits))).expect("open");
    let lease = network.lease().expect("lease");
    let sent = |lease: &Lease, port| {
        let (inside, outside) = connection(&host, lease, port);
        pour(inside);
        speed(&outside)
    };
    roughly("from the lease on", sent(&lease, 9001), MIB);
    let (address, id) = (lease.address, lease.id.clone());
    let copy = || lease.netns.try_clone().expect("clone");
    network.close().expect("close");
    // Whatever was set meanwhile, and whoever held it.
    let lower = Rates {
        bytes_out: Some(MIB / 4),
        ..limits
    };
    let network = Network::open(paced(Some(lower))).expect("open again");
    let adopted = network.adopt(&id, address, copy()).expect("adopt");
    assert_eq!(adopted.under, None);
    roughly("after an adoption", sent(&adopted, 9002), MIB / 4);
    host.serve(8080);
    let mut held: Vec<TcpStream> = Vec::new();
    let refused = (0..6).find(|_| match connect(&adopted, (FAR, 8080)) {
        Ok(stream) => {
            held.push(stream);
            false
        }
        Err(_) => true,
    });
    assert!(refused.is_some(), "as many connections as it likes");
    drop(held);
    network.close().expect("close");
    let network = Network::open(paced(Some(Rates::default()))).expect("open once more");
    let adopted = network.adopt(&id, address, copy()).expect("adopt");
    assert!(sent(&adopted, 9003) > 4.0 * MIB as f64, "no limits any more");
    network.destroy().expect("destroy");
}
