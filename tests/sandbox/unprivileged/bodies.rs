//! What the agent does in each test, in its namespaces.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use sandbox::log::Stream;
use sandbox::net::{Egress, Rule};
use sandbox::unprivileged::{self, Place, Subject};
use sandbox::{Error, ExecSpec, Network, Sandbox, Spec};

use crate::kit::{Host, PATIENCE, chain, ended, eventually, printed, records, text};
use crate::user::User;
use crate::{AWAY, READY};

/// Attempts of the probe, all that need no argument.
const ATTEMPTS: &[&str] = &[
    "user-namespace",
    "user-namespace-by-clone",
    "user-namespace-by-clone3",
    "another-abi",
    "io-uring",
    "bpf",
    "perf",
    "userfaultfd",
    "kernel-log",
    "keyring",
    "process-memory",
    "file-by-handle",
    "terminal-injection",
    "odd-sockets",
    "raw-socket",
    "chroot",
    "mount",
    "mount-of-groups",
    "host-name",
    "namespace-of-init",
    "masked-paths",
    "core-pattern",
    "proc-writable",
    "sys-writable",
    "device-creation",
    "device-access",
    "setuid-program",
    "memory-of-init",
    "root-file",
    "group-limits",
    "group-membership",
    "group-nesting",
    "release-agent",
    "ptrace-of-init",
    "signal-to-init",
    "signal-to-neighbour",
    "root-of-neighbour",
    "processes-of-the-host",
    "abstract-socket",
    "shared-memory",
];

/// In a user namespace of its own, which a process may forbid to have others below it.
pub fn refused(listener: TcpListener) {
    unshare(CloneFlags::CLONE_NEWUSER).unwrap();
    std::fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
    let error = chain(&unprivileged::enter(listener).unwrap_err());
    for part in [
        "user.max_user_namespaces forbids",
        "sysctl user.max_user_namespaces=",
        "sudo paasd dev",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

pub fn unreachable(_: &User, _: &'static Place, _: TcpListener) {
    panic!("it was not forbidden");
}

pub fn sees_nothing(user: &User, _: &'static Place, _: TcpListener) {
    let host = user.host();
    let seen = host.output(&["view"]);
    let value = |key: &str| {
        let line = seen.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {key} in {seen}")).to_owned()
    };
    for (key, wanted) in [
        ("own_pid", "2"),
        ("pids", "2"),
        ("root", "bin dev etc home proc root sys tmp usr var"),
        (
            "dev",
            "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
        ),
        ("interfaces", "lo"),
        ("hostname", "inside"),
        ("env", "GREETING=hello"),
        ("init_exe", "refused"),
        ("Uid", "2000 2000 2000 2000"),
        ("Gid", "2000 2000 2000 2000"),
        ("Groups", ""),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("oom_score_adj", "500"),
    ] {
        assert_eq!(value(key), wanted, "{key}");
    }
    assert_eq!(value("fds").split(' ').count(), 3, "{}", value("fds"));
    assert!(!value("mounts").contains(user.dir.to_str().unwrap()));
    let calls = host.output(&["calls"]);
    for line in calls.lines() {
        // What is asked of the kernel is refused, as by a sandbox of the host's root.
        assert!(!line.ends_with("=0"), "{line}");
    }
    // Its own folder is the app's, the rest is not.
    assert_eq!(host.output(&["write", "/home/vcap/mine", "x"]), "written");
    assert_eq!(host.output(&["write", "/etc/passwd", "x"]), "error 13");
    assert_eq!(host.output(&["read", "/etc/secret"]), "error 13");
    assert_eq!(host.output(&["write", "/dev/null", "x"]), "written");
    host.finish();
}

/// None of the probe's attempts to get out succeeds, but those that are the `right` of the app's user.
fn attempts(user: &User, right: &[&str]) {
    let host = user.host();
    let wanted = ATTEMPTS.iter().filter(|name| !right.contains(name));
    let argv: Vec<&str> = std::iter::once("escapes").chain(wanted.copied()).collect();
    let output = host.output(&argv);
    for name in &argv[1..] {
        let told = output
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let told = told.unwrap_or_else(|| panic!("{name} told no outcome: {output}"));
        assert!(told.starts_with("held: "), "{name} {told}");
    }
    host.finish();
}

pub fn escapes(user: &User, _: &'static Place, _: TcpListener) {
    attempts(user, &[]);
}

pub fn escapes_of_one(user: &User, _: &'static Place, _: TcpListener) {
    // There init and the owner of all files in layers are the app's user too; what is sent to init it passes on to the
    // app.
    attempts(user, &["setuid-program", "root-file", "signal-to-init"]);
}

pub fn one_id(user: &User, place: &'static Place, _: TcpListener) {
    let users = place.lacks.iter().find(|lack| lack.subject == Subject::Users).unwrap();
    assert!(
        users.effect.contains("own user id") && users.effect.contains("/etc/sub"),
        "{users}"
    );
    let host = user.host();
    let seen = host.output(&["view"]);
    for line in [
        "Uid=2000 2000 2000 2000",
        "Gid=2000 2000 2000 2000",
        "uid_map=2000 0 1",
        "CapEff=0000000000000000",
        "CapBnd=0000000000000000",
        "init_exe=refused",
        "own_pid=2",
    ] {
        assert!(seen.lines().any(|seen| seen == line), "{line} in {seen}");
    }
    assert_eq!(host.output(&["write", "/home/vcap/mine", "x"]), "written");
    host.finish();
}

fn exec(sandbox: &Sandbox, argv: &[&str], tty: Option<(u16, u16)>) -> (Option<i32>, String) {
    let mut exec = sandbox
        .exec(&ExecSpec {
            argv: std::iter::once("/bin/probe")
                .chain(argv.iter().copied())
                .map(str::to_owned)
                .collect(),
            env: Vec::new(),
            cwd: "/".into(),
            uid: 2000,
            tty,
        })
        .unwrap_or_else(|error| panic!("exec: {}", chain(&error)));
    drop(exec.stdin.take());
    let mut output = Vec::new();
    let stream = exec.stdout.take().or_else(|| exec.terminal.take()).unwrap();
    // A terminal ends with EIO.
    let _ = std::fs::File::from(stream).read_to_end(&mut output);
    let code = exec.wait(Instant::now() + PATIENCE).unwrap().expect("it ends").code;
    (code, String::from_utf8_lossy(&output).into_owned())
}

pub fn runs(user: &User, _: &'static Place, _: TcpListener) {
    let host = user.host();
    let sandbox = host.create(&host.spec("runs", &["term"]));
    printed(&sandbox, "ready");
    let (code, output) = exec(&sandbox, &["say", "joined"], None);
    assert_eq!((code, output.as_str()), (Some(0), "joined\n"));
    let (code, output) = exec(&sandbox, &["view"], Some((24, 80)));
    assert!(code == Some(0) && output.contains("/dev/pts/0"), "{output}");
    assert!(matches!(sandbox.freeze(true), Err(Error::Host { .. })));
    assert_eq!(sandbox.stats().unwrap().memory_bytes, 0);
    sandbox.signal(libc::SIGTERM).unwrap();
    assert_eq!(ended(&sandbox).code, Some(42));
    assert!(text(&records(&sandbox), Stream::Out).ends_with("ending with 42"));
    sandbox.destroy().unwrap();
    let sandbox = host.create(&host.spec("killed", &["sleep"]));
    printed(&sandbox, "asleep");
    sandbox.kill().unwrap();
    assert_eq!(sandbox.exit().unwrap().unwrap().signal, Some(libc::SIGKILL));
    sandbox.destroy().unwrap();
    let (exit, records) = host.run(&host.spec("daemon", &["daemon"]));
    assert_eq!(
        (exit.code, text(&records, Stream::Out).as_str()),
        (Some(0), "left a daemon")
    );
    host.finish();
}

pub fn parked(user: &User, _: &'static Place, _: TcpListener) {
    let host = user.host();
    let sandbox = host.create(&networked(&host, "parked", &["serve", "8080"]));
    assert!(sandbox.was_parked());
    printed(&sandbox, "serving");
    assert_eq!(ask(&sandbox, 8080), "from inside\n");
    assert_eq!(
        exec(&sandbox, &["read", "/proc/sys/kernel/hostname"], None).1,
        "inside\n"
    );
    sandbox.destroy().unwrap();
    host.finish();
}

pub fn limits(user: &User, place: &'static Place, listener: TcpListener) {
    let host = user.host();
    let output = host.output(&["fill", "/home/vcap/big"]);
    let bytes: u64 = output.strip_prefix("errno=28 bytes=").expect(&output).parse().unwrap();
    assert!((31 << 20..=32 << 20).contains(&bytes), "{bytes}");
    let output = host.output(&["files", "/home/vcap"]);
    let files: u64 = output.strip_prefix("errno=28 files=").expect(&output).parse().unwrap();
    assert!((1900..=2048).contains(&files), "{files}");
    host.finish();
    processes(user, place, listener);
}

pub fn processes(user: &User, _: &'static Place, _: TcpListener) {
    let host = user.host();
    let mut spec = host.spec("bomb", &["bomb"]);
    spec.limits.pids = 40;
    let bomb = host.create(&spec);
    // The kernel refuses further ones, and other sandboxes notice nothing.
    let inside = || {
        let status = std::fs::read_dir("/proc").unwrap().flatten();
        status
            .filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| name.parse::<u32>().is_ok())
            })
            .count()
    };
    eventually("it has as many as it may", || inside() >= 40);
    let neighbour = host.run(&host.spec("neighbour", &["say", "unharmed"]));
    assert_eq!(text(&neighbour.1, Stream::Out), "unharmed");
    assert!(inside() <= 60, "{}", inside());
    bomb.kill().unwrap();
    bomb.destroy().unwrap();
    host.finish();
}

fn networked(host: &Host, id: &str, argv: &[&str]) -> Spec {
    let mut spec = host.spec(id, argv);
    spec.network = Network::Isolated {
        policy: Egress::public(),
    };
    spec
}

fn ask(sandbox: &Sandbox, port: u16) -> String {
    let address = SocketAddr::from((sandbox.address().unwrap(), port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub fn network(user: &User, place: &'static Place, _: TcpListener) {
    // The machine's own device is not for the user, or not there.
    assert!(place.lacks.iter().any(|lack| lack.subject == Subject::Network));
    let host = user.host();
    let server = host.create(&networked(&host, "server", &["serve", "8080"]));
    printed(&server, "serving");
    assert_eq!(ask(&server, 8080), "from inside\n");
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let neighbour = host.create(&networked(&host, "neighbour", &["sleep"]));
    let targets = [
        format!("{}:8080", server.address().unwrap()),
        format!("10.0.2.100:{port}"),
        format!("{AWAY}:80"),
    ];
    let argv: Vec<&str> = std::iter::once("connect")
        .chain(targets.iter().map(String::as_str))
        .collect();
    let (code, output) = exec(&neighbour, &argv, None);
    assert!(
        code == Some(0) && output.lines().count() == 3 && !output.contains("=connected"),
        "{output}"
    );
    neighbour.destroy().unwrap();
    server.destroy().unwrap();
    host.finish();
}

pub fn told(user: &User, place: &'static Place, _: TcpListener) {
    let host = user.host();
    let isolation = host.runtime().isolation();
    assert_eq!((isolation.cgroups.as_str(), isolation.disk.as_str()), ("none", "tmpfs"));
    assert_eq!(isolation.unprivileged, place.lacks);
    for lack in &place.lacks {
        assert!(
            isolation.missing.contains(&lack.to_string()),
            "{lack} in {:?}",
            isolation.missing
        );
    }
    let subjects = [Subject::Resources, Subject::Users, Subject::Disk, Subject::Survival];
    for subject in subjects {
        assert_eq!(place.lacks.iter().filter(|lack| lack.subject == subject).count(), 1);
    }
    assert_ne!(place.caller, std::process::id(), "the process that is known outside");
    host.finish();
}

pub fn way_out(user: &User, place: &'static Place, listener: TcpListener) {
    assert!(
        !place.lacks.iter().any(|lack| lack.subject == Subject::Network),
        "{:?}",
        place.lacks
    );
    let host = user.host();
    // In the caller's network, although it is held here.
    let target = listener.local_addr().unwrap().to_string();
    let reached = |policy: Egress| {
        let mut spec = networked(&host, "away", &["connect", &target]);
        spec.network = Network::Isolated { policy };
        let (exit, records) = host.run(&spec);
        assert_eq!(exit.code, Some(0));
        text(&records, Stream::Out)
    };
    let narrow = Egress {
        allow: vec![Rule::all(format!("{AWAY}/32").parse().unwrap())],
        deny: Vec::new(),
    };
    assert_eq!(reached(narrow), format!("{target}=connected"));
    // What the host is attached to is closed to a wide policy, although nothing here is attached to it.
    let wide = reached(Egress::public());
    assert!(!wide.contains("=connected"), "{wide}");
    host.finish();
}

pub fn stays(user: &User, _: &'static Place, _: TcpListener) {
    let host = user.host();
    let sandbox = host.create(&host.spec("stays", &["term"]));
    printed(&sandbox, "ready");
    std::io::stdout().write_all(READY.as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}
