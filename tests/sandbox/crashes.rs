//! Agents and spawners that are killed with SIGKILL, at any moment: what runs goes on, what
//! was half made can be cleared away, nothing leaks.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::kit::{Host, ended, eventually, printed, records, text};
use crate::lifecycle::exec_output;
use sandbox::Error;
use sandbox::log::Stream;

/// Set for the process that plays the agent.
const VICTIM: &str = "SANDBOX_TEST_VICTIM";

/// Another process of this test program as the agent of `host`'s folders.
fn agent(host: &Host) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashes::plays_the_agent", "--nocapture"])
        .env(VICTIM, serde_json::to_string(&host.identity()).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// No test by itself: the others here start it in a process of its own, to be killed.
#[test]
fn plays_the_agent() {
    let Ok(identity) = std::env::var(VICTIM) else { return };
    let host = Host::again(serde_json::from_str(&identity).unwrap());
    for round in 0..1000 {
        let sandbox = host.create(&host.spec(&format!("round{round}"), &["term"]));
        printed(&sandbox, "ready");
        let keep = round % 3 == 0;
        println!("\nround {round} {keep}");
        if !keep {
            sandbox.destroy().unwrap();
        }
    }
}

#[test]
fn an_agent_killed_at_any_moment_leaves_nothing_that_cannot_be_found() {
    let mut host = Host::new();
    drop(host.runtime.take());
    for attempt in 0..8u64 {
        let mut child = agent(&host);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap().starts_with("round 0 ")),
            "the agent never started"
        );
        // A different moment of a round each time.
        let moment = Instant::now() + Duration::from_micros(attempt * 3700);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();

        host.open();
        let survivor = host.runtime().adopt("round0").unwrap().expect("it was running");
        assert_eq!(survivor.exit().unwrap(), None);
        survivor.signal(libc::SIGTERM).unwrap();
        assert_eq!(ended(&survivor).code, Some(42));
        assert!(text(&records(&survivor), Stream::Out).ends_with("ending with 42"));
        drop(survivor);
        for id in host.runtime().list().unwrap() {
            if let Some(sandbox) = host.runtime().adopt(&id).unwrap() {
                sandbox.exit().unwrap();
            }
        }
        host.runtime().sweep(&HashSet::new()).unwrap();
        assert_eq!(host.runtime().list().unwrap(), Vec::<String>::new());
        eventually("all processes are gone", || host.processes().is_empty());
        eventually("all loop devices are free", || host.loops().is_empty());
        drop(host.runtime.take());
    }
    host.open();
    host.finish();
}

/// The spawner's pid, by the state folder in whose log it writes.
pub fn spawner(host: &Host) -> i32 {
    find_spawner(host).expect("a spawner runs")
}

/// The same, if there is one.
pub fn find_spawner(host: &Host) -> Option<i32> {
    let log = host.dir.path().join("state/spawner.log");
    let is_it = |pid: &i32| {
        std::fs::read_link(format!("/proc/{pid}/fd/2")).is_ok_and(|target| target == *log)
            && std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "paas-spawner")
    };
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.into_iter().find(is_it)
}

#[test]
fn a_new_build_of_init_replaces_the_spawner() {
    let mut host = Host::new();
    let before = host.create(&host.spec("before", &["term"]));
    printed(&before, "ready");
    let old = spawner(&host);
    drop(before);
    drop(host.runtime.take());
    let copy = host.dir.path().join("paas-init");
    std::fs::copy(&host.init_path, &copy).unwrap();
    host.init_path = copy;
    host.open();
    eventually("the old one is gone", || {
        !Path::new("/proc").join(old.to_string()).exists()
    });
    let before = host.runtime().adopt("before").unwrap().unwrap();
    assert_eq!(exec_output(&before, &["exit", "9"]).0, Some(9));
    host.create(&host.spec("after", &["sleep"])).destroy().unwrap();
    before.destroy().unwrap();
    host.finish();
}

#[test]
fn a_killed_spawner_is_replaced_and_nobody_notices() {
    let host = Host::new();
    let before = host.create(&host.spec("before", &["term"]));
    printed(&before, "ready");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(spawner(&host)),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    // One request may be lost with it; the next one starts another.
    let spec = host.spec("after", &["sleep"]);
    let after = host.runtime().create(&spec).or_else(|error| match error {
        Error::Spawner { .. } => host.runtime().create(&spec),
        other => Err(other),
    });
    let after = after.unwrap();
    assert_eq!(exec_output(&before, &["exit", "9"]).0, Some(9));
    before.signal(libc::SIGTERM).unwrap();
    assert_eq!(ended(&before).code, Some(42));
    before.destroy().unwrap();
    after.destroy().unwrap();
    assert!(Path::new("/proc").join(spawner(&host).to_string()).exists());
    host.finish();
}
