//! The app of the sandbox suite: does one thing per subcommand and prints what happened, for
//! the test outside to judge. Static, without dependencies, compiled by the suite itself.
//!
//! It looks with the eyes of an attacker: raw system calls, no wrappers that would fall back.

mod confine;
mod escape;
mod resources;
mod traps;

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_long, c_void};
use std::io::{Read, Write};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn signal(number: i32, handler: *const c_void) -> *const c_void;
    fn _exit(code: i32) -> !;
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |at: usize| args.get(at).map_or("", String::as_str);
    match arg(0) {
        "say" => say(&args[1..]),
        "view" => view(),
        "view-then-sleep" => {
            view();
            sleep();
        }
        "calls" => calls(),
        "sleep" => sleep(),
        "read" => println!("{}", read(arg(1))),
        "list" => println!("{}", list(arg(1)).join(" ")),
        "write" => write(arg(1), arg(2)),
        "fill" => fill(arg(1)),
        "files" => files(arg(1)),
        "eat" => eat(arg(1).parse().unwrap_or(usize::MAX)),
        "eat-in-child" => eat_in_child(),
        "bomb" => bomb(),
        "flood" => flood(arg(1).parse().unwrap_or(1 << 30)),
        "zombies" => zombies(),
        "term" => on_term(),
        "exit" => std::process::exit(arg(1).parse().unwrap_or(99)),
        "abort" => std::process::abort(),
        "cat" => cat(),
        "reopen" => reopen(),
        "make" => make(),
        "daemon" => daemon(),
        "serve" => serve(arg(1)),
        "connect" => connect(&args[1..]),
        _ if escape::run(&args) => {}
        _ if confine::run(&args) || resources::run(&args) || traps::run(&args) => {}
        other => {
            eprintln!("probe: unknown subcommand {other:?}");
            std::process::exit(64);
        }
    }
}

/// Words to standard output; those after `--` to standard error.
fn say(words: &[String]) {
    let mut parts = words.split(|w| w == "--");
    println!("{}", parts.next().unwrap_or(&[]).join(" "));
    if let Some(rest) = parts.next() {
        eprintln!("{}", rest.join(" "));
    }
}

fn read(path: &str) -> String {
    match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
        Err(e) => format!("error {}", e.raw_os_error().unwrap_or(-1)),
    }
}

fn list(path: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return vec!["unreadable".into()];
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// `key=value` lines about everything that can be seen.
fn view() {
    let mut seen = BTreeMap::new();
    let pids = list("/proc")
        .into_iter()
        .filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
    seen.insert("pids", pids.collect::<Vec<_>>().join(" "));
    seen.insert("own_pid", std::process::id().to_string());
    seen.insert("root", list("/").join(" "));
    seen.insert("dev", list("/dev").join(" "));
    seen.insert("fds", fds());
    for key in [
        "Uid",
        "Gid",
        "Groups",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
    ] {
        let status = read("/proc/self/status");
        let value = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
        seen.insert(
            key,
            value
                .unwrap_or("missing")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
        );
    }
    seen.insert("hostname", read("/proc/sys/kernel/hostname"));
    seen.insert("interfaces", list("/sys/class/net").join(" "));
    seen.insert("core", limit("Max core file size"));
    seen.insert("nofile", limit("Max open files"));
    seen.insert("oom_score_adj", read("/proc/self/oom_score_adj"));
    seen.insert(
        "uid_map",
        read("/proc/self/uid_map")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
    );
    seen.insert("cgroup", read("/proc/self/cgroup").replace('\n', " "));
    seen.insert(
        "cwd",
        std::env::current_dir().map_or("none".into(), |d| d.display().to_string()),
    );
    seen.insert(
        "env",
        std::env::vars()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join(" "),
    );
    seen.insert("mounts", read("/proc/self/mountinfo").replace('\n', "|"));
    seen.insert("init_cmdline", read("/proc/1/cmdline").replace('\0', " "));
    seen.insert("init_environ", read("/proc/1/environ"));
    seen.insert(
        "init_exe",
        std::fs::read_link("/proc/1/exe").map_or("refused".into(), |p| p.display().to_string()),
    );
    for (key, value) in seen {
        println!("{key}={value}");
    }
}

fn fds() -> String {
    let mut open = Vec::new();
    for name in list("/proc/self/fd") {
        if let Ok(target) = std::fs::read_link(format!("/proc/self/fd/{name}")) {
            // The listing's own descriptor is gone by now.
            open.push(format!("{name}:{}", target.display()));
        }
    }
    open.join(" ")
}

fn limit(name: &str) -> String {
    let limits = read("/proc/self/limits");
    let line = limits.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("");
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// `name=errno` (0 for success) for calls that must not work.
fn calls() {
    let root = CString::new("/").expect("no NUL");
    let tmp = CString::new("/tmp").expect("no NUL");
    let node = CString::new("/tmp/node").expect("no NUL");
    let kind = CString::new("tmpfs").expect("no NUL");
    let null = std::ptr::null::<c_char>();
    let try_it = |name: &str, result: c_long| {
        let errno = if result < 0 {
            std::io::Error::last_os_error().raw_os_error().unwrap_or(-1)
        } else {
            0
        };
        println!("{name}={errno}");
    };
    // SAFETY: every pointer is a live C string or null; calls that could change this process
    // are expected to be refused, and a success is reported.
    unsafe {
        try_it(
            "mount",
            syscall(165, kind.as_ptr(), tmp.as_ptr(), kind.as_ptr(), 0, null),
        );
        try_it("umount2", syscall(166, root.as_ptr(), 2));
        try_it("pivot_root", syscall(155, root.as_ptr(), root.as_ptr()));
        try_it("chroot", syscall(161, root.as_ptr()));
        try_it("unshare_user", syscall(272, 0x1000_0000));
        try_it("unshare_ns", syscall(272, 0x2_0000));
        try_it("clone_newuser", syscall(56, 0x1000_0000 | 17, 0, 0, 0, 0));
        try_it("clone3", syscall(435, null, 0));
        try_it("setns", syscall(308, 0, 0));
        try_it("mknod_char", syscall(133, node.as_ptr(), 0o020666, 0x103));
        try_it("mknod_block", syscall(133, node.as_ptr(), 0o060666, 0x700));
        try_it("ptrace_init", syscall(101, 16, 1, 0, 0));
        try_it("kill_init", syscall(62, 1, 9));
        try_it("keyctl", syscall(250, 0, -3, 0, 0, 0));
        try_it(
            "add_key",
            syscall(248, kind.as_ptr(), kind.as_ptr(), kind.as_ptr(), 1, -3),
        );
        try_it("bpf", syscall(321, 0, 0, 0));
        try_it("perf_event_open", syscall(298, 0, 0, -1, -1, 0));
        try_it("userfaultfd", syscall(323, 0));
        try_it("io_uring_setup", syscall(425, 1, 0));
        try_it("af_alg", syscall(41, 38, 5, 0));
        try_it("af_vsock", syscall(41, 40, 1, 0));
        try_it("raw_socket", syscall(41, 2, 3, 1));
        try_it("packet_socket", syscall(41, 17, 3, 0));
        try_it("process_vm_readv", syscall(310, 1, 0, 0, 0, 0, 0));
        try_it("name_to_handle_at", syscall(303, -100, root.as_ptr(), 0, 0, 0));
        try_it("open_by_handle_at", syscall(304, 3, 0, 0));
        try_it("setuid_root", syscall(105, 0));
        try_it("setgid_root", syscall(106, 0));
        try_it("sethostname", syscall(170, kind.as_ptr(), 4));
        try_it("reboot", syscall(169, 0xfee1_dead_u32, 672274793, 0, 0));
        try_it("syslog", syscall(103, 3, 0, 0));
        try_it("open_tree", syscall(428, -100, root.as_ptr(), 1));
        try_it("fsopen", syscall(430, kind.as_ptr(), 0));
        try_it("unknown", syscall(1000));
        try_it("nice", syscall(141, 0, 0, -5));
        try_it("tiocsti", syscall(16, 0, 0x5412, null));
        try_it("settime", syscall(227, 0, [0u64; 2].as_ptr()));
        try_it("mlock_limit", syscall(160, 8, [1u64 << 40, 1 << 40].as_ptr()));
    }
    for path in [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/overcommit_memory",
        "/sys/kernel/uevent_helper",
        "/proc/1/mem",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory.max",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/loop0",
        "/dev/vda",
        "/dev/new",
        "/etc/written",
        "/new",
    ] {
        let opened = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let errno = opened.err().map_or(0, |e| e.raw_os_error().unwrap_or(-1));
        println!("write {path}={errno}");
    }
    for (path, text) in [
        ("/proc/self/oom_score_adj", "-500"),
        ("/proc/self/uid_map", "0 0 1"),
        ("/proc/self/setgroups", "allow"),
    ] {
        let errno = std::fs::write(path, text)
            .err()
            .map_or(0, |e| e.raw_os_error().unwrap_or(-1));
        println!("write {path}={errno}");
    }
}

fn sleep() {
    println!("asleep");
    loop {
        std::thread::park();
    }
}

fn write(path: &str, text: &str) {
    match std::fs::write(path, text) {
        Ok(()) => println!("written"),
        Err(e) => println!("error {}", e.raw_os_error().unwrap_or(-1)),
    }
}

/// Writes until it is refused; prints the error and how much went in.
fn fill(path: &str) {
    let block = vec![0x5au8; 1 << 20];
    let mut written = 0u64;
    let error = match std::fs::File::create(path) {
        Err(e) => e,
        Ok(mut file) => loop {
            match file.write(&block) {
                Ok(n) => written += n as u64,
                Err(e) => break e,
            }
        },
    };
    println!("errno={} bytes={written}", error.raw_os_error().unwrap_or(-1));
}

/// Makes files until it is refused.
fn files(folder: &str) {
    let mut made = 0;
    let error = loop {
        match std::fs::File::create(format!("{folder}/f{made}")) {
            Ok(_) => made += 1,
            Err(e) => break e,
        }
    };
    println!("errno={} files={made}", error.raw_os_error().unwrap_or(-1));
}

fn eat(bytes: usize) {
    println!("eating");
    let mut held: Vec<Vec<u8>> = Vec::new();
    let mut total = 0usize;
    while total < bytes {
        held.push(vec![1u8; 1 << 20]);
        total += 1 << 20;
    }
    println!("ate {total}");
    sleep();
}

/// Only a child eats; the parent would live on.
fn eat_in_child() {
    // SAFETY: there is one thread.
    if unsafe { fork() } == 0 {
        eat(usize::MAX);
    }
    loop {
        std::thread::park();
    }
}

fn bomb() {
    println!("lit");
    let mut refused = 0u64;
    loop {
        // SAFETY: children only loop here as well.
        if unsafe { fork() } < 0 {
            refused += 1;
            if refused > 2000 {
                loop {
                    std::thread::park();
                }
            }
        }
    }
}

/// Numbered lines as fast as the pipe takes them.
fn flood(bytes: usize) {
    let mut out = std::io::stdout().lock();
    let mut block = Vec::new();
    let mut line = 0u64;
    let mut written = 0;
    while written < bytes {
        block.clear();
        while block.len() < 256 << 10 {
            line += 1;
            let _ = writeln!(
                block,
                "line {line:012} ........................................................................"
            );
        }
        if out.write_all(&block).is_err() {
            break;
        }
        written += block.len();
    }
    drop(out);
    eprintln!("flooded {written} bytes in {line} lines");
}

/// Orphans that end: their zombies belong to init.
fn zombies() {
    for _ in 0..50 {
        // SAFETY: there is one thread; both generations end at once.
        unsafe {
            let child = fork();
            if child == 0 {
                if fork() == 0 {
                    _exit(0);
                }
                _exit(0);
            }
            waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    println!("made");
    sleep();
}

extern "C" fn noticed(_: i32) {
    let text = "got SIGTERM, ending with 42\n";
    // SAFETY: a live buffer and a plain exit; nothing here takes a lock the interrupted code
    // may hold.
    unsafe {
        syscall(1, 1, text.as_ptr(), text.len());
        _exit(42)
    }
}

fn on_term() {
    // SAFETY: the handler only writes and exits.
    unsafe { signal(15, noticed as *const c_void) };
    println!("ready");
    loop {
        std::thread::park();
    }
}

fn cat() {
    let mut text = String::new();
    let _ = std::io::stdin().read_to_string(&mut text);
    print!("{}", text.to_uppercase());
    eprintln!(
        "terminal={}",
        std::path::Path::new("/proc/self/fd/0")
            .read_link()
            .map_or(String::new(), |p| p.display().to_string())
    );
}

/// Web servers open these by name.
fn reopen() {
    for path in ["/dev/stdout", "/dev/stderr", "/dev/null"] {
        match std::fs::OpenOptions::new().append(true).open(path) {
            Ok(mut file) => drop(writeln!(file, "through {path}")),
            Err(e) => println!("{path}: {e}"),
        }
    }
}

/// Things for the agent to stumble over in the private layer.
fn make() {
    let _ = std::fs::create_dir_all("/out/sub");
    let _ = std::fs::write("/out/plain", "content");
    let _ = std::fs::write("/out/big", vec![b'x'; 100_000]);
    let _ = std::os::unix::fs::symlink("/etc/passwd", "/out/link");
    let _ = std::os::unix::fs::symlink("/", "/out/rootlink");
    let _ = std::os::unix::fs::symlink("../../../../../../etc", "/out/up");
    let fifo = CString::new("/out/fifo").expect("no NUL");
    // SAFETY: a live C string.
    unsafe { syscall(133, fifo.as_ptr(), 0o010666, 0) };
    println!("made");
}

/// Leaves a child behind that holds the output open and would run for ever.
fn daemon() {
    // SAFETY: there is one thread.
    unsafe {
        if fork() == 0 {
            syscall(112);
            if fork() == 0 {
                loop {
                    std::thread::park();
                }
            }
            _exit(0);
        }
    }
    println!("left a daemon");
}

/// Answers every connection with one line.
fn serve(port: &str) {
    let listener = std::net::TcpListener::bind(format!("0.0.0.0:{port}")).expect("bind");
    println!("serving");
    for connection in listener.incoming().flatten() {
        let _ = (&connection).write_all(b"from inside\n");
    }
}

/// `address=result` for each address.
fn connect(addresses: &[String]) {
    for address in addresses {
        let parsed = address.parse().expect("an address and a port");
        let result = std::net::TcpStream::connect_timeout(&parsed, std::time::Duration::from_secs(3));
        println!(
            "{address}={}",
            result.map_or_else(|e| format!("{:?}", e.kind()), |_| "connected".to_owned())
        );
    }
}
