//! What would be left of apps that do what they can not to end, if less was done to end them.

use std::os::fd::AsFd;
use std::time::Duration;

use super::{Host, table};
use crate::escapes::bundle::{Bundle, Line, Runner};
use crate::escapes::teardown::{nothing_is_left, resisting, word};
use crate::kit::{eventually, printed};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Kills every process of the test's ids, whoever started it.
fn clear(host: &Host) {
    eventually("the twin is gone", || {
        let all = host.processes();
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for &pid in &all {
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
        all.is_empty()
    });
}

/// The twin: only its first process is killed, and there is no namespace that ends with it.
fn outlives_its_first_process(test: &str, kind: &str) {
    let host = Host::new();
    let sandbox = resisting(&host, kind);
    sandbox.destroy().unwrap();
    nothing_is_left(&host);

    let lines = [Line::Without("pid"), Line::Without("user")];
    let mut bundle = Bundle::new(&host, &host.spec("twin", &[kind]), &lines);
    // By its ids it is known afterwards.
    let own = host.uids().end - 1;
    bundle.config["process"]["user"] = serde_json::json!({ "uid": own, "gid": own });
    let mut child = bundle.start(Runner::Runc);
    eventually("the twin resists", || bundle.output().contains(word(kind)));
    kill(Pid::from_raw(bundle.pid(Runner::Runc)), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    let left = host.processes().len();
    clear(&host);
    assert!(left > 0, "the twin has ended");
    table::record(test, "all of it is gone", "processes that outlive it");
    drop(bundle);
    host.finish();
}

#[test]
fn fork_bomb() {
    outlives_its_first_process("fork-bomb", "bomb");
}

#[test]
fn stubborn() {
    outlives_its_first_process("stubborn", "stubborn");
}

#[test]
fn frozen() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("frozen", &["sleep"]));
    printed(&sandbox, "asleep");
    sandbox.freeze(true).unwrap();
    sandbox.destroy().unwrap();
    nothing_is_left(&host);

    let bundle = Bundle::new(&host, &host.spec("twin", &["sleep"]), &[]);
    let mut child = bundle.start(Runner::Runc);
    eventually("the twin runs", || bundle.output().contains("asleep"));
    let pid = bundle.pid(Runner::Runc);
    bundle.ask(Runner::Runc, &["pause"], &[]);
    let known = rustix::process::Pid::from_raw(pid).unwrap();
    let pidfd = rustix::process::pidfd_open(known, rustix::process::PidfdFlags::empty()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let moment = PollTimeout::try_from(Duration::from_millis(300)).unwrap();
    let has_ended = poll(&mut ended, moment).unwrap() == 1;
    bundle.ask(Runner::Runc, &["resume"], &[]);
    child.wait().unwrap();
    // The freezer of control groups v2 lets that signal through.
    let lets_through = host.runtime().isolation().cgroups == "v2";
    assert_eq!(has_ended, lets_through);
    table::record(
        "frozen",
        "all of it is gone",
        "a process that does not end until it is thawed",
    );
    drop(bundle);
    host.finish();
}
