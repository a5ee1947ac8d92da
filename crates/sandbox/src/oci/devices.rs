//! The rules for devices of a configuration: typed, and as v1 takes them. v2 takes them as a program
//! (`cgroup::nodes`). Pure.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::limits::{Write, write};
use crate::cgroup::nodes::{self, DeviceRule, Kind};
use crate::inside::layout::NODES;

/// Rules for devices in their order, then what every container has. None for a container without rules.
pub fn rules(rules: &[LinuxDeviceCgroup], devices: &[LinuxDevice]) -> Vec<DeviceRule> {
    if rules.is_empty() {
        return Vec::new();
    }
    let mut all: Vec<DeviceRule> = rules.iter().map(rule).collect();
    // Nodes may be made; what they open is another matter.
    all.extend([Kind::Character, Kind::Block].map(|kind| DeviceRule {
        kind: Some(kind),
        access: nodes::MAKE,
        ..nodes::everything(true)
    }));
    all.extend(NODES.map(|(_, major, minor)| nodes::character(major, Some(minor), nodes::ANY_USE)));
    all.extend([(5, Some(2)), (136, None)].map(|(major, minor)| nodes::character(major, minor, nodes::ANY_USE)));
    let nodes = devices.iter().filter(|device| device.typ() != LinuxDeviceType::P);
    all.extend(nodes.map(|device| DeviceRule {
        allow: true,
        kind: kind(device.typ()),
        major: number(Some(device.major())),
        minor: number(Some(device.minor())),
        access: nodes::ANY_USE,
    }));
    all
}

fn kind(kind: LinuxDeviceType) -> Option<Kind> {
    match kind {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(Kind::Block),
        _ => Some(Kind::Character),
    }
}

/// What is not told, or negative, is any.
fn number(number: Option<i64>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}

fn rule(rule: &LinuxDeviceCgroup) -> DeviceRule {
    let kind = kind(rule.typ().unwrap_or(LinuxDeviceType::A));
    if kind.is_none() {
        return nodes::everything(rule.allow());
    }
    let access = rule.access().as_deref().filter(|access| !access.is_empty());
    let bits = [('m', nodes::MAKE), ('r', nodes::READ), ('w', nodes::WRITE)];
    let told = |access: &str| {
        bits.iter()
            .filter(|(letter, _)| access.contains(*letter))
            .map(|(_, bit)| bit)
            .sum()
    };
    DeviceRule {
        allow: rule.allow(),
        kind,
        major: number(rule.major()),
        minor: number(rule.minor()),
        access: access.map_or(nodes::ANY_USE, told),
    }
}

/// The same as v1 takes them.
pub fn for_v1(rules: &[DeviceRule]) -> Vec<Write> {
    rules.iter().map(device_write).collect()
}

fn device_write(rule: &DeviceRule) -> Write {
    let file = if rule.allow { "devices.allow" } else { "devices.deny" };
    let kind = match rule.kind {
        None => return write("devices", file, "a"),
        Some(Kind::Block) => "b",
        Some(Kind::Character) => "c",
    };
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let letters = [('r', nodes::READ), ('w', nodes::WRITE), ('m', nodes::MAKE)];
    let access: String = letters
        .iter()
        .filter(|(_, bit)| rule.access & bit != 0)
        .map(|(letter, _)| *letter)
        .collect();
    let text = format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor));
    write("devices", file, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(value: serde_json::Value) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_value(value).unwrap()
    }

    fn told(writes: Vec<Write>) -> Vec<(String, String)> {
        writes.into_iter().map(|one| (one.file, one.value)).collect()
    }

    #[test]
    fn device_rules_keep_their_order() {
        let wanted = wanted(serde_json::json!([
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" },
            { "allow": true, "type": "b", "major": 8, "access": "r" },
        ]));
        let all = told(for_v1(&rules(&wanted, &[])));
        assert_eq!(
            all[..3],
            [
                ("devices.deny", "a"),
                ("devices.allow", "c 10:229 rw"),
                ("devices.allow", "b 8:* r")
            ]
            .map(|(file, value)| (file.to_owned(), value.to_owned()))
        );
        assert!(all.contains(&("devices.allow".to_owned(), "c 1:3 rwm".to_owned())));
        assert!(rules(&[], &[]).is_empty());
    }
}
