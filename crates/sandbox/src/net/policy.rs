//! What a sandbox may talk to: address blocks, rules, policies, and their form as firewall rules.
//! Pure: nothing here touches the system. Names are resolved by nobody: rules are about addresses.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};

/// Rules (allow and deny together) that one policy may have.
pub const MAX_RULES: usize = 256;
/// Port ranges that one rule may have.
pub const MAX_PORT_RANGES: usize = 64;

/// Blocks that a wider allow rule never opens: only a rule wholly inside one of them does.
const GUARDED: [Cidr; 5] = [
    Cidr::literal([0, 0, 0, 0], 8),
    Cidr::literal([127, 0, 0, 0], 8),
    Cidr::literal([169, 254, 0, 0], 16),
    Cidr::literal([224, 0, 0, 0], 4),
    Cidr::literal([240, 0, 0, 0], 4),
];

/// An IPv4 address block in its canonical form (no host bits), written `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// Every address.
    pub const ANY: Self = Self::literal([0, 0, 0, 0], 0);

    const fn literal(octets: [u8; 4], prefix: u8) -> Self {
        Self {
            address: Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]),
            prefix,
        }
    }

    /// The block of `prefix` leading bits of `address`; an error if there are host bits or prefix > 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self> {
        let block = Self { address, prefix };
        if prefix > 32 || address.to_bits() & !block.mask() != 0 {
            return Err(Error::Policy {
                reason: format!("{address}/{prefix} is not an address block"),
            });
        }
        Ok(block)
    }

    /// The first address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Number of leading bits that all addresses share, 0..=32.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// How many addresses there are.
    pub fn size(&self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0)
    }

    /// Whether `address` is inside.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.address.to_bits()
    }

    /// Whether all of `other` is inside.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Whether any address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = Error;

    /// Reads `a.b.c.d/n`, or one address.
    fn from_str(text: &str) -> Result<Self> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        match (address.parse(), prefix.parse()) {
            (Ok(address), Ok(prefix)) => Self::new(address, prefix),
            _ => Err(Error::Policy {
                reason: format!("{text:?} is not an IPv4 address block"),
            }),
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(block: Cidr) -> Self {
        block.to_string()
    }
}

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

/// One rule: destinations, protocol, and for TCP and UDP the destination ports (empty: all).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub cidr: Cidr,
    pub proto: Protocol,
    #[serde(default)]
    pub ports: Vec<Ports>,
}

impl Rule {
    /// Every protocol and port of a block.
    pub fn all(cidr: Cidr) -> Self {
        Self {
            cidr,
            proto: Protocol::Any,
            ports: Vec::new(),
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Policy { reason });
        if !self.ports.is_empty() && !matches!(self.proto, Protocol::Tcp | Protocol::Udp) {
            return refuse(format!(
                "the rule for {} names ports, which only tcp and udp have",
                self.cidr
            ));
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

    fn condition(&self) -> String {
        let mut text = format!("ip daddr {}", self.cidr);
        let name = match self.proto {
            Protocol::Any => return text,
            Protocol::Icmp => return text + " meta l4proto icmp",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        if self.ports.is_empty() {
            return text + " meta l4proto " + name;
        }
        let ports: Vec<String> = merged(&self.ports)
            .iter()
            .map(|p| format!("{}-{}", p.first, p.last))
            .collect();
        text += &format!(" {name} dport {{ {} }}", ports.join(", "));
        text
    }
}

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

/// What a sandbox may reach. Deny rules come first, then allow rules; what no rule allows is refused.
///
/// Not subject to any policy: the host itself and other sandboxes are never reachable; the configured
/// resolvers always are, on port 53. Loopback, link-local (169.254.0.0/16) and multicast blocks are opened
/// only by an allow rule wholly inside them, never by a wide one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    #[serde(default)]
    pub allow: Vec<Rule>,
    #[serde(default)]
    pub deny: Vec<Rule>,
}

impl Egress {
    /// Everything but link-local and multicast addresses (and but what no policy can open).
    pub fn public() -> Self {
        let deny = [Cidr::literal([169, 254, 0, 0], 16), Cidr::literal([224, 0, 0, 0], 4)];
        Self {
            allow: vec![Rule::all(Cidr::ANY)],
            deny: deny.map(Rule::all).to_vec(),
        }
    }

    /// Nothing but the resolvers.
    pub fn none() -> Self {
        Self::default()
    }

    /// An error naming the first thing that is out of bounds.
    pub fn check(&self) -> Result<()> {
        let count = self.allow.len() + self.deny.len();
        if count > MAX_RULES {
            return Err(Error::Policy {
                reason: format!("{count} rules, at most {MAX_RULES}"),
            });
        }
        self.allow.iter().chain(&self.deny).try_for_each(Rule::check)
    }

    /// The policy as rules of one chain; `refuse` is the chain that answers refused packets.
    /// A packet that passes through all of them is not allowed.
    pub(super) fn render(&self, refuse: &str) -> Vec<String> {
        let guarded = |rule: &&Rule| GUARDED.iter().any(|block| block.covers(&rule.cidr));
        let accept = |rule: &Rule| format!("{} accept", rule.condition());
        let blocks: Vec<String> = GUARDED.iter().map(Cidr::to_string).collect();
        let mut lines: Vec<String> = self
            .deny
            .iter()
            .map(|rule| format!("{} goto {refuse}", rule.condition()))
            .collect();
        lines.extend(self.allow.iter().filter(guarded).map(accept));
        lines.push(format!("ip daddr {{ {} }} goto {refuse}", blocks.join(", ")));
        lines.extend(self.allow.iter().filter(|rule| !guarded(rule)).map(accept));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Cidr {
        text.parse().expect(text)
    }

    #[test]
    fn blocks_parse_print_and_compare() {
        assert_eq!(block("10.180.0.0/16").to_string(), "10.180.0.0/16");
        assert_eq!(block("1.2.3.4"), block("1.2.3.4/32"));
        assert!(block("0.0.0.0/0").covers(&block("255.255.255.255")));
        assert!(block("10.0.0.0/8").contains(Ipv4Addr::new(10, 255, 0, 1)));
        assert!(!block("10.0.0.0/8").contains(Ipv4Addr::new(11, 0, 0, 1)));
        assert!(block("10.1.0.0/16").overlaps(&block("10.0.0.0/8")));
        assert!(!block("10.1.0.0/16").overlaps(&block("10.2.0.0/16")));
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "ten", "10.0.0/8", "::/0", "1.2.3.4/", ""] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_merge_ports_and_refuse_nonsense() {
        let mut rule = Rule {
            cidr: block("1.0.0.0/8"),
            proto: Protocol::Tcp,
            ports: vec![],
        };
        assert_eq!(rule.condition(), "ip daddr 1.0.0.0/8 meta l4proto tcp");
        rule.ports = vec![
            Ports { first: 90, last: 100 },
            80.into(),
            Ports { first: 81, last: 95 },
            65535.into(),
        ];
        assert_eq!(rule.condition(), "ip daddr 1.0.0.0/8 tcp dport { 80-100, 65535-65535 }");
        assert!(rule.check().is_ok());
        rule.ports = vec![Ports { first: 2, last: 1 }];
        assert!(rule.check().is_err());
        assert!(
            Rule {
                proto: Protocol::Icmp,
                ports: vec![80.into()],
                ..rule.clone()
            }
            .check()
            .is_err()
        );
        rule.ports = vec![80.into(); MAX_PORT_RANGES + 1];
        assert!(rule.check().is_err());
        let many = Egress {
            allow: vec![Rule::all(Cidr::ANY); MAX_RULES + 1],
            deny: vec![],
        };
        assert!(many.check().is_err());
    }

    #[test]
    fn a_wide_allow_stands_behind_the_guard_and_a_narrow_one_before_it() {
        let metadata = Rule::all(block("169.254.169.254/32"));
        let policy = Egress {
            allow: vec![Rule::all(Cidr::ANY), metadata],
            deny: vec![Rule::all(block("10.0.0.0/8"))],
        };
        let lines = policy.render("refuse");
        assert_eq!(lines[0], "ip daddr 10.0.0.0/8 goto refuse");
        assert_eq!(lines[1], "ip daddr 169.254.169.254/32 accept");
        assert!(
            lines[2].contains("169.254.0.0/16") && lines[2].ends_with("goto refuse"),
            "{}",
            lines[2]
        );
        assert_eq!(lines[3], "ip daddr 0.0.0.0/0 accept");
        assert_eq!(Egress::none().render("refuse").len(), 1);
    }

    #[test]
    fn policies_travel_as_json() {
        let text = r#"{"allow":[{"cidr":"1.2.3.0/24","proto":"tcp","ports":[{"first":80,"last":90}]}]}"#;
        let policy: Egress = serde_json::from_str(text).expect("valid");
        assert_eq!(policy.allow[0].ports, [Ports { first: 80, last: 90 }]);
        let back: Egress = serde_json::from_str(&serde_json::to_string(&policy).expect("json")).expect("same");
        assert_eq!(back, policy);
        assert!(serde_json::from_str::<Egress>(r#"{"allow":[{"cidr":"1.2.3.4/8","proto":"tcp"}]}"#).is_err());
    }
}
