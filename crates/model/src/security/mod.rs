//! Security groups: which addresses the sandboxes of a space may connect to, and what cells are told of it.
//!
//! Rules only allow; what no rule of any group in force allows is refused. Groups are in force everywhere or in spaces
//! that they are bound to, apart for what runs (instances and tasks) and for what is staged. What a rule says is read in
//! `rule`; how it is enforced is the sandbox's.

mod rule;

use crate::Timestamp;
use crate::id::{SecurityGroupId, SpaceId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub use rule::{AddressRange, MAX_DESTINATIONS, SecurityProtocol, SecurityRule, check_rules};

/// Most address blocks that the rules of one group may take together.
pub const MAX_BLOCKS: usize = 6000;

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroup {
    pub id: SecurityGroupId,
    pub name: String,
    pub rules: Vec<SecurityRule>,
    /// Whether it is in force in every space, for each use.
    pub globally: Uses,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// For which uses something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Uses {
    pub running: bool,
    pub staging: bool,
}

/// What connections are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// Instances and tasks.
    Running,
    /// Builds.
    Staging,
}

impl Use {
    /// As it is written in paths, titles and rows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Staging => "staging",
        }
    }
}

/// Groups by use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupsByUse {
    #[serde(default)]
    pub running: BTreeSet<SecurityGroupId>,
    #[serde(default)]
    pub staging: BTreeSet<SecurityGroupId>,
}

impl GroupsByUse {
    /// Those for one use.
    #[must_use]
    pub const fn of(&self, use_: Use) -> &BTreeSet<SecurityGroupId> {
        match use_ {
            Use::Running => &self.running,
            Use::Staging => &self.staging,
        }
    }

    /// The same, to be changed.
    pub const fn of_mut(&mut self, use_: Use) -> &mut BTreeSet<SecurityGroupId> {
        match use_ {
            Use::Running => &mut self.running,
            Use::Staging => &mut self.staging,
        }
    }
}

/// All that a cell has to know of security groups: the rules that are in force for work of its spaces.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policies {
    /// Rules of each group that is named below.
    pub groups: BTreeMap<SecurityGroupId, Vec<SecurityRule>>,
    /// Groups that are in force in every space.
    pub everywhere: GroupsByUse,
    /// Groups that are in force in one space besides. A space that is not named has none.
    pub spaces: BTreeMap<SpaceId, GroupsByUse>,
}

impl Policies {
    /// The rules in force in a space, in the order of their groups.
    pub fn rules_of(&self, space: SpaceId, use_: Use) -> impl Iterator<Item = &SecurityRule> {
        let bound = self.spaces.get(&space).map(|groups| groups.of(use_));
        let everywhere = self.everywhere.of(use_);
        let bound = bound.into_iter().flatten().filter(|group| !everywhere.contains(*group));
        let groups = everywhere.iter().chain(bound);
        groups.filter_map(|group| self.groups.get(group)).flatten()
    }

    /// The rules in force everywhere.
    pub fn everywhere(&self, use_: Use) -> impl Iterator<Item = &SecurityRule> {
        let groups = self.everywhere.of(use_).iter();
        groups.filter_map(|group| self.groups.get(group)).flatten()
    }

    /// Whether any rule asks to be told of.
    #[must_use]
    pub fn tells(&self) -> bool {
        self.groups.values().flatten().any(|rule| rule.log == Some(true))
    }
}

/// A group that a platform has at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstGroup {
    pub name: &'static str,
    pub rules: Vec<SecurityRule>,
    /// Whether it is in force everywhere.
    pub globally: bool,
}

/// The groups that a platform has at first: the internet without private blocks and name servers anywhere, both in
/// force; and private blocks, for whoever wants them open.
#[must_use]
pub fn first_groups() -> Vec<FirstGroup> {
    const PUBLIC: [(&str, &str); 5] = [
        ("0.0.0.0-9.255.255.255", "below the private block 10.0.0.0/8"),
        ("11.0.0.0-169.253.255.255", "below the link-local block 169.254.0.0/16"),
        ("169.255.0.0-172.15.255.255", "below the private block 172.16.0.0/12"),
        ("172.32.0.0-192.167.255.255", "below the private block 192.168.0.0/16"),
        ("192.169.0.0-255.255.255.255", "above it"),
    ];
    let public = PUBLIC.map(|(destination, description)| SecurityRule {
        description: Some(description.to_owned()),
        ..SecurityRule::new(SecurityProtocol::All, destination)
    });
    let dns = [SecurityProtocol::Tcp, SecurityProtocol::Udp].map(|protocol| SecurityRule {
        ports: Some("53".to_owned()),
        ..SecurityRule::new(protocol, "0.0.0.0/0")
    });
    let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
    let private = private.map(|block| SecurityRule::new(SecurityProtocol::All, block));
    let group = |name, rules: &[SecurityRule], globally| FirstGroup {
        name,
        rules: rules.to_vec(),
        globally,
    };
    vec![
        group("public_networks", &public, true),
        group("dns", &dns, true),
        group("private_networks", &private, false),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn group(n: u128) -> SecurityGroupId {
        SecurityGroupId(Uuid::from_u128(n))
    }

    #[test]
    fn a_space_has_what_is_everywhere_and_what_is_bound_to_it_each_once() {
        let space = |n| SpaceId(Uuid::from_u128(n));
        let rule = |destination| vec![SecurityRule::new(SecurityProtocol::All, destination)];
        let mut policies = Policies {
            groups: [(group(1), rule("1.1.1.1")), (group(2), rule("2.2.2.2"))].into(),
            ..Policies::default()
        };
        policies.everywhere.running.insert(group(1));
        let mut bound = GroupsByUse::default();
        bound.of_mut(Use::Running).extend([group(1), group(2), group(3)]);
        bound.of_mut(Use::Staging).insert(group(2));
        policies.spaces.insert(space(9), bound);
        let shown = |space, use_| -> Vec<String> {
            let rules = policies.rules_of(space, use_);
            rules.map(|rule| rule.destination.clone()).collect()
        };
        assert_eq!(shown(space(9), Use::Running), ["1.1.1.1", "2.2.2.2"]);
        assert_eq!(shown(space(9), Use::Staging), ["2.2.2.2"]);
        assert_eq!(shown(space(8), Use::Running), ["1.1.1.1"]);
        assert!(shown(space(8), Use::Staging).is_empty());
        let text = serde_json::to_string(&policies).expect("written");
        assert_eq!(serde_json::from_str::<Policies>(&text).expect("read"), policies);
    }

    #[test]
    fn the_first_groups_are_valid_and_leave_private_blocks_and_metadata_out() {
        let groups = first_groups();
        for group in &groups {
            let written = serde_json::to_value(&group.rules).expect("written");
            assert_eq!(check_rules(&written).expect(group.name), group.rules);
        }
        let rules = groups[0].rules.iter();
        let public: Vec<AddressRange> = rules.flat_map(|rule| rule.ranges().expect("valid")).collect();
        let reached = |text: &str| {
            let address: std::net::Ipv4Addr = text.parse().expect(text);
            public
                .iter()
                .any(|range| range.first <= address && address <= range.last)
        };
        for closed in [
            "10.1.2.3",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
        ] {
            assert!(!reached(closed), "{closed}");
        }
        for open in [
            "8.8.8.8",
            "172.32.0.1",
            "172.15.255.255",
            "192.167.0.1",
            "193.0.0.1",
            "11.0.0.0",
        ] {
            assert!(reached(open), "{open}");
        }
    }
}
