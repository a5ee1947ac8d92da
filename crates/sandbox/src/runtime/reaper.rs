//! Removal of what has ended, off the path of whoever ended it: groups, folders, addresses.
//! Whoever needs the proof (a list, a sweep, the end of the runtime, the same name again)
//! waits for it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Inner;
use crate::{Error, Result};

/// Threads that remove, at most.
const THREADS: usize = 2;
/// Beyond this whoever ends a sandbox removes it himself.
const MAX_WAITING: usize = 256;
/// A removal has several waits of seconds in it, if the kernel is in trouble.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub struct Reaper {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<String>,
    /// Waiting or being removed.
    known: HashSet<String>,
    threads: usize,
}

impl Reaper {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, operation: &'static str, id: &str, is_done: impl Fn(&State) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        while !is_done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Deadline {
                    operation,
                    id: id.to_owned(),
                    seconds: PATIENCE.as_secs(),
                    detail: String::new(),
                });
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Ok(())
    }

    /// Waits until everything that has ended is removed, or was given up with a warning.
    pub fn finish(&self) -> Result<()> {
        self.wait("removal", "(all that ended)", |state| state.known.is_empty())
    }

    /// Waits until `id` is not being removed.
    pub fn finish_one(&self, id: &str) -> Result<()> {
        self.wait("removal", id, |state| !state.known.contains(id))
    }
}

impl Inner {
    /// Removes the ended sandbox `id` in the background.
    pub fn reap(self: &Arc<Inner>, id: &str) -> Result<()> {
        let mut state = self.reaper.lock();
        if state.waiting.len() >= MAX_WAITING {
            drop(state);
            return self.wipe(id);
        }
        if !state.known.insert(id.to_owned()) {
            return Ok(());
        }
        state.waiting.push_back(id.to_owned());
        if state.threads >= THREADS {
            return Ok(());
        }
        let inner = self.clone();
        let spawned = std::thread::Builder::new()
            .name("sandbox-reaper".to_owned())
            .spawn(move || inner.remove_all());
        match spawned {
            Ok(_runs_until_nothing_waits) => {
                state.threads += 1;
                Ok(())
            }
            Err(_) if state.threads > 0 => Ok(()),
            Err(_) => {
                state.waiting.retain(|waiting| waiting != id);
                state.known.remove(id);
                drop(state);
                self.wipe(id)
            }
        }
    }

    fn remove_all(&self) {
        let mut state = self.reaper.lock();
        while let Some(id) = state.waiting.pop_front() {
            drop(state);
            if let Err(error) = self.wipe(&id) {
                tracing::warn!(sandbox = %id, error = &error as &dyn std::error::Error, "an ended sandbox left something behind, until the next sweep");
            }
            state = self.reaper.lock();
            state.known.remove(&id);
            self.reaper.changed.notify_all();
        }
        state.threads -= 1;
    }
}
