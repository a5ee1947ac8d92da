//! Sandboxes of an agent that is not root on the host. Needs root, to become an ordinary user that nobody has: with
//! subordinate ids and without, each test in mounts and a network of its own, so that nothing of the machine changes.
//!
//! A program without the usual harness: an agent moves into its namespaces while it has one thread.
//!
//! ```text
//! test (root) ─ the caller, an ordinary user ─ first of the namespaces ─ the agent, which is the test's body
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is a failed test")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is its own harness")]

#[allow(dead_code, reason = "it serves the other suite too")]
#[path = "../kit.rs"]
mod kit;

mod bodies;
mod user;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};

use bodies::*;
use kit::{chain, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox::unprivileged::{self, Entered, Place};
use user::{Ids, User};

/// Address of the caller's network.
const AWAY: &str = "192.0.2.1";
/// Makes this program the caller of the test that is named next, as the user who is described after that.
const CALLER: &str = "--caller";
/// What a body says that waits for its end.
const READY: &str = "ready\n";

/// How a test ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// Its body returns.
    Itself,
    /// The caller gets this signal once the body has said that it is ready.
    Caller(Signal),
}

/// Gets the user, what the agent found, and a socket of the network that the caller is in.
type Body = fn(&User, &'static Place, TcpListener);

struct Test {
    name: &'static str,
    ids: Ids,
    /// Whether there is the device by which slirp4netns works.
    way_out: bool,
    /// Whether a setting forbids user namespaces.
    forbidden: bool,
    /// What sandboxes are made of, as `kit` knows it.
    starts: Option<&'static str>,
    end: End,
    body: Body,
}

const fn test(name: &'static str, ids: Ids, body: Body) -> Test {
    Test {
        name,
        ids,
        way_out: false,
        forbidden: false,
        starts: None,
        end: End::Itself,
        body,
    }
}

const TESTS: [Test; 15] = [
    test("an_app_sees_nothing_but_itself", Ids::Many, sees_nothing),
    test("with_one_id_it_is_the_apps", Ids::One, one_id),
    test("attempts_to_get_out_fail", Ids::Many, escapes),
    test("attempts_to_get_out_fail_with_one_id", Ids::One, escapes_of_one),
    test("an_app_runs_is_joined_and_ends", Ids::Many, runs),
    test("the_same_with_one_id", Ids::One, runs),
    Test {
        starts: Some("whole"),
        ..test("a_parked_sandbox_starts", Ids::Many, parked)
    },
    test("disk_files_and_processes_have_limits", Ids::Many, limits),
    test("processes_have_a_limit_with_one_id", Ids::One, processes),
    test("the_agent_reaches_in_and_nobody_out", Ids::One, network),
    test("what_is_missing_is_told", Ids::One, told),
    Test {
        forbidden: true,
        ..test("a_setting_that_forbids_it_is_named", Ids::Many, unreachable)
    },
    Test {
        way_out: true,
        ..test("a_way_out_leads_where_the_policy_allows", Ids::Many, way_out)
    },
    Test {
        end: End::Caller(Signal::SIGKILL),
        ..test("all_ends_with_a_caller_that_is_killed", Ids::Many, stays)
    },
    Test {
        end: End::Caller(Signal::SIGTERM),
        ..test("apps_are_asked_to_end_with_the_agent", Ids::One, stays)
    },
];

/// Answers what test runners ask: a list, or tests by name; without a name all of them run.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == CALLER) {
        return ExitCode::from(caller(&arguments[1..]));
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        if !has("--ignored") {
            TESTS.iter().for_each(|test| println!("{}: test", test.name));
        }
        return ExitCode::SUCCESS;
    }
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |test: &&Test| names.is_empty() || names.iter().any(|name| test.name.contains(name.as_str()));
    let results: Vec<bool> = TESTS.iter().filter(wanted).map(run).collect();
    let passed = results.iter().filter(|passed| **passed).count();
    println!("{passed} passed, {} failed", results.len() - passed);
    ExitCode::from(u8::from(passed < results.len()))
}

fn run(test: &Test) -> bool {
    let passed = std::panic::catch_unwind(|| outside(test)).is_ok();
    println!("test {} ... {}", test.name, if passed { "ok" } else { "FAILED" });
    passed
}

/// The test as root: starts the caller, ends it, and looks for what is left.
fn outside(test: &Test) {
    let folder = tempfile::Builder::new().prefix("paas-user-").tempdir().unwrap();
    let seen = tempfile::Builder::new().prefix("paas-seen-").tempdir().unwrap();
    let user = User::new(folder.path(), seen.path(), test.ids);
    let mut caller = Command::new("/proc/self/exe");
    caller.args([CALLER, test.name]).args(user.as_arguments());
    caller
        .env("TMPDIR", &user.dir)
        .env("PAAS_INIT", user.dir.join("paas-init"));
    caller.envs(test.starts.map(|starts| (kit::STARTS, starts)));
    if test.end != End::Itself {
        caller.stdout(Stdio::piped());
    }
    let mut caller = caller.spawn().unwrap();
    if let End::Caller(signal) = test.end {
        let mut says = BufReader::new(caller.stdout.take().unwrap());
        let mut line = String::new();
        says.read_line(&mut line).unwrap();
        assert_eq!(line, READY, "the body gets ready");
        assert!(user.processes().len() >= 5, "{:?}", user.processes());
        kill(Pid::from_raw(caller.id().cast_signed()), signal).unwrap();
    }
    let status = caller.wait().unwrap();
    eventually("no process is left", || user.processes().is_empty());
    let expected = match test.end {
        End::Itself => (Some(0), None),
        End::Caller(Signal::SIGKILL) => (None, Some(libc::SIGKILL)),
        // The agent has no handler for it here, and its end is the caller's.
        End::Caller(signal) => (Some(128 + signal as i32), None),
    };
    assert_eq!((status.code(), status.signal()), expected);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(folder.path().to_str().unwrap()), "mounts left");
    if test.end == End::Caller(Signal::SIGTERM) {
        let exit = folder.path().join("state/sandboxes/stays/log/exit.json");
        let exit = std::fs::read_to_string(&exit).expect("the app had time to end, and its init to say how");
        assert!(exit.contains("\"code\":42"), "{exit}");
    }
}

/// The caller and, in its namespaces, the agent.
fn caller(arguments: &[String]) -> u8 {
    let test = TESTS.iter().find(|test| test.name == arguments[0]).unwrap();
    let user = User::again(&arguments[1..]);
    user.become_him(test.ids, test.way_out);
    let listener = TcpListener::bind((AWAY, 0)).unwrap();
    if test.forbidden {
        refused(listener);
        return 0;
    }
    match unprivileged::enter(listener) {
        Ok(Entered::Ended(code)) => code,
        Ok(Entered::Inside(place, listener)) => {
            assert!(rustix::process::geteuid().is_root() && unprivileged::confined());
            (test.body)(&user, place, listener);
            0
        }
        Err(error) => panic!("{}", chain(&error)),
    }
}
