//! Interfaces, addresses, routes and neighbours: what this module asks of the kernel through netlink.
//! Which of them exist, and when, is decided elsewhere.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, BorrowedFd},
};

use super::{
    error::{Error, Result},
    netlink::{Attributes, CREATE, Message, REPLACE, Socket, attributes, read_u32},
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;

const AF_INET: u8 = 2;
const AF_INET6: u16 = 10;
const IFF_UP: u32 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;

const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const BRIDGE_STP_STATE: u16 = 5;
const BRIDGE_MULTICAST_SNOOPING: u16 = 23;
/// `IFLA_INET_CONF`: settings of the interface as attributes numbered as below.
const INET_CONF: u16 = 1;
/// Number and value of what every port is set to: packets are forwarded; a source that the route back does not
/// lead to is refused, whatever the rules say; no redirects either way; no answer to ARP, as every neighbour is fixed.
const PORT_SETTINGS: [(u16, u32); 5] = [(1, 1), (8, 1), (4, 0), (6, 0), (19, 8)];
const INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;

const NUD_PERMANENT: u16 = 0x80;

/// Marks interfaces that are about to be deleted together.
const DOOMED_GROUP: u32 = 0x7061_6173;

/// Name of the interface inside every sandbox.
pub(super) const INNER_NAME: &str = "eth0";

/// A hardware address.
pub(super) type Mac = [u8; 6];

/// The hardware address that belongs to `address` here: locally administered, so no neighbour discovery
/// is needed on either side, and none is let through.
pub(super) fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, 0x50, a, b, c, d]
}

/// An interface as the kernel lists it.
#[derive(Debug, Clone, Default)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) alias: String,
    pub(super) kind: String,
    pub(super) mtu: u32,
}

/// One sandbox's connection to the host.
#[derive(Debug, Clone)]
pub(super) struct Port<'a> {
    pub(super) interface: &'a str,
    pub(super) address: Ipv4Addr,
    pub(super) gateway: Ipv4Addr,
    pub(super) mtu: u32,
    pub(super) ipv6: bool,
}

fn netlink(operation: &'static str, target: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let target = target.into();
    move |source| Error::Netlink {
        operation,
        target,
        source,
    }
}

/// `struct ifinfomsg`
fn link_header(family: u8, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

/// `struct ndmsg`
fn neighbour_header(index: u32, state: u16) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = AF_INET;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`
fn address_header(prefix: u8, index: u32) -> [u8; 8] {
    let mut header = [AF_INET, prefix, 0, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    header
}

fn up(index: u32, name: Option<&str>) -> Message {
    Message::new(RTM_NEWLINK, 0, &link_header(0, index, IFF_UP, IFF_UP), |a| {
        if let Some(name) = name {
            a.text(IFLA_IFNAME, name);
        }
    })
}

fn add_address(index: u32, address: Ipv4Addr, prefix: u8) -> Message {
    Message::new(RTM_NEWADDR, REPLACE, &address_header(prefix, index), |a| {
        a.bytes(2, &address.octets()).bytes(1, &address.octets());
    })
}

fn permanent_neighbour(index: u32, address: Ipv4Addr) -> Message {
    let header = neighbour_header(index, NUD_PERMANENT);
    Message::new(RTM_NEWNEIGH, REPLACE, &header, |a| {
        a.bytes(1, &address.octets()).bytes(2, &mac_of(address));
    })
}

fn parse_interface(body: &[u8]) -> Interface {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    let mut interface = Interface {
        index: read_u32(body.get(4..).unwrap_or_default()),
        ..Interface::default()
    };
    for (kind, value) in attributes(body.get(16..).unwrap_or_default()) {
        match kind {
            IFLA_IFNAME => interface.name = text(value),
            IFLA_IFALIAS => interface.alias = text(value),
            IFLA_MTU => interface.mtu = read_u32(value),
            IFLA_LINKINFO => {
                let kind = attributes(value).into_iter().find(|(kind, _)| *kind == INFO_KIND);
                interface.kind = kind.map(|(_, name)| text(name)).unwrap_or_default();
            }
            _ => {}
        }
    }
    interface
}

/// Every interface of the socket's namespace.
pub(super) fn interfaces(socket: &mut Socket) -> Result<Vec<Interface>> {
    let question = Message::new(RTM_GETLINK, 0, &link_header(0, 0, 0, 0), |_| {});
    let answers = socket.dump(&question).map_err(netlink("list", "interfaces"))?;
    Ok(answers
        .iter()
        .filter(|a| a.kind == RTM_NEWLINK)
        .map(|a| parse_interface(&a.body))
        .collect())
}

/// The interface called `name`, if there is one.
pub(super) fn interface(socket: &mut Socket, name: &str) -> Result<Option<Interface>> {
    let question = Message::new(RTM_GETLINK, 0, &link_header(0, 0, 0, 0), |a| {
        a.text(IFLA_IFNAME, name);
    });
    match socket.ask(&question) {
        Ok(answer) => Ok(Some(parse_interface(&answer.body))),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(netlink("look up interface", name)(error)),
    }
}

fn addresses_of(socket: &mut Socket, index: u32) -> Result<Vec<(Ipv4Addr, u8)>> {
    let question = Message::new(RTM_GETADDR, 0, &address_header(0, 0), |_| {});
    let answers = socket.dump(&question).map_err(netlink("list", "addresses"))?;
    let mut found = Vec::new();
    for answer in answers.iter().filter(|a| a.kind == RTM_NEWADDR && a.body.len() >= 8) {
        if answer.body[0] != AF_INET || read_u32(&answer.body[4..]) != index {
            continue;
        }
        for (_, value) in attributes(&answer.body[8..]).into_iter().filter(|(kind, _)| *kind == 2) {
            if let Some(octets) = value.first_chunk::<4>() {
                found.push((Ipv4Addr::from(*octets), answer.body[1]));
            }
        }
    }
    Ok(found)
}

/// Creates the anchor, marked with `alias`: a bridge without ports, which holds the gateway's address. It is down and
/// has no address yet. One that exists is left as it is.
pub(super) fn create_bridge(socket: &mut Socket, name: &str, gateway: Ipv4Addr, alias: &str) -> Result<()> {
    let create = Message::new(RTM_NEWLINK, CREATE, &link_header(0, 0, 0, 0), |a| {
        a.text(IFLA_IFNAME, name)
            .bytes(IFLA_ADDRESS, &mac_of(gateway))
            .nested(IFLA_LINKINFO, &[], |a| {
                a.text(INFO_KIND, "bridge").nested(INFO_DATA, &[], |a| {
                    a.u32(BRIDGE_STP_STATE, 0);
                });
            });
    });
    let mark = Message::new(RTM_NEWLINK, 0, &link_header(0, 0, 0, 0), |a| {
        a.text(IFLA_IFNAME, name).bytes(IFLA_IFALIAS, alias.as_bytes());
    });
    socket
        .execute(&[create, mark])
        .map_err(netlink("create bridge", name))?;
    // Kernels without snooping refuse the attribute; then there is nothing to switch off.
    let quiet = Message::new(RTM_NEWLINK, 0, &link_header(0, 0, 0, 0), |a| {
        a.text(IFLA_IFNAME, name).nested(IFLA_LINKINFO, &[], |a| {
            a.text(INFO_KIND, "bridge").nested(INFO_DATA, &[], |a| {
                a.u8(BRIDGE_MULTICAST_SNOOPING, 0);
            });
        });
    });
    socket
        .execute(&[quiet.tolerate(&[libc::EOPNOTSUPP, libc::EINVAL])])
        .map_err(netlink("configure bridge", name))
}

/// Gives the bridge its address and MTU and brings it up; other IPv4 addresses on it are removed.
pub(super) fn configure_bridge(
    socket: &mut Socket,
    bridge: &Interface,
    gateway: (Ipv4Addr, u8),
    mtu: u32,
) -> Result<()> {
    let mut messages = Vec::new();
    for (address, prefix) in addresses_of(socket, bridge.index)? {
        if (address, prefix) != gateway {
            messages.push(Message::new(
                RTM_DELADDR,
                0,
                &address_header(prefix, bridge.index),
                |a| {
                    a.bytes(2, &address.octets());
                },
            ));
        }
    }
    messages.push(Message::new(RTM_NEWLINK, 0, &link_header(0, bridge.index, 0, 0), |a| {
        a.u32(IFLA_MTU, mtu).bytes(IFLA_ADDRESS, &mac_of(gateway.0));
    }));
    messages.push(add_address(bridge.index, gateway.0, gateway.1));
    messages.push(up(bridge.index, None));
    socket
        .execute(&messages)
        .map_err(netlink("configure bridge", bridge.name.as_str()))
}

/// Creates a veth pair: one end here, the other in `namespace`, both made in place (moving an interface later costs
/// far more). `host` is a socket of the host's namespace.
pub(super) fn create_port(host: &mut Socket, port: &Port<'_>, namespace: BorrowedFd<'_>) -> Result<()> {
    let queues = |a: &mut Attributes| {
        a.u32(IFLA_MTU, port.mtu)
            .u32(IFLA_NUM_TX_QUEUES, 1)
            .u32(IFLA_NUM_RX_QUEUES, 1);
    };
    let create = Message::new(RTM_NEWLINK, CREATE, &link_header(0, 0, 0, 0), |a| {
        a.text(IFLA_IFNAME, port.interface)
            .bytes(IFLA_ADDRESS, &mac_of(port.gateway));
        queues(a);
        a.nested(IFLA_LINKINFO, &[], |a| {
            a.text(INFO_KIND, "veth").nested(INFO_DATA, &[], |a| {
                a.nested(VETH_PEER, &link_header(0, 0, 0, 0), |a| {
                    a.text(IFLA_IFNAME, INNER_NAME)
                        .bytes(IFLA_ADDRESS, &mac_of(port.address));
                    a.u32(IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
                    queues(a);
                });
            });
        });
    });
    let settings = Message::new(RTM_NEWLINK, 0, &link_header(0, 0, 0, 0), |a| {
        a.text(IFLA_IFNAME, port.interface).nested(IFLA_AF_SPEC, &[], |a| {
            a.nested(u16::from(AF_INET), &[], |a| {
                a.nested(INET_CONF, &[], |a| {
                    for (number, value) in PORT_SETTINGS {
                        a.u32(number, value);
                    }
                });
            });
            if port.ipv6 {
                a.nested(AF_INET6, &[], |a| {
                    a.u8(INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE);
                });
            }
        });
    });
    host.execute(&[create, settings, up(0, Some(port.interface))])
        .map_err(netlink("create interface pair", port.interface))?;
    reach_port(host, port.interface, port.address, port.gateway)
}

/// Makes the host find a sandbox behind its interface, and answer as the gateway.
pub(super) fn reach_port(host: &mut Socket, name: &str, address: Ipv4Addr, gateway: Ipv4Addr) -> Result<()> {
    let Some(port) = interface(host, name)? else {
        return Err(netlink("find the interface", name)(io::ErrorKind::NotFound.into()));
    };
    let route = Message::new(RTM_NEWROUTE, REPLACE, &route_to_port(), |a| {
        a.bytes(1, &address.octets())
            .u32(4, port.index)
            .bytes(7, &gateway.octets());
    });
    host.execute(&[permanent_neighbour(port.index, address), route])
        .map_err(netlink("make reachable", name))
}

/// `struct rtmsg` of the route to one address: main table, boot protocol, link scope, unicast.
fn route_to_port() -> [u8; 12] {
    [AF_INET, 32, 0, 0, 254, 3, 253, 1, 0, 0, 0, 0]
}

/// Brings up loopback and the inner end: address, the gateway as a fixed neighbour, and the default route.
/// Everything goes through the gateway, other sandboxes too, so the host's rules see all of it.
pub(super) fn configure_inside(inside: &mut Socket, address: Ipv4Addr, gateway: Ipv4Addr) -> Result<()> {
    let Some(inner) = interface(inside, INNER_NAME)? else {
        return Err(netlink("find inside the sandbox", INNER_NAME)(
            io::ErrorKind::NotFound.into(),
        ));
    };
    let messages = [
        up(0, Some("lo")),
        add_address(inner.index, address, 32),
        up(inner.index, None),
        permanent_neighbour(inner.index, gateway),
        route_by(inner.index, gateway),
    ];
    inside
        .execute(&messages)
        .map_err(netlink("configure the sandbox side of", address.to_string()))
}

/// The default route by `gateway`, which may be in no connected block.
fn route_by(index: u32, gateway: Ipv4Addr) -> Message {
    let mut route = [AF_INET, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
    route[8..].copy_from_slice(&4u32.to_ne_bytes()); // RTNH_F_ONLINK
    Message::new(RTM_NEWROUTE, CREATE, &route, |a| {
        a.bytes(5, &gateway.octets()).u32(4, index);
    })
}

/// Sets the default route of the socket's namespace.
pub(super) fn default_route(socket: &mut Socket, index: u32, gateway: Ipv4Addr) -> Result<()> {
    socket
        .execute(&[route_by(index, gateway)])
        .map_err(netlink("set the default route by", gateway.to_string()))
}

/// Makes the host find nobody at these addresses any more, even where the namespace lives on.
pub(super) fn forget(socket: &mut Socket, addresses: &[Ipv4Addr]) -> Result<()> {
    let forget = |address: &Ipv4Addr| {
        Message::new(RTM_DELROUTE, 0, &route_to_port(), |a| {
            a.bytes(1, &address.octets());
        })
        .tolerate(&[libc::ESRCH, libc::ENODEV])
    };
    for part in addresses.chunks(128) {
        let messages: Vec<Message> = part.iter().map(forget).collect();
        socket
            .execute(&messages)
            .map_err(netlink("forget", "addresses no longer in use"))?;
    }
    Ok(())
}

/// Deletes an interface; one that is gone already is fine.
pub(super) fn delete(socket: &mut Socket, name: &str) -> Result<()> {
    delete_all(socket, &[name.to_owned()])
}

/// Deletes interfaces, all at once, as the kernel waits for every CPU each time: tens of milliseconds. What
/// can go with its namespace should.
pub(super) fn delete_all(socket: &mut Socket, names: &[String]) -> Result<()> {
    for part in names.chunks(128) {
        let mark = |name: &String| {
            let message = Message::new(RTM_NEWLINK, 0, &link_header(0, 0, 0, 0), |a| {
                a.text(IFLA_IFNAME, name).u32(IFLA_GROUP, DOOMED_GROUP);
            });
            message.tolerate(&[libc::ENODEV])
        };
        let messages: Vec<Message> = part.iter().map(mark).collect();
        socket
            .execute(&messages)
            .map_err(netlink("mark for deletion", part.join(", ")))?;
    }
    let message = Message::new(RTM_DELLINK, 0, &link_header(0, 0, 0, 0), |a| {
        a.u32(IFLA_GROUP, DOOMED_GROUP);
    });
    socket
        .execute(&[message.tolerate(&[libc::ENODEV])])
        .map_err(netlink("delete interfaces", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_local_unicast_and_distinct() {
        let mac = mac_of(Ipv4Addr::new(10, 180, 1, 2));
        assert_eq!(mac, [0x02, 0x50, 10, 180, 1, 2]);
        assert_eq!(mac[0] & 3, 2, "locally administered, not multicast");
    }

    #[test]
    fn loopback_is_listed_and_found_by_name() {
        let mut socket = Socket::open().expect("netlink socket");
        let all = interfaces(&mut socket).expect("list");
        let listed = all.iter().find(|i| i.name == "lo").expect("every namespace has lo");
        let found = interface(&mut socket, "lo").expect("look up").expect("lo");
        assert_eq!((listed.index, listed.mtu), (found.index, found.mtu));
        assert!(interface(&mut socket, "paasnone").expect("look up").is_none());
    }
}
