//! Network namespaces for sandboxes without a network, each with the `/sys` that belongs to it, made while nobody asks
//! for anything: the kernel makes them slowly, and more so while it clears up others.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, setns, unshare};

use crate::{inside, sys};

/// Kept at most.
const MAX: usize = 4;

/// See the module. The process must have one thread.
pub struct Spares {
    home: OwnedFd,
    ready: Vec<Spare>,
}

/// One that nobody was in.
pub struct Spare {
    pub netns: OwnedFd,
    /// Its `/sys`, masked, where the kernel lets that be prepared.
    pub sys: Option<OwnedFd>,
}

impl Spares {
    /// None yet; the namespace of the caller is where it comes back to.
    pub fn new() -> io::Result<Spares> {
        Ok(Spares {
            home: File::open("/proc/self/ns/net")?.into(),
            ready: Vec::new(),
        })
    }

    /// One that has only loopback, if there is one.
    pub fn take(&mut self) -> Option<Spare> {
        self.ready.pop()
    }

    /// Whether more are wanted.
    pub fn wants_more(&self) -> bool {
        self.ready.len() < MAX
    }

    /// Makes one more. If that fails, sandboxes are born with one of their own.
    pub fn make(&mut self) {
        let made = unshare(CloneFlags::CLONE_NEWNET)
            .map_err(io::Error::from)
            .and_then(|()| sys::loopback_up())
            .and_then(|()| File::open("/proc/self/ns/net"));
        let made = made.map(|netns| Spare {
            netns: netns.into(),
            sys: inside::masked_sys(),
        });
        self.go_home();
        self.ready.extend(made.ok());
    }

    /// Joins a sandbox's namespace, for the next fork.
    pub fn visit(&self, netns: &OwnedFd) -> io::Result<()> {
        Ok(setns(netns, CloneFlags::CLONE_NEWNET)?)
    }

    /// Back from there. To stay would start the next sandbox in it: better to end.
    pub fn go_home(&self) {
        if setns(&self.home, CloneFlags::CLONE_NEWNET).is_err() {
            sys::exit_now(1);
        }
    }
}
