//! Blank sandboxes: an init in its groups and namespaces that knows nothing of what it will be, not even how large its
//! private layer is. One fits every start that finds nothing parked. Which are kept ready is `wanted.rs`'s.

use std::sync::Arc;

use super::{Blank, Inner, Pool, Runtime};
use crate::Result;
use crate::runtime::start::{Ground, Seat};

impl Runtime {
    /// Has what [`crate::Parking`] permits made ready for sandboxes with an address (`networked`) or without one, from
    /// now on and not only from the first start on.
    pub fn make_ready(&self, networked: bool) -> Result<()> {
        let pool = &self.inner.pool;
        if pool.parking.blanks == 0 {
            return Ok(());
        }
        let mut state = pool.lock();
        state.expect(networked);
        self.inner.ensure_thread(&mut state)
    }

    /// How many blank sandboxes wait now.
    pub fn blanks(&self) -> usize {
        self.inner.pool.lock().blanks.len()
    }
}

impl Pool {
    /// One with or without an address, if one is ready. More of that kind will be.
    pub fn take_blank(&self, networked: bool) -> Option<Seat> {
        if self.parking.blanks == 0 {
            return None;
        }
        let mut state = self.lock();
        state.expect(networked);
        let at = state.blanks.iter().position(|blank| blank.networked == networked)?;
        // The oldest first: it is the least likely to be laid still.
        Some(state.blanks.remove(at).seat)
    }

    /// Takes one back that turned out not to be needed.
    pub fn give_back_blank(&self, seat: Seat) {
        let networked = seat.lease.is_some();
        self.lock().blanks.push(Blank { networked, seat });
        self.changed.notify_all();
    }
}

impl Inner {
    /// Has blanks and private layers made ready from the first start on.
    pub fn keep_ready(self: &Arc<Inner>) {
        let parking = &self.pool.parking;
        if (parking.disks > 0 || parking.blanks > 0 || self.disk.can_stock())
            && let Err(error) = self.ensure_thread(&mut self.pool.lock())
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "blank sandboxes and private layers are made when they are needed"
            );
        }
    }

    pub(super) fn make_blank(&self, networked: bool) -> Result<Blank> {
        let seat = self.lay_waiting(&Ground::blank(networked))?;
        Ok(Blank { networked, seat })
    }
}
