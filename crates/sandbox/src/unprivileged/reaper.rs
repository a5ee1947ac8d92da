//! The two processes that only wait: the caller's, and the first of the namespaces.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus};

use crate::sys::{self, Forked};
use crate::wire::timespec;
use crate::{Error, Result};

/// Passed on to the agent.
const PASSED: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// For apps to end by themselves once the agent has ended.
const GRACE: Duration = Duration::from_secs(5);

/// Has the kernel kill this process when the one that made it dies.
pub fn die_with_parent() {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}

fn signals(with_children: bool) -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    PASSED.into_iter().for_each(|signal| mask.add(signal));
    if with_children {
        mask.add(Signal::SIGCHLD);
    }
    mask.thread_block()?;
    Ok(SignalFd::with_flags(
        &mask,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

/// Outside: waits for the end of the namespaces' first process and passes signals on to it; its status.
pub fn wait(first: BorrowedFd<'_>) -> io::Result<u8> {
    let signals = signals(false)?;
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(first, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ended = !fds[0].revents().is_empty();
        while let Ok(Some(info)) = signals.read_signal() {
            let _ = sys::pidfd_signal(first, info.ssi_signo.cast_signed());
        }
        if ended {
            let status = rustix::process::waitid(WaitId::PidFd(first), WaitIdOptions::EXITED)?;
            let code = status.and_then(|status| {
                let killed = || status.terminating_signal().map(|number| 128 + number);
                status.exit_status().or_else(killed)
            });
            return Ok(u8::try_from(code.unwrap_or(1)).unwrap_or(1));
        }
    }
}

/// Inside: splits off the agent, which returns; the first process stays here until it ends.
pub fn become_first() -> Result<()> {
    let failed = |what| move |source| Error::Unprivileged { what, source };
    // Before the fork, so that no end is missed; the agent gets its own mask back.
    let before = SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty());
    let signals = signals(true).map_err(failed("watch signals"))?;
    // SAFETY: this process is the child of a clone of one thread, and started none.
    match unsafe { sys::fork() }.map_err(failed("start the agent"))? {
        Forked::Child => {
            drop(signals);
            before
                .thread_set_mask()
                .map_err(|errno| failed("take signals")(errno.into()))
        }
        Forked::Parent(agent, _) => {
            let first = First { agent, signals };
            let code = first.tend().unwrap_or(1);
            first.finish(Instant::now() + GRACE);
            // The kernel ends whatever is left.
            sys::exit_now(i32::from(code))
        }
    }
}

/// The first process at work. What it inherited stays open in it, but nothing is done with it.
struct First {
    agent: i32,
    signals: SignalFd,
}

impl First {
    /// Until the agent ends; its status.
    fn tend(&self) -> io::Result<u8> {
        let _ = rustix::thread::set_name(c"paasd-first");
        // SAFETY: this process never returns to the owners of what it inherited.
        let _ = unsafe { sys::close_all_except(3, &[std::os::fd::AsRawFd::as_raw_fd(&self.signals)]) };
        loop {
            self.wait(None)?;
            for signal in self.taken() {
                let _ = sys::kill(self.agent, signal);
            }
            while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                if Some(pid) == Pid::from_raw(self.agent) {
                    return Ok(code(status));
                }
            }
        }
    }

    /// Asks everything to end and waits for it; until `deadline`, or until it is told again.
    fn finish(&self, deadline: Instant) {
        let _ = sys::kill(-1, libc::SIGTERM);
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => continue,
                Ok(None) => {}
                // Nobody is left.
                Err(_) => return,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.wait(Some(left)).is_err() || self.taken().next().is_some() {
                return;
            }
        }
    }

    /// Signals that came and are not about children.
    fn taken(&self) -> impl Iterator<Item = i32> {
        std::iter::from_fn(|| self.signals.read_signal().ok().flatten())
            .map(|info| info.ssi_signo.cast_signed())
            .filter(|signal| *signal != libc::SIGCHLD)
    }

    fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        let mut fds = [PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)];
        match poll(&mut fds, limit.map(timespec).as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

fn code(status: WaitStatus) -> u8 {
    let killed = || status.terminating_signal().map(|number| 128 + number);
    let code = status.exit_status().or_else(killed);
    u8::try_from(code.unwrap_or(1)).unwrap_or(1)
}
