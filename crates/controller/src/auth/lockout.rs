//! Who guesses passwords waits. Counts failed logins by name, in the memory of one controller; pure but for its lock.

use model::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Failures in a row after which a name is locked.
const FAILURES: u32 = 5;
/// Failures that are older don't count.
const MEMORY: Duration = Duration::from_secs(3600);
/// For how long a name is locked.
const LOCKED: Duration = Duration::from_secs(300);
/// Names that are remembered; beyond it those that failed longest ago are forgotten.
const NAMES: usize = 10_000;

/// Failed logins. Clones share them.
#[derive(Clone, Default)]
pub struct Lockout(Arc<Mutex<HashMap<String, Failures>>>);

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Timestamp,
}

impl Failures {
    fn counts(self, now: Timestamp) -> bool {
        let age = if self.count >= FAILURES { LOCKED } else { MEMORY };
        self.last + age > now
    }
}

impl Lockout {
    /// Whether nobody may log in under this name right now.
    #[must_use]
    pub fn is_locked(&self, name: &str, now: Timestamp) -> bool {
        let failures = self.0.lock();
        failures
            .get(&name.to_lowercase())
            .is_some_and(|failures| failures.count >= FAILURES && failures.counts(now))
    }

    /// A login failed.
    pub fn failed(&self, name: &str, now: Timestamp) {
        let mut failures = self.0.lock();
        if failures.len() >= NAMES {
            failures.retain(|_, failures| failures.counts(now));
            if failures.len() >= NAMES {
                let oldest = failures.iter().min_by_key(|(_, failures)| failures.last);
                if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                    failures.remove(&name);
                }
            }
        }
        let of = failures
            .entry(name.to_lowercase())
            .or_insert(Failures { count: 0, last: now });
        if !of.counts(now) {
            of.count = 0;
        }
        of.count = of.count.saturating_add(1);
        of.last = now;
    }

    /// A login succeeded.
    pub fn succeeded(&self, name: &str) {
        self.0.lock().remove(&name.to_lowercase());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_lock_for_five_minutes_whatever_the_case() {
        let (lockout, now) = (Lockout::default(), Timestamp::UNIX_EPOCH);
        for _ in 0..4 {
            lockout.failed("Bob", now);
        }
        assert!(!lockout.is_locked("bob", now));
        lockout.failed("bob", now);
        assert!(lockout.is_locked("BOB", now + Duration::from_secs(299)));
        assert!(!lockout.is_locked("bob", now + Duration::from_secs(300)));
        assert!(!lockout.is_locked("alice", now));
        lockout.failed("bob", now + Duration::from_secs(301));
        assert!(
            !lockout.is_locked("bob", now + Duration::from_secs(301)),
            "counting begins anew"
        );
    }

    #[test]
    fn a_success_forgets_and_so_does_time() {
        let (lockout, now) = (Lockout::default(), Timestamp::UNIX_EPOCH);
        for at in [0, 1, 2, 3, 4000] {
            lockout.failed("bob", now + Duration::from_secs(at));
        }
        assert!(!lockout.is_locked("bob", now + Duration::from_secs(4000)));
        for _ in 0..4 {
            lockout.failed("bob", now + Duration::from_secs(4000));
        }
        lockout.succeeded("Bob");
        assert!(!lockout.is_locked("bob", now + Duration::from_secs(4000)));
    }

    #[test]
    fn names_that_are_made_up_do_not_fill_the_memory() {
        let (lockout, now) = (Lockout::default(), Timestamp::UNIX_EPOCH);
        for n in 0..NAMES as u64 + 100 {
            lockout.failed(&format!("user{n}"), now + Duration::from_millis(n));
        }
        assert!(lockout.0.lock().len() <= NAMES);
    }
}
