//! Parts of the sandbox's memory that sidecars have to themselves: which of them ran out of its own, and whether one was
//! killed because all together had too much.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::meters::text;
use super::{Failure, Stage};
use crate::cgroup::keyed;
use crate::wire::{self, Order};
use crate::{Oom, Spec};

/// One sidecar's.
#[derive(Debug)]
struct Share {
    sidecar: usize,
    name: String,
    limit_bytes: u64,
    join: OwnedFd,
    kills: File,
    reached: File,
    peak: Option<File>,
    event: Option<OwnedFd>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Shares(Vec<Share>);

impl Shares {
    /// Takes what the agent hands out, until it lets the sidecars go. None if the agent is gone: the app is under way
    /// then, or will not be.
    pub fn receive(socket: &OwnedFd, spec: &Spec) -> Result<Shares, Failure> {
        let mut shares = Vec::new();
        while let Ok(Some((Order::Share { sidecar, peak, event }, fds))) = wire::receive(socket.as_fd()) {
            let wanted = spec.sidecars.get(sidecar).ok_or(std::io::ErrorKind::InvalidInput);
            let wanted = wanted.stage("take a sidecar's group")?;
            let mut fds = fds.into_iter();
            let mut next = || {
                let fd = fds.next().ok_or(std::io::ErrorKind::InvalidInput);
                fd.stage("take a sidecar's group")
            };
            shares.push(Share {
                sidecar,
                name: wanted.name.clone(),
                limit_bytes: wanted.memory_bytes.unwrap_or(0),
                join: next()?,
                kills: next()?.into(),
                reached: next()?.into(),
                peak: if peak { Some(next()?.into()) } else { None },
                event: if event { Some(next()?) } else { None },
            });
        }
        Ok(Shares(shares))
    }

    /// Where the sidecar at `at` has to join.
    pub fn group(&self, at: usize) -> Option<BorrowedFd<'_>> {
        let share = self.0.iter().find(|share| share.sidecar == at);
        share.map(|share| share.join.as_fd())
    }

    /// v1: become readable when memory runs out.
    pub fn events(&self) -> impl Iterator<Item = &OwnedFd> {
        self.0.iter().filter_map(|share| share.event.as_ref())
    }

    /// Takes the events, so that the next one is noticed.
    pub fn acknowledge(&self) {
        for event in self.events() {
            let _ = rustix::io::read(event, &mut [0u8; 8][..]);
        }
    }

    /// The sidecar that the kernel killed at its own limit, with its figures.
    pub fn culprit(&self) -> Option<(&str, Oom)> {
        let share = self
            .0
            .iter()
            .find(|share| share.was_killed() && share.reached_its_own())?;
        let peak = share.peak.as_ref().and_then(|file| text(file).trim().parse().ok());
        let oom = Oom {
            limit_bytes: share.limit_bytes,
            peak_bytes: peak.unwrap_or(share.limit_bytes),
        };
        Some((&share.name, oom))
    }

    /// Whether the kernel killed in any of them.
    pub fn any_killed(&self) -> bool {
        self.0.iter().any(Share::was_killed)
    }
}

impl Share {
    fn was_killed(&self) -> bool {
        keyed(&text(&self.kills), "oom_kill").unwrap_or(0) > 0
    }

    /// v2 counts by name, v1 has one number.
    fn reached_its_own(&self) -> bool {
        let text = text(&self.reached);
        let times = keyed(&text, "oom").or_else(|| text.trim().parse().ok());
        times.unwrap_or(0) > 0
    }
}
