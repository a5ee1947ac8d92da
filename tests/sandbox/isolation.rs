//! What an app can see and do, asked from inside.

use std::collections::HashMap;

use sandbox::log::Stream;
use sandbox::{Bind, Error};

use crate::kit::{Host, chain, text};

fn pairs(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|l| l.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

#[test]
fn an_app_sees_nothing_but_itself() {
    let host = Host::new();
    let seen = pairs(&host.output(&["view"]));
    let is = |key: &str, wanted: &str| assert_eq!(seen[key], wanted, "{key}");
    is("own_pid", "2");
    is("pids", "2");
    is("root", "bin dev etc home proc root sys tmp usr var");
    is(
        "dev",
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
    );
    is("interfaces", "lo");
    is("hostname", "inside");
    is("env", "GREETING=hello");
    is("cwd", "/home/vcap");
    // Not even that there is an init.
    is("init_exe", "refused");
    is("init_cmdline", "error 2");
    is("init_environ", "error 2");
    let groups = seen["cgroup"].split_whitespace();
    assert!(
        groups.clone().count() > 0 && groups.clone().all(|line| line.ends_with(":/")),
        "{}",
        seen["cgroup"]
    );
    let state = host.dir.path().to_str().unwrap();
    assert!(
        !seen["mounts"].contains(state),
        "the host's folders show in {}",
        seen["mounts"]
    );
    host.finish();
}

#[test]
fn an_app_has_no_privileges_and_only_its_own_descriptors() {
    let host = Host::new();
    let seen = pairs(&host.output(&["view"]));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(seen[set], "0000000000000000", "{set}");
    }
    assert_eq!(seen["NoNewPrivs"], "1");
    assert_eq!(seen["Seccomp"], "2");
    assert_eq!(
        (&*seen["Uid"], &*seen["Gid"], &*seen["Groups"]),
        ("2000 2000 2000 2000", "2000 2000 2000 2000", "")
    );
    let map: Vec<u32> = seen["uid_map"].split(' ').map(|n| n.parse().unwrap()).collect();
    assert!(
        map[0] == 0 && host.uids().contains(&map[1]) && map[2] == 65_536,
        "{map:?}"
    );
    assert_eq!(seen["core"], "0 0");
    let (_, own_hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let nofile = own_hard.min(16_384);
    assert_eq!(seen["nofile"], format!("{nofile} {nofile}"));
    assert_eq!(seen["oom_score_adj"], "500");
    let fds: Vec<&str> = seen["fds"].split(' ').collect();
    assert_eq!(fds.len(), 3, "leaked descriptors: {fds:?}");
    assert_eq!(fds[0], "0:/dev/null");
    assert!(
        fds[1].starts_with("1:pipe:") && fds[2].starts_with("2:pipe:"),
        "{fds:?}"
    );
    host.finish();
}

#[test]
fn even_its_root_has_no_privileges() {
    let host = Host::new();
    let mut spec = host.spec("root", &["view"]);
    (spec.process.uid, spec.process.gid) = (0, 0);
    let (exit, records) = host.run(&spec);
    assert_eq!(exit.code, Some(0));
    let seen = pairs(&text(&records, Stream::Out));
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(seen[set], "0000000000000000", "{set}");
    }
    let (_, records) = host.run(&{
        let mut spec = host.spec("root", &["calls"]);
        (spec.process.uid, spec.process.gid) = (0, 0);
        spec
    });
    let calls = pairs(&text(&records, Stream::Out));
    for (call, errno) in &calls {
        let harmless = [
            "setuid_root",
            "setgid_root",
            "kill_init",
            "write /etc/written",
            "write /new",
        ];
        assert!(
            errno != "0" || harmless.contains(&call.as_str()),
            "{call} worked for root inside"
        );
    }
    host.finish();
}

#[test]
fn what_breaks_out_is_refused() {
    let host = Host::new();
    let calls = pairs(&host.output(&["calls"]));
    for (call, errno) in &calls {
        assert_ne!(errno, "0", "{call} worked");
        assert_ne!(errno, "14", "{call} was not refused but looked at its arguments");
    }
    for filtered in [
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "unshare_user",
        "setns",
        "clone_newuser",
        "keyctl",
        "add_key",
        "bpf",
        "perf_event_open",
        "io_uring_setup",
        "af_alg",
        "af_vsock",
        "process_vm_readv",
        "fsopen",
        "userfaultfd",
        "name_to_handle_at",
        "open_by_handle_at",
        "mknod_block",
        "mknod_char",
        "packet_socket",
        "reboot",
        "tiocsti",
        "raw_socket",
    ] {
        assert_eq!(calls[filtered], "1", "{filtered}");
    }
    assert_eq!(calls["clone3"], "38");
    assert_eq!(calls["unknown"], "38");
    assert!(matches!(&*calls["ptrace_init"], "1" | "3"), "{}", calls["ptrace_init"]);
    assert_eq!(calls["kill_init"], "1");
    host.finish();
}

#[test]
fn what_tells_about_the_host_is_masked() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("masked", &["sleep"]));
    let inside = |argv: &[&str]| crate::lifecycle::exec_output(&sandbox, argv).1;
    for file in ["/proc/kcore", "/proc/keys", "/proc/interrupts", "/proc/timer_list"] {
        let content = inside(&["read", file]);
        // Not every kernel has each of them.
        assert!(matches!(content.trim_end(), "" | "error 2"), "{file}: {content}");
    }
    for folder in [
        "/sys/firmware",
        "/proc/acpi",
        "/sys/block",
        "/sys/dev",
        "/sys/devices/virtual/block",
        "/sys/fs/ext4",
    ] {
        assert!(
            matches!(inside(&["list", folder]).trim_end(), "" | "unreadable"),
            "{folder}"
        );
    }
    let (pids, memory) = match host.runtime().isolation().cgroups.as_str() {
        "v2" => ("pids.max", "memory.max"),
        _ => ("pids/pids.max", "memory/memory.limit_in_bytes"),
    };
    assert_eq!(
        inside(&["write", &format!("/sys/fs/cgroup/{pids}"), "max"]).trim_end(),
        "error 30"
    );
    assert_eq!(inside(&["read", "/etc/secret"]).trim_end(), "error 13");
    let limit = inside(&["read", &format!("/sys/fs/cgroup/{memory}")]);
    assert_eq!(limit.trim_end(), (64 << 20).to_string());
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn init_holds_nothing_of_the_host() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("init", &["sleep"]));
    crate::kit::printed(&sandbox, "asleep");
    let proc = format!("/proc/{}", sandbox.init_pid());
    for entry in std::fs::read_dir(format!("{proc}/fd")).unwrap() {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap();
        let target = target.to_str().unwrap();
        // "/" and what is in it is the log folder: a mount of its own without a way up.
        let harmless = ["/dev/null", "socket:", "pipe:", "anon_inode:", "/0000000001.log"];
        // Its own, named like it or, if it was parked, like its seat.
        let group = target.contains(host.parent.as_str()) && (target.contains("/init/") || target.contains("/_"));
        assert!(
            target == "/" || group || harmless.iter().any(|h| target.starts_with(h)),
            "{target}"
        );
    }
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    let field = |key: &str| {
        status
            .lines()
            .find_map(|l| l.strip_prefix(key))
            .unwrap()
            .trim()
            .to_owned()
    };
    // Kill, setgid, setuid.
    assert_eq!(field("CapEff:"), "00000000000000e0");
    assert_eq!(field("CapBnd:"), "0000000000000000");
    assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"));
    let uid: u32 = field("Uid:").split('\t').next().unwrap().parse().unwrap();
    assert!(host.uids().contains(&uid));
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn layers_are_shared_and_the_upper_is_private() {
    let host = Host::new();
    let top = host.dir.path().join("top");
    std::fs::create_dir_all(top.join("etc")).unwrap();
    std::fs::write(top.join("etc/passwd"), "uppermost\n").unwrap();
    let mut spec = host.spec("layers", &["read", "/etc/passwd"]);
    spec.layers.insert(0, top);
    let (_, records) = host.run(&spec);
    assert_eq!(text(&records, Stream::Out), "uppermost");

    let (_, records) = host.run(&host.spec("one", &["write", "/home/vcap/file", "private"]));
    assert_eq!(text(&records, Stream::Out), "written");
    assert!(!host.layer.join("home/vcap/file").exists());
    assert_eq!(host.output(&["read", "/home/vcap/file"]), "error 2");
    host.finish();
}

#[test]
fn binds_and_files_are_where_they_were_asked_for() {
    let host = Host::new();
    let tools = host.dir.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    std::fs::write(tools.join("tool"), "a tool").unwrap();
    let mut spec = host.spec("binds", &["sleep"]);
    let bind = |target: &str, readonly| Bind {
        source: tools.clone(),
        target: target.into(),
        readonly,
    };
    spec.binds = vec![bind("/.paas", true), bind("/data", false)];
    spec.files = vec![
        ("/paas/build.json".into(), b"{}".to_vec(), 0o600),
        ("/etc/hosts".into(), b"h".to_vec(), 0o644),
    ];
    let sandbox = host.create(&spec);
    let inside = |argv: &[&str]| crate::lifecycle::exec_output(&sandbox, argv).1.trim_end().to_owned();
    assert_eq!(inside(&["read", "/.paas/tool"]), "a tool");
    assert_eq!(inside(&["write", "/.paas/tool", "x"]), "error 30");
    assert_eq!(inside(&["read", "/paas/build.json"]), "{}");
    assert_eq!(inside(&["read", "/etc/hosts"]), "h");
    // The folder made for the file belongs to the process, which can go on there.
    assert_eq!(inside(&["write", "/paas/out", "x"]), "written");
    assert_eq!(inside(&["write", "/etc/hosts2", "x"]), "error 13");
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn a_hostile_layer_cannot_move_the_platforms_mounts() {
    let host = Host::new();
    for (at, name) in ["dev", "proc", "sys", ".paas"].into_iter().enumerate() {
        let evil = host.dir.path().join(format!("evil{at}"));
        std::fs::create_dir(&evil).unwrap();
        std::os::unix::fs::symlink("/etc", evil.join(name)).unwrap();
        let mut spec = host.spec("evil", &["view"]);
        spec.layers.insert(0, evil);
        spec.binds = vec![Bind {
            source: host.layer.clone(),
            target: "/.paas".into(),
            readonly: true,
        }];
        let error = host
            .runtime()
            .create(&spec)
            .expect_err("a link took the place of a mount");
        assert!(matches!(error, Error::Start { .. }), "{}", chain(&error));
    }
    // A link where a file of ours goes is replaced, not followed.
    let evil = host.dir.path().join("evil-file");
    std::fs::create_dir_all(evil.join("etc")).unwrap();
    std::os::unix::fs::symlink("/home/vcap/stolen", evil.join("etc/hosts")).unwrap();
    let mut spec = host.spec("evil", &["list", "/home/vcap"]);
    spec.layers.insert(0, evil);
    spec.files = vec![("/etc/hosts".into(), b"h".to_vec(), 0o644)];
    let (_, records) = host.run(&spec);
    assert_eq!(text(&records, Stream::Out), "");
    host.finish();
}
