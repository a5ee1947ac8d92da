//! The supervisor of sessions, as the program that is shipped: it ends as its command does, and leaves nothing.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};

/// A session that runs this line.
fn session(line: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_paas-lifecycle"))
        .args(["session", "--", "/bin/sh", "-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a process");
    kill_process(pid, signal).expect("ours");
}

/// Lines up to and with `last`.
fn lines(child: &mut Child, last: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut reader = BufReader::new(child.stdout.as_mut().expect("piped"));
    while lines.last().is_none_or(|line| line != last) {
        let mut line = String::new();
        assert!(
            reader.read_line(&mut line).expect("text") > 0,
            "{last:?} was not said: {lines:?}"
        );
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// Whether a process with this id runs.
fn is_there(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn it_ends_as_its_command_does() {
    for (line, code, by) in [
        ("exit 0", Some(0), None),
        ("exit 42", Some(42), None),
        ("kill -TERM $$", None, Some(15)),
    ] {
        let ended = session(line).wait().expect("it ends");
        assert_eq!((ended.code(), ended.signal()), (code, by), "{line}");
    }
    let mut missing = Command::new(env!("CARGO_BIN_EXE_paas-lifecycle"));
    let ended = missing
        .args(["session", "--", "/no/such/program"])
        .stderr(Stdio::null())
        .status();
    assert_eq!(ended.expect("it ends").code(), Some(126));
}

#[test]
fn signals_go_to_the_command() {
    let mut child = session("trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.02; done");
    lines(&mut child, "ready");
    signal(&child, Signal::USR1);
    lines(&mut child, "got");
    assert_eq!(child.wait().expect("it ends").code(), Some(5));
}

#[test]
fn what_it_left_in_the_background_is_gone_whatever_it_did_to_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let flag = folder.path().join("flag").display().to_string();
    let line = format!(
        "setsid sleep 1001 >/dev/null & echo $!; nohup sleep 1002 >/dev/null 2>&1 & echo $!; \
         (trap '' HUP TERM; setsid sh -c 'trap \"\" HUP; echo $$; echo begun; : >{flag}; sleep 1003; :' &); \
         while [ ! -e {flag} ]; do sleep 0.02; done; exit 3"
    );
    let mut child = session(&line);
    let pids = lines(&mut child, "begun");
    assert_eq!(child.wait().expect("it ends").code(), Some(3));
    let left: Vec<&String> = pids
        .iter()
        .filter(|pid| pid.parse::<u32>().is_ok() && is_there(pid))
        .collect();
    assert!(left.is_empty() && pids.len() == 4, "{pids:?} {left:?}");
}

#[test]
fn a_session_that_is_gone_ends_a_command_that_does_not_listen() {
    for gone in [Signal::HUP, Signal::POWER] {
        let mut child = session("trap '' HUP TERM INT; echo $$; echo begun; while :; do sleep 1; done");
        let pids = lines(&mut child, "begun");
        signal(&child, gone);
        let ended = child.wait().expect("it ends");
        assert_eq!(ended.signal(), Some(9), "{gone:?}: the command was killed");
        assert!(!is_there(&pids[0]));
    }
}

#[test]
fn one_that_stops_goes_on() {
    let mut child = session("echo before; kill -STOP $$; echo after");
    let said = lines(&mut child, "after");
    assert_eq!(said, ["before", "after"]);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn what_can_not_be_reached_is_said() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = listener.local_addr().expect("bound").port().to_string();
    drop(listener);
    let mut child = Command::new(env!("CARGO_BIN_EXE_paas-lifecycle"))
        .args(["connect", "localhost", &port])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let (mut out, mut err) = (String::new(), String::new());
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut out)
        .expect("text");
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut err)
        .expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert!(out.is_empty() && err.contains("refused"), "{out:?} {err:?}");
}
