//! Limits end what exceeds them, with the cause, and nobody else.

use sandbox::log::Stream;

use crate::kit::{Host, ended, eventually, printed, records, text};

#[test]
fn memory_without_end_is_killed_with_its_figures() {
    let host = Host::new();
    let neighbour = host.create(&host.spec("neighbour", &["sleep"]));
    printed(&neighbour, "asleep");
    let (exit, records) = host.run(&host.spec("hog", &["eat"]));
    let oom = exit.oom.expect("told as out of memory");
    assert_eq!(oom.limit_bytes, 64 << 20);
    assert!((60 << 20..=64 << 20).contains(&oom.peak_bytes), "{oom:?}");
    assert_eq!(exit.signal, Some(libc::SIGKILL));
    let said = text(&records, Stream::System);
    assert!(said.contains("exceeded its memory limit of 67108864 bytes"), "{said}");
    assert_eq!(neighbour.exit().unwrap(), None);
    neighbour.destroy().unwrap();
    host.finish();
}

#[test]
fn memory_eaten_by_a_child_ends_the_whole_app() {
    let host = Host::new();
    let (exit, _) = host.run(&host.spec("child", &["eat-in-child"]));
    assert!(exit.oom.is_some(), "{exit:?}");
    host.finish();
}

#[test]
fn a_fork_bomb_is_contained_told_and_torn_down() {
    let host = Host::new();
    let mut spec = host.spec("bomb", &["bomb"]);
    spec.limits.pids = 40;
    let sandbox = host.create(&spec);
    eventually("the limit is told", || {
        text(&records(&sandbox), Stream::System).contains("reached its limit of 40 processes and threads")
    });
    assert!(sandbox.stats().unwrap().pids <= 40);
    sandbox.kill().unwrap();
    let exit = sandbox.exit().unwrap().unwrap();
    assert!(exit.pids_refused > 0, "{exit:?}");
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn a_full_disk_is_an_error_for_the_app_alone() {
    let host = Host::new();
    let output = host.output(&["fill", "/home/vcap/big"]);
    let bytes: u64 = output.strip_prefix("errno=28 bytes=").expect(&output).parse().unwrap();
    assert!((31 << 20..=34 << 20).contains(&bytes), "{bytes}");
    let output = host.output(&["files", "/home/vcap"]);
    let files: u64 = output.strip_prefix("errno=28 files=").expect(&output).parse().unwrap();
    assert!((1900..=3000).contains(&files), "{files}");
    host.finish();
}

#[test]
fn a_disk_much_larger_than_memory_can_be_filled() {
    let host = Host::new();
    let mut spec = host.spec("deep", &["fill", "/home/vcap/big"]);
    spec.disk_bytes = 512 << 20;
    let start = std::time::Instant::now();
    let (exit, records) = host.run(&spec);
    println!("filled in {:?}", start.elapsed());
    assert_eq!(
        (exit.code, exit.oom),
        (Some(0), None),
        "{}",
        text(&records, Stream::System)
    );
    let output = text(&records, Stream::Out);
    let bytes: u64 = output.strip_prefix("errno=28 bytes=").expect(&output).parse().unwrap();
    assert!(bytes >= 512 << 20, "{bytes}");
    host.finish();
}

#[test]
fn the_smallest_memory_is_enough_to_run_and_to_be_told_apart() {
    let host = Host::new();
    let mut spec = host.spec("small", &["say", "small"]);
    spec.limits.memory_bytes = 4 << 20;
    let (exit, records) = host.run(&spec);
    assert_eq!((exit.code, text(&records, Stream::Out).as_str()), (Some(0), "small"));
    spec.process.argv[1] = "eat".to_owned();
    let (exit, _) = host.run(&spec);
    assert_eq!(exit.oom.expect("out of memory").limit_bytes, 4 << 20);
    host.finish();
}

#[test]
fn use_is_measured() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("stats", &["eat", "20971520"]));
    printed(&sandbox, "ate 20971520");
    let stats = sandbox.stats().unwrap();
    assert!((20 << 20..40 << 20).contains(&stats.memory_bytes), "{stats:?}");
    assert!(
        stats.memory_peak >= stats.memory_bytes && stats.cpu_usec > 0,
        "{stats:?}"
    );
    assert!(stats.pids >= 2 && stats.disk_bytes < 1 << 20, "{stats:?}");
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn a_cpu_ceiling_holds_back_the_app_only() {
    let host = Host::new();
    let mut spec = host.spec("slow", &["flood", "100000000000"]);
    spec.limits.cpu_quota = Some(0.1);
    let sandbox = host.create(&spec);
    eventually("it is held back", || sandbox.stats().unwrap().throttled > 100_000);
    sandbox.kill().unwrap();
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn resource_limits_are_clamped_to_what_the_host_permits() {
    use sandbox::{Rlimit, RlimitKind};
    let host = Host::new();
    let mut spec = host.spec("rlimits", &["view"]);
    spec.process.rlimits = vec![
        Rlimit {
            resource: RlimitKind::Nofile,
            soft: 100,
            hard: u64::MAX,
        },
        Rlimit {
            resource: RlimitKind::Memlock,
            soft: 1 << 60,
            hard: 1 << 60,
        },
    ];
    let sandbox = host.create(&spec);
    assert_eq!(ended(&sandbox).code, Some(0));
    let seen = text(&records(&sandbox), Stream::Out);
    assert!(seen.lines().any(|l| l.starts_with("nofile=100 ")), "{seen}");
    sandbox.destroy().unwrap();
    host.finish();
}
