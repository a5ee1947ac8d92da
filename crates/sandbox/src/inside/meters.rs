//! What init watches of its groups, through descriptors opened while it could: kills for
//! memory and refused forks.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::event::EventfdFlags;

use crate::Oom;
use crate::cgroup::{GroupPlan, keyed};

/// See the module.
#[derive(Debug)]
pub struct Meters {
    counter: File,
    peak: Option<File>,
    pids_events: File,
    pids_announced: bool,
    event: Option<OwnedFd>,
    memory_limit: File,
    pids_limit: File,
}

impl Meters {
    /// Opens everything; still as the host's root.
    pub fn open(plan: &GroupPlan) -> io::Result<Meters> {
        let counter = File::open(&plan.oom_counter)?;
        let event = match &plan.oom_event_control {
            Some(control) => {
                let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
                let order = format!("{} {}", event.as_raw_fd(), counter.as_raw_fd());
                // Without it kills are still found when something dies of SIGKILL.
                std::fs::write(control, order).is_ok().then_some(event)
            }
            None => None,
        };
        Ok(Meters {
            peak: plan.memory_peak.as_ref().map(File::open).transpose()?,
            pids_events: File::open(&plan.pids_events)?,
            pids_announced: plan.pids_announced,
            counter,
            event,
            memory_limit: File::open(&plan.memory_limit)?,
            pids_limit: File::open(&plan.pids_limit)?,
        })
    }

    /// v1: becomes readable when memory runs out.
    pub fn memory_event(&self) -> Option<&OwnedFd> {
        self.event.as_ref()
    }

    /// v2: has an exceptional condition when memory runs out.
    pub fn memory_counter(&self) -> Option<&File> {
        self.event.is_none().then_some(&self.counter)
    }

    /// v2: has an exceptional condition when a fork is refused. On v1 the figure has to be
    /// looked at from time to time.
    pub fn pids_counter(&self) -> Option<&File> {
        self.pids_announced.then_some(&self.pids_events)
    }

    /// Takes the event, so that the next one is noticed.
    pub fn acknowledge(&self) {
        if let Some(event) = &self.event {
            let _ = rustix::io::read(event, &mut [0u8; 8][..]);
        }
    }

    /// Figures if the kernel has killed for memory: here, or `below`, which v1 does not count here.
    pub fn oom(&self, below: bool) -> Option<Oom> {
        if !below && keyed(&text(&self.counter), "oom_kill").unwrap_or(0) == 0 {
            return None;
        }
        let peak = self.peak.as_ref().and_then(|file| text(file).trim().parse().ok());
        // The limit of the moment: it may have been changed since the start.
        let limit_bytes = text(&self.memory_limit).trim().parse().unwrap_or(0);
        Some(Oom {
            limit_bytes,
            peak_bytes: peak.unwrap_or(limit_bytes),
        })
    }

    /// Most processes and threads of the moment.
    pub fn pids_limit(&self) -> u64 {
        text(&self.pids_limit).trim().parse().unwrap_or(0)
    }

    /// Times a fork was refused.
    pub fn pids_refused(&self) -> u64 {
        keyed(&text(&self.pids_events), "max").unwrap_or(0)
    }
}

/// What is in a file of the kernel's.
pub fn text(file: &File) -> String {
    let mut buffer = [0; 4096];
    let length = file.read_at(&mut buffer, 0).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}
