//! What the host's own network looks like: default route, name servers, blocks in use, forwarding switches.
//! Reads `/proc/thread-self`, so a thread in another network namespace sees that one.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use super::{
    cidr::Cidr,
    error::{Error, Result},
};

const ROUTES: &str = "/proc/thread-self/net/route";
/// The stub resolver's own list of upstream servers is in the second.
const RESOLVER_FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// As many as the C library reads.
const MAX_RESOLVERS: usize = 3;
const ROUTE_UP: u32 = 1;

/// One line of the routing table.
#[derive(Debug, PartialEq, Eq)]
struct Route {
    interface: String,
    block: Cidr,
    metric: u32,
    /// Without a gateway.
    direct: bool,
}

fn parse_routes(text: &str) -> Vec<Route> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok();
        let mask = number(7)?.swap_bytes();
        let prefix = u8::try_from(mask.leading_ones()).ok()?;
        let block = Cidr::new(Ipv4Addr::from_bits(number(1)?.swap_bytes()), prefix).ok()?;
        let up = number(3)? & ROUTE_UP != 0;
        let metric = fields.get(6)?.parse().ok()?;
        let direct = number(2)? == 0;
        up.then(|| Route {
            interface: fields[0].to_owned(),
            block,
            metric,
            direct,
        })
    };
    text.lines().skip(1).filter_map(parse).collect()
}

fn routes() -> Result<Vec<Route>> {
    let text = fs::read_to_string(ROUTES).map_err(|source| Error::File {
        operation: "read",
        path: ROUTES.into(),
        source,
    })?;
    Ok(parse_routes(&text))
}

/// The interface of the default route with the lowest metric.
pub(super) fn uplink() -> Result<String> {
    let default = routes()?
        .into_iter()
        .filter(|route| route.block == Cidr::ANY)
        .min_by_key(|route| route.metric);
    default.map(|route| route.interface).ok_or(Error::NoUplink)
}

/// A route of another interface whose block overlaps `subnet`, as "block on interface".
pub(super) fn conflict(subnet: &Cidr, bridge: &str) -> Result<Option<String>> {
    // Routes to sandboxes that live are in it, of this network before its bridge is looked at.
    let ours = format!("{bridge}v");
    let other = |route: &Route| route.interface != bridge && !route.interface.starts_with(&ours);
    let clash = |route: &Route| other(route) && route.block.prefix() != 0 && route.block.overlaps(subnet);
    Ok(routes()?
        .iter()
        .find(|route| clash(route))
        .map(|route| format!("{} on {}", route.block, route.interface)))
}

/// The blocks that the host is attached to by any interface but `bridge`: its own network, and those of other cells,
/// controllers and databases that are near.
pub(super) fn attached(bridge: &str) -> Result<Vec<Cidr>> {
    let near = routes()?
        .into_iter()
        .filter(|route| route.direct && route.block.prefix() > 0 && !route.interface.starts_with(bridge));
    Ok(near.map(|route| route.block).collect())
}

fn parse_resolvers(text: &str) -> Vec<Ipv4Addr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver")
            .then(|| words.next()?.parse::<Ipv4Addr>().ok())
            .flatten()
    };
    let usable = |address: &Ipv4Addr| !address.is_loopback() && !address.is_unspecified();
    text.lines()
        .filter_map(address)
        .filter(usable)
        .take(MAX_RESOLVERS)
        .collect()
}

/// The name servers that the host uses, without those that a sandbox could not reach.
pub(super) fn resolvers() -> Result<Vec<Ipv4Addr>> {
    resolvers_in(&RESOLVER_FILES.map(PathBuf::from))
}

fn resolvers_in(files: &[PathBuf]) -> Result<Vec<Ipv4Addr>> {
    for path in files {
        match fs::read_to_string(path) {
            Ok(text) => match parse_resolvers(&text) {
                found if found.is_empty() => {}
                found => return Ok(found),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Error::File {
                    operation: "read",
                    path: path.clone(),
                    source,
                });
            }
        }
    }
    Err(Error::NoResolvers {
        searched: files.to_vec(),
    })
}

fn forwarding_path(interface: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4/conf").join(interface).join("forwarding")
}

/// Whether IPv4 packets that arrive on `interface` are forwarded.
pub(super) fn forwarding(interface: &str) -> Result<bool> {
    let path = forwarding_path(interface);
    let text = fs::read_to_string(&path).map_err(|source| Error::File {
        operation: "read",
        path,
        source,
    })?;
    Ok(text.trim() != "0")
}

/// Switches forwarding for one interface.
pub(super) fn set_forwarding(interface: &str, on: bool) -> Result<()> {
    let path = forwarding_path(interface);
    fs::write(&path, if on { "1" } else { "0" }).map_err(|source| Error::File {
        operation: "write",
        path,
        source,
    })
}

/// The same; an interface that is gone took its setting with it.
pub(super) fn set_forwarding_if_there(interface: &str, on: bool) -> Result<()> {
    match set_forwarding(interface, on) {
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether this host speaks IPv6 at all.
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Switches IPv6 off on an interface of ours, where there is IPv6 at all.
pub(super) fn disable_ipv6(interface: &str) -> Result<()> {
    let path = Path::new("/proc/sys/net/ipv6/conf")
        .join(interface)
        .join("disable_ipv6");
    match fs::write(&path, "1") {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::File {
            operation: "write",
            path,
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        wlan0\t00000000\t010200C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        eth1\t00000000\t010200C0\t0002\t0\t0\t1\t00000000\t0\t0\t0\n\
        eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        garbage\n";

    #[test]
    fn the_lowest_metric_that_is_up_is_the_default() {
        let routes = parse_routes(TABLE);
        assert_eq!(routes.len(), 3);
        let best = routes
            .iter()
            .filter(|r| r.block == Cidr::ANY)
            .min_by_key(|r| r.metric)
            .expect("two defaults");
        assert_eq!(best.interface, "eth0");
        assert_eq!(routes[2].block.to_string(), "192.0.2.0/24");
    }

    #[test]
    fn name_servers_that_a_sandbox_cannot_reach_are_passed_over() {
        let text = "# x\nsearch example\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.53\n nameserver 192.0.2.54 x\n";
        assert_eq!(
            parse_resolvers(text),
            [Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)]
        );
    }

    #[test]
    fn a_stub_resolver_leads_to_its_upstreams_and_none_at_all_to_a_remedy() {
        let folder = std::env::temp_dir().join(format!("paas-resolvers-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("folder");
        let (stub, upstream) = (folder.join("stub"), folder.join("upstream"));
        fs::write(&stub, "nameserver 127.0.0.53\n").expect("write");
        let files = [stub.clone(), upstream.clone()];
        let error = resolvers_in(&files).expect_err("loopback only").to_string();
        assert!(error.contains("network.resolvers") && error.contains("stub"), "{error}");
        fs::write(&upstream, "nameserver 198.51.100.7\n").expect("write");
        assert_eq!(
            resolvers_in(&files).expect("upstream"),
            [Ipv4Addr::new(198, 51, 100, 7)]
        );
        fs::remove_dir_all(folder).expect("clean up");
    }
}
