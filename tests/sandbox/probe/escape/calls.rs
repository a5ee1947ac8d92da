//! Attempts by system calls that give power over the kernel or over others.

use std::arch::asm;
use std::ffi::{CString, c_long};

use super::{Outcome, answer, last_error};
use crate::{_exit, fork, syscall, waitpid};

pub const ALL: &[(&str, super::Attempt)] = &[
    ("user-namespace", user_namespace),
    ("user-namespace-by-clone", user_namespace_by_clone),
    ("user-namespace-by-clone3", user_namespace_by_clone3),
    ("another-abi", another_abi),
    ("io-uring", io_uring),
    ("bpf", bpf),
    ("perf", perf),
    ("userfaultfd", userfaultfd),
    ("kernel-log", kernel_log),
    ("keyring", keyring),
    ("keyring-of-others", keyring_of_others),
    ("process-memory", process_memory),
    ("file-by-handle", file_by_handle),
    ("terminal-injection", terminal_injection),
    ("odd-sockets", odd_sockets),
    ("raw-socket", raw_socket),
    ("chroot", chroot),
    ("mount", mount),
    ("mount-of-groups", mount_of_groups),
    ("host-name", host_name),
    ("namespace-of-init", namespace_of_init),
];

const NEW_USER: c_long = 0x1000_0000;
const NEW_MOUNTS: c_long = 0x2_0000;
const NEW_GROUPS: c_long = 0x200_0000;

fn text(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

/// Full of capabilities over whatever is made next: the door to most of the kernel's bugs.
fn user_namespace(_: &[String]) -> Outcome {
    // SAFETY: the call takes a number.
    answer(unsafe { syscall(272, NEW_USER) })?;
    Ok("a user namespace of its own".into())
}

fn user_namespace_by_clone(_: &[String]) -> Outcome {
    // SAFETY: without CLONE_VM and a stack this is a fork; the child ends at once.
    unsafe {
        let child = syscall(56, NEW_USER | 17, 0, 0, 0, 0);
        if child == 0 {
            _exit(0);
        }
        answer(child)?;
        waitpid(child as i32, std::ptr::null_mut(), 0);
    }
    Ok("a child in a user namespace of its own".into())
}

fn user_namespace_by_clone3(_: &[String]) -> Outcome {
    let arguments: [u64; 8] = [NEW_USER as u64, 0, 0, 0, 17, 0, 0, 0];
    // SAFETY: `arguments` is the first version of clone_args and lives through the call; the
    // child is a fork that ends at once.
    unsafe {
        let child = syscall(435, arguments.as_ptr(), size_of_val(&arguments));
        if child == 0 {
            _exit(0);
        }
        answer(child)?;
        waitpid(child as i32, std::ptr::null_mut(), 0);
    }
    Ok("a child in a user namespace of its own".into())
}

/// The same calls under other numbers, where a filter might not look.
fn another_abi(_: &[String]) -> Outcome {
    let mut refused = Vec::new();
    let old: i32;
    // SAFETY: interrupt 0x80 takes its arguments in registers; unshare touches no memory.
    unsafe {
        asm!(
            "push rbx", "mov ebx, {flags:e}", "int 0x80", "pop rbx",
            flags = in(reg) NEW_USER as i32,
            inlateout("eax") 310 => old,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if old == 0 {
        return Ok("a user namespace by the 32-bit interface".into());
    }
    refused.push(format!("32-bit {}", super::error_name(&std::io::Error::from_raw_os_error(-old))));
    // SAFETY: the call takes a number.
    if unsafe { syscall(0x4000_0000 | 272, NEW_USER) } == 0 {
        return Ok("a user namespace by the x32 interface".into());
    }
    refused.push(format!("x32 {}", last_error()));
    Err(refused.join(", "))
}

fn io_uring(_: &[String]) -> Outcome {
    let parameters = [0u64; 15];
    // SAFETY: the parameters have the kernel's size (120 bytes) and live through the call.
    answer(unsafe { syscall(425, 1, parameters.as_ptr()) })?;
    Ok("a ring of requests that no filter sees".into())
}

fn bpf(_: &[String]) -> Outcome {
    // An array of one number; its creation takes the same right as a program's.
    let attributes: [u32; 32] = {
        let mut all = [0; 32];
        all[..4].copy_from_slice(&[2, 4, 8, 1]);
        all
    };
    // SAFETY: the attributes live through the call.
    answer(unsafe { syscall(321, 0, attributes.as_ptr(), size_of_val(&attributes)) })?;
    Ok("a map of the kernel's virtual machine".into())
}

fn perf(_: &[String]) -> Outcome {
    let mut attributes = [0u64; 16];
    // A clock of the kernel's, of its own size, on CPU 0 for all processes.
    attributes[0] = 1 | (128 << 32);
    // SAFETY: the attributes have the size they name and live through the call.
    answer(unsafe { syscall(298, attributes.as_ptr(), -1, 0, -1, 0) })?;
    Ok("a counter of everything on CPU 0".into())
}

fn userfaultfd(_: &[String]) -> Outcome {
    const USER_MODE_ONLY: c_long = 1;
    // SAFETY: the call takes a number.
    answer(unsafe { syscall(323, USER_MODE_ONLY) })?;
    Ok("page faults handled at leisure".into())
}

fn kernel_log(_: &[String]) -> Outcome {
    let mut buffer = [0u8; 4096];
    // SAFETY: the buffer has the size given.
    answer(unsafe { syscall(103, 3, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok("the kernel's messages".into())
}

fn keyring(_: &[String]) -> Outcome {
    const GET_KEYRING_ID: c_long = 0;
    const SESSION: c_long = -3;
    // SAFETY: the call takes numbers.
    answer(unsafe { syscall(250, GET_KEYRING_ID, SESSION, 1) })?;
    Ok("a keyring".into())
}

/// The key named by the argument, in the session of whoever started all this.
fn keyring_of_others(arguments: &[String]) -> Outcome {
    const SEARCH: c_long = 10;
    const SESSION: c_long = -3;
    const READ: c_long = 11;
    let name = text(arguments.first().map_or("paas-none", String::as_str));
    let kind = text("user");
    let mut content = [0u8; 64];
    // SAFETY: the strings and the buffer live through the calls.
    unsafe {
        let key = answer(syscall(250, SEARCH, SESSION, kind.as_ptr(), name.as_ptr(), 0))?;
        answer(syscall(250, READ, key, content.as_mut_ptr(), content.len()))?;
    }
    Ok("a key of whoever started it".into())
}

/// That of a child, which a debugger could read as well.
fn process_memory(_: &[String]) -> Outcome {
    let secret = [42u8; 8];
    let mut copy = [0u8; 8];
    // SAFETY: the child only waits to be killed; both vectors describe live buffers.
    unsafe {
        let child = fork();
        if child == 0 {
            loop {
                syscall(34);
            }
        }
        let local = [copy.as_mut_ptr() as usize, copy.len()];
        let remote = [secret.as_ptr() as usize, secret.len()];
        let (pid, one, none) = (c_long::from(child), 1 as c_long, 0 as c_long);
        let result = answer(syscall(310, pid, local.as_ptr(), one, remote.as_ptr(), one, none));
        syscall(62, c_long::from(child), 9);
        waitpid(child, std::ptr::null_mut(), 0);
        result?;
    }
    Ok("another process's memory".into())
}

/// Arguments: a folder inside on the wanted file system, kind and bytes of the handle in hex.
fn file_by_handle(arguments: &[String]) -> Outcome {
    let [folder, kind, bytes] = arguments else {
        return file_by_handle(&["/".into(), "1".into(), "0200000000000000".into()]);
    };
    let bytes: Vec<u8> = (0..bytes.len() / 2)
        .filter_map(|at| u8::from_str_radix(&bytes[at * 2..at * 2 + 2], 16).ok())
        .collect();
    let mut handle = Vec::from((bytes.len() as u32).to_ne_bytes());
    handle.extend(kind.parse::<i32>().unwrap_or(1).to_ne_bytes());
    handle.extend(bytes);
    let folder = std::fs::File::open(folder).map_err(|e| super::error_name(&e))?;
    use std::os::fd::{AsRawFd, FromRawFd};
    // SAFETY: the handle has the length it begins with and lives through the call.
    let file = answer(unsafe { syscall(304, folder.as_raw_fd(), handle.as_ptr(), 0) })?;
    // SAFETY: the kernel has just made this descriptor.
    let file = unsafe { std::fs::File::from_raw_fd(file as i32) };
    let content = std::io::read_to_string(file).unwrap_or_default();
    Ok(format!("{:?} of a file that is not inside", content.trim()))
}

/// Types into a terminal as if its user did: here one of its own.
fn terminal_injection(_: &[String]) -> Outcome {
    const TIOCSTI: c_long = 0x5412;
    const TIOCSCTTY: c_long = 0x540e;
    const TIOCGPTPEER: c_long = 0x5441;
    const TIOCSPTLCK: c_long = 0x4004_5431;
    let ptmx = std::fs::File::options().read(true).write(true).open("/dev/ptmx");
    let ptmx = ptmx.map_err(|e| super::error_name(&e))?;
    use std::os::fd::AsRawFd;
    let (master, unlocked, letter) = (ptmx.as_raw_fd(), 0i32, b'x');
    // SAFETY: the number and the letter live through the calls; the child ends at once.
    unsafe {
        let child = fork();
        if child == 0 {
            syscall(112);
            syscall(16, master, TIOCSPTLCK, &raw const unlocked);
            let terminal = syscall(16, master, TIOCGPTPEER, 0o402);
            syscall(16, terminal, TIOCSCTTY, 0);
            let result = syscall(16, terminal, TIOCSTI, &raw const letter);
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(255);
            _exit(if result == 0 { 0 } else { errno });
        }
        let mut status = 0;
        waitpid(child, &mut status, 0);
        match status >> 8 {
            0 => Ok("a letter typed into a terminal".into()),
            errno => Err(super::error_name(&std::io::Error::from_raw_os_error(errno))),
        }
    }
}

/// Families that apps have no use for and that reach into the kernel or to the hypervisor.
fn odd_sockets(_: &[String]) -> Outcome {
    let families = [(38, 5, "AF_ALG"), (40, 1, "AF_VSOCK"), (21, 5, "AF_RDS"), (30, 1, "AF_TIPC"), (15, 3, "AF_KEY")];
    let mut refused = Vec::new();
    let mut opened = Vec::new();
    for (family, kind, name) in families {
        // SAFETY: the call takes numbers.
        match answer(unsafe { syscall(41, family, kind, 0) }) {
            Ok(_) => opened.push(name),
            Err(error) => refused.push(error),
        }
    }
    refused.dedup();
    if opened.is_empty() { Err(refused.join(", ")) } else { Ok(opened.join(", ")) }
}

fn raw_socket(_: &[String]) -> Outcome {
    // SAFETY: the call takes numbers; the family is AF_PACKET, which sees every frame.
    answer(unsafe { syscall(41, 17, 3, 0x0300) })?;
    Ok("every frame of the network".into())
}

fn chroot(_: &[String]) -> Outcome {
    let folder = text("/tmp");
    // SAFETY: a live string.
    answer(unsafe { syscall(161, folder.as_ptr()) })?;
    Ok("another root, and with it the way up from the working folder".into())
}

/// Over `/proc`, so that whoever writes there writes where the app wants.
fn mount(_: &[String]) -> Outcome {
    let (kind, place) = (text("tmpfs"), text("/proc"));
    // SAFETY: live strings; there are no options.
    answer(unsafe { syscall(165, kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, 0) })?;
    Ok("a /proc of its own making".into())
}

/// The way of those who then name a release agent.
fn mount_of_groups(_: &[String]) -> Outcome {
    // SAFETY: the call takes a number.
    answer(unsafe { syscall(272, NEW_USER | NEW_MOUNTS | NEW_GROUPS) })?;
    let place = text("/tmp");
    for kind in ["cgroup2", "cgroup"] {
        let (kind, options) = (text(kind), text("pids"));
        let options = if kind.as_bytes() == b"cgroup" { options.as_ptr() } else { std::ptr::null() };
        // SAFETY: live strings.
        if unsafe { syscall(165, kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, options) } == 0 {
            return Ok("a hierarchy of control groups, writable".into());
        }
    }
    Err(last_error())
}

fn host_name(_: &[String]) -> Outcome {
    let name = text("changed");
    // SAFETY: a live string of the length given.
    answer(unsafe { syscall(170, name.as_ptr(), 7) })?;
    Ok("another host name".into())
}

fn namespace_of_init(_: &[String]) -> Outcome {
    let mut refused = Vec::new();
    for kind in ["mnt", "net", "pid", "ipc", "uts", "cgroup", "user"] {
        match std::fs::File::open(format!("/proc/1/ns/{kind}")) {
            Err(e) => refused.push(super::error_name(&e)),
            Ok(_) => return Ok(format!("a handle on the first process's namespace ({kind})")),
        }
    }
    refused.dedup();
    Err(refused.join(", "))
}
