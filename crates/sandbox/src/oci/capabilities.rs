//! Capabilities by name, number and set. Pure.

use oci_spec::runtime::{Capabilities, LinuxCapabilities};

/// By number, as the specification spells them without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// All of them as a configuration spells them.
pub fn names() -> Vec<String> {
    named(u64::MAX)
}

/// Those whose bits are set.
pub fn named(bits: u64) -> Vec<String> {
    let all = NAMES.iter().enumerate().filter(|(number, _)| bits & (1 << number) != 0);
    all.map(|(_, name)| format!("CAP_{name}")).collect()
}

/// The five sets, a bit for each number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// What programs can ever gain.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// May be in force.
    pub permitted: u64,
    /// Kept by programs that ask for them.
    pub inheritable: u64,
    /// Kept by programs that do not.
    pub ambient: u64,
}

/// The sets of a configuration; none where none are given.
pub fn sets(wanted: &LinuxCapabilities) -> Sets {
    Sets {
        bounding: bits(wanted.bounding()),
        effective: bits(wanted.effective()),
        permitted: bits(wanted.permitted()),
        inheritable: bits(wanted.inheritable()),
        ambient: bits(wanted.ambient()),
    }
}

fn bits(list: &Option<Capabilities>) -> u64 {
    let names = list.iter().flatten().map(ToString::to_string);
    names
        .filter_map(|name| NAMES.iter().position(|known| *known == name))
        .fold(0, |bits, number| bits | 1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_specification_has_its_number() {
        for (number, name) in NAMES.iter().enumerate() {
            let text = format!(r#"{{"bounding":["CAP_{name}"]}}"#);
            let wanted: LinuxCapabilities = serde_json::from_str(&text).unwrap();
            let wanted = sets(&wanted);
            assert_eq!(wanted.bounding, 1 << number, "{name}");
            assert_eq!(wanted.effective, 0);
        }
    }
}
