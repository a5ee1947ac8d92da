//! What a sandbox may talk to: rules that add up to a policy, and its form as lines of the firewall.
//! Pure: nothing here touches the system. Names are resolved by nobody: rules are about addresses.

use std::{collections::HashSet, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{
    cidr::Cidr,
    error::{Error, Result},
    rule::{Flow, Rule, TCP, UDP},
};

/// Rules (allow and deny together) that one policy may have. Those that differ in their destinations alone cost little.
pub const MAX_RULES: usize = 16_384;

/// Blocks that a wider allow rule never opens: only a rule wholly inside one of them does.
const GUARDED: [Cidr; 5] = [
    Cidr::literal([0, 0, 0, 0], 8),
    Cidr::literal([127, 0, 0, 0], 8),
    Cidr::literal([169, 254, 0, 0], 16),
    Cidr::literal([224, 0, 0, 0], 4),
    Cidr::literal([240, 0, 0, 0], 4),
];

/// What a sandbox may reach. Deny rules come first, then allow rules; what no rule allows is refused.
///
/// Not subject to any policy: the host itself and other sandboxes are never reachable; the configured
/// resolvers always are, on port 53. Loopback, link-local (169.254.0.0/16) and multicast blocks, and the networks that
/// the host is attached to, are opened only by an allow rule wholly inside them, never by a wide one.
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

    /// What several groups of rules allow together.
    pub fn together<'a>(groups: impl IntoIterator<Item = &'a [Rule]>) -> Self {
        let mut known: HashSet<&Rule> = HashSet::new();
        let rules = groups.into_iter().flatten();
        let allow = rules.filter(|rule| known.insert(rule)).cloned().collect();
        Self {
            allow,
            deny: Vec::new(),
        }
    }

    /// Whether some rule tells what it matches.
    pub(super) fn logs(&self) -> bool {
        self.allow.iter().chain(&self.deny).any(|rule| rule.log)
    }

    /// Whether a connection would be let through, by the same order of rules as [`Egress::render`].
    pub(super) fn permits(&self, flow: &Flow, near: &[Cidr], resolvers: &[Ipv4Addr]) -> bool {
        let dns = flow.port == 53 && matches!(flow.protocol, TCP | UDP);
        if dns && resolvers.contains(&flow.destination) {
            return true;
        }
        if self.deny.iter().any(|rule| rule.matches(flow)) {
            return false;
        }
        let closed = closed(near);
        let guarded = |rule: &Rule| closed.iter().any(|block| block.covers(&rule.cidr));
        let allowed = |narrow: bool| {
            let rules = self.allow.iter().filter(|rule| guarded(rule) == narrow);
            rules.into_iter().any(|rule| rule.matches(flow))
        };
        let inside = closed.iter().any(|block| block.contains(flow.destination));
        allowed(true) || !inside && allowed(false)
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
    /// `near` are further blocks that only a rule wholly inside one of them opens; `log` is the group of the kernel's
    /// packet log for rules that tell.
    pub(super) fn render(&self, refuse: &str, near: &[Cidr], log: u16) -> Vec<String> {
        let closed = closed(near);
        let guarded = |rule: &&Rule| closed.iter().any(|block| block.covers(&rule.cidr));
        let deny = format!("goto {refuse}");
        let blocks: Vec<String> = closed.iter().map(Cidr::to_string).collect();
        let mut lines = joined(self.deny.iter(), &deny, log);
        lines.extend(joined(self.allow.iter().filter(guarded), "accept", log));
        lines.push(format!("ip daddr {{ {} }} goto {refuse}", blocks.join(", ")));
        lines.extend(joined(self.allow.iter().filter(|rule| !guarded(rule)), "accept", log));
        lines
    }
}

/// Rules as lines, one for neighbours that differ in their destinations alone.
fn joined<'a>(rules: impl Iterator<Item = &'a Rule>, verdict: &str, log: u16) -> Vec<String> {
    let rules: Vec<&Rule> = rules.collect();
    let runs = rules.chunk_by(|one, next| one.joins(next));
    runs.flat_map(|run| {
        let blocks: Vec<Cidr> = run.iter().map(|rule| rule.cidr).collect();
        run[0].lines(&destinations(&blocks), verdict, log)
    })
    .collect()
}

/// Blocks as `nft` writes them: one, or a set of ranges that don't meet.
fn destinations(blocks: &[Cidr]) -> String {
    let mut ranges: Vec<(u32, u32)> = blocks
        .iter()
        .map(|block| (block.address().to_bits(), block.last().to_bits()))
        .collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if u64::from(first) <= u64::from(before.1) + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    let text = |(first, last): &(u32, u32)| {
        let (first, last) = (Ipv4Addr::from_bits(*first), Ipv4Addr::from_bits(*last));
        match Cidr::covering(first, last)[..] {
            [block] => block.to_string(),
            _ => format!("{first}-{last}"),
        }
    };
    match &merged[..] {
        [one] => text(one),
        many => format!("{{ {} }}", many.iter().map(text).collect::<Vec<_>>().join(", ")),
    }
}

/// [`GUARDED`] and `near` without what is inside another of them.
fn closed(near: &[Cidr]) -> Vec<Cidr> {
    let mut all: Vec<Cidr> = GUARDED.iter().chain(near).copied().collect();
    all.sort_by_key(Cidr::prefix);
    let mut kept: Vec<Cidr> = Vec::with_capacity(all.len());
    for block in all {
        if !kept.iter().any(|wider| wider.covers(&block)) {
            kept.push(block);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::rule::{ICMP, Icmp, Ports, Protocol};

    fn block(text: &str) -> Cidr {
        text.parse().expect(text)
    }

    #[test]
    fn a_wide_allow_stands_behind_the_guard_and_a_narrow_one_before_it() {
        let metadata = Rule::all(block("169.254.169.254/32"));
        let policy = Egress {
            allow: vec![Rule::all(Cidr::ANY), metadata],
            deny: vec![Rule::all(block("10.0.0.0/8"))],
        };
        let lines = policy.render("refuse", &[], 7);
        assert_eq!(lines[0], "ip daddr 10.0.0.0/8 goto refuse");
        assert_eq!(lines[1], "ip daddr 169.254.169.254/32 accept");
        assert!(
            lines[2].contains("169.254.0.0/16") && lines[2].ends_with("goto refuse"),
            "{}",
            lines[2]
        );
        assert_eq!(lines[3], "ip daddr 0.0.0.0/0 accept");
        assert_eq!(Egress::none().render("refuse", &[], 7).len(), 1);
    }

    #[test]
    fn neighbours_that_differ_in_their_destinations_become_one_line() {
        let blocks = Cidr::covering(Ipv4Addr::new(11, 0, 0, 0), Ipv4Addr::new(169, 253, 255, 255));
        let mut allow: Vec<Rule> = blocks.into_iter().map(Rule::all).collect();
        allow.extend(["193.0.0.0/8", "193.5.0.0/16", "194.0.0.0/7"].map(|text| Rule::all(block(text))));
        allow.push(Rule::tcp(block("8.8.8.8/32"), [53.into()]));
        let policy = Egress {
            allow,
            deny: Vec::new(),
        };
        let lines = policy.render("refuse", &[], 7);
        assert_eq!(
            lines[1..],
            [
                "ip daddr { 11.0.0.0-169.253.255.255, 193.0.0.0-195.255.255.255 } accept",
                "ip daddr 8.8.8.8/32 tcp dport { 53-53 } accept"
            ]
        );
        assert_eq!(destinations(&[block("0.0.0.0/1"), block("128.0.0.0/1")]), "0.0.0.0/0");
    }

    #[test]
    fn groups_add_up_and_repeat_nothing() {
        let (web, mail) = (Rule::tcp(Cidr::ANY, [443.into()]), Rule::tcp(Cidr::ANY, [25.into()]));
        let groups = [vec![web.clone()], vec![mail.clone(), web.clone()]];
        let policy = Egress::together(groups.iter().map(Vec::as_slice));
        assert_eq!(policy.allow, [web, mail]);
    }

    #[test]
    fn what_is_permitted_follows_the_order_of_the_rules() {
        let resolver = Ipv4Addr::new(10, 0, 0, 53);
        let near = [block("192.0.2.0/24")];
        let policy = Egress {
            allow: vec![
                Rule::tcp(Cidr::ANY, [443.into()]),
                Rule::all(block("192.0.2.7/32")),
                Rule {
                    icmp: Some(Icmp { kind: 8, code: None }),
                    ..Rule::of(Cidr::ANY, Protocol::Icmp)
                },
            ],
            deny: vec![Rule::all(block("198.51.100.0/24"))],
        };
        let flow = |to: &str, protocol, port, icmp| Flow {
            destination: to.parse().expect(to),
            protocol,
            port,
            icmp,
        };
        let permits = |flow: Flow| policy.permits(&flow, &near, &[resolver]);
        assert!(permits(flow("203.0.113.1", TCP, 443, (0, 0))));
        assert!(!permits(flow("203.0.113.1", UDP, 443, (0, 0))) && !permits(flow("203.0.113.1", TCP, 80, (0, 0))));
        assert!(permits(flow("203.0.113.1", ICMP, 0, (8, 0))) && !permits(flow("203.0.113.1", ICMP, 0, (13, 0))));
        assert!(
            !permits(flow("198.51.100.1", TCP, 443, (0, 0))),
            "denied before allowed"
        );
        assert!(
            !permits(flow("192.0.2.8", TCP, 443, (0, 0))),
            "a wide rule opens no attached network"
        );
        assert!(permits(flow("192.0.2.7", UDP, 9, (0, 0))), "a narrow one does");
        assert!(!permits(flow("169.254.169.254", TCP, 443, (0, 0))));
        assert!(permits(flow("10.0.0.53", UDP, 53, (0, 0))) && !permits(flow("10.0.0.53", UDP, 54, (0, 0))));
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
