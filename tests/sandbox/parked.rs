//! Parked sandboxes: they are taken when they fit and only then, nothing of them is left, and
//! everything that is promised of sandboxes holds for them.

use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Instant;

use sandbox::log::Stream;
use sandbox::{ParkSpec, Parking, Sandbox, Spec};

use crate::kit::{Host, PATIENCE, STARTS, ended, eventually, printed, records, text};

fn host(max: usize) -> Host {
    let mut host = Host::new();
    host.parked = Parking {
        max,
        ..Parking::default()
    };
    host.reopen();
    host
}

/// With blank ones that wait.
fn blank_host(blanks: usize) -> Host {
    let mut host = Host::new();
    host.parked = Parking {
        blanks,
        ..Parking::default()
    };
    host.reopen();
    host.runtime().make_ready(false).unwrap();
    wait(&host);
    assert_eq!(host.runtime().blanks(), blanks);
    host
}

fn was_blank(sandbox: &Sandbox) -> bool {
    sandbox.start_report().unwrap().blank
}

fn wait(host: &Host) {
    assert!(
        host.runtime().await_parked(Instant::now() + PATIENCE),
        "nothing is parked"
    );
}

/// Runs whole groups of tests again, each sandbox out of a parked one.
fn again(start: &str) {
    let groups = [
        "isolation::",
        "limits::",
        "resources::",
        "lifecycle::",
        "logs::",
        "network::",
        "sidecars::",
        "escapes::every_",
    ];
    let output = Command::new(std::env::current_exe().unwrap())
        .args(groups)
        .args(["--test-threads", "2"])
        .env(STARTS, start)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(told.contains("isolation::"), "nothing was run: {told}");
}

#[test]
fn all_that_is_promised_holds_when_the_root_was_known() {
    if std::env::var(STARTS).is_err() {
        again("whole");
    }
}

#[test]
fn all_that_is_promised_holds_when_the_root_was_not_known() {
    if std::env::var(STARTS).is_err() {
        again("shape");
    }
}

#[test]
fn all_that_is_promised_holds_of_what_was_blank() {
    if std::env::var(STARTS).is_err() {
        again("blank");
    }
}

#[test]
fn a_blank_one_fits_whatever_is_asked_for() {
    let host = blank_host(1);
    let changes: [fn(&mut Spec); 5] = [
        |s| s.disk_bytes *= 2,
        |s| s.inodes *= 2,
        |s| s.process.uid = 3000,
        |s| s.limits.memory_bytes = 96 << 20,
        |s| (s.process.terminal, s.hostname) = (true, "another".to_owned()),
    ];
    for change in changes {
        wait(&host);
        let mut spec = host.spec("a", &["term"]);
        change(&mut spec);
        let sandbox = host.create(&spec);
        assert!(was_blank(&sandbox) && !sandbox.was_parked());
        let (_, name) = crate::lifecycle::exec_output(&sandbox, &["read", "/proc/sys/kernel/hostname"]);
        assert_eq!(name.trim(), spec.hostname);
        let (_, mounts) = crate::lifecycle::exec_output(&sandbox, &["read", "/proc/self/mounts"]);
        let shm = format!("size={}k", spec.limits.memory_bytes / 2 / 1024);
        assert!(mounts.contains("/dev/shm tmpfs") && mounts.contains(&shm), "{mounts}");
        assert_eq!(sandbox.limits(), spec.limits);
        sandbox.destroy().unwrap();
    }
    host.finish();
}

#[test]
fn an_app_opens_its_output_anew_in_what_was_blank() {
    let host = blank_host(1);
    let mut spec = host.spec("a", &["reopen"]);
    spec.process.uid = 3000;
    let sandbox = host.create(&spec);
    assert!(was_blank(&sandbox));
    let exit = ended(&sandbox);
    assert_eq!(exit.code, Some(0));
    let records = records(&sandbox);
    assert_eq!(text(&records, Stream::Out), "through /dev/stdout");
    assert_eq!(text(&records, Stream::Err), "through /dev/stderr");
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn a_blank_one_that_died_is_made_up_for() {
    let host = blank_host(1);
    let spec = host.spec("a", &["term"]);
    let mut waiting = Vec::new();
    eventually("the app's process waits", || {
        waiting = host.processes();
        !waiting.is_empty()
    });
    kill(&waiting);
    let sandbox = host.create(&spec);
    printed(&sandbox, "ready");
    assert!(!was_blank(&sandbox));
    sandbox.destroy().unwrap();
    wait(&host);
    let sandbox = host.create(&spec);
    assert!(was_blank(&sandbox));
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn as_many_blank_ones_wait_as_are_permitted_and_they_end_with_the_agent() {
    let mut host = blank_host(2);
    let before = host.runtime().list().unwrap();
    assert_eq!(before, Vec::<String>::new(), "they are nobody's");
    let first = host.create(&host.spec("a", &["sleep"]));
    let second = host.create(&host.spec("b", &["sleep"]));
    let third = host.create(&host.spec("c", &["sleep"]));
    assert!(was_blank(&first) && was_blank(&second));
    wait(&host);
    assert_eq!(host.runtime().blanks(), 2);
    for sandbox in [first, second, third] {
        sandbox.destroy().unwrap();
    }
    host.parked = Parking::default();
    host.reopen();
    assert_eq!(host.runtime().blanks(), 0);
    eventually("their processes are gone", || host.processes().is_empty());
    let folder = host.dir.path().join("state/parked");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    host.finish();
}

#[test]
fn one_that_fits_is_taken_and_another_follows() {
    let host = host(1);
    let spec = host.spec("a", &["say", "here"]);
    host.runtime().park(&ParkSpec::whole(&spec), 1).unwrap();
    wait(&host);
    assert_eq!(host.runtime().parked(), 1);
    assert_eq!(host.runtime().list().unwrap(), Vec::<String>::new(), "it is nobody's");
    let sandbox = host.create(&spec);
    let report = sandbox.start_report().unwrap();
    assert!(
        sandbox.was_parked() && report.phases.iter().any(|p| p.name == "init: app executes"),
        "{report:?}"
    );
    assert_eq!(ended(&sandbox).code, Some(0));
    assert_eq!(text(&records(&sandbox), Stream::Out), "here");
    wait(&host);
    assert_eq!(host.runtime().list().unwrap(), ["a"]);
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn one_that_does_not_fit_is_left_alone() {
    let host = host(1);
    let spec = host.spec("a", &["sleep"]);
    host.runtime().park(&ParkSpec::whole(&spec), 1).unwrap();
    wait(&host);
    let changes: [fn(&mut Spec); 5] = [
        |s| s.disk_bytes *= 2,
        |s| s.inodes *= 2,
        |s| s.layers.push("/usr/lib".into()),
        |s| s.process.uid = 3000,
        |s| s.process.terminal = true,
    ];
    for change in changes {
        let mut other = host.spec("b", &["sleep"]);
        change(&mut other);
        let sandbox = host.create(&other);
        assert!(!sandbox.was_parked());
        sandbox.destroy().unwrap();
    }
    assert_eq!(host.runtime().parked(), 1);
    host.finish();
}

#[test]
fn other_limits_and_names_are_set_when_it_is_taken() {
    let host = host(1);
    let mut spec = host.spec("a", &["sleep"]);
    host.runtime().park(&ParkSpec::whole(&spec), 1).unwrap();
    wait(&host);
    spec.limits.memory_bytes = 96 << 20;
    spec.limits.pids = 33;
    spec.limits.cpu_quota = Some(0.5);
    spec.hostname = "another".to_owned();
    spec.files.push(("/etc/made/note".into(), b"words".to_vec(), 0o640));
    let sandbox = host.create(&spec);
    assert!(sandbox.was_parked());
    assert_eq!(sandbox.limits().pids, 33);
    let (_, name) = crate::lifecycle::exec_output(&sandbox, &["read", "/proc/sys/kernel/hostname"]);
    assert_eq!(name.trim(), "another");
    let (_, note) = crate::lifecycle::exec_output(&sandbox, &["read", "/etc/made/note"]);
    assert_eq!(note.trim(), "words");
    let (_, mounts) = crate::lifecycle::exec_output(&sandbox, &["read", "/proc/self/mounts"]);
    assert!(
        mounts.contains("/dev/shm tmpfs") && mounts.contains("size=49152k"),
        "{mounts}"
    );
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn a_name_that_is_taken_is_refused_and_the_parked_one_stays() {
    let host = host(1);
    let spec = host.spec("a", &["sleep"]);
    host.runtime().park(&ParkSpec::whole(&spec), 1).unwrap();
    wait(&host);
    let first = host.create(&spec);
    wait(&host);
    assert!(matches!(
        host.runtime().create(&spec),
        Err(sandbox::Error::Exists { .. })
    ));
    assert_eq!(host.runtime().parked(), 1);
    first.destroy().unwrap();
    host.finish();
}

#[test]
fn one_whose_layer_is_another_by_now_is_not_taken() {
    let host = host(1);
    let mut spec = host.spec("a", &["read", "/only-here"]);
    let layer = host.dir.path().join("more");
    std::fs::create_dir(&layer).unwrap();
    std::fs::write(layer.join("only-here"), "old").unwrap();
    spec.layers.insert(0, layer.clone());
    host.runtime().park(&ParkSpec::whole(&spec), 1).unwrap();
    wait(&host);
    let before = std::fs::metadata(&layer).unwrap().ino();
    std::fs::rename(&layer, host.dir.path().join("gone")).unwrap();
    std::fs::create_dir(&layer).unwrap();
    std::fs::write(layer.join("only-here"), "new").unwrap();
    assert_ne!(std::fs::metadata(&layer).unwrap().ino(), before);
    let sandbox = host.create(&spec);
    assert!(!sandbox.was_parked());
    ended(&sandbox);
    assert_eq!(text(&records(&sandbox), Stream::Out), "new");
    sandbox.destroy().unwrap();
    wait(&host);
    host.runtime().unpark(&layer).unwrap();
    assert_eq!(host.runtime().parked(), 0);
    host.finish();
}

fn kill(pids: &[i32]) {
    for pid in pids {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
    }
}

#[test]
fn one_that_died_is_not_taken_but_replaced() {
    let host = host(1);
    let spec = host.spec("a", &["term"]);
    host.runtime().park(&ParkSpec::whole(&spec), 1).unwrap();
    wait(&host);
    kill(&host.processes());
    eventually("it is dead", || host.processes().is_empty());
    let sandbox = host.create(&spec);
    printed(&sandbox, "ready");
    sandbox.destroy().unwrap();
    wait(&host);
    let sandbox = host.create(&spec);
    assert!(sandbox.was_parked());
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn one_of_which_only_half_lives_is_made_up_for() {
    let host = host(1);
    let spec = host.spec("a", &["term"]);
    // Its init is the host's root still, so that only the app's process has a user of the range.
    host.runtime().park(&ParkSpec::shape(&spec), 1).unwrap();
    wait(&host);
    // It is on its way to being that user when its init says that all is done.
    let mut half = Vec::new();
    eventually("the app's process waits", || {
        half = host.processes();
        !half.is_empty()
    });
    kill(&half);
    let sandbox = host.create(&spec);
    printed(&sandbox, "ready");
    assert!(!sandbox.was_parked());
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn more_is_never_kept_than_permitted_and_the_latest_wish_counts() {
    let host = host(2);
    let spec = host.spec("a", &["sleep"]);
    host.runtime().park(&ParkSpec::whole(&spec), 5).unwrap();
    wait(&host);
    assert_eq!(host.runtime().parked(), 2);
    let mut other = spec.clone();
    other.inodes *= 2;
    host.runtime().park(&ParkSpec::shape(&other), 1).unwrap();
    eventually("the new wish is fulfilled", || {
        wait(&host);
        let sandbox = host.create(&Spec {
            id: "b".to_owned(),
            ..other.clone()
        });
        let parked = sandbox.was_parked();
        sandbox.destroy().unwrap();
        parked
    });
    wait(&host);
    assert!(host.runtime().parked() <= 2);
    host.runtime().park(&ParkSpec::shape(&other), 0).unwrap();
    host.runtime().park(&ParkSpec::whole(&spec), 0).unwrap();
    eventually("nothing is parked", || host.runtime().parked() == 0);
    eventually("their processes are gone", || host.processes().is_empty());
    host.finish();
}
