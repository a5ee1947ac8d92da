//! One rule of a security group: its form as Cloud Foundry has it, what is wrong with it, and what it means.
//! Error texts are CF's, with lists of destinations allowed and IPv6 off: sandboxes have none.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::Ipv4Addr;

/// Most destinations of one rule.
pub const MAX_DESTINATIONS: usize = 6000;
/// Longest description, in bytes.
const MAX_DESCRIPTION: usize = 4096;

const FIELDS: [&str; 7] = ["code", "description", "destination", "log", "ports", "protocol", "type"];
const NO_DESTINATION: &str = "nil destination; destination must be a comma-delimited list of valid CIDRs, IP \
                              addresses, or IP address ranges";
const BAD_DESTINATION: &str = "destination must contain valid CIDR(s), IP address(es), or IP address range(s)";
const BAD_PORTS: &str = "ports must be a valid single port, comma separated list of ports, or range or ports, \
                         formatted as a string";

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SecurityProtocol {
    Tcp,
    Udp,
    Icmp,
    /// Every protocol.
    All,
}

/// A rule: it allows what it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecurityRule {
    pub protocol: SecurityProtocol,
    /// Addresses, blocks and ranges, separated by commas.
    pub destination: String,
    /// Of TCP and UDP: a range, or ports separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// Of ICMP: -1 for every type.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<i16>,
    /// Of ICMP: -1 for every code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether the cell's log tells of connections that it allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<bool>,
}

/// Addresses `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

impl AddressRange {
    /// How many address blocks cover it: what it costs to enforce.
    #[must_use]
    pub fn blocks(self) -> usize {
        let (mut at, end) = (u64::from(self.first.to_bits()), u64::from(self.last.to_bits()));
        let mut count = 0;
        while at <= end {
            let aligned = if at == 0 { 32 } else { at.trailing_zeros().min(32) };
            at += 1 << aligned.min((end - at + 1).ilog2());
            count += 1;
        }
        count
    }
}

impl SecurityRule {
    /// A rule without anything that can be absent.
    #[must_use]
    pub fn new(protocol: SecurityProtocol, destination: &str) -> Self {
        Self {
            protocol,
            destination: destination.to_owned(),
            ports: None,
            kind: None,
            code: None,
            description: None,
            log: None,
        }
    }

    /// Where it leads to. `None`: it is not valid, and allows nothing.
    #[must_use]
    pub fn ranges(&self) -> Option<Vec<AddressRange>> {
        self.destination.split(',').map(|text| range(text).ok()).collect()
    }

    /// The ports `first..=last` of a rule for TCP or UDP; none for another. `None`: it is not valid, and allows nothing.
    #[must_use]
    pub fn port_ranges(&self) -> Option<Vec<(u16, u16)>> {
        match self.protocol {
            SecurityProtocol::Tcp | SecurityProtocol::Udp => ports(self.ports.as_deref()?),
            SecurityProtocol::Icmp | SecurityProtocol::All => Some(Vec::new()),
        }
    }
}

/// Reads rules as a client sent them.
///
/// # Errors
/// Everything that is wrong with them, as CF says it.
pub fn check_rules(value: &Value) -> Result<Vec<SecurityRule>, Vec<String>> {
    let Value::Array(values) = value else {
        return Err(vec!["Rules must be an array".to_owned()]);
    };
    let (mut rules, mut wrong) = (Vec::with_capacity(values.len()), Vec::new());
    for (index, value) in values.iter().enumerate() {
        match check(value) {
            Ok(rule) => rules.push(rule),
            Err(messages) => wrong.extend(messages.into_iter().map(|text| format!("Rules[{index}]: {text}"))),
        }
    }
    if wrong.is_empty() {
        let ranges = rules.iter().filter_map(SecurityRule::ranges).flatten();
        let count: usize = ranges.map(AddressRange::blocks).sum();
        if count <= super::MAX_BLOCKS {
            return Ok(rules);
        }
        wrong.push(format!(
            "Rules take {count} address blocks together, at most {}",
            super::MAX_BLOCKS
        ));
    }
    Err(wrong)
}

fn check(value: &Value) -> Result<SecurityRule, Vec<String>> {
    let Value::Object(fields) = value else {
        return Err(vec!["must be an object".to_owned()]);
    };
    let mut wrong = Vec::new();
    let unknown: Vec<&String> = fields.keys().filter(|key| !FIELDS.contains(&key.as_str())).collect();
    if !unknown.is_empty() {
        wrong.push(format!("unknown field(s): {unknown:?}"));
    }
    let field = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let protocol = field("protocol").and_then(Value::as_str).unwrap_or_default();
    if !["tcp", "udp", "icmp", "icmpv6", "all"].contains(&protocol) {
        wrong.push("protocol must be 'tcp', 'udp', 'icmp', 'icmpv6' or 'all'".to_owned());
    }
    check_destination(field("destination"), &mut wrong);
    match field("description") {
        Some(Value::String(text)) if text.len() > MAX_DESCRIPTION => {
            wrong.push(format!("description must have at most {MAX_DESCRIPTION} bytes"));
        }
        None | Some(Value::String(_)) => {}
        Some(_) => wrong.push("description must be a string".to_owned()),
    }
    if field("log").is_some_and(|log| !log.is_boolean()) {
        wrong.push("log must be a boolean".to_owned());
    }
    check_protocol(protocol, fields, &mut wrong);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    // Only what belongs to the protocol: the rest was neither checked nor means anything.
    let mut kept = fields.clone();
    kept.retain(|name, value| !value.is_null() && belongs(protocol, name));
    serde_json::from_value(Value::Object(kept)).map_err(|error| vec![error.to_string()])
}

fn belongs(protocol: &str, field: &str) -> bool {
    match field {
        "ports" => matches!(protocol, "tcp" | "udp"),
        "type" | "code" => protocol == "icmp",
        _ => true,
    }
}

fn check_protocol(protocol: &str, fields: &Map<String, Value>, wrong: &mut Vec<String>) {
    let field = |name: &str| fields.get(name).filter(|value| !value.is_null());
    match protocol {
        "tcp" | "udp" => {
            if field("ports").is_none() {
                wrong.push("ports are required for protocols of type TCP and UDP".to_owned());
            }
            if field("ports").and_then(Value::as_str).and_then(ports).is_none() {
                wrong.push(BAD_PORTS.to_owned());
            }
        }
        "icmp" | "icmpv6" => {
            if protocol == "icmpv6" {
                wrong.push("icmpv6 cannot be used if enable_ipv6 is false".to_owned());
            }
            for name in ["code", "type"] {
                if field(name).is_none() {
                    wrong.push(format!("{name} is required for protocols of type ICMP"));
                }
                let number = field(name).and_then(Value::as_i64);
                if !number.is_some_and(|number| (-1..=255).contains(&number)) {
                    wrong.push(format!("{name} must be an integer between -1 and 255 (inclusive)"));
                }
            }
        }
        "all" if field("ports").is_some() => {
            wrong.push("ports are not allowed for protocols of type all".to_owned());
        }
        _ => {}
    }
}

fn check_destination(value: Option<&Value>, wrong: &mut Vec<String>) {
    let text = match value {
        None => return wrong.push(NO_DESTINATION.to_owned()),
        Some(Value::String(text)) => text,
        Some(_) => return wrong.push("destination must be a string".to_owned()),
    };
    if text.contains(char::is_whitespace) {
        return wrong.push("destination must not contain whitespace".to_owned());
    }
    let destinations: Vec<&str> = text.split(',').collect();
    if destinations.len() > MAX_DESTINATIONS {
        return wrong.push(format!(
            "maximum destinations per rule exceeded - must be under {MAX_DESTINATIONS}"
        ));
    }
    for destination in destinations {
        if destination.is_empty() {
            wrong.push("empty destination specified in comma-delimited list".to_owned());
        }
        if destination.split('-').any(has_leading_zeros) {
            wrong.push("destination octets cannot contain leading zeros".to_owned());
        }
        if let Err(text) = range(destination) {
            wrong.push(text.to_owned());
        }
    }
}

/// Whether an octet is written with a zero before it.
fn has_leading_zeros(address: &str) -> bool {
    let address = address.split('/').next().unwrap_or_default();
    address.contains('.')
        && address
            .split('.')
            .any(|octet| octet.len() > 1 && octet.starts_with('0'))
}

/// One destination: an address, a block, or a range.
fn range(text: &str) -> Result<AddressRange, &'static str> {
    let parts: Vec<&str> = text.split('-').collect();
    match parts[..] {
        [one] => block(one).ok_or(BAD_DESTINATION),
        [first, last] => {
            let (Ok(first), Ok(last)) = (first.parse::<Ipv4Addr>(), last.parse::<Ipv4Addr>()) else {
                return Err("destination IP address range is invalid");
            };
            if first > last {
                return Err(
                    "beginning of IP address range is numerically greater than the end of its range (range \
                     endpoints are inverted)",
                );
            }
            Ok(AddressRange { first, last })
        }
        _ => Err(BAD_DESTINATION),
    }
}

/// A block, whatever its host bits are.
fn block(text: &str) -> Option<AddressRange> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
    let address = address.parse::<Ipv4Addr>().ok()?.to_bits();
    let digits = prefix.len() <= 2 && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = prefix.parse::<u32>().ok().filter(|prefix| digits && *prefix <= 32)?;
    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
    Some(AddressRange {
        first: Ipv4Addr::from_bits(address & mask),
        last: Ipv4Addr::from_bits(address | !mask),
    })
}

/// One range, or ports separated by commas.
fn ports(text: &str) -> Option<Vec<(u16, u16)>> {
    let port = |text: &str| {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (port(first)?, port(last)?);
        return (first < last).then(|| vec![(first, last)]);
    }
    text.split(',')
        .map(|text| port(text).map(|port| (port, port)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(rule: Value) -> Vec<String> {
        check_rules(&json!([rule])).expect_err("refused")
    }

    #[test]
    fn rules_come_back_as_they_went_in() {
        let rules = json!([
            {"protocol": "tcp", "destination": "10.0.11.0/24", "ports": "80,443", "log": true},
            {"protocol": "udp", "destination": "10.0.11.1-10.0.11.9,1.1.1.1", "ports": "100-200"},
            {"protocol": "icmp", "destination": "10.0.11.0/24", "type": 8, "code": -1, "description": "ping"},
            {"protocol": "all", "destination": "0.0.0.0/0"},
        ]);
        let read = check_rules(&rules).expect("valid");
        assert_eq!(serde_json::to_value(&read).expect("written"), rules);
        assert_eq!(read[0].port_ranges().expect("valid"), [(80, 80), (443, 443)]);
        assert_eq!(read[1].port_ranges().expect("valid"), [(100, 200)]);
        let ranges = read[1].ranges().expect("valid");
        assert_eq!((ranges.len(), ranges[0].last), (2, Ipv4Addr::new(10, 0, 11, 9)));
        assert_eq!(read[3].ranges().expect("valid")[0].last, Ipv4Addr::BROADCAST);
        assert!(check_rules(&json!([])).expect("none").is_empty());
    }

    #[test]
    fn each_mistake_has_its_words() {
        assert_eq!(
            check_rules(&json!("x")).expect_err("refused"),
            ["Rules must be an array"]
        );
        assert_eq!(wrong(json!("x")), ["Rules[0]: must be an object"]);
        let both = check_rules(&json!([{"protocol": "blah"}, {"nonsense": true}])).expect_err("refused");
        assert!(both.contains(&"Rules[0]: protocol must be 'tcp', 'udp', 'icmp', 'icmpv6' or 'all'".to_owned()));
        assert!(both.contains(&format!("Rules[1]: {NO_DESTINATION}")));
        assert!(both.contains(&"Rules[1]: unknown field(s): [\"nonsense\"]".to_owned()));
        let to = |destination: Value| wrong(json!({"protocol": "all", "destination": destination}));
        for (destination, text) in [
            (json!(7), "destination must be a string"),
            (json!("1.2.3.4, 1.2.3.5"), "destination must not contain whitespace"),
            (json!("1.2.3.4-1.2.3"), "destination IP address range is invalid"),
            (json!("01.2.3.4"), "destination octets cannot contain leading zeros"),
            (json!("::1"), BAD_DESTINATION),
            (json!("1.2.3.4/33"), BAD_DESTINATION),
            (json!("1.2.3.4/+8"), BAD_DESTINATION),
            (json!("1.2.3.4-1.2.3.5-1.2.3.6"), BAD_DESTINATION),
            (json!("1.2.3.4,"), "empty destination specified in comma-delimited list"),
            (
                json!("1.2.3.5-1.2.3.4"),
                "beginning of IP address range is numerically greater than the end of its range (range endpoints are \
                 inverted)",
            ),
        ] {
            assert!(
                to(destination.clone()).contains(&format!("Rules[0]: {text}")),
                "{destination}"
            );
        }
        let many = vec!["1.1.1.1"; MAX_DESTINATIONS + 1].join(",");
        assert_eq!(
            to(json!(many)),
            ["Rules[0]: maximum destinations per rule exceeded - must be under 6000"]
        );
    }

    #[test]
    fn ports_types_and_flags_have_their_words() {
        let with = |rule: Value| {
            let mut rule = rule;
            rule["destination"] = json!("1.1.1.1");
            wrong(rule).join("; ")
        };
        let none = with(json!({"protocol": "tcp"}));
        assert!(none.contains("ports are required for protocols of type TCP and UDP") && none.contains(BAD_PORTS));
        for ports in [
            json!(80),
            json!("0"),
            json!("70000"),
            json!("9-8"),
            json!("8-8"),
            json!("80;81"),
            json!(""),
        ] {
            assert_eq!(
                with(json!({"protocol": "udp", "ports": ports})),
                format!("Rules[0]: {BAD_PORTS}")
            );
        }
        assert!(
            with(json!({"protocol": "all", "ports": "1"})).contains("ports are not allowed for protocols of type all")
        );
        let icmp = with(json!({"protocol": "icmp", "type": 256}));
        assert!(
            icmp.contains("type must be an integer between -1 and 255 (inclusive)"),
            "{icmp}"
        );
        assert!(icmp.contains("code is required for protocols of type ICMP"), "{icmp}");
        let six = with(json!({"protocol": "icmpv6", "type": 1, "code": 1}));
        assert_eq!(six, "Rules[0]: icmpv6 cannot be used if enable_ipv6 is false");
        let flags = with(json!({"protocol": "all", "log": "yes", "description": 1}));
        assert!(
            flags.contains("log must be a boolean") && flags.contains("description must be a string"),
            "{flags}"
        );
    }

    #[test]
    fn host_bits_are_masked_and_the_whole_is_bounded() {
        let rule = SecurityRule::new(SecurityProtocol::All, "10.1.2.3/8");
        let range = rule.ranges().expect("valid")[0];
        assert_eq!(
            (range.first, range.last),
            (Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(10, 255, 255, 255))
        );
        let list = vec!["1.1.1.1"; 4000].join(",");
        let rule = json!({"protocol": "all", "destination": list});
        assert!(check_rules(&json!([rule, rule])).expect_err("too many")[0].contains("8000 address blocks"));
        let blocks = |first: &str, last: &str| AddressRange {
            first: first.parse().expect(first),
            last: last.parse().expect(last),
        };
        assert_eq!(blocks("0.0.0.0", "255.255.255.255").blocks(), 1);
        assert_eq!(blocks("10.0.0.1", "10.0.0.6").blocks(), 4);
        assert_eq!(blocks("255.255.255.255", "255.255.255.255").blocks(), 1);
    }
}
