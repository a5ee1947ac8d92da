//! The translation held against a snapshot, and for any sandbox against what must hold in all of them.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{LogPolicy, Network};

fn spec() -> Spec {
    Spec {
        id: "app-1".into(),
        hostname: "inside".into(),
        layers: vec!["/layers/droplet".into(), "/layers/stack".into()],
        disk_bytes: 64 << 20,
        inodes: 1000,
        binds: vec![Bind {
            source: "/host/shared".into(),
            target: "/shared".into(),
            readonly: true,
        }],
        process: Process {
            argv: vec!["/bin/app".into(), "serve".into()],
            env: vec![("PORT".into(), "8080".into())],
            cwd: "/home/vcap".into(),
            uid: 2000,
            gid: 2000,
            terminal: false,
            rlimits: vec![Rlimit {
                resource: RlimitKind::Nofile,
                soft: 100,
                hard: 200,
            }],
        },
        limits: Limits {
            memory_bytes: 96 << 20,
            cpu_weight: 50,
            cpu_quota: Some(1.5),
            pids: 64,
            io: crate::IoLimits::default(),
        },
        network: Network::Isolated {
            policy: crate::net::Egress::public(),
        },
        log: LogPolicy::default(),
        files: vec![("/etc/hosts".into(), b"127.0.0.1 localhost\n".to_vec(), 0o644)],
        sidecars: Vec::new(),
    }
}

fn place() -> Place {
    Place {
        root: "/run/bundle/rootfs".into(),
        uid_base: 6_553_600,
        cgroups: "/paas/app-1".into(),
        masked: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".into()],
    }
}

/// With keys in order, and the names of the system calls (the list's own tests hold them) counted.
fn readable(mut spec: Value) -> Value {
    let names = &mut spec["linux"]["seccomp"]["syscalls"][0]["names"];
    let count = names.as_array().unwrap().len();
    *names = Value::from(vec![format!("{count} names")]);
    let calls = spec["linux"]["seccomp"]["syscalls"].as_array_mut().unwrap();
    calls.retain(|call| call["names"][0] != "ioctl");
    sorted(spec)
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            entries.into_iter().collect()
        }
        Value::Array(all) => all.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[test]
fn a_sandbox_becomes_this_specification() {
    let made = serde_json::to_value(from_spec(&spec(), &place())).unwrap();
    insta::assert_json_snapshot!(readable(made));
}

#[test]
fn files_leave_their_content_behind() {
    let made = from_spec(&spec(), &place());
    let files = &made.annotations().as_ref().unwrap()["paas.sandbox.files"];
    let files: Value = serde_json::from_str(files).unwrap();
    assert_eq!(files, json!([{ "path": "/etc/hosts", "bytes": 20, "mode": "0644" }]));
}

#[test]
fn the_same_place_has_the_same_masks_as_the_platform() {
    let here = Place::here(Path::new("/r"), 65_536, Path::new("/paas/x"));
    let made = from_spec(&spec(), &here);
    let masked = made.linux().as_ref().unwrap().masked_paths().as_ref().unwrap();
    assert!(masked.len() >= layout::MASKED.len());
    assert!(masked.iter().any(|path| path == "/proc/kcore"));
}

fn any_limit() -> impl Strategy<Value = Rlimit> {
    let kinds = [
        RlimitKind::Nofile,
        RlimitKind::Core,
        RlimitKind::Nproc,
        RlimitKind::Stack,
        RlimitKind::Memlock,
        RlimitKind::Fsize,
        RlimitKind::As,
    ];
    (0..kinds.len(), any::<u64>(), any::<u64>()).prop_map(move |(kind, soft, hard)| Rlimit {
        resource: kinds[kind],
        soft,
        hard,
    })
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let limits = (
        any::<u64>(),
        any::<u32>(),
        proptest::option::of(0.0f64..64.0),
        any::<u32>(),
    );
    let bind = ("/[a-z]{1,8}", "/[a-z]{1,8}", any::<bool>());
    (
        proptest::collection::vec("/[a-z/]{1,12}", 1..5),
        proptest::collection::vec(bind, 0..4),
        proptest::collection::vec(any_limit(), 0..6),
        proptest::collection::vec(("[A-Z]{1,4}", ".{0,8}"), 0..4),
        limits,
        (0u32..65_536, any::<bool>()),
    )
        .prop_map(|(layers, binds, rlimits, env, limits, (uid, terminal))| {
            let mut all = spec();
            all.layers = layers.into_iter().map(PathBuf::from).collect();
            let bind = |(source, target, readonly): (String, String, bool)| Bind {
                source: source.into(),
                target: target.into(),
                readonly,
            };
            all.binds = binds.into_iter().map(bind).collect();
            all.process.rlimits = rlimits;
            all.process.env = env;
            all.process.uid = uid;
            all.process.terminal = terminal;
            all.limits = Limits {
                memory_bytes: limits.0,
                cpu_weight: limits.1,
                cpu_quota: limits.2,
                pids: limits.3,
                io: crate::IoLimits::default(),
            };
            all
        })
}

proptest! {
    #[test]
    fn whatever_the_sandbox_nothing_is_given_away(spec in any_spec()) {
        let made = from_spec(&spec, &place());
        let process = made.process().as_ref().unwrap();
        prop_assert_eq!(process.no_new_privileges(), Some(true));
        let capabilities = serde_json::to_value(process.capabilities()).unwrap();
        prop_assert!(capabilities.as_object().unwrap().values().all(|set| set == &json!([])));
        prop_assert_eq!(capabilities.as_object().unwrap().len(), 5);
        let linux = made.linux().as_ref().unwrap();
        let namespaces = linux.namespaces().as_ref().unwrap();
        prop_assert!(namespaces.len() == 7 && namespaces.iter().all(|one| one.path().is_none()));
        for mount in made.mounts().as_ref().unwrap() {
            let options = mount.options().as_ref().unwrap();
            let has = |name: &str| options.iter().any(|option| option == name);
            prop_assert!(has("nosuid"), "{:?}", mount);
            let holds_nodes = ["/dev", "/dev/pts"].iter().any(|path| mount.destination() == Path::new(path));
            prop_assert!(holds_nodes || has("nodev"), "{:?}", mount);
        }
        let mut kinds: Vec<_> = process.rlimits().as_ref().unwrap().iter().map(|one| one.typ().to_string()).collect();
        let count = kinds.len();
        kinds.sort();
        kinds.dedup();
        prop_assert_eq!(kinds.len(), count);
    }

    #[test]
    fn it_survives_being_written_and_read(spec in any_spec()) {
        let made = from_spec(&spec, &place());
        let text = serde_json::to_vec(&made).unwrap();
        let back: oci::Spec = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(&back, &made);
        prop_assert_eq!(from_spec(&spec, &place()), made);
    }
}
