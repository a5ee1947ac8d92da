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
