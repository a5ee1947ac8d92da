//! The fixed part of the rules as text for `nft`: what holds for every sandbox of a network, whatever its
//! policy. Pure; `firewall.rs` applies it and keeps the part that changes.

use std::{fmt::Write as _, net::Ipv4Addr};

use super::{addresses::gateway, cidr::Cidr, host};

/// Tables of all networks begin with this.
pub(super) const TABLE_PREFIX: &str = "paas-";
/// The chain that answers what is refused.
pub(super) const REFUSE: &str = "refuse";

/// Connections that one sandbox may have open to elsewhere; without a limit one sandbox could fill the
/// kernel's table of connections, which all share. Those that the host opens to it do not count.
pub const MAX_CONNECTIONS: u32 = 8192;

/// First group of the kernel's packet log that networks use; the last is 4095 after it.
const LOG_GROUPS: u16 = 28_672;
/// Name servers are reachable under every policy.
const DNS: &str = "ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept";
/// Packets of connections that the other side opened, and errors about them.
const REPLIES: &str = "ct direction reply ct state established,related accept";

/// What the rules are about; fixed while the network is open.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) name: String,
    pub(super) bridge: String,
    pub(super) uplink: String,
    pub(super) subnet: Cidr,
    pub(super) resolvers: Vec<Ipv4Addr>,
    /// Blocks beyond the host that may call sandboxes.
    pub(super) callers: Vec<Cidr>,
    /// Blocks that the host is attached to: no wide rule opens them.
    pub(super) attached: Vec<Cidr>,
    /// Whether the host speaks IPv6; what sandboxes send of it is dropped then.
    pub(super) ipv6: bool,
}

impl Scope {
    /// Enough to remove a network by.
    pub(super) fn bare(name: &str, bridge: &str, uplink: &str, subnet: Cidr) -> Self {
        Self {
            name: name.to_owned(),
            bridge: bridge.to_owned(),
            uplink: uplink.to_owned(),
            subnet,
            resolvers: Vec::new(),
            callers: Vec::new(),
            attached: Vec::new(),
            ipv6: host::has_ipv6(),
        }
    }

    /// The host's interface of the sandbox at `address`; at most 15 bytes by the limit on bridge names.
    pub(super) fn interface(&self, address: Ipv4Addr) -> String {
        let host = address.to_bits() & (u32::MAX >> self.subnet.prefix());
        format!("{}{host:x}", self.interfaces())
    }

    /// What the names of all sandboxes' interfaces on the host begin with.
    pub(super) fn interfaces(&self) -> String {
        format!("{}v", self.bridge)
    }

    /// Group of the kernel's packet log that rules which tell use: each network has one, the same after a restart.
    pub(super) fn log_group(&self) -> u16 {
        let sum = |sum: u32, byte: u8| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let hash = self.name.bytes().fold(0x811c_9dc5, sum);
        LOG_GROUPS + u16::try_from((hash ^ hash >> 16) & 0xfff).unwrap_or(0)
    }

    /// Name of all firewall tables of this network.
    pub(super) fn table(&self) -> String {
        format!("{TABLE_PREFIX}{}", self.name)
    }

    /// A script that makes the fixed part be exactly this, in one transaction, and leaves policies and ports alone.
    pub(super) fn script(&self) -> String {
        let mut script = self.sets() + &chains(&format!("ip {}", self.table()), &self.ip_chains());
        if self.ipv6 {
            let table = format!("ip6 {}", self.table());
            let drop = format!("iifname \"{}*\" drop", self.interfaces());
            let hook = chain("prerouting_hook", "type filter hook prerouting priority raw", &[&drop]);
            let _ = writeln!(script, "add table {table}");
            script += &chains(&table, &[hook]);
        }
        script
    }

    /// A script that removes everything.
    pub(super) fn removal(&self) -> String {
        ["ip", "ip6"]
            .iter()
            .filter(|family| **family == "ip" || self.ipv6)
            .map(|family| format!("add table {family} {0}\ndelete table {family} {0}\n", self.table()))
            .collect()
    }

    /// How many tables there are.
    pub(super) fn tables(&self) -> usize {
        1 + usize::from(self.ipv6)
    }

    fn sets(&self) -> String {
        let table = format!("ip {}", self.table());
        let list = |items: Vec<String>| items.join(", ");
        let mut script = format!(
            "add table {table}\n\
             add set {table} uplinks {{ type ifname; }}\n\
             add set {table} resolvers {{ type ipv4_addr; }}\n\
             add set {table} callers {{ type ipv4_addr; flags interval; auto-merge; }}\n\
             add set {table} ports {{ type ifname . ipv4_addr; }}\n\
             add set {table} connections {{ type ipv4_addr; size 65536; flags dynamic; }}\n\
             add map {table} egress {{ type ipv4_addr : verdict; }}\n\
             add map {table} rates {{ type ipv4_addr : verdict; }}\n\
             add map {table} packet_rates {{ type ipv4_addr : verdict; }}\n\
             flush set {table} uplinks\n\
             flush set {table} resolvers\n\
             flush set {table} callers\n\
             add element {table} uplinks {{ \"{}\" }}\n",
            self.uplink,
        );
        if !self.resolvers.is_empty() {
            let resolvers = list(self.resolvers.iter().map(Ipv4Addr::to_string).collect());
            let _ = writeln!(script, "add element {table} resolvers {{ {resolvers} }}");
        }
        if !self.callers.is_empty() {
            let callers = list(self.callers.iter().map(Cidr::to_string).collect());
            let _ = writeln!(script, "add element {table} callers {{ {callers} }}");
        }
        script
    }

    /// Between the world and sandboxes.
    fn forwarding(&self) -> Chain {
        let bridge = &self.bridge;
        let ports = format!("\"{}*\"", self.interfaces());
        chain(
            "forward_hook",
            "type filter hook forward priority filter",
            &[
                &format!("oifname {ports} {REPLIES}"),
                &format!("iifname {ports} goto from_sandbox"),
                // The rest of a connection that a caller opened is not looked at again.
                &format!("iifname @uplinks oifname {ports} ip saddr @callers accept"),
                // As on the host itself: the address is of a sandbox that is gone.
                &format!("iifname @uplinks oifname \"{bridge}\" ip saddr @callers reject with icmp host-unreachable"),
                &format!("oifname {ports} drop"),
                &format!("oifname \"{bridge}\" drop"),
            ],
        )
    }

    fn ip_chains(&self) -> Vec<Chain> {
        let (bridge, subnet, gateway) = (&self.bridge, &self.subnet, gateway(&self.subnet));
        let ports = format!("\"{}*\"", self.interfaces());
        let limit = format!("ct state new add @connections {{ ip saddr ct count over {MAX_CONNECTIONS} }} goto refuse");
        vec![
            refuse(),
            chain("to_host", "", &[REPLIES, DNS, "goto refuse"]),
            chain(
                "from_sandbox",
                "",
                &[
                    "oifname != @uplinks goto refuse",
                    // To a caller beyond the host.
                    REPLIES,
                    "ct state new ip saddr vmap @rates",
                    &limit,
                    DNS,
                    "ip saddr vmap @egress",
                    "goto refuse",
                ],
            ),
            // Before connections are tracked: who sends under another's address costs nothing but this.
            chain(
                "own_address_hook",
                "type filter hook prerouting priority raw",
                &[
                    &format!("iifname != {ports} accept"),
                    "iifname . ip saddr != @ports drop",
                    "ip saddr vmap @packet_rates",
                ],
            ),
            chain(
                "prerouting_hook",
                "type filter hook prerouting priority filter",
                &[&format!(
                    "iifname {ports} ip daddr {subnet} ip daddr != {gateway} goto refuse"
                )],
            ),
            chain(
                "input_hook",
                "type filter hook input priority filter",
                &[&format!("iifname {ports} goto to_host")],
            ),
            self.forwarding(),
            // What is routed to the anchor is for a sandbox that is gone: who calls it is to know at once.
            chain(
                "output_hook",
                "type filter hook output priority filter",
                &[&format!("oifname \"{bridge}\" reject with icmp host-unreachable")],
            ),
            chain(
                "masquerade_hook",
                "type nat hook postrouting priority srcnat",
                &[&format!("ip saddr {subnet} oifname @uplinks masquerade fully-random")],
            ),
        ]
    }
}

/// Resets are not rate-limited as ICMP errors are, and end open connections too.
fn refuse() -> Chain {
    chain(
        REFUSE,
        "",
        &[
            "meta l4proto tcp reject with tcp reset",
            "reject with icmp admin-prohibited",
        ],
    )
}

struct Chain {
    name: &'static str,
    /// Where packets enter it; empty for one that others lead to.
    hook: &'static str,
    rules: Vec<String>,
}

fn chain(name: &'static str, hook: &'static str, rules: &[&str]) -> Chain {
    Chain {
        name,
        hook,
        rules: rules.iter().map(|&rule| rule.to_owned()).collect(),
    }
}

fn chains(table: &str, list: &[Chain]) -> String {
    let mut script = String::new();
    for Chain { name, hook, .. } in list {
        let hook = if hook.is_empty() {
            String::new()
        } else {
            format!("{{ {hook}; policy accept; }}")
        };
        let _ = writeln!(script, "add chain {table} {name} {hook}\nflush chain {table} {name}");
    }
    for Chain { name, rules, .. } in list {
        for rule in rules {
            let _ = writeln!(script, "add rule {table} {name} {rule}");
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(bridge: &str, subnet: &str) -> Scope {
        Scope {
            name: "test".to_owned(),
            bridge: bridge.to_owned(),
            uplink: "up0".to_owned(),
            subnet: subnet.parse().expect(subnet),
            resolvers: vec![Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)],
            callers: vec!["198.51.100.0/24".parse().expect("a block")],
            attached: Vec::new(),
            ipv6: true,
        }
    }

    #[test]
    fn interface_names_fit_the_kernel_and_tell_addresses_apart() {
        let scope = scope("paasabc0", "10.176.0.0/12");
        let name = scope.interface(Ipv4Addr::new(10, 191, 255, 254));
        assert_eq!(name, "paasabc0vffffe");
        assert!(name.len() <= 15);
        assert_ne!(
            scope.interface(Ipv4Addr::new(10, 177, 0, 2)),
            scope.interface(Ipv4Addr::new(10, 176, 0, 2))
        );
    }

    #[test]
    fn every_chain_is_emptied_before_its_rules_are_added() {
        let script = scope("paas0", "10.180.0.0/16").script();
        for line in script.lines().filter(|line| line.starts_with("add rule ")) {
            let words: Vec<&str> = line.split(' ').collect();
            let flush = format!("flush chain {} {} {}\n", words[2], words[3], words[4]);
            let at = script.find(&flush).expect("flushed");
            assert!(at < script.find(line).expect("itself"), "{line}");
        }
        assert!(
            !script.contains("flush map")
                && !script.contains("flush table")
                && !script.contains("set ip paas-test ports {{ }}")
        );
        assert!(script.contains("resolvers { 192.0.2.53, 192.0.2.54 }"));
    }
}
