//! The program inside the bundles of the conformance suite: tells what it sees, one line each, or does one thing, for
//! the test outside to judge. Static, without dependencies, compiled by the suite itself.

use std::ffi::{CString, c_char, c_long};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn signal(number: i32, handler: usize) -> usize;
    fn umask(mask: u32) -> u32;
    fn isatty(fd: i32) -> i32;
}

/// No signal at all.
static NONE: u64 = 0;

const SYS_RT_SIGPROCMASK: c_long = 14;
const SYS_RT_SIGSUSPEND: c_long = 130;
const SYS_GETCWD: c_long = 79;
const SYS_UNAME: c_long = 63;
const SYS_MKDIR: c_long = 83;
const SYS_PAUSE: c_long = 34;
const SYS_MOUNT: c_long = 165;
const SYS_PERSONALITY: c_long = 135;
const SYS_IOPRIO_GET: c_long = 252;
const SYS_SCHED_GETSCHEDULER: c_long = 145;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let arg = |at: usize| rest.get(at).map_or("", String::as_str);
    match args.first().map_or("", String::as_str) {
        "see" => {
            see();
            rest.iter().for_each(|word| match word.strip_prefix('=') {
                Some(path) => tell(word, read(path)),
                None => look(word),
            });
        }
        "append" => append(arg(0), arg(1)),
        "sleep" => sleep(),
        "on" => on_signal(arg(0), arg(1), arg(2)),
        "environment" => {
            let all: String = std::env::vars().map(|(key, value)| format!("{key}={value}\n")).collect();
            fs::write(arg(0), all).expect("a root that can be written");
        }
        "cat" => print!("{}", read(arg(0))),
        "exit" => std::process::exit(arg(0).parse().unwrap_or(99)),
        "propagation" => propagation(),
        "call" => call(arg(0)),
        "groups" => groups(),
        other => {
            eprintln!("probe: unknown subcommand {other:?}");
            std::process::exit(64);
        }
    }
}

fn tell(key: &str, value: impl std::fmt::Display) {
    println!("{key}\t{value}");
}

/// One line: further ones are joined to it.
fn joined(path: &str) -> String {
    let words = read(path).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    words.join(",")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|e| format!("error {e}"), |text| text.trim_end().to_owned())
}

/// Everything about the process and its world that needs no question.
fn see() {
    tell("args", std::env::args().collect::<Vec<_>>().join(" "));
    tell("cwd", std::env::current_dir().map_or("none".into(), |dir| dir.display().to_string()));
    for (key, value) in std::env::vars() {
        tell(&format!("env.{key}"), value);
    }
    // SAFETY: plain numbers.
    tell("umask", format!("{:04o}", unsafe { umask(0o22) }));
    for line in read("/proc/self/status").lines() {
        if let Some((key, value)) = line.split_once(':') {
            tell(&format!("status.{key}"), value.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    for line in read("/proc/self/limits").lines().skip(1) {
        let (name, rest) = line.split_at(line.len().min(26));
        let mut words = rest.split_whitespace();
        let (soft, hard) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        tell(&format!("limit.{}", name.trim()), format!("{soft} {hard}"));
    }
    for (key, path) in [
        ("hostname", "/proc/sys/kernel/hostname"),
        ("domainname", "/proc/sys/kernel/domainname"),
        ("oom_score_adj", "/proc/self/oom_score_adj"),
        ("uptime", "/proc/uptime"),
        ("clocks", "/proc/self/timens_offsets"),
        ("ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        ("ping_group_range", "/proc/sys/net/ipv4/ping_group_range"),
        ("msgmax", "/proc/sys/kernel/msgmax"),
    ] {
        tell(key, joined(path));
    }
    for kind in ["uid_map", "gid_map"] {
        let lines: Vec<String> = read(&format!("/proc/self/{kind}"))
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        tell(kind, lines.join(","));
    }
    for kind in ["pid", "mnt", "net", "ipc", "uts", "user", "cgroup", "time"] {
        let link = fs::read_link(format!("/proc/self/ns/{kind}"));
        tell(&format!("ns.{kind}"), link.map_or("none".into(), |link| link.display().to_string()));
    }
    for line in read("/proc/self/mountinfo").lines() {
        tell("mount", line);
    }
    let fds = fs::read_dir("/proc/self/fd").map(|all| all.flatten().count());
    // One of them is the folder itself.
    tell("fds", fds.map_or(0, |count| count.saturating_sub(1)));
    // SAFETY: plain numbers.
    unsafe {
        let mut names = [0u8; 6 * 65];
        if syscall(SYS_UNAME, names.as_mut_ptr()) == 0 {
            let machine = names[4 * 65..].split(|byte| *byte == 0).next().unwrap_or_default();
            tell("machine", String::from_utf8_lossy(machine));
        }
        tell("terminal", isatty(0));
        tell("personality", syscall(SYS_PERSONALITY, 0xffff_ffffu64));
        tell("io_priority", syscall(SYS_IOPRIO_GET, 1, 0));
        tell("scheduler", syscall(SYS_SCHED_GETSCHEDULER, 0));
    }
}

/// What is at `path`, whether it can be read and written.
fn look(path: &str) {
    let Ok(link) = fs::symlink_metadata(path) else {
        return tell(path, "none");
    };
    if link.file_type().is_symlink() {
        let target = fs::read_link(path).map_or("?".into(), |target| target.display().to_string());
        return tell(path, format!("link {target}"));
    }
    let kind = link.file_type();
    let (major, minor) = ((link.rdev() >> 8) & 0xfff, (link.rdev() & 0xff) | ((link.rdev() >> 12) & 0xf_ff00));
    let what = match kind {
        kind if kind.is_dir() => "dir".to_owned(),
        kind if kind.is_char_device() => format!("char {major}:{minor}"),
        kind if kind.is_block_device() => format!("block {major}:{minor}"),
        kind if kind.is_fifo() => "fifo".to_owned(),
        _ => "file".to_owned(),
    };
    let (mode, uid, gid) = (link.mode() & 0o7777, link.uid(), link.gid());
    let readable = if kind.is_dir() {
        fs::read_dir(path).is_ok_and(|mut all| all.next().is_some())
    } else {
        kind.is_file() && fs::read(path).is_ok_and(|bytes| !bytes.is_empty()) || (kind.is_char_device() && first_byte(path))
    };
    let writable = if kind.is_dir() {
        let name = format!("{path}/written-by-probe");
        fs::write(&name, "x").is_ok() && fs::remove_file(&name).is_ok()
    } else {
        !kind.is_fifo() && fs::OpenOptions::new().write(true).open(path).is_ok()
    };
    tell(path, format!("{what} {mode:04o} {uid}:{gid} readable={readable} writable={writable}"));
}

/// Without waiting: a terminal has nothing to say.
fn first_byte(path: &str) -> bool {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    const O_NONBLOCK: i32 = 0o4000;
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path).is_ok_and(|mut file| file.read(&mut [0; 1]).is_ok_and(|length| length == 1))
}

fn append(path: &str, text: &str) {
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    let done = file.and_then(|mut file| writeln!(file, "{text}"));
    tell("append", done.is_ok());
}

fn sleep() -> ! {
    loop {
        // SAFETY: waits for a signal.
        unsafe { syscall(SYS_PAUSE) };
    }
}

/// Tells the pipe `ready` that it waits for the signal `number`, then writes `path` and ends.
fn on_signal(number: &str, path: &str, ready: &str) -> ! {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: the handler does nothing.
    unsafe { signal(number.parse().unwrap_or(15), nothing as extern "C" fn(i32) as usize) };
    // The signal is taken only while it is waited for.
    let mask = 1u64 << (number.parse::<u32>().unwrap_or(15) - 1);
    // SAFETY: a set of signals of the length given.
    unsafe { syscall(SYS_RT_SIGPROCMASK, 0, &raw const mask, std::ptr::null::<u64>(), 8) };
    fs::OpenOptions::new().write(true).open(ready).and_then(|mut pipe| pipe.write_all(b"x")).expect("a pipe");
    // SAFETY: an empty set of signals of the length given.
    unsafe { syscall(SYS_RT_SIGSUSPEND, &raw const NONE, 8) };
    fs::write(path, "").expect("a root that can be written");
    std::process::exit(0)
}

fn bind(source: &str, target: &str) -> bool {
    const MS_BIND_REC: u64 = 4096 | 16384;
    let (Ok(source), Ok(target)) = (CString::new(source), CString::new(target)) else { return false };
    let none = std::ptr::null::<c_char>();
    // SAFETY: strings that live through the call.
    unsafe { syscall(SYS_MOUNT, source.as_ptr(), target.as_ptr(), none, MS_BIND_REC, none) == 0 }
}

/// How the root shares what is mounted below it: `shared`, `apart` or `unbindable`.
fn propagation() {
    for dir in ["/p-copy", "/p-point", "/p-source"] {
        fs::create_dir_all(dir).expect("a root that can be written");
    }
    fs::write("/p-source/file", "x").expect("a root that can be written");
    if !bind("/", "/p-copy") {
        return tell("propagation", "unbindable");
    }
    assert!(bind("/p-source", "/p-point"), "bind");
    let seen = fs::exists("/p-copy/p-point/file").unwrap_or(false);
    tell("propagation", if seen { "shared" } else { "apart" });
}

/// One system call that profiles are made for, and what came of it.
fn call(name: &str) {
    let mut buffer = [0u8; 512];
    // SAFETY: a buffer of the length given, or a constant string.
    let result = unsafe {
        match name {
            "getcwd" => syscall(SYS_GETCWD, buffer.as_mut_ptr(), buffer.len()),
            "mkdir" => syscall(SYS_MKDIR, c"/made".as_ptr(), 0o700),
            "mkdir-other" => syscall(SYS_MKDIR, c"/made".as_ptr(), 0o755),
            _ => -1,
        }
    };
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    tell("call", if result < 0 { errno } else { 0 });
}

/// The container's control groups as it sees them.
fn groups() {
    for entry in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        tell("group", entry.file_name().to_string_lossy());
    }
    tell("cgroup", read("/proc/self/cgroup").replace('\n', " "));
}
