//! What this runtime can do, in the specification's own words: for those who choose among runtimes. Pure.

use oci_spec::runtime::LinuxSeccompAction;
use serde_json::{Value, json};

use super::{capabilities, hooks, options};

/// The document that `features` prints.
pub fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.1.0",
        "hooks": hooks::Kind::ALL.map(hooks::Kind::name),
        "mountOptions": &options::WORDS[..],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities::names(),
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false },
            "seccomp": {
                "enabled": true,
                "actions": actions(),
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GT", "SCMP_CMP_GE",
                    "SCMP_CMP_MASKED_EQ",
                ],
                "archs": ["SCMP_ARCH_X86_64"],
                "knownFlags": FLAGS,
                "supportedFlags": FLAGS,
            },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": false },
        },
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

/// Of filters.
const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

fn actions() -> Value {
    use LinuxSeccompAction as Action;
    json!([
        Action::ScmpActAllow,
        Action::ScmpActErrno,
        Action::ScmpActKill,
        Action::ScmpActKillProcess,
        Action::ScmpActKillThread,
        Action::ScmpActLog,
        Action::ScmpActNotify,
        Action::ScmpActTrace,
        Action::ScmpActTrap,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_known() {
        let all = features();
        let words: Vec<String> = serde_json::from_value(all["mountOptions"].clone()).unwrap();
        for word in &words {
            let parsed = options::parse(std::slice::from_ref(word)).unwrap();
            assert!(parsed.data.is_empty(), "{word} goes to the file system");
        }
        assert_eq!(all["hooks"].as_array().map(Vec::len), Some(6));
        assert_eq!(all["linux"]["capabilities"][0], "CAP_CHOWN");
        assert_eq!(all["linux"]["seccomp"]["actions"][0], "SCMP_ACT_ALLOW");
    }
}
