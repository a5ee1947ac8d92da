//! What a sandbox listens on, from the kernel's tables of its network: the explanation of a port that does not answer.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Largest table that is looked at, in bytes.
const MAX_TABLE_BYTES: usize = 1 << 20;
/// Addresses that are told.
const TOLD: usize = 5;
/// The kernel's number for a socket that listens.
const LISTEN: &str = "0A";

/// Says what the processes beside `pid` listen on instead of `port` on all addresses.
#[must_use]
pub fn explain(pid: u32, port: u16) -> String {
    let table = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        parse(text.get(..MAX_TABLE_BYTES).unwrap_or(&text))
    };
    let found: BTreeSet<SocketAddr> = table("tcp").into_iter().chain(table("tcp6")).collect();
    describe(&found, port)
}

fn describe(found: &BTreeSet<SocketAddr>, port: u16) -> String {
    let expected = format!("expected 0.0.0.0:{port}");
    if found.is_empty() {
        return format!("listening on nothing, {expected}");
    }
    if found
        .iter()
        .any(|address| address.port() == port && address.ip().is_unspecified())
    {
        return format!("listening on 0.0.0.0:{port} as expected");
    }
    let mut told: Vec<String> = found.iter().take(TOLD).map(SocketAddr::to_string).collect();
    if found.len() > TOLD {
        told.push(format!("{} more", found.len() - TOLD));
    }
    format!("listening on {}, {expected}", told.join(" and "))
}

/// Listening addresses of a table in the form of `/proc/net/tcp` or `tcp6`.
fn parse(table: &str) -> Vec<SocketAddr> {
    table
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (local, state) = (words.nth(1)?, words.nth(1)?);
            let (address, port) = local.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            (state == LISTEN).then_some(SocketAddr::new(ip(address)?, port))
        })
        .collect()
}

/// Addresses are words of 32 bits in the byte order of the machine.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |n: usize| {
        u32::from_str_radix(hex.get(n * 8..n * 8 + 8)?, 16)
            .ok()
            .map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (n, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(n)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(addresses: &[&str]) -> BTreeSet<SocketAddr> {
        addresses.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn tables_of_the_kernel_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  2000        0 1 1 0 100 0\n\
            \x20  1: 0100007F:1F90 0100007F:1111 01 00000000:00000000 00:00000000 00000000  2000        0 2 1 0 100 0\n\
            \x20  2: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0 0 0 0 0 3\n\
            nonsense\n 3: zz:zz 0 0A\n";
        assert_eq!(
            parse(table),
            ["127.0.0.1:3000", "[::1]:8080"].map(|text| text.parse().expect("an address"))
        );
    }

    #[test]
    fn what_is_listened_on_instead_is_told() {
        assert_eq!(
            describe(&set(&["127.0.0.1:3000"]), 8080),
            "listening on 127.0.0.1:3000, expected 0.0.0.0:8080"
        );
        assert_eq!(describe(&set(&[]), 8080), "listening on nothing, expected 0.0.0.0:8080");
        assert_eq!(
            describe(&set(&["[::]:8080"]), 8080),
            "listening on 0.0.0.0:8080 as expected"
        );
        let many: Vec<String> = (1..=7).map(|port| format!("127.0.0.1:{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(describe(&set(&many), 8080).ends_with("127.0.0.1:5 and 2 more, expected 0.0.0.0:8080"));
    }

    #[test]
    fn a_listener_of_this_process_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("address");
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", std::process::id())).expect("table");
        assert!(parse(&table).contains(&address));
        assert!(explain(std::process::id(), 1).contains("expected 0.0.0.0:1"));
    }
}
