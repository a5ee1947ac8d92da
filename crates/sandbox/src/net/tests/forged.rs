//! What a sandbox sends under another's name, with more rights than it ever has: as root of its own namespace, frame by
//! frame.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::world::{self, FAR, Host, PATIENCE, output, within};
use crate::net::{
    Lease, Network,
    link::{self, mac_of},
    netlink::Socket,
};

/// Where everything is sent to.
const PORT: u16 = 9000;
const BROADCAST: [u8; 6] = [0xff; 6];

/// Sends one frame as it is from `eth0` of a sandbox.
fn send_frame(lease: &Lease, frame: &[u8]) {
    within(&lease.netns, || {
        let every_protocol = libc::c_int::from(u16::to_be(3));
        // SAFETY: makes a descriptor, which is owned from here on.
        let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, every_protocol) };
        assert!(raw >= 0, "{}", io::Error::last_os_error());
        // SAFETY: just made, and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        let mut asking = Socket::open().expect("netlink socket");
        let index = link::interface(&mut asking, "eth0")
            .expect("look up")
            .expect("eth0")
            .index;
        // SAFETY: a structure of numbers, of which zero is a value.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = 17;
        to.sll_ifindex = i32::try_from(index).expect("small");
        let length = u32::try_from(size_of::<libc::sockaddr_ll>()).expect("small");
        // SAFETY: both buffers live during the call and are as long as told.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                length,
            )
        };
        assert_eq!(
            usize::try_from(sent).ok(),
            Some(frame.len()),
            "{}",
            io::Error::last_os_error()
        );
    });
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut total: u32 = words.sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).expect("folded")
}

fn udp(text: &str) -> Vec<u8> {
    let length = u16::try_from(8 + text.len()).expect("short");
    let (port, length) = (PORT.to_be_bytes(), length.to_be_bytes());
    [&port[..], &port, &length, &[0, 0], text.as_bytes()].concat()
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, text: &str) -> Vec<u8> {
    let payload = udp(text);
    let length = u16::try_from(20 + payload.len()).expect("short").to_be_bytes();
    let mut header = [0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, 17, 0, 0].to_vec();
    header.extend(from.octets().iter().chain(&to.octets()));
    let check = sum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&check);
    [header, payload].concat()
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, text: &str) -> Vec<u8> {
    let mut payload = udp(text);
    let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
    let (from, to) = (from.octets(), to.octets());
    let check = sum(&[&from[..], &to, &[0, 0], &length, &[0, 0, 0, 17], &payload].concat());
    payload[6..8].copy_from_slice(&check.to_be_bytes());
    [&[0x60, 0, 0, 0, length[0], length[1], 17, 64][..], &from, &to, &payload].concat()
}

/// An ARP answer that says `whose` is at `from`.
fn arp(from: [u8; 6], whose: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, 2];
    [&fixed[..], &from, &whose.octets(), &BROADCAST, &to.octets()].concat()
}

/// What arrives until the honest last one.
fn until_honest(socket: &UdpSocket) -> Vec<String> {
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut texts = Vec::new();
    let mut packet = [0; 64];
    loop {
        let length = socket.recv(&mut packet).expect("the honest one");
        texts.push(String::from_utf8_lossy(&packet[..length]).into_owned());
        if texts.last().is_some_and(|text| text == "honest") {
            return texts;
        }
    }
}

#[test]
fn forged_frames_reach_nobody() {
    let host = Host::enter("forged");
    let network = Network::open(host.config()).expect("open");
    let (one, two) = (network.lease().expect("lease"), network.lease().expect("lease"));
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("bind");
    let (world, neighbour) = (within(&host.world, bind), within(&two.netns, bind));
    let own_service = bind();
    let neighbours = || output("ip", &["neigh", "show", "dev", &one.host_interface]);
    let before = neighbours();

    let (own, door) = (mac_of(one.address), mac_of(network.gateway()));
    let outside = Ipv4Addr::new(198, 51, 100, 77);
    for (to, from) in [
        (door, own),
        (BROADCAST, own),
        (door, mac_of(two.address)),
        (mac_of(two.address), own),
    ] {
        for source in [
            two.address,
            network.gateway(),
            outside,
            FAR,
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::UNSPECIFIED,
        ] {
            for target in [FAR, two.address, network.gateway()] {
                send_frame(&one, &ethernet(to, from, 0x0800, &ipv4(source, target, "forged")));
            }
        }
        // Its own address does not open the way to a neighbour either, nor does a tag before it.
        send_frame(
            &one,
            &ethernet(to, from, 0x0800, &ipv4(one.address, two.address, "direct")),
        );
        let tagged = [&[0, 1, 8, 0][..], &ipv4(one.address, two.address, "tagged")].concat();
        send_frame(&one, &ethernet(to, from, 0x8100, &tagged));
        for whose in [two.address, network.gateway(), FAR] {
            send_frame(&one, &ethernet(to, from, 0x0806, &arp(own, whose, network.gateway())));
        }
    }
    // The same way in its own name, after them: once this is there, the others would be too.
    send_frame(&one, &ethernet(door, own, 0x0800, &ipv4(one.address, FAR, "honest")));
    assert_eq!(until_honest(&world), ["honest"]);
    let call = |to: Ipv4Addr| bind_any().send_to(b"honest", (to, PORT)).expect("send");
    call(two.address);
    assert_eq!(until_honest(&neighbour), ["honest"]);
    call(network.gateway());
    assert_eq!(until_honest(&own_service), ["honest"]);
    assert!(before.contains("PERMANENT"), "{before}");
    assert_eq!(neighbours(), before, "nobody believed an ARP answer");
    network.destroy().expect("destroy");
}

fn bind_any() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind")
}

#[test]
fn ipv6_leads_nowhere_even_for_who_switches_it_on() {
    let host = Host::enter("ipv6");
    let network = Network::open(host.config()).expect("open");
    let (one, two) = (network.lease().expect("lease"), network.lease().expect("lease"));
    let service = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT)).expect("bind");
    let switch_on = || {
        for part in ["all", "default", "eth0"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{part}/disable_ipv6"), "0").expect("root may");
        }
        world::ip("addr add fd00::2/64 dev eth0 nodad\n");
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT)).expect("bind")
    };
    let neighbour = within(&two.netns, switch_on);
    drop(within(&one.netns, switch_on));
    // An address of the host that is certain to be there.
    world::ip("addr add fd00::1/64 dev up0 nodad\n");
    let (own, door) = (mac_of(one.address), mac_of(network.gateway()));
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let multicast = [0x33, 0x33, 0, 0, 0, 1];
    let from: Ipv6Addr = "fd00::2".parse().expect("address");
    for (mac, to) in [
        (door, "fd00::1".parse().expect("address")),
        (multicast, all_nodes),
        (mac_of(two.address), "fd00::2".parse().expect("address")),
    ] {
        send_frame(&one, &ethernet(mac, own, 0x86dd, &ipv6(from, to, "forged")));
    }
    let honest = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).expect("bind");
    honest.send_to(b"honest", (Ipv6Addr::LOCALHOST, PORT)).expect("send");
    assert_eq!(until_honest(&service), ["honest"]);
    within(&two.netns, || {
        let caller = bind_any();
        caller.send_to(b"honest", (two.address, PORT)).expect("send");
    });
    assert_eq!(until_honest(&neighbour), ["honest"]);
    assert!(
        !output("ip", &["-6", "-o", "addr"]).contains("paastst"),
        "nor on the host's ends"
    );
    network.destroy().expect("destroy");
}
