//! How many requests may be sent again: a share of all, so that retries can't multiply the load of instances that fail
//! because of it, and some a second besides, so that a quiet router has them too. Pure.

use std::sync::atomic::{AtomicU64, Ordering};

/// Retries that every request earns, in thousandths.
const EARNED: u64 = 200;
/// Retries that every second earns.
const A_SECOND: u64 = 10;
/// Retries that are saved at most.
const SAVED: u64 = 100;
const RETRY: u64 = 1000;

/// The retries that one worker may make.
pub struct Budget {
    thousandths: AtomicU64,
    at_ms: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            thousandths: AtomicU64::new(SAVED * RETRY),
            at_ms: AtomicU64::new(0),
        }
    }
}

impl Budget {
    /// A request came.
    pub fn earn(&self) {
        self.add(EARNED);
    }

    /// Whether there may be a retry now; if so it is spent. Only the worker that it belongs to calls this.
    pub fn spend(&self, now_ms: u64) -> bool {
        let passed = now_ms.saturating_sub(self.at_ms.swap(now_ms, Ordering::Relaxed));
        self.add(passed.min(60_000) * A_SECOND);
        let left = self.thousandths.load(Ordering::Relaxed).checked_sub(RETRY);
        if let Some(left) = left {
            self.thousandths.store(left, Ordering::Relaxed);
        }
        left.is_some()
    }

    fn add(&self, thousandths: u64) {
        let sum = self.thousandths.load(Ordering::Relaxed) + thousandths;
        self.thousandths.store(sum.min(SAVED * RETRY), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_requests() {
        let budget = Budget::default();
        let spent = (0..1_000).filter(|_| budget.spend(0)).count();
        assert_eq!(spent, SAVED as usize);
        let mut spent = 0;
        for _ in 0..1_000 {
            budget.earn();
            spent += u32::from(budget.spend(0));
        }
        assert_eq!(spent, 200);
        assert!(!budget.spend(50));
        assert!(budget.spend(150));
    }
}
