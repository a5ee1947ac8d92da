//! Attempts on other processes: init, neighbours, and what all of them share.

use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use super::{Outcome, answer, error_name, last_error};
use crate::{_exit, fork, syscall, waitpid};

pub const ALL: &[(&str, super::Attempt)] = &[
    ("ptrace-of-init", ptrace_of_init),
    ("signal-to-init", signal_to_init),
    ("signal-to-neighbour", signal_to_neighbour),
    ("root-of-neighbour", root_of_neighbour),
    ("processes-of-the-host", processes_of_the_host),
    ("abstract-socket", abstract_socket),
    ("shared-memory", shared_memory),
    ("zombie-flood", zombie_flood),
    ("inotify-hog", inotify_hog),
    ("inotify-left", inotify_left),
    ("pipe-hog", pipe_hog),
    ("pipe-left", pipe_left),
];

fn ptrace_of_init(_: &[String]) -> Outcome {
    const SEIZE: i64 = 0x4206;
    // SAFETY: the call takes numbers.
    answer(unsafe { syscall(101, SEIZE, 1, 0, 0) })?;
    Ok("the first process under its control".into())
}

fn signal_to_init(_: &[String]) -> Outcome {
    // SAFETY: signal 0 only asks whether one could be sent.
    answer(unsafe { syscall(62, 1, 0) })?;
    Ok("any signal to the first process".into())
}

/// Argument: a pid of the host's.
fn signal_to_neighbour(arguments: &[String]) -> Outcome {
    let pid: i64 = arguments.first().and_then(|pid| pid.parse().ok()).unwrap_or(99_999);
    // SAFETY: signal 0 only asks whether one could be sent.
    let by_number = answer(unsafe { syscall(62, pid, 0) });
    // SAFETY: the call takes numbers.
    let by_handle = answer(unsafe { syscall(434, pid, 0) });
    match (by_number, by_handle) {
        (Err(error), Err(_)) => Err(error),
        _ => Ok("any signal to a process of somebody else's".into()),
    }
}

/// Arguments: a pid of the host's, a path below its root.
fn root_of_neighbour(arguments: &[String]) -> Outcome {
    let [pid, path] = arguments else { return Err("no arguments".into()) };
    std::fs::File::open(format!("/proc/{pid}/root/{path}")).map_err(|e| error_name(&e))?;
    Ok("a neighbour's files".into())
}

/// Anybody but init and this program's own.
fn processes_of_the_host(_: &[String]) -> Outcome {
    let own = std::fs::read("/proc/self/exe").unwrap_or_default().len();
    let strangers = crate::list("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok_and(|pid| pid > 1));
    let strangers = strangers.filter(|pid| {
        std::fs::metadata(format!("/proc/{pid}/exe")).map_or(true, |program| program.len() as usize != own)
    });
    match strangers.count() {
        0 => Err("only its own".into()),
        _ => Ok("processes of the host".into()),
    }
}

/// Argument: a name that somebody outside listens at.
fn abstract_socket(arguments: &[String]) -> Outcome {
    let name = arguments.first().map_or("none", String::as_str);
    let address = SocketAddr::from_abstract_name(name).map_err(|e| error_name(&e))?;
    UnixStream::connect_addr(&address).map_err(|e| error_name(&e))?;
    Ok("a service of the host without an address".into())
}

/// Argument: the key of a segment that somebody outside has made.
fn shared_memory(arguments: &[String]) -> Outcome {
    let key: i64 = arguments.first().and_then(|key| key.parse().ok()).unwrap_or(0x7061_6173);
    // SAFETY: the call takes numbers.
    let segment = answer(unsafe { syscall(29, key, 1, 0) })?;
    // SAFETY: the kernel chooses the place; nothing of it is read.
    answer(unsafe { syscall(30, segment, 0, 0o10000) })?;
    Ok("shared memory of the host".into())
}

/// Leaves dead processes to whoever is first here, many more than there may be.
fn zombie_flood(_: &[String]) -> Outcome {
    for _ in 0..600 {
        let mut status = 0;
        // SAFETY: there is one thread; both generations end at once.
        unsafe {
            let child = fork_patiently();
            if child == 0 {
                // The parent's end is what makes it somebody else's.
                match fork_patiently() {
                    0 => _exit(0),
                    orphan => _exit(i32::from(orphan < 0)),
                }
            }
            status = if child < 0 { -1 } else { status };
            waitpid(child, &mut status, 0);
        }
        if status != 0 {
            return Ok("no process can be started any more".into());
        }
    }
    Err("the dead are buried".into())
}

/// A fork that waits up to three seconds for somebody else to be buried.
unsafe fn fork_patiently() -> i32 {
    for _ in 0..300 {
        // SAFETY: the caller's.
        let child = unsafe { fork() };
        if child >= 0 {
            return child;
        }
        super::pause(10);
    }
    -1
}

/// Takes all that it can get and keeps it until it is told to end.
fn inotify_hog(_: &[String]) -> Outcome {
    let mut taken = 0;
    // SAFETY: the call takes a number.
    while unsafe { syscall(294, 0) } >= 0 {
        taken += 1;
    }
    println!("inotify-hog took {taken} until {}", last_error());
    hold()
}

fn inotify_left(_: &[String]) -> Outcome {
    // SAFETY: the call takes a number.
    match answer(unsafe { syscall(294, 0) }) {
        Ok(_) => Err("a neighbour that takes all leaves enough".into()),
        Err(error) => Ok(format!("nothing left for a neighbour ({error})")),
    }
}

/// Large pipes until its user may have no more.
fn pipe_hog(_: &[String]) -> Outcome {
    let mut taken = 0;
    while enlarged_pipe().is_ok() {
        taken += 1;
    }
    println!("pipe-hog took {taken} until refused");
    hold()
}

fn pipe_left(_: &[String]) -> Outcome {
    match enlarged_pipe() {
        Ok(()) => Err("a neighbour that takes all leaves enough".into()),
        Err(error) => Ok(format!("nothing left for a neighbour ({error})")),
    }
}

/// A pipe of 1 MiB, kept open.
fn enlarged_pipe() -> Result<(), String> {
    const SET_SIZE: i64 = 1031;
    let mut ends = [0i32; 2];
    // SAFETY: the array takes two numbers.
    unsafe {
        answer(syscall(293, ends.as_mut_ptr(), 0))?;
        answer(syscall(72, ends[0], SET_SIZE, 1 << 20)).map(drop)
    }
}

/// What it has taken stays taken until it is killed.
fn hold() -> Outcome {
    println!("holding");
    let _ = std::io::stdout().flush();
    loop {
        std::thread::park();
    }
}

/// Many processes that are hard to end: in sessions of their own, deaf to every signal that
/// can be ignored, stopped, held by a tracer, in the middle of a vfork, and forking for as long as they may.
pub fn stubborn() {
    // SAFETY: there is one thread in each; the children never return.
    unsafe {
        for kind in 0..5 {
            if fork() != 0 {
                continue;
            }
            syscall(112);
            for signal in 1..=64 {
                crate::signal(signal, std::ptr::without_provenance(1));
            }
            match kind {
                0 => drop(syscall(62, syscall(39), 19)),
                1 => trace_a_child(),
                2 => loop {
                    if fork() == 0 {
                        syscall(112);
                    }
                },
                // Waits in the kernel until its child is another program, which never happens.
                3 => drop(syscall(56, 0x4000 | 17, 0, 0, 0, 0)),
                _ => {}
            }
            loop {
                syscall(34);
            }
        }
        for signal in 1..=64 {
            crate::signal(signal, std::ptr::without_provenance(1));
        }
    }
    println!("dug in");
    hold().ok();
}

/// Holds a child at its end, which a tracer may.
unsafe fn trace_a_child() {
    const TRACE_ME: i64 = 0;
    const SET_OPTIONS: i64 = 0x4200;
    const TRACE_EXIT: i64 = 0x40;
    // SAFETY: numbers only; the child stops itself until its tracer goes on.
    unsafe {
        let child = fork();
        if child == 0 {
            syscall(101, TRACE_ME, 0, 0, 0);
            syscall(62, syscall(39), 19);
            _exit(0);
        }
        waitpid(child, std::ptr::null_mut(), 2);
        syscall(101, SET_OPTIONS, i64::from(child), 0, TRACE_EXIT);
    }
}
