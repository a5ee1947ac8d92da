//! What filters, domains and counts of the kernel's leave: asked by raw system calls.

use std::ffi::{CString, c_long};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use super::{sleep, syscall};

/// Calls that no app has, whatever their arguments.
const REFUSED: [c_long; 76] = [
    103, 134, 136, 139, 153, 155, 156, 161, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173, 174, 175, 176, 177,
    178, 179, 180, 181, 182, 183, 184, 185, 212, 227, 236, 237, 238, 239, 246, 248, 249, 250, 256, 272, 279, 298, 300,
    303, 304, 308, 310, 311, 312, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442, 443,
    450, 459, 460, 461, 467, 468, 469,
];
/// As if the kernel did not have them: hidden, newer than the list, and of another way to call.
const UNKNOWN: [c_long; 4] = [435, 470, 1000, 0x4000_0027];

/// The subcommand, if it is one of these.
pub fn run(args: &[String]) -> bool {
    let arg = |at: usize| args.get(at).map_or("", String::as_str);
    match arg(0) {
        "filtered" => filtered(),
        "abstract-serve" => {
            let _listener = UnixListener::bind_addr(&named(arg(1))).expect("bind");
            println!("serving");
            sleep();
        }
        "abstract-connect" => {
            let done = UnixStream::connect_addr(&named(arg(1)));
            println!("{}", done.err().map_or(0, |e| e.raw_os_error().unwrap_or(-1)));
        }
        // SAFETY: plain numbers.
        "signal" => println!("{}", errno(unsafe { syscall(62, number(arg(1)), number(arg(2))) })),
        "inotify-fill" => {
            println!("instances={}", inotify());
            sleep();
        }
        "inotify-count" => println!("instances={}", inotify()),
        _ => return false,
    }
    true
}

fn number(text: &str) -> c_long {
    text.parse().expect("a number")
}

fn named(name: &str) -> SocketAddr {
    SocketAddr::from_abstract_name(name).expect("a name")
}

fn errno(result: c_long) -> i32 {
    if result < 0 {
        std::io::Error::last_os_error().raw_os_error().unwrap_or(-1)
    } else {
        0
    }
}

/// `kind number=errno` for everything that is refused, and for some that is not.
fn filtered() {
    let minus: c_long = -1;
    // SAFETY: no pointer among the arguments is valid, so a call that is not refused fails by itself.
    for call in REFUSED {
        let result = unsafe { syscall(call, minus, minus, minus, minus, minus, minus) };
        println!("call {call}={}", errno(result));
    }
    for call in UNKNOWN {
        // SAFETY: as above.
        println!("unknown {call}={}", errno(unsafe { syscall(call, minus, minus, minus, minus, minus, minus) }));
    }
    let whiteout = CString::new("/tmp/whiteout").expect("no NUL");
    // SAFETY: plain numbers but for a live C string.
    unsafe {
        for family in 0..64 as c_long {
            println!("family {family}={}", errno(syscall(41, family, 2, 0)));
        }
        println!("pair 30={}", errno(syscall(53, 30 as c_long, 1, 0, minus)));
        // A device that anybody might make as far as the kernel is concerned.
        println!("node 0={}", errno(syscall(133, whiteout.as_ptr(), 0o020_666, 0)));
        for request in [0x5412 as c_long, 0x541C, 0x541D, 0x5423, 0x4C80, 0xAE01, 0x5401, 0x541B] {
            println!("request {request}={}", errno(syscall(16, 0, request, minus)));
        }
    }
}

/// Makes as many as it gets, and keeps them until it ends.
fn inotify() -> u32 {
    let mut made = 0;
    // SAFETY: plain numbers.
    while made < 10_000 && errno(unsafe { syscall(294, 0) }) == 0 {
        made += 1;
    }
    made
}
