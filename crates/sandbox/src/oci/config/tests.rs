//! One test for each rule a configuration can break.

use serde_json::{Value, json};

use super::*;

fn good() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "hostname": "h",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["sh"], "cwd": "/", "env": ["A=b"],
                     "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 2 }] },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "linux": { "namespaces": [{ "type": "uts" }, { "type": "mount" }, { "type": "ipc" }] },
        "unknown": { "a": 1 },
        "annotations": { "unknown": "" },
    })
}

fn broken(at: &str, value: Value) -> String {
    let mut config = good();
    let (parent, key) = at.rsplit_once('/').unwrap();
    let place = config.pointer_mut(parent).unwrap();
    match (place, key.parse::<usize>()) {
        (Value::Array(all), Ok(_)) => all.push(value),
        (place, _) => place[key] = value,
    }
    parse(&serde_json::to_vec(&config).unwrap()).unwrap_err()
}

#[test]
fn what_is_right_or_unknown_is_taken() {
    parse(&serde_json::to_vec(&good()).unwrap()).unwrap();
    for version in ["1.0.0", "1.0.2-dev", "1.2.0", "1.1.0+build"] {
        let mut config = good();
        config["ociVersion"] = json!(version);
        parse(&serde_json::to_vec(&config).unwrap()).unwrap();
    }
}

#[test]
fn unknown_capabilities_are_an_error_or_a_warning() {
    let mut config = good();
    config["process"]["capabilities"] = json!({ "bounding": ["CAP_KILL", "CAP_TEST"], "effective": ["CAP_TEST"] });
    parse(&serde_json::to_vec(&config).unwrap()).unwrap_err();
    config["ociVersion"] = json!("1.1.0");
    let (spec, unknown) = read(&serde_json::to_vec(&config).unwrap()).unwrap();
    assert_eq!(unknown, ["\"CAP_TEST\" is not a capability that is known here"]);
    let sets = spec
        .process()
        .as_ref()
        .and_then(|process| process.capabilities().clone())
        .unwrap();
    assert_eq!(sets.bounding().as_ref().map(|all| all.len()), Some(1));
}

#[test]
fn each_rule_is_held() {
    let cases = [
        ("/ociVersion", json!("invalid"), "not a version"),
        ("/ociVersion", json!("2.0.0"), "not supported"),
        ("/root", Value::Null, "root is missing"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!(["a\0b"]), "NUL"),
        ("/process/cwd", json!("relative"), "not absolute"),
        ("/process/oomScoreAdj", json!(1001), "oomScoreAdj"),
        (
            "/process/rlimits/9",
            json!({ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 2 }),
            "stands twice",
        ),
        (
            "/process/rlimits/9",
            json!({ "type": "RLIMIT_CORE", "soft": 3, "hard": 2 }),
            "softer",
        ),
        (
            "/process/rlimits/9",
            json!({ "type": "RLIMIT_TEST", "soft": 1, "hard": 2 }),
            "RLIMIT_TEST",
        ),
        ("/process/capabilities", json!({ "bounding": ["CAP_TEST"] }), "CAP_TEST"),
        ("/process/selinuxLabel", json!("x"), "SELinux"),
        ("/process/apparmorProfile", json!("x"), "AppArmor"),
        ("/linux/namespaces/9", json!({ "type": "uts" }), "stands twice"),
        ("/linux/namespaces/9", json!({ "type": "weather" }), "weather"),
        (
            "/linux/namespaces/9",
            json!({ "type": "pid", "path": "x" }),
            "not absolute",
        ),
        ("/linux/namespaces/9", json!({ "type": "user" }), "uidMappings"),
        (
            "/linux/uidMappings",
            json!([{ "containerID": 0, "hostID": 1, "size": 1 }]),
            "no user namespace",
        ),
        ("/linux/namespaces", json!([]), "uts namespace"),
        ("/linux/maskedPaths", json!(["relative"]), "not absolute"),
        ("/linux/readonlyPaths", json!(["relative"]), "not absolute"),
        (
            "/linux/sysctl",
            json!({ "kernel.panic": "1" }),
            "not one that a container",
        ),
        ("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }), "namespace"),
        ("/linux/sysctl", json!({ "kernel..x": "1" }), "not a name"),
        ("/linux/rootfsPropagation", json!("wild"), "not known"),
        ("/linux/mountLabel", json!("x"), "SELinux"),
        ("/linux/intelRdt", json!({}), "intelRdt"),
        (
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
            "SCMP_ACT_NOTIFY",
        ),
        ("/mounts/9", json!({ "destination": "/x" }), "neither"),
        (
            "/mounts/9",
            json!({ "destination": "", "type": "proc" }),
            "no destination",
        ),
        ("/mounts/9", json!({ "destination": "/x", "type": "bind" }), "source"),
        (
            "/mounts/9",
            json!({ "destination": "/x", "type": "tmpfs", "options": ["tmpcopyup"] }),
            "tmpcopyup",
        ),
        (
            "/mounts/9",
            json!({ "destination": "/proc/self/x", "type": "tmpfs" }),
            "nothing may be mounted",
        ),
        (
            "/mounts/9",
            json!({ "destination": "/x", "type": "tmpfs", "options": ["idmap"] }),
            "only binds",
        ),
        ("/hooks", json!({ "poststop": [{ "path": "relative" }] }), "absolute"),
        (
            "/hooks",
            json!({ "poststop": [{ "path": "/x", "timeout": 0 }] }),
            "positive",
        ),
    ];
    for (at, value, told) in cases {
        let error = broken(at, value.clone());
        assert!(error.contains(told), "{at} {value}: {error}");
    }
}

#[test]
fn limits_hold_whatever_is_inside() {
    assert!(
        parse(&vec![b' '; MAX_BYTES as usize + 1])
            .unwrap_err()
            .contains("larger")
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!(r#"{{"unknown":{deep}}}"#);
    // What is not known is passed over without descending into it, so its depth does no harm.
    let told = parse(deep.as_bytes()).unwrap_err();
    assert!(told.contains("ociVersion"), "{told}");
    let many: Vec<String> = (0..=MAX_ITEMS).map(|n| format!("/{n}")).collect();
    assert!(broken("/linux/maskedPaths", json!(many)).contains("more than"));
    assert!(broken("/process/env", json!(["x".repeat(MAX_COMMAND_BYTES)])).contains("exceed"));
}

proptest::proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(0u8..=255, 0..400)) {
        let _ = parse(&bytes);
    }
}
