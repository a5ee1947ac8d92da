//! One rule about where a sandbox may connect to, and its form as lines of the firewall. Pure: nothing here touches the
//! system. How rules add up is `policy.rs`.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{
    cidr::Cidr,
    error::{Error, Result},
};

/// Port ranges that one rule may have.
pub const MAX_PORT_RANGES: usize = 64;
/// Connections that one rule tells of: in the long run per second, and at once.
pub const LOG_RATE: u32 = 10;
/// See [`LOG_RATE`].
pub const LOG_BURST: u32 = 20;
/// Which protocol a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
    /// Every protocol.
    Any,
}

/// Ports `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ports {
    pub first: u16,
    pub last: u16,
}

impl From<u16> for Ports {
    fn from(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }
}

/// ICMP messages of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Icmp {
    /// The message's type, such as 8 for an echo request.
    pub kind: u8,
    /// The type's code; every one if missing.
    #[serde(default)]
    pub code: Option<u8>,
}

/// One rule: destinations, protocol, for TCP and UDP the destination ports (empty: all), for ICMP the messages
/// (none: all).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub cidr: Cidr,
    pub proto: Protocol,
    #[serde(default)]
    pub ports: Vec<Ports>,
    #[serde(default)]
    pub icmp: Option<Icmp>,
    /// Count what the rule matches, and tell of new connections.
    #[serde(default)]
    pub log: bool,
}

impl Rule {
    /// Every protocol and port of a block.
    pub fn all(cidr: Cidr) -> Self {
        Self::of(cidr, Protocol::Any)
    }

    /// Every port of one protocol.
    pub fn of(cidr: Cidr, proto: Protocol) -> Self {
        Self {
            cidr,
            proto,
            ports: Vec::new(),
            icmp: None,
            log: false,
        }
    }

    /// Some ports of TCP.
    pub fn tcp(cidr: Cidr, ports: impl IntoIterator<Item = Ports>) -> Self {
        Self {
            ports: ports.into_iter().collect(),
            ..Self::of(cidr, Protocol::Tcp)
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Policy { reason });
        if !self.ports.is_empty() && !matches!(self.proto, Protocol::Tcp | Protocol::Udp) {
            return refuse(format!(
                "the rule for {} names ports, which only tcp and udp have",
                self.cidr
            ));
        }
        if self.icmp.is_some() && self.proto != Protocol::Icmp {
            return refuse(format!("the rule for {} names a type, which only icmp has", self.cidr));
        }
        if self.ports.len() > MAX_PORT_RANGES {
            return refuse(format!(
                "the rule for {} has {} port ranges, at most {MAX_PORT_RANGES}",
                self.cidr,
                self.ports.len()
            ));
        }
        match self.ports.iter().find(|range| range.first > range.last) {
            Some(range) => refuse(format!("port range {}-{} runs backwards", range.first, range.last)),
            None => Ok(()),
        }
    }

    #[cfg(test)]
    fn condition(&self) -> String {
        self.condition_to(&self.cidr.to_string())
    }

    /// The condition of a rule like this one for other destinations, as `nft` writes them.
    fn condition_to(&self, destinations: &str) -> String {
        let text = format!("ip daddr {destinations}");
        let name = match (self.proto, self.icmp) {
            (Protocol::Any, _) => return text,
            (Protocol::Icmp, None) => return text + " meta l4proto icmp",
            (Protocol::Icmp, Some(Icmp { kind, code })) => {
                let code = code.map(|code| format!(" icmp code {code}")).unwrap_or_default();
                return format!("{text} icmp type {kind}{code}");
            }
            (Protocol::Tcp, _) => "tcp",
            (Protocol::Udp, _) => "udp",
        };
        if self.ports.is_empty() {
            return text + " meta l4proto " + name;
        }
        let ports: Vec<String> = merged(&self.ports)
            .iter()
            .map(|p| format!("{}-{}", p.first, p.last))
            .collect();
        format!("{text} {name} dport {{ {} }}", ports.join(", "))
    }

    /// Whether the two differ in their destinations at most, and tell nothing: then one line does for both.
    pub(super) fn joins(&self, other: &Self) -> bool {
        !self.log && !other.log && (self.proto, &self.ports, self.icmp) == (other.proto, &other.ports, other.icmp)
    }

    /// The rule as lines of a chain that end in `verdict`, for `destinations` in place of its own. What is told goes to
    /// the group `log` of the kernel's packet log.
    pub(super) fn lines(&self, destinations: &str, verdict: &str, log: u16) -> Vec<String> {
        let condition = self.condition_to(destinations);
        if !self.log {
            return vec![format!("{condition} {verdict}")];
        }
        // What is counted is every packet, what is told is a connection's first.
        vec![
            format!("{condition} ct state new limit rate {LOG_RATE}/second burst {LOG_BURST} packets log group {log}"),
            format!("{condition} counter {verdict}"),
        ]
    }

    pub(super) fn matches(&self, flow: &Flow) -> bool {
        let protocol = match self.proto {
            Protocol::Any => return self.cidr.contains(flow.destination),
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
            Protocol::Icmp => ICMP,
        };
        let port = |range: &Ports| (range.first..=range.last).contains(&flow.port);
        let message = |icmp: Icmp| icmp.kind == flow.icmp.0 && icmp.code.is_none_or(|code| code == flow.icmp.1);
        protocol == flow.protocol
            && self.cidr.contains(flow.destination)
            && (self.ports.is_empty() || self.ports.iter().any(port))
            && self.icmp.is_none_or(message)
    }
}

/// Who talks to whom, as far as a rule can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) destination: Ipv4Addr,
    /// The protocol's number.
    pub(super) protocol: u8,
    /// Destination port, 0 where the protocol has none.
    pub(super) port: u16,
    /// Type and code of ICMP.
    pub(super) icmp: (u8, u8),
}

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// The same ports without overlap, in order: nft refuses intervals that overlap.
fn merged(ports: &[Ports]) -> Vec<Ports> {
    let mut sorted = ports.to_vec();
    sorted.sort_by_key(|range| range.first);
    let mut result: Vec<Ports> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match result.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => last.last = last.last.max(range.last),
            _ => result.push(range),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Cidr {
        text.parse().expect(text)
    }

    #[test]
    fn rules_merge_ports_and_refuse_nonsense() {
        let cidr = block("1.0.0.0/8");
        let mut rule = Rule::of(cidr, Protocol::Tcp);
        assert_eq!(rule.condition(), "ip daddr 1.0.0.0/8 meta l4proto tcp");
        let ranges = [(90, 100), (80, 80), (81, 95), (65535, 65535)];
        rule.ports = ranges.map(|(first, last)| Ports { first, last }).to_vec();
        assert_eq!(rule.condition(), "ip daddr 1.0.0.0/8 tcp dport { 80-100, 65535-65535 }");
        assert!(rule.check().is_ok());
        rule.ports = vec![Ports { first: 2, last: 1 }];
        assert!(rule.check().is_err());
        let echo = Some(Icmp { kind: 8, code: Some(0) });
        let refused = [
            Rule {
                ports: vec![80.into()],
                ..Rule::of(cidr, Protocol::Icmp)
            },
            Rule {
                icmp: echo,
                ..Rule::of(cidr, Protocol::Any)
            },
            Rule::tcp(cidr, vec![80.into(); MAX_PORT_RANGES + 1]),
        ];
        assert!(refused.iter().all(|rule| rule.check().is_err()));
        let ping = Rule {
            icmp: echo,
            ..Rule::of(cidr, Protocol::Icmp)
        };
        assert_eq!(ping.condition(), "ip daddr 1.0.0.0/8 icmp type 8 icmp code 0");
        assert!(ping.check().is_ok());
    }

    #[test]
    fn a_rule_that_tells_counts_all_and_tells_of_few() {
        let rule = Rule {
            log: true,
            ..Rule::tcp(block("1.2.3.4/32"), [443.into()])
        };
        let lines = rule.lines("1.2.3.4/32", "accept", 7);
        assert!(
            lines[0].contains("ct state new limit rate 10/second") && lines[0].contains("log group 7"),
            "{lines:?}"
        );
        assert_eq!(lines[1], "ip daddr 1.2.3.4/32 tcp dport { 443-443 } counter accept");
        let silent = Rule {
            log: false,
            ..rule.clone()
        };
        assert_eq!(silent.lines("1.2.3.4/32", "accept", 7).len(), 1);
        assert!(silent.joins(&silent) && !rule.joins(&silent) && !rule.joins(&rule));
    }
}
