//! `run`: a container from its making to its end in one go, with the runtime in between: it passes signals and the
//! terminal on, and ends as the container did.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::console::Relay;
use super::error::{Context, Error, Result};
use super::lifecycle::{Containers, Creation};
use crate::sys;

/// Makes and starts the container; unless it is to be left alone, stays with it and returns the code to end with:
/// its own, or 128 and the number of the signal that ended it.
pub fn run(containers: &Containers, wanted: &Creation, detach: bool, keep: bool) -> Result<i32> {
    // Before it is born, so that none is lost.
    let signals = if detach {
        None
    } else {
        Some(watch_signals().step(&wanted.id, "watch signals")?)
    };
    let terminal = containers.create(wanted)?;
    if detach && terminal.is_some() {
        discard(containers, &wanted.id);
        let what = "a detached container with a terminal needs --console-socket".to_owned();
        return Err(Error::Unsupported { what });
    }
    let started = containers.start(&wanted.id).and_then(|()| match &signals {
        None => Ok(0),
        Some(signals) => first(containers, &wanted.id).and_then(|pid| follow(&wanted.id, pid, signals, terminal)),
    });
    match started {
        Ok(code) if detach || keep => Ok(code),
        Ok(code) => containers.delete(&wanted.id, true).map(|()| code),
        Err(error) => {
            discard(containers, &wanted.id);
            Err(error)
        }
    }
}

/// After a failure, which is what is told.
fn discard(containers: &Containers, id: &str) {
    let _ = containers.delete(id, true);
}

/// Its first process.
fn first(containers: &Containers, id: &str) -> Result<Pid> {
    let pid = containers.look(id)?.pid.and_then(Pid::from_raw);
    pid.ok_or(io::ErrorKind::NotFound).step(id, "find its process")
}

/// Has signals told by a descriptor instead of to this process.
pub fn watch_signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::all();
    // Those that are about this process itself.
    for own in [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGABRT,
    ] {
        mask.remove(own);
    }
    mask.thread_block()?;
    Ok(SignalFd::with_flags(
        &mask,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

/// Stays with the child `pid` until it ends; returns its code, or 128 and the number of the signal that ended it.
pub fn follow(id: &str, pid: Pid, signals: &SignalFd, terminal: Option<OwnedFd>) -> Result<i32> {
    let mut relay = terminal
        .map(Relay::new)
        .transpose()
        .step(id, "take over its terminal")?;
    loop {
        let ended = waitpid(Some(pid), WaitOptions::NOHANG).step(id, "wait for its end")?;
        if let Some((_, status)) = ended {
            if let Some(relay) = &mut relay {
                relay.finish();
            }
            let code = status
                .exit_status()
                .or(status.terminating_signal().map(|signal| 128 + signal));
            return Ok(code.unwrap_or(1));
        }
        let ready = wait(signals, relay.as_ref()).step(id, "wait for its end")?;
        pass_on(signals, pid, relay.as_ref());
        if let Some(relay) = &mut relay {
            relay.carry(&ready);
        }
    }
}

/// Which of the relay's descriptors are ready, once anything is.
fn wait(signals: &SignalFd, relay: Option<&Relay>) -> io::Result<Vec<bool>> {
    let watched: Vec<BorrowedFd<'_>> = relay.map(Relay::watched).unwrap_or_default();
    let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    fds.extend(watched.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
    loop {
        match poll(&mut fds, None) {
            // A terminal whose last user is gone is told as hung up for good; the end of the process follows.
            Ok(_) => {
                let readable = |fd: &PollFd<'_>| fd.revents().contains(PollFlags::IN);
                let ready: Vec<bool> = fds[1..].iter().map(readable).collect();
                let only_hangups = !readable(&fds[0]) && !ready.contains(&true);
                if !only_hangups {
                    return Ok(ready);
                }
                fds.truncate(1);
                let hung = watched.len();
                poll(&mut fds, None)?;
                return Ok(vec![false; hung]);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn pass_on(signals: &SignalFd, pid: Pid, relay: Option<&Relay>) {
    while let Ok(Some(info)) = signals.read_signal() {
        let signal = info.ssi_signo as i32;
        match signal {
            libc::SIGCHLD => {}
            libc::SIGWINCH if relay.is_some() => relay.into_iter().for_each(Relay::resize),
            // Not reaped yet, so the number is still its.
            signal => {
                let _ = sys::kill(pid.as_raw_nonzero().get(), signal);
            }
        }
    }
}
