//! What the test needs done outside of any sandbox, and cannot do without raw system calls.

use std::ffi::CString;

use super::answer;
use crate::{syscall, waitpid};

/// Prints the kernel's handle of the file named: kind, and bytes in hex.
pub fn handle(arguments: &[String]) {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        content: [u8; 128],
    }
    let mut handle = Handle {
        bytes: 128,
        kind: 0,
        content: [0; 128],
    };
    let mut mount = 0i32;
    let path = CString::new(arguments[0].as_str()).expect("no NUL");
    // SAFETY: the handle has room for the bytes it names; all of it lives through the call.
    let result = unsafe { syscall(303, -100i64, path.as_ptr(), &raw mut handle, &raw mut mount, 0i64) };
    if answer(result).is_ok() {
        let bytes = handle.content[..handle.bytes as usize].iter();
        let hex: String = bytes.map(|byte| format!("{byte:02x}")).collect();
        println!("{} {hex}", handle.kind);
    }
}

/// Makes or removes the segment of shared memory with the key named, for everybody.
pub fn segment(arguments: &[String], make: bool) {
    const CREATE: i64 = 0o1000;
    const REMOVE: i64 = 0;
    let key: i64 = arguments[0].parse().expect("a key");
    // SAFETY: numbers only.
    let done = unsafe {
        let segment = answer(syscall(29, key, 4096i64, if make { CREATE | 0o666 } else { 0 }));
        match segment {
            Ok(segment) if !make => answer(syscall(31, segment, REMOVE, 0i64)),
            other => other,
        }
    };
    println!("{}", done.map_or_else(|error| error, |_| "done".into()));
}

/// Starts a child whose number is the argument, says so, and ends when the child does.
pub fn with_number(arguments: &[String]) {
    const DEATH_SIGNAL: i64 = 1;
    let number: i32 = arguments[0].parse().expect("a number");
    let numbers = [number];
    // Exit signal, and the number to have, in the kernel's order of arguments.
    let wish: [u64; 10] = [0, 0, 0, 0, 17, 0, 0, 0, numbers.as_ptr() as u64, 1];
    // SAFETY: the arguments have the size given and live through the call; without CLONE_VM this is a fork. The child
    // waits to be killed, at the latest when its parent ends.
    unsafe {
        let child = syscall(435, wish.as_ptr(), size_of_val(&wish));
        if child == 0 {
            syscall(157, DEATH_SIGNAL, 9i64);
            loop {
                syscall(34);
            }
        }
        match answer(child) {
            Ok(pid) => println!("{pid}"),
            Err(error) => return println!("{error}"),
        }
        waitpid(number, std::ptr::null_mut(), 0);
    }
}

/// Becomes another program in a session of its own, with a key by the name of the first argument in its keyring.
pub fn with_key(arguments: &[String]) {
    const JOIN_SESSION_KEYRING: i64 = 1;
    const SESSION: i64 = -3;
    let name = CString::new(arguments[0].as_str()).expect("no NUL");
    // SAFETY: live strings and numbers.
    let key = unsafe {
        syscall(250, JOIN_SESSION_KEYRING, std::ptr::null::<u8>());
        syscall(248, c"user".as_ptr(), name.as_ptr(), c"secret".as_ptr(), 6usize, SESSION)
    };
    if let Err(error) = answer(key) {
        return println!("no key: {error}");
    }
    use std::os::unix::process::CommandExt;
    let error = std::process::Command::new(&arguments[1]).args(&arguments[2..]).exec();
    println!("not executed: {error}");
}
