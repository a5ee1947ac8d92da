//! What is to be kept ready: the wishes, the most recent first.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Runtime;
use crate::{ParkSpec, Result};

/// Shapes that are wished for at most; older wishes are forgotten.
const MAX_WISHES: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Pool {
    wishes: Mutex<Vec<(ParkSpec, usize)>>,
}

impl Runtime {
    /// Keeps `count` sandboxes of this shape ready from now on (0: none any more), within what
    /// [`crate::Parking`] permits; the latest wish comes first. They are built in the background.
    pub fn park(&self, spec: &ParkSpec, count: usize) -> Result<()> {
        let mut wishes = self.inner.pool.lock();
        wishes.retain(|(known, _)| known != spec);
        if count > 0 {
            wishes.insert(0, (spec.clone(), count));
            wishes.truncate(MAX_WISHES);
        }
        Ok(())
    }

    /// How many parked sandboxes wait now.
    pub fn parked(&self) -> usize {
        0
    }

    /// Waits until everything wished for (and permitted) is ready; false at the deadline.
    pub fn await_parked(&self, _deadline: Instant) -> bool {
        self.inner.pool.lock().is_empty()
    }

    /// Gives up everything parked whose root has `layer`, and wishes for it: the layer is about
    /// to be removed.
    pub fn unpark(&self, layer: &Path) -> Result<()> {
        let has = |spec: &ParkSpec| {
            spec.root
                .as_ref()
                .is_some_and(|root| root.layers.iter().any(|l| l == layer))
        };
        self.inner.pool.lock().retain(|(spec, _)| !has(spec));
        Ok(())
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Vec<(ParkSpec, usize)>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
