//! What follows a crash: restart at once, later, or never again. The counting of Cloud Foundry.
//!
//! An instance that ended by itself is started again at once while it crashed fewer than [`CrashPolicy::immediate`]
//! times in a row, then after a wait that doubles up to a cap, and not at all after [`CrashPolicy::give_up`] times.
//! A run that was healthy for [`CrashPolicy::reset_after`] begins the count anew.

use model::Timestamp;
use model::work::{Cause, Wanted};
use std::collections::BTreeMap;
use time::Duration;

/// Numbers of the restart rule.
#[derive(Debug, Clone)]
pub struct CrashPolicy {
    /// Crashes in a row below which the restart is at once.
    pub immediate: u32,
    /// The first wait.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// A run at least this long and healthy begins the count anew.
    pub reset_after: Duration,
    /// Crashes in a row at which it is given up.
    pub give_up: u32,
}

impl Default for CrashPolicy {
    fn default() -> Self {
        Self {
            immediate: 3,
            base: Duration::seconds(30),
            cap: Duration::seconds(960),
            reset_after: Duration::minutes(5),
            give_up: 200,
        }
    }
}

/// One crash.
#[derive(Debug, Clone, PartialEq)]
pub struct Crash {
    /// Of which instance.
    pub index: u32,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
}

/// Crashes of one index in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexHistory {
    /// How many.
    pub count: u32,
    /// The last.
    pub last: Crash,
}

/// How instances of one process version ended by themselves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// By index.
    pub indices: BTreeMap<u32, IndexHistory>,
    /// The newest of all indices, oldest first, at most [`History::RECENT`].
    pub recent: Vec<Crash>,
}

/// When an instance may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStart {
    /// At once.
    Now,
    /// Not before.
    At(Timestamp),
    /// It was given up.
    Never,
}

impl History {
    /// Crashes that are kept for judging deployments.
    pub const RECENT: usize = 32;

    /// Records that the instance ended at `crash.at` after being healthy for `healthy` (`None` if it never was).
    /// Returns the crashes in a row, this one included.
    pub fn record(&mut self, crash: Crash, healthy: Option<Duration>, policy: &CrashPolicy) -> u32 {
        let index = crash.index;
        let before = if healthy.is_some_and(|time| time >= policy.reset_after) {
            0
        } else {
            self.indices.get(&index).map_or(0, |history| history.count)
        };
        let count = before.saturating_add(1);
        if self.recent.len() >= Self::RECENT {
            self.recent.remove(0);
        }
        self.recent.push(crash.clone());
        self.indices.insert(index, IndexHistory { count, last: crash });
        count
    }

    /// When the index may be started.
    #[must_use]
    pub fn next_start(&self, index: u32, policy: &CrashPolicy, now: Timestamp) -> NextStart {
        self.indices
            .get(&index)
            .map_or(NextStart::Now, |history| history.next_start(policy, now))
    }
}

impl IndexHistory {
    /// When it may be started.
    #[must_use]
    pub fn next_start(&self, policy: &CrashPolicy, now: Timestamp) -> NextStart {
        if self.count >= policy.give_up {
            return NextStart::Never;
        }
        if self.count < policy.immediate {
            return NextStart::Now;
        }
        let doublings = (self.count - policy.immediate).min(16);
        let wait = (policy.base * (1_i32 << doublings)).min(policy.cap);
        let at = self.last.at + wait;
        if at <= now { NextStart::Now } else { NextStart::At(at) }
    }
}

/// Whether an instance of which `wanted` was wanted crashed when it ended so: the platform neither stopped nor lost it.
#[must_use]
pub const fn is_crash(wanted: Wanted, cause: &Cause) -> bool {
    matches!(wanted, Wanted::Run) && !matches!(cause, Cause::Stopped { .. } | Cause::CellLost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(at: i64) -> Crash {
        Crash {
            index: 0,
            at: Timestamp::UNIX_EPOCH + Duration::seconds(at),
            cause: Cause::Exited { code: 1 },
        }
    }

    #[test]
    fn waits_double_up_to_the_cap_and_end_at_the_limit() {
        let policy = CrashPolicy::default();
        let mut history = History::default();
        let mut waits = Vec::new();
        for _ in 0..10 {
            history.record(crash(0), None, &policy);
            waits.push(match history.next_start(0, &policy, Timestamp::UNIX_EPOCH) {
                NextStart::Now => 0,
                NextStart::At(at) => at.unix_timestamp(),
                NextStart::Never => -1,
            });
        }
        assert_eq!(waits, [0, 0, 30, 60, 120, 240, 480, 960, 960, 960]);
        for _ in 10..200 {
            history.record(crash(0), None, &policy);
        }
        assert_eq!(history.next_start(0, &policy, Timestamp::UNIX_EPOCH), NextStart::Never);
        assert_eq!(history.recent.len(), History::RECENT);
    }

    #[test]
    fn five_minutes_of_health_begin_the_count_anew() {
        let policy = CrashPolicy::default();
        let mut history = History::default();
        for _ in 0..4 {
            history.record(crash(0), Some(Duration::seconds(299)), &policy);
        }
        assert_eq!(history.record(crash(1000), Some(Duration::minutes(5)), &policy), 1);
        assert_eq!(history.next_start(0, &policy, crash(1000).at), NextStart::Now);
    }

    #[test]
    fn a_wait_ends() {
        let policy = CrashPolicy::default();
        let mut history = History::default();
        for _ in 0..3 {
            history.record(crash(100), None, &policy);
        }
        assert_eq!(
            history.next_start(0, &policy, crash(129).at),
            NextStart::At(crash(130).at)
        );
        assert_eq!(history.next_start(0, &policy, crash(130).at), NextStart::Now);
        assert_eq!(history.next_start(1, &policy, crash(100).at), NextStart::Now);
    }

    #[test]
    fn what_the_platform_did_is_no_crash() {
        assert!(!is_crash(Wanted::Stop, &Cause::Exited { code: 143 }));
        assert!(!is_crash(Wanted::Run, &Cause::CellLost));
        assert!(!is_crash(Wanted::Drain, &Cause::Exited { code: 1 }));
        assert!(is_crash(Wanted::Run, &Cause::Exited { code: 0 }));
    }
}
