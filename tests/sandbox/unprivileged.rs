//! Sandboxes of an agent that is not root on the host. Needs root, to become an ordinary user that nobody has: with
//! subordinate ids and without, each test in mounts and a network of its own, so that nothing of the machine changes.
//!
//! A program without the usual harness: an agent moves into its namespaces while it has one thread.
//!
//! ```text
//! test (root) ─ the caller, an ordinary user ─ first of the namespaces ─ the agent, which is the test's body
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is a failed test")]
#![allow(
    clippy::exit,
    reason = "a forked process must not return into the program it was forked from"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is its own harness")]

#[allow(dead_code, reason = "it serves the other suite too")]
#[path = "kit.rs"]
mod kit;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use kit::{Host, PATIENCE, chain, ended, eventually, printed, records, text};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid};
use sandbox::log::Stream;
use sandbox::net::{Egress, Rule};
use sandbox::unprivileged::{self, Entered, Place, Subject};
use sandbox::{Error, ExecSpec, Network, Sandbox, Spec};

/// Address of the caller's network.
const AWAY: &str = "192.0.2.1";

/// Which ids the user may use.
#[derive(Clone, Copy, PartialEq)]
enum Ids {
    /// Subordinate ones.
    Many,
    /// His own alone.
    One,
}

/// How a test ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// Its body returns.
    Itself,
    /// The caller gets this signal once the body has said that it is ready.
    Caller(Signal),
}

/// What the agent brings along.
struct Brought {
    /// Reports to the test outside that the body is ready to be ended.
    ready: std::io::PipeWriter,
    /// A socket of the network that the caller is in.
    listener: TcpListener,
}

type Body = fn(&User, &'static Place, Brought);

struct Test {
    name: &'static str,
    ids: Ids,
    /// Whether there is the device by which slirp4netns works.
    way_out: bool,
    end: End,
    body: Body,
}

const fn test(name: &'static str, ids: Ids, body: Body) -> Test {
    Test {
        name,
        ids,
        way_out: false,
        end: End::Itself,
        body,
    }
}

const TESTS: [Test; 12] = [
    test("an_app_sees_nothing_but_itself", Ids::Many, sees_nothing),
    test("with_one_id_it_is_the_apps", Ids::One, one_id),
    test("an_app_runs_is_joined_and_ends", Ids::Many, runs),
    test("the_same_with_one_id", Ids::One, runs),
    test("a_parked_sandbox_starts", Ids::Many, parked),
    test("disk_files_and_processes_have_limits", Ids::Many, limits),
    test("processes_have_a_limit_with_one_id", Ids::One, processes),
    test("the_agent_reaches_in_and_nobody_out", Ids::One, network),
    test("what_is_missing_is_told", Ids::One, told),
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

/// A user that nobody has, and his folder.
struct User {
    id: u32,
    /// First of his subordinate ids.
    first: u32,
    dir: PathBuf,
    /// Files that he sees in place of the machine's.
    seen: PathBuf,
}

impl User {
    /// Makes the folder, with what sandboxes are made of, as the user and his apps are to own it.
    fn new(dir: &Path, seen: &Path, ids: Ids) -> User {
        let pid = std::process::id();
        let user = User {
            id: 1_500_000_000 + pid,
            // Above everything that other tests use.
            first: (32_768 + pid % 16_384) * 65_536,
            dir: dir.to_owned(),
            seen: seen.to_owned(),
        };
        kit::build_layer(&dir.join("layer"));
        std::fs::copy(env!("CARGO_BIN_EXE_paas-init"), dir.join("paas-init")).unwrap();
        own(dir, user.id);
        own(seen, user.id);
        let app = if ids == Ids::Many { user.first + 1999 } else { user.id };
        chown(dir.join("layer/home/vcap"), Some(app), Some(app)).unwrap();
        user
    }

    /// Becomes him, in mounts and a network of its own. Called as root, in a process of one thread.
    fn become_him(&self, test: &Test) {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        use rustix::mount::{MountPropagationFlags, mount_change};
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        ip(&["link", "add", "away0", "type", "bridge"]);
        ip(&["address", "add", &format!("{AWAY}/24"), "dev", "away0"]);
        for name in ["lo", "away0"] {
            ip(&["link", "set", name, "up"]);
        }
        let (id, first) = (self.id, self.first);
        let ranges = match test.ids {
            Ids::Many => format!("{id}:{first}:65536\n"),
            Ids::One => String::new(),
        };
        self.show("/etc/passwd", &format!("somebody:x:{id}:{id}::/:/bin/sh\n"));
        for file in ["/etc/subuid", "/etc/subgid"] {
            self.show(file, &ranges);
        }
        if test.way_out {
            self.show_tun();
        }
        nix::unistd::setgroups(&[]).unwrap();
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        nix::unistd::setresgid(gid, gid, gid).unwrap();
        nix::unistd::setresuid(uid, uid, uid).unwrap();
        // A process that changed its user is not looked into by it, as if it were a set-uid program.
        nix::sys::prctl::set_dumpable(true).unwrap();
        // SAFETY: this process has one thread.
        unsafe {
            std::env::set_var("TMPDIR", &self.dir);
            std::env::set_var("PAAS_INIT", self.dir.join("paas-init"));
        }
    }

    /// Has `path` show `content` to this process and those that it starts.
    fn show(&self, path: &str, content: &str) {
        let file = self.seen.join(path.trim_start_matches('/').replace('/', "-"));
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        rustix::mount::mount_bind(&file, path).unwrap();
    }

    /// The device of slirp4netns, for everybody, as most systems have it.
    fn show_tun(&self) {
        use rustix::mount::{MountFlags, mount};
        let folder = self.seen.join("devices");
        std::fs::create_dir(&folder).unwrap();
        mount("tmpfs", &folder, "tmpfs", MountFlags::NOSUID, None).unwrap();
        let node = folder.join("tun");
        let (mode, kind) = (
            rustix::fs::Mode::from_raw_mode(0o666),
            rustix::fs::FileType::CharacterDevice,
        );
        rustix::fs::mknodat(rustix::fs::CWD, &node, kind, mode, rustix::fs::makedev(10, 200)).unwrap();
        std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o666)).unwrap();
        rustix::mount::mount_bind(&node, "/dev/net/tun").unwrap();
    }

    /// The host of the agent, once it is one.
    fn host(&self) -> Host {
        Host::again((self.dir.clone(), "paas/none".to_owned(), 6_553_600))
    }

    /// Pids of his processes, and of those of his apps.
    fn processes(&self) -> Vec<i32> {
        let ours = |pid: &i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
            let uid = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
            uid.is_some_and(|uid| uid == self.id || (self.first..self.first + 65_536).contains(&uid))
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(ours).collect()
    }
}

fn own(path: &Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), id);
        }
    }
}

fn ip(arguments: &[&str]) {
    assert!(
        Command::new("ip").args(arguments).status().unwrap().success(),
        "ip {arguments:?}"
    );
}

/// The test as root: starts the caller, ends it, and looks for what is left.
fn outside(test: &Test) {
    let folder = tempfile::Builder::new().prefix("paas-user-").tempdir().unwrap();
    let seen = tempfile::Builder::new().prefix("paas-seen-").tempdir().unwrap();
    let user = User::new(folder.path(), seen.path(), test.ids);
    let (mut says, ready) = std::io::pipe().unwrap();
    // SAFETY: this program has one thread.
    let caller = match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Child => {
            drop(says);
            let code = std::panic::catch_unwind(|| caller(test, &user, ready)).unwrap_or(101);
            std::process::exit(i32::from(code))
        }
        ForkResult::Parent { child } => child,
    };
    drop(ready);
    let status = match test.end {
        End::Itself => waitpid(caller, None).unwrap(),
        End::Caller(signal) => {
            says.read_exact(&mut [0]).expect("the body gets ready");
            assert!(user.processes().len() >= 5, "{:?}", user.processes());
            kill(caller, signal).unwrap();
            waitpid(caller, None).unwrap()
        }
    };
    let expected = match test.end {
        End::Itself => WaitStatus::Exited(caller, 0),
        End::Caller(Signal::SIGKILL) => WaitStatus::Signaled(caller, Signal::SIGKILL, false),
        // The agent has no handler for it here, and its end is the caller's.
        End::Caller(signal) => WaitStatus::Exited(caller, 128 + signal as i32),
    };
    eventually("no process is left", || user.processes().is_empty());
    assert_eq!(status, expected);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(folder.path().to_str().unwrap()), "mounts left");
    if test.end == End::Caller(Signal::SIGTERM) {
        let exit = folder.path().join("state/sandboxes/stays/log/exit.json");
        let exit = std::fs::read_to_string(&exit).expect("the app had time to end, and its init to say how");
        assert!(exit.contains("\"code\":42"), "{exit}");
    }
}

/// The caller and, in its namespaces, the agent.
fn caller(test: &Test, user: &User, ready: std::io::PipeWriter) -> u8 {
    user.become_him(test);
    let listener = TcpListener::bind((AWAY, 0)).unwrap();
    match unprivileged::enter(Brought { ready, listener }) {
        Ok(Entered::Ended(code)) => code,
        Ok(Entered::Inside(place, brought)) => {
            assert!(rustix::process::geteuid().is_root() && unprivileged::confined());
            (test.body)(user, place, brought);
            0
        }
        Err(error) => panic!("{}", chain(&error)),
    }
}

fn sees_nothing(user: &User, _: &'static Place, _: Brought) {
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

fn one_id(user: &User, place: &'static Place, _: Brought) {
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

fn runs(user: &User, _: &'static Place, _: Brought) {
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

fn parked(user: &User, _: &'static Place, _: Brought) {
    // SAFETY: the agent has one thread still.
    unsafe { std::env::set_var(kit::STARTS, "whole") };
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

fn limits(user: &User, place: &'static Place, brought: Brought) {
    let host = user.host();
    let output = host.output(&["fill", "/home/vcap/big"]);
    let bytes: u64 = output.strip_prefix("errno=28 bytes=").expect(&output).parse().unwrap();
    assert!((31 << 20..=32 << 20).contains(&bytes), "{bytes}");
    let output = host.output(&["files", "/home/vcap"]);
    let files: u64 = output.strip_prefix("errno=28 files=").expect(&output).parse().unwrap();
    assert!((1900..=2048).contains(&files), "{files}");
    host.finish();
    processes(user, place, brought);
}

fn processes(user: &User, _: &'static Place, _: Brought) {
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

fn network(user: &User, place: &'static Place, _: Brought) {
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

fn told(user: &User, place: &'static Place, _: Brought) {
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

fn way_out(user: &User, place: &'static Place, brought: Brought) {
    assert!(
        !place.lacks.iter().any(|lack| lack.subject == Subject::Network),
        "{:?}",
        place.lacks
    );
    let host = user.host();
    // In the caller's network, although it is held here.
    let target = brought.listener.local_addr().unwrap().to_string();
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

fn stays(user: &User, _: &'static Place, mut brought: Brought) {
    let host = user.host();
    let sandbox = host.create(&host.spec("stays", &["term"]));
    printed(&sandbox, "ready");
    brought.ready.write_all(&[1]).unwrap();
    loop {
        std::thread::park();
    }
}
