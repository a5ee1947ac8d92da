//! From creation to destruction, with the agent dying at every stage in between.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Instant;

use sandbox::log::Stream;
use sandbox::{Error, Exec, ExecSpec, Sandbox};

use crate::kit::{Host, PATIENCE, chain, ended, eventually, printed, readable, records, text};

/// A further process of the probe.
pub fn exec_spec(argv: &[&str]) -> ExecSpec {
    let mut all = vec!["/bin/probe".to_owned()];
    all.extend(argv.iter().map(|&a| a.to_owned()));
    ExecSpec {
        argv: all,
        env: vec![("A".into(), "b".into())],
        cwd: "/".into(),
        uid: 2000,
        tty: None,
    }
}

fn read_all(fd: &mut Option<OwnedFd>) -> String {
    let mut text = Vec::new();
    let mut file = std::fs::File::from(fd.take().unwrap());
    // A terminal ends with EIO.
    let _ = file.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn finish(exec: &Exec) -> Option<i32> {
    exec.wait(Instant::now() + PATIENCE).unwrap().expect("it ends").code
}

/// Runs it to the end: code and standard output.
pub fn exec_output(sandbox: &Sandbox, argv: &[&str]) -> (Option<i32>, String) {
    let mut exec = sandbox
        .exec(&exec_spec(argv))
        .unwrap_or_else(|e| panic!("exec: {}", chain(&e)));
    drop(exec.stdin.take());
    let output = read_all(&mut exec.stdout);
    (finish(&exec), output)
}

#[test]
fn exit_codes_and_signals_are_told() {
    let host = Host::new();
    let (exit, _) = host.run(&host.spec("code", &["exit", "7"]));
    assert_eq!((exit.code, exit.signal, exit.oom), (Some(7), None, None));
    assert!(exit.started_ns <= exit.ended_ns && exit.started_ns > 0);
    let (exit, _) = host.run(&host.spec("abort", &["abort"]));
    assert_eq!((exit.code, exit.signal), (None, Some(libc::SIGABRT)));
    host.finish();
}

#[test]
fn a_program_that_cannot_run_is_an_error_that_leaves_nothing() {
    let host = Host::new();
    let mut spec = host.spec("missing", &[]);
    spec.process.argv = vec!["nosuch".into()];
    let error = host.runtime().create(&spec).unwrap_err();
    let Error::Program { program, source, .. } = &error else {
        panic!("{}", chain(&error))
    };
    assert_eq!(
        (program.as_str(), source.raw_os_error()),
        ("nosuch", Some(libc::ENOENT))
    );
    spec.process.argv = vec!["/etc/passwd".into()];
    let error = host.runtime().create(&spec).unwrap_err();
    assert!(chain(&error).contains("Permission denied"), "{}", chain(&error));
    let mut spec = host.spec("missing", &["view"]);
    spec.process.cwd = "/nowhere".into();
    assert!(matches!(host.runtime().create(&spec), Err(Error::Start { .. })));
    spec.layers = vec!["/nowhere".into()];
    assert!(matches!(host.runtime().create(&spec), Err(Error::Start { .. })));
    assert!(host.groups().is_empty() || host.runtime().list().unwrap().is_empty());
    host.finish();
}

#[test]
fn signals_reach_the_app_and_its_last_words_are_kept() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("term", &["term"]));
    printed(&sandbox, "ready");
    assert_eq!(sandbox.exit().unwrap(), None);
    sandbox.signal(libc::SIGTERM).unwrap();
    let exit = ended(&sandbox);
    assert_eq!(exit.code, Some(42));
    assert!(text(&records(&sandbox), Stream::Out).ends_with("got SIGTERM, ending with 42"));
    assert!(matches!(sandbox.signal(libc::SIGTERM), Err(Error::NotRunning { .. })));
    sandbox.kill().unwrap();
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn kill_ends_everything_even_what_is_frozen() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("kill", &["sleep"]));
    printed(&sandbox, "asleep");
    sandbox.kill().unwrap();
    let exit = sandbox.exit().unwrap().unwrap();
    assert_eq!((exit.signal, exit.oom), (Some(libc::SIGKILL), None));
    sandbox.destroy().unwrap();

    let sandbox = host.create(&host.spec("frozen", &["sleep"]));
    sandbox.freeze(true).unwrap();
    sandbox.kill().unwrap();
    assert_eq!(sandbox.exit().unwrap().unwrap().signal, Some(libc::SIGKILL));
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn what_an_app_leaves_behind_ends_with_it() {
    let host = Host::new();
    let (exit, records) = host.run(&host.spec("daemon", &["daemon"]));
    assert_eq!(exit.code, Some(0));
    assert_eq!(text(&records, Stream::Out), "left a daemon");
    host.finish();
}

#[test]
fn orphans_are_reaped() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("zombies", &["zombies"]));
    printed(&sandbox, "made");
    eventually("only init and the app are left", || sandbox.stats().unwrap().pids == 2);
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn a_name_is_taken_once_and_free_again_afterwards() {
    let host = Host::new();
    let spec = host.spec("name", &["sleep"]);
    let sandbox = host.create(&spec);
    assert!(matches!(host.runtime().create(&spec), Err(Error::Exists { .. })));
    assert_eq!(host.runtime().list().unwrap(), ["name"]);
    sandbox.destroy().unwrap();
    host.create(&spec).destroy().unwrap();
    host.finish();
}

#[test]
fn further_processes_share_the_world_of_the_app() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("exec", &["sleep"]));
    let (code, view) = exec_output(&sandbox, &["view"]);
    assert_eq!(code, Some(0));
    for line in [
        "CapEff=0000000000000000",
        "CapBnd=0000000000000000",
        "NoNewPrivs=1",
        "Seccomp=2",
        "env=A=b",
    ] {
        assert!(view.lines().any(|l| l == line), "{line} in {view}");
    }
    assert_eq!(exec_output(&sandbox, &["exit", "3"]).0, Some(3));

    let mut exec = sandbox.exec(&exec_spec(&["cat"])).unwrap();
    let mut input = std::fs::File::from(exec.stdin.take().unwrap());
    input.write_all(b"quiet words").unwrap();
    drop(input);
    assert_eq!(read_all(&mut exec.stdout), "QUIET WORDS");
    assert!(read_all(&mut exec.stderr).starts_with("terminal=pipe:"));
    assert_eq!(finish(&exec), Some(0));

    let mut missing = exec_spec(&["x"]);
    missing.argv = vec!["nosuch".into()];
    assert!(matches!(sandbox.exec(&missing), Err(Error::Program { .. })));
    // Its output is not the app's.
    assert_eq!(text(&records(&sandbox), Stream::Out), "asleep");
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn a_terminal_is_a_terminal() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("tty", &["sleep"]));
    let mut spec = exec_spec(&["cat"]);
    spec.tty = Some((30, 100));
    let mut exec = sandbox.exec(&spec).unwrap();
    exec.resize(40, 120).unwrap();
    let terminal = exec.terminal.take().unwrap();
    let mut writer = std::fs::File::from(terminal.try_clone().unwrap());
    writer.write_all(b"words\n\x04").unwrap();
    let output = read_all(&mut Some(terminal));
    assert!(
        output.contains("WORDS") && output.contains("terminal=/dev/pts/0"),
        "{output}"
    );
    assert_eq!(finish(&exec), Some(0));

    let mut exec = sandbox
        .exec(&{
            let mut spec = exec_spec(&["sleep"]);
            spec.tty = Some((24, 80));
            spec
        })
        .unwrap();
    let before = sandbox.stats().unwrap().pids;
    drop(exec.terminal.take());
    drop(exec);
    eventually("hanging up ends it", || sandbox.stats().unwrap().pids < before);
    sandbox.destroy().unwrap();

    let mut app = host.spec("app-tty", &["read", "/proc/self/status"]);
    app.process.terminal = true;
    let (exit, records) = host.run(&app);
    assert_eq!(exit.code, Some(0));
    assert!(text(&records, Stream::Out).contains("NoNewPrivs"));
    host.finish();
}

#[test]
fn signals_reach_a_further_process() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("exec-signal", &["sleep"]));
    let mut exec = sandbox.exec(&exec_spec(&["term"])).unwrap();
    let mut first = [0; 6];
    let mut output = std::fs::File::from(exec.stdout.take().unwrap());
    output.read_exact(&mut first).unwrap();
    assert_eq!(exec.wait(Instant::now()).unwrap(), None);
    exec.signal(libc::SIGTERM).unwrap();
    let ended = exec.wait(Instant::now() + PATIENCE).unwrap().expect("it ends");
    assert_eq!((ended.code, ended.signal), (Some(42), None));
    readable(exec.pidfd(), PATIENCE);
    assert_eq!(sandbox.exit().unwrap(), None);
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn hostile_files_in_the_private_layer_are_refused() {
    let host = Host::new();
    let mut spec = host.spec("upper", &["make"]);
    (spec.process.uid, spec.process.gid) = (0, 0);
    let sandbox = host.create(&spec);
    assert_eq!(ended(&sandbox).code, Some(0));
    assert_eq!(sandbox.upper_file("/out/plain", 100).unwrap().unwrap(), b"content");
    assert_eq!(sandbox.upper_file("out/plain", 7).unwrap().unwrap(), b"content");
    assert_eq!(sandbox.upper_file("/out/none", 100).unwrap(), None);
    assert!(matches!(
        sandbox.upper_file("/out/big", 99_999),
        Err(Error::TooLarge { .. })
    ));
    for bad in [
        "/out/link",
        "/out/rootlink/etc/passwd",
        "/out/up/passwd",
        "/out/fifo",
        "/out/sub",
        "/../../../etc/passwd",
    ] {
        assert!(
            matches!(sandbox.upper_file(bad, 1000), Err(Error::NotAFile { .. })),
            "{bad}"
        );
    }
    let mut file = sandbox.open_upper("/out/big").unwrap();
    let mut content = Vec::new();
    file.read_to_end(&mut content).unwrap();
    assert_eq!(content.len(), 100_000);
    drop(file);
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn a_new_agent_finds_everything_again() {
    let mut host = Host::new();
    let alive = host.create(&host.spec("alive", &["term"]));
    let done = host.create(&host.spec("done", &["write", "/home/vcap/result", "made"]));
    ended(&done);
    printed(&alive, "ready");
    let pid = alive.init_pid();
    drop((alive, done));
    drop(host.runtime.take());
    host.open();

    let alive = host.runtime().adopt("alive").unwrap().unwrap();
    assert_eq!((alive.init_pid(), alive.exit().unwrap()), (pid, None));
    assert_eq!(exec_output(&alive, &["exit", "5"]).0, Some(5));
    assert!(alive.stats().unwrap().memory_bytes > 0);
    alive.signal(libc::SIGTERM).unwrap();
    assert_eq!(ended(&alive).code, Some(42));
    let done = host.runtime().adopt("done").unwrap().unwrap();
    assert_eq!(done.exit().unwrap().unwrap().code, Some(0));
    assert_eq!(done.upper_file("/home/vcap/result", 10).unwrap().unwrap(), b"made");
    assert!(host.runtime().adopt("never").unwrap().is_none());
    alive.destroy().unwrap();
    done.destroy().unwrap();
    host.finish();
}

#[test]
fn sandboxes_outlive_the_spawner_too() {
    let mut host = Host::new();
    let alive = host.create(&host.spec("alive", &["term"]));
    let done = host.create(&host.spec("done", &["write", "/home/vcap/result", "made"]));
    ended(&done);
    printed(&alive, "ready");
    drop((alive, done));
    // Ends the spawner only.
    host.runtime.take().unwrap().close().unwrap();
    host.open();
    let alive = host.runtime().adopt("alive").unwrap().unwrap();
    let done = host.runtime().adopt("done").unwrap().unwrap();
    assert_eq!(done.upper_file("/home/vcap/result", 10).unwrap().unwrap(), b"made");
    assert_eq!(exec_output(&alive, &["exit", "5"]).0, Some(5));
    // An init that is killed itself leaves no record; the end is told all the same.
    let pid = nix::unistd::Pid::from_raw(alive.init_pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(ended(&alive).signal, Some(libc::SIGKILL));
    host.create(&host.spec("new", &["sleep"])).destroy().unwrap();
    alive.destroy().unwrap();
    done.destroy().unwrap();
    host.finish();
}

#[test]
fn a_sweep_keeps_what_it_is_told_to() {
    let mut host = Host::new();
    for id in ["a", "b", "c"] {
        host.create(&host.spec(id, &["sleep"]));
    }
    // As left by an agent that died in the middle of a creation.
    std::fs::create_dir(host.dir.path().join("state/sandboxes/half")).unwrap();
    drop(host.runtime.take());
    host.open();
    let keep = HashSet::from(["b".to_owned()]);
    assert_eq!(host.runtime().sweep(&keep).unwrap(), ["a", "c", "half"]);
    assert_eq!(host.runtime().list().unwrap(), ["b"]);
    assert!(host.runtime().adopt("a").unwrap().is_none());
    host.runtime().adopt("b").unwrap().unwrap().destroy().unwrap();
    assert_eq!(host.runtime().sweep(&HashSet::new()).unwrap(), Vec::<String>::new());
    host.finish();
}

#[test]
fn one_agent_at_a_time() {
    let host = Host::new();
    assert!(matches!(
        sandbox::Runtime::open(host.config()),
        Err(Error::Locked { .. })
    ));
    host.finish();
}

#[test]
fn uids_stay_where_every_kernel_can_read_them() {
    let mut host = Host::new();
    drop(host.runtime.take());
    for base in [0, 65_535, (1 << 31) - 65_535, u32::MAX] {
        let config = sandbox::Config {
            uid_base: base,
            ..host.config()
        };
        assert!(
            matches!(sandbox::Runtime::open(config), Err(Error::Host { .. })),
            "{base}"
        );
    }
    host.open();
    host.finish();
}

#[test]
fn many_at_once_from_many_threads() {
    let host = Host::new();
    let sandboxes: Vec<Sandbox> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..12)
            .map(|at| {
                let spec = host.spec(&format!("s{at}"), &["sleep"]);
                let host = &host;
                scope.spawn(move || host.create(&spec))
            })
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    for sandbox in &sandboxes {
        printed(sandbox, "asleep");
    }
    std::thread::scope(|scope| {
        for sandbox in sandboxes {
            scope.spawn(move || sandbox.destroy().unwrap());
        }
    });
    host.finish();
}
