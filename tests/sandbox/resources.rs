//! Limits changed while an app runs, limits of disks, and the figures of it all.

#![allow(clippy::print_stdout, reason = "figures are shown with --no-capture")]

use std::time::{Duration, Instant};

use sandbox::log::Stream;
use sandbox::{Error, IoLimits, Limits, Sandbox};

use crate::kit::{Host, PATIENCE, chain, ended, eventually, printed, records, text};
use crate::lifecycle::exec_output;

const MIB: u64 = 1 << 20;

#[test]
fn limits_change_while_the_app_runs() {
    let mut host = Host::new();
    let sandbox = host.create(&host.spec("grow", &["eat", "20971520"]));
    printed(&sandbox, "ate 20971520");
    let before = sandbox.limits();
    let lower = Limits {
        memory_bytes: 8 * MIB,
        pids: 7,
        cpu_weight: 9,
        ..before
    };
    let error = sandbox.update(&lower).unwrap_err();
    let Error::MemoryInUse {
        used_bytes,
        limit_bytes,
        ..
    } = error
    else {
        panic!("{}", chain(&error))
    };
    assert!((20 * MIB..64 * MIB).contains(&used_bytes) && limit_bytes == 8 * MIB);
    assert_eq!(sandbox.limits(), before);
    let (_, said) = exec_output(&sandbox, &["zombie-flood-end"]);
    assert_eq!(
        said, "zombies 61\n",
        "nothing is half applied: init, the app, the probe and 61 more"
    );

    let other = Limits {
        memory_bytes: 32 * MIB,
        pids: 9,
        cpu_quota: Some(0.5),
        ..before
    };
    sandbox.update(&other).unwrap();
    // Another agent finds the limits that are in force.
    drop(sandbox);
    drop(host.runtime.take());
    host.open();
    let sandbox = host.runtime().adopt("grow").unwrap().unwrap();
    assert_eq!(sandbox.limits(), other);
    let (_, said) = exec_output(&sandbox, &["zombie-flood-end"]);
    assert_eq!(said, "zombies 6\n", "init, the app, the probe itself and six more");
    sandbox
        .update(&Limits {
            cpu_quota: None,
            ..other
        })
        .unwrap();
    exec_output(&sandbox, &["eat", "67108864"]);
    let exit = ended(&sandbox);
    assert_eq!(exit.oom.expect("out of memory").limit_bytes, 32 * MIB);
    let said = text(&records(&sandbox), Stream::System);
    assert!(said.contains("memory limit of 33554432 bytes"), "{said}");
    assert!(matches!(sandbox.update(&before), Err(Error::NotRunning { .. })));
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn new_limits_are_checked_and_nothing_changes_before() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("checked", &["sleep"]));
    let bad = Limits {
        memory_bytes: 1,
        ..sandbox.limits()
    };
    assert!(matches!(sandbox.update(&bad), Err(Error::Invalid { .. })));
    // What can be dropped does not stand in the way of a lower limit.
    let (code, _) = exec_output(&sandbox, &["write", "/tmp/x", "y"]);
    assert_eq!(code, Some(0));
    sandbox.destroy().unwrap();
    let sandbox = host.create(&host.spec("cache", &["cache", "/home/vcap/big", "16777216"]));
    printed(&sandbox, "cached 16777216");
    let lower = Limits {
        memory_bytes: 8 * MIB,
        ..sandbox.limits()
    };
    eventually("the cache is written out and dropped", || {
        sandbox.update(&lower).is_ok()
    });
    assert!(sandbox.stats().unwrap().memory_bytes <= 8 * MIB);
    assert_eq!(sandbox.exit().unwrap(), None);
    sandbox.destroy().unwrap();
    host.finish();
}

fn disk_ms(sandbox: &Sandbox, how: &str, mib: u64) -> u64 {
    let bytes = (mib * MIB).to_string();
    let (code, said) = exec_output(sandbox, &[how, "/home/vcap/data", &bytes]);
    assert_eq!(code, Some(0), "{said}");
    said.trim().strip_prefix("ms=").expect(&said).parse().unwrap()
}

#[test]
fn disks_are_as_slow_as_the_limits_say() {
    let host = Host::new();
    let mut spec = host.spec("io", &["sleep"]);
    spec.limits.io = IoLimits {
        write_bps: Some(2 * MIB),
        ..IoLimits::default()
    };
    let sandbox = host.create(&spec);
    let held = disk_ms(&sandbox, "disk-write", 4);
    assert!(held >= 1500, "4 MiB at 2 MiB/s took {held} ms");
    let stats = sandbox.stats().unwrap();
    assert!(
        (4 * MIB..8 * MIB).contains(&stats.io.write_bytes) && stats.io.writes > 0,
        "{stats:?}"
    );

    let only_reads = Limits {
        io: IoLimits {
            read_iops: Some(16),
            ..IoLimits::default()
        },
        ..spec.limits
    };
    sandbox.update(&only_reads).unwrap();
    let free = disk_ms(&sandbox, "disk-write", 4);
    assert!(free < held, "{free} ms without a limit, {held} with one");
    let reads = disk_ms(&sandbox, "disk-read", 2);
    assert!(reads >= 1000, "32 reads at 16/s took {reads} ms");
    assert!(sandbox.stats().unwrap().io.read_bytes >= 2 * MIB);
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn memory_of_the_kernel_counts() {
    let host = Host::new();
    let mut spec = host.spec("pipes", &["kernel-memory"]);
    spec.limits.memory_bytes = 24 * MIB;
    let (exit, _) = host.run(&spec);
    assert_eq!(exit.oom.expect("out of memory").limit_bytes, 24 * MIB);
    host.finish();
}

#[test]
fn waiting_and_refusals_are_measured() {
    let host = Host::new();
    let mut spec = host.spec("pressed", &["spin"]);
    spec.limits.cpu_quota = Some(0.1);
    spec.limits.pids = 16;
    let sandbox = host.create(&spec);
    printed(&sandbox, "spinning");
    eventually("it is held back", || sandbox.stats().unwrap().throttled_periods > 2);
    let stats = sandbox.stats().unwrap();
    assert!(
        stats.cpu_periods >= stats.throttled_periods && stats.throttled > 0,
        "{stats:?}"
    );
    if let Some(pressure) = stats.pressure {
        eventually("waiting for the CPU is seen", || {
            sandbox.stats().unwrap().pressure.unwrap().cpu.some_usec > pressure.cpu.some_usec
        });
    } else {
        let missing = host.runtime().isolation().missing;
        assert!(missing.iter().any(|m| m.contains("pressure")), "{missing:?}");
    }
    exec_output(&sandbox, &["zombie-flood-end"]);
    let stats = sandbox.stats().unwrap();
    assert!(
        stats.pids_refused > 0 && stats.oom_kills == 0 && stats.memory_kernel > 0,
        "{stats:?}"
    );
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn figures_of_many_are_read_at_once() {
    let host = Host::new();
    let all: Vec<_> = (0..10)
        .map(|at| host.create(&host.spec(&format!("m{at}"), &["sleep"])))
        .collect();
    let mut names: Vec<String> = host.runtime().stats_all().into_iter().map(|(id, _)| id).collect();
    names.sort();
    assert_eq!(names, all.iter().map(Sandbox::id).collect::<Vec<_>>());
    let rounds = 50;
    let began = Instant::now();
    for _ in 0..rounds {
        assert_eq!(host.runtime().stats_all().len(), all.len());
    }
    let each = began.elapsed() / rounds / all.len() as u32;
    println!("figures of one sandbox: {} us", each.as_micros());
    assert!(each < Duration::from_millis(5), "{each:?}");
    all[0].kill().unwrap();
    assert!(host.runtime().stats_all().len() >= all.len() - 1);
    for sandbox in all {
        sandbox.destroy().unwrap();
    }
    assert_eq!(host.runtime().stats_all(), []);
    host.finish();
}

#[test]
fn what_is_frozen_is_killed_at_once_and_told_apart() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("frozen", &["spin"]));
    printed(&sandbox, "spinning");
    sandbox.freeze(true).unwrap();
    let spent = sandbox.stats().unwrap().cpu_usec;
    let exec = crate::lifecycle::exec_spec(&["view"]);
    assert!(matches!(sandbox.exec(&exec), Err(Error::Frozen { .. })));
    assert!(matches!(sandbox.signal(libc::SIGTERM), Err(Error::Frozen { .. })));
    assert_eq!(sandbox.stats().unwrap().cpu_usec, spent, "nothing runs");
    sandbox.freeze(false).unwrap();
    eventually("it goes on", || sandbox.stats().unwrap().cpu_usec > spent);
    sandbox.freeze(true).unwrap();
    let began = Instant::now();
    sandbox.kill().unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let exit = sandbox.exit().unwrap().unwrap();
    assert_eq!(exit.signal, Some(libc::SIGKILL));
    // Init itself has recorded it.
    assert!(exit.started_ns > sandbox.created_ns());
    sandbox.destroy().unwrap();

    let sandbox = host.create(&host.spec("frozen", &["sleep"]));
    sandbox.freeze(true).unwrap();
    let began = Instant::now();
    sandbox.destroy().unwrap();
    assert!(began.elapsed() < PATIENCE);
    host.finish();
}

#[test]
fn processes_that_come_and_go_do_not_escape_the_end() {
    let host = Host::new();
    for (id, how) in [("churn", "churn"), ("flood", "zombie-flood"), ("bomb", "bomb")] {
        let sandbox = host.create(&host.spec(id, &[how]));
        eventually("it is at work", || sandbox.stats().unwrap().pids > 2);
        let began = Instant::now();
        sandbox.kill().unwrap();
        println!("{how} is killed in {} us", began.elapsed().as_micros());
        assert_eq!(sandbox.exit().unwrap().unwrap().signal, Some(libc::SIGKILL));
        sandbox.destroy().unwrap();
    }
    host.finish();
}
