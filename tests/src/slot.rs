//! Names and addresses for one platform among those that tests run side by side.

use crate::residue;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;

/// One of the platforms that may run at once on this machine.
pub struct Slot {
    number: u8,
    _lock: Flock<File>,
}

impl Slot {
    /// The first free one, cleared of what a killed holder left; it is free again when this is dropped, or its process
    /// dies.
    pub fn take() -> Self {
        for number in 1..=60 {
            let path = std::env::temp_dir().join(format!("paas-test-slot-{number}"));
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
                .expect("a lock file");
            if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                let slot = Self { number, _lock: lock };
                residue::clear(&slot.name());
                return slot;
            }
        }
        panic!("60 platforms run already");
    }

    /// Fit for a bridge, a firewall table and a control group.
    pub fn name(&self) -> String {
        format!("paast{}", self.number)
    }

    /// Addresses that no other slot has.
    pub fn subnet(&self) -> String {
        format!("10.{}.0.0/16", 181 + u16::from(self.number))
    }
}
