//! Sessions: what people have inside a running instance, as processes beside the app.
//!
//! A session is more than one process: a shell starts others, and some outlive it, in other groups and other sessions of
//! the kernel. So a supervisor stands before what is run. Orphans below it become its children, and before it ends it ends
//! them: nothing of a session is left in the instance. It is the app's user's own process: whoever kills it by hand keeps
//! what it watched over.
//!
//! ```text
//! supervisor ── launcher, which becomes the command ── …
//!     │  signals that it gets go to the command's group
//!     │  hang-up, or END: everything goes, at the latest after a while
//!     └─ the command ended: whatever is left goes, and the supervisor ends as the command did
//! ```

pub mod connect;
pub mod sftp;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group};
use signal_hook::consts::signal::{
    SIGABRT, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2,
};
use signal_hook::iterator::Signals;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Tells the supervisor to end everything at once, as a signal to kill can't: SIGPWR, which nobody sends for anything else.
/// Signals that wait; the system waits with more of them.
const SIGNALS: usize = 64;
const END: i32 = 30;
/// Time for a command to end itself once its session is gone.
const HANG_UP: Duration = Duration::from_secs(3);
/// Time for what a command left running to end itself.
const LEFT: Duration = Duration::from_millis(300);
/// Longest time until everything below is killed: something that keeps forking is slow to end.
const KILL: Duration = Duration::from_secs(10);
/// Pause between two looks for processes that were just killed.
const LOOK: Duration = Duration::from_millis(20);
/// What can't be run, as shells say it.
const NOT_RUN: u8 = 126;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

/// Runs `program`, a path with arguments, to its end and to that of everything that it started.
///
/// # Errors
/// Where it can't be started or watched.
pub fn run(program: &[String]) -> io::Result<Ended> {
    let (name, arguments) = program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let signals = watch()?;
    let child = Command::new(name).args(arguments).process_group(0).spawn()?;
    let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let child = child.ok_or(io::ErrorKind::InvalidData)?;
    foreground(child);
    Ok(Supervisor {
        child,
        signals,
        deadline: None,
    }
    .watch())
}

/// Ends this process as the command ended.
#[must_use]
pub fn end(ended: io::Result<Ended>) -> ExitCode {
    match ended {
        Ok(Ended::Code(code)) => ExitCode::from(code),
        Ok(Ended::Signal(signal)) => {
            // Ends this process, unless the signal is one that ends none.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
        Err(error) => {
            crate::ui::alert_on_stderr(&format!("the session can't be run: {error}"));
            ExitCode::from(NOT_RUN)
        }
    }
}

/// Signals as messages. They are caught rather than ignored, so that the command has them as they were.
fn watch() -> io::Result<mpsc::Receiver<i32>> {
    let mut signals = Signals::new([
        SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGABRT, SIGCONT, SIGTSTP, SIGCHLD, END,
    ])?;
    let (sender, receiver) = mpsc::sync_channel(SIGNALS);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Gives the command the terminal, where there is one.
fn foreground(child: Pid) {
    let terminal = io::stdin();
    if rustix::termios::isatty(&terminal) && rustix::termios::tcsetpgrp(&terminal, child).is_ok() {
        // It may have been stopped for having read too early.
        let _ = kill_process_group(child, Signal::CONT);
    }
}

struct Supervisor {
    child: Pid,
    signals: mpsc::Receiver<i32>,
    /// When what is left of the session is killed.
    deadline: Option<Instant>,
}

impl Supervisor {
    /// Until the command has ended and nothing is left below.
    fn watch(mut self) -> Ended {
        let mut ended = None;
        loop {
            self.reap(&mut ended);
            if let Some(how) = ended {
                self.clear_up();
                return how;
            }
            match self.next() {
                Some(SIGCHLD) => {}
                Some(END) => self.deadline = Some(Instant::now()),
                Some(SIGHUP) => {
                    self.deadline.get_or_insert(Instant::now() + HANG_UP);
                    self.pass_on(SIGHUP);
                    // What is stopped hears nothing.
                    self.pass_on(SIGCONT);
                }
                Some(signal) => self.pass_on(signal),
                None => {
                    kill_below();
                    self.deadline = Some(Instant::now() + LOOK);
                }
            }
        }
    }

    /// The next signal; `None` once it is time to kill.
    fn next(&self) -> Option<i32> {
        match self.deadline {
            Some(at) => self
                .signals
                .recv_timeout(at.saturating_duration_since(Instant::now()))
                .ok(),
            None => self.signals.recv().ok(),
        }
    }

    fn pass_on(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _ = kill_process_group(self.child, signal);
        }
    }

    /// Takes in what ended; the command's own end is put into `ended`.
    fn reap(&self, ended: &mut Option<Ended>) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            if pid != self.child {
                continue;
            }
            if status.stopped() {
                // There is no shell before it that could: it goes on at once.
                let _ = kill_process_group(self.child, Signal::CONT);
            } else {
                *ended = Some(how(status));
            }
        }
    }

    /// Ends what the command left.
    fn clear_up(&self) {
        for pid in below() {
            let _ = kill_process(pid, Signal::HUP);
            let _ = kill_process(pid, Signal::CONT);
        }
        let begun = Instant::now();
        let mut none = None;
        while !below().is_empty() && begun.elapsed() < KILL {
            if begun.elapsed() > LEFT {
                kill_below();
            }
            let _ = self.signals.recv_timeout(LOOK);
            self.reap(&mut none);
        }
    }
}

fn how(status: WaitStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (_, Some(signal)) => Ended::Signal(signal),
        (code, None) => Ended::Code(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)),
    }
}

fn kill_below() {
    for pid in below() {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Our children. Those of one that ends are ours next.
fn below() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(all) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent(*pid) == Some(own))
        .filter_map(Pid::from_raw)
        .collect()
}

/// Parent of a process, from `pid (name) state ppid …`; the name may hold anything.
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_whatever_the_name() {
        let own = i32::try_from(std::process::id()).expect("fits");
        let ours = i32::try_from(std::os::unix::process::parent_id()).expect("fits");
        assert_eq!(parent(own), Some(ours));
        assert_eq!(parent(i32::MAX), None);
    }
}
