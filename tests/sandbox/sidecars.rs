//! Processes beside the app's: they share its sandbox, its limits and its fate.

use sandbox::log::Stream;
use sandbox::{Sidecar, Spec};

use crate::kit::{Host, ended, eventually, printed, records, text};

fn beside(host: &Host, app: &[&str], sidecars: &[(&str, &[&str])]) -> Spec {
    let mut spec = host.spec("beside", app);
    spec.sidecars = sidecars
        .iter()
        .map(|(name, argv)| Sidecar {
            name: (*name).to_owned(),
            argv: std::iter::once("/bin/probe")
                .chain(argv.iter().copied())
                .map(str::to_owned)
                .collect(),
            env: vec![("ROLE".to_owned(), (*name).to_owned())],
            cwd: "/tmp".into(),
            memory_bytes: None,
        })
        .collect();
    spec
}

#[test]
fn they_run_beside_the_app_with_output_of_their_own() {
    let host = Host::new();
    let sandbox = host.create(&beside(
        &host,
        &["sleep"],
        &[("one", &["view-then-sleep"]), ("two", &["sleep"])],
    ));
    printed(&sandbox, "asleep");
    let of = |at, err| text(&records(&sandbox), Stream::Sidecar(at, err));
    eventually("both have begun", || {
        of(0, false).contains("asleep") && of(1, false).contains("asleep")
    });
    let seen = of(0, false);
    for line in [
        "Uid=2000 2000 2000 2000",
        "CapBnd=0000000000000000",
        "Seccomp=2",
        "env=ROLE=one",
        "cwd=/tmp",
    ] {
        assert!(seen.contains(line), "{line} is not in {seen}");
    }
    // Its init, the app and these two.
    assert_eq!(sandbox.stats().unwrap().pids, 4);
    sandbox.kill().unwrap();
    assert_eq!(sandbox.exit().unwrap().unwrap().sidecar, None);
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn the_end_of_one_is_the_end_of_all() {
    let host = Host::new();
    let (exit, records) = host.run(&beside(
        &host,
        &["sleep"],
        &[("idle", &["sleep"]), ("short", &["exit", "3"])],
    ));
    assert_eq!((exit.code, exit.sidecar.as_deref()), (Some(3), Some("short")));
    let said = text(&records, Stream::System);
    assert!(said.contains("sidecar short exited with status 3"), "{said}");
    // The other way round it is just the app's end.
    let (exit, records) = host.run(&beside(&host, &["exit", "5"], &[("idle", &["sleep"])]));
    assert_eq!((exit.code, exit.sidecar), (Some(5), None));
    assert!(!text(&records, Stream::System).contains("sidecar"));
    host.finish();
}

#[test]
fn one_that_exceeds_its_own_memory_is_told_by_its_name() {
    let host = Host::new();
    for eater in ["eat", "eat-in-child"] {
        let mut spec = beside(&host, &["sleep"], &[("idle", &["sleep"]), ("hungry", &[eater])]);
        spec.limits.memory_bytes = 128 << 20;
        spec.sidecars[0].memory_bytes = Some(16 << 20);
        spec.sidecars[1].memory_bytes = Some(24 << 20);
        let (exit, records) = host.run(&spec);
        let said = text(&records, Stream::System);
        assert_eq!(exit.sidecar.as_deref(), Some("hungry"), "{eater}: {exit:?} {said}");
        let oom = exit.oom.expect("told as out of memory");
        assert_eq!(oom.limit_bytes, 24 << 20);
        assert!((20 << 20..=24 << 20).contains(&oom.peak_bytes), "{oom:?}");
        assert!(
            said.contains("sidecar hungry exceeded its memory limit of 25165824 bytes"),
            "{said}"
        );
        assert!(!said.contains("app instance exceeded"), "{said}");
    }
    host.finish();
}

#[test]
fn memory_that_runs_out_for_all_is_the_apps_whoever_is_killed() {
    let host = Host::new();
    let mut spec = beside(&host, &["eat"], &[("idle", &["sleep"])]);
    spec.limits.memory_bytes = 64 << 20;
    spec.sidecars[0].memory_bytes = Some(16 << 20);
    let (exit, records) = host.run(&spec);
    assert_eq!((exit.signal, exit.sidecar), (Some(libc::SIGKILL), None));
    assert_eq!(exit.oom.expect("told as out of memory").limit_bytes, 64 << 20);
    let said = text(&records, Stream::System);
    assert!(said.contains("app instance exceeded its memory limit"), "{said}");
    // Here the sidecar is the larger one, and below what it may use alone.
    let mut spec = beside(&host, &["eat", "20971520"], &[("hungry", &["eat"])]);
    spec.limits.memory_bytes = 64 << 20;
    spec.sidecars[0].memory_bytes = Some(60 << 20);
    let (exit, records) = host.run(&spec);
    assert_eq!(
        exit.oom.expect("told as out of memory").limit_bytes,
        64 << 20,
        "{exit:?}"
    );
    let said = text(&records, Stream::System);
    assert!(said.contains("app instance exceeded its memory limit"), "{said}");
    host.finish();
}

#[test]
fn what_they_use_is_part_of_the_whole_and_no_share_is_larger() {
    let host = Host::new();
    let mut spec = beside(&host, &["sleep"], &[("fed", &["eat", "8388608"])]);
    spec.sidecars[0].memory_bytes = Some(32 << 20);
    let sandbox = host.create(&spec);
    eventually("what it eats shows", || {
        sandbox.stats().unwrap().memory_bytes >= 8 << 20
    });
    sandbox.kill().unwrap();
    assert_eq!(sandbox.exit().unwrap().unwrap().oom, None);
    sandbox.destroy().unwrap();
    spec.sidecars[0].memory_bytes = Some(1 << 40);
    let refused = host.runtime().create(&spec).unwrap_err().to_string();
    assert!(refused.contains("the memory limit of sidecar fed"), "{refused}");
    host.finish();
}

#[test]
fn a_sidecar_that_cannot_be_started_is_told() {
    let host = Host::new();
    let mut spec = beside(&host, &["sleep"], &[("gone", &[])]);
    spec.sidecars[0].argv = vec!["/bin/missing".to_owned()];
    let sandbox = host.create(&spec);
    let exit = ended(&sandbox);
    assert_eq!((exit.code, exit.sidecar.as_deref()), (Some(127), Some("gone")));
    let said = text(&records(&sandbox), Stream::System);
    assert!(said.contains("sidecar gone could not be started: execute"), "{said}");
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn all_are_told_to_stop_and_the_app_takes_the_time_it_needs() {
    let host = Host::new();
    let sandbox = host.create(&beside(&host, &["term"], &[("quick", &["sleep"])]));
    printed(&sandbox, "ready");
    eventually("the sidecar has begun", || {
        text(&records(&sandbox), Stream::Sidecar(0, false)).contains("asleep")
    });
    sandbox.signal(libc::SIGTERM).unwrap();
    let exit = ended(&sandbox);
    assert_eq!((exit.code, exit.sidecar), (Some(42), None));
    sandbox.destroy().unwrap();
    host.finish();
}
