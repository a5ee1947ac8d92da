//! Attempts to get out: `probe escape NAME [ARGUMENT…]` makes one, `probe escapes NAME…` makes
//! each in a process of its own. Each says `NAME held: why` or `NAME escaped: what was reached`.
//!
//! An attempt proves reach and does no harm: what it could overwrite gets the content it had,
//! what it could kill gets signal 0.

mod calls;
mod files;
mod groups;
mod others;
mod outside;

use std::io::Write;

/// What is asked for by the first word, if it is of this module.
pub fn run(arguments: &[String]) -> bool {
    let rest = arguments.get(1..).unwrap_or(&[]);
    match arguments.first().map(String::as_str) {
        Some("escape") => one(rest),
        Some("escapes") => several(rest),
        Some("stubborn") => others::stubborn(),
        Some("moment") => pause(1500),
        Some("as-pid") => outside::with_number(rest),
        Some("with-key") => outside::with_key(rest),
        Some("handle") => outside::handle(rest),
        Some("segment-make") => outside::segment(rest, true),
        Some("segment-remove") => outside::segment(rest, false),
        _ => return false,
    }
    true
}

/// What was reached, or what refused it.
pub type Outcome = Result<String, String>;
type Attempt = fn(&[String]) -> Outcome;

fn attempt(name: &str) -> Option<Attempt> {
    let all = [calls::ALL, files::ALL, groups::ALL, others::ALL];
    let found = all.into_iter().flatten().find(|(known, _)| *known == name);
    found.map(|(_, attempt)| *attempt)
}

/// Several, none of which needs an argument.
fn several(names: &[String]) {
    for name in names {
        one(std::slice::from_ref(name));
    }
}

/// One attempt, by a child: a filter may kill who makes it, and what it reaches must not help
/// the next one.
fn one(arguments: &[String]) {
    let Some((name, attempt)) = arguments.first().and_then(|name| Some((name, attempt(name)?))) else {
        println!("{arguments:?} is no attempt");
        return;
    };
    // SAFETY: there is one thread; the child makes its attempt and ends.
    unsafe {
        let child = crate::fork();
        if child == 0 {
            say(name, attempt(&arguments[1..]));
            crate::_exit(0);
        }
        let mut status = 0;
        crate::waitpid(child, &mut status, 0);
        if status & 0x7f != 0 {
            println!("{name} held: killed by signal {}", status & 0x7f);
        } else if status != 0 {
            println!("{name} broke: exit {}", status >> 8);
        }
    }
}

fn say(name: &str, outcome: Outcome) {
    match outcome {
        Ok(reached) => println!("{name} escaped: {reached}"),
        Err(refused) => println!("{name} held: {refused}"),
    }
    let _ = std::io::stdout().flush();
}

/// Some milliseconds.
pub fn pause(milliseconds: i64) {
    // SAFETY: numbers only; there is nothing to wait for but the time.
    unsafe { crate::syscall(7, 0i64, 0i64, milliseconds) };
}

/// A system call's result: its value, or the error's name.
pub fn answer(result: std::ffi::c_long) -> Result<i64, String> {
    if result < 0 {
        Err(last_error())
    } else {
        Ok(result)
    }
}

pub fn last_error() -> String {
    error_name(&std::io::Error::last_os_error())
}

/// As in errno(3), so that a table of results reads the same on every machine.
pub fn error_name(error: &std::io::Error) -> String {
    let names = [
        (1, "EPERM"),
        (2, "ENOENT"),
        (3, "ESRCH"),
        (5, "EIO"),
        (9, "EBADF"),
        (13, "EACCES"),
        (16, "EBUSY"),
        (17, "EEXIST"),
        (20, "ENOTDIR"),
        (21, "EISDIR"),
        (22, "EINVAL"),
        (23, "ENFILE"),
        (24, "EMFILE"),
        (25, "ENOTTY"),
        (26, "ETXTBSY"),
        (28, "ENOSPC"),
        (30, "EROFS"),
        (38, "ENOSYS"),
        (40, "ELOOP"),
        (93, "EPROTONOSUPPORT"),
        (94, "ESOCKTNOSUPPORT"),
        (95, "EOPNOTSUPP"),
        (97, "EAFNOSUPPORT"),
        (101, "ENETUNREACH"),
        (111, "ECONNREFUSED"),
        (126, "ENOKEY"),
    ];
    let code = error.raw_os_error().unwrap_or(-1);
    let known = names.iter().find(|(number, _)| *number == code);
    known.map_or_else(|| format!("errno {code}"), |(_, name)| (*name).to_owned())
}
