//! How far a canary deployment goes before it waits for a word. Not how instances get there: that is the scheduler's.

use serde::{Deserialize, Serialize};

/// The steps of a canary deployment, and the one that it is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Percent of the instances by step, ascending, each 1 to 100. Empty: one step, of one instance.
    pub weights: Vec<u8>,
    /// The step under way, from 1. Beyond the last one the rest follows without a pause.
    pub step: u32,
}

/// The new instances of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// One instance.
    One,
    /// This many percent of the instances.
    Percent(u8),
}

impl Canary {
    /// At its first step.
    #[must_use]
    pub const fn new(weights: Vec<u8>) -> Self {
        Self { weights, step: 1 }
    }

    /// How many steps there are.
    #[must_use]
    pub fn total(&self) -> u32 {
        u32::try_from(self.weights.len()).unwrap_or(u32::MAX).max(1)
    }

    /// What the step under way comes to; `None` beyond the last.
    #[must_use]
    pub fn share(&self) -> Option<Share> {
        if self.step > self.total() {
            return None;
        }
        let index = usize::try_from(self.step.saturating_sub(1)).unwrap_or(usize::MAX);
        Some(
            self.weights
                .get(index)
                .map_or(Share::One, |weight| Share::Percent(*weight)),
        )
    }
}

impl Share {
    /// New instances of `instances`, rounded to the nearest, at least one.
    #[must_use]
    pub fn of(self, instances: u32) -> u32 {
        let count = match self {
            Self::One => 1,
            Self::Percent(percent) => (u64::from(instances) * u64::from(percent.min(100)) + 50) / 100,
        };
        u32::try_from(count).unwrap_or(u32::MAX).max(1).min(instances)
    }

    /// Whether no old instance stays.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Percent(100..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_from_the_first_to_beyond_the_last() {
        let mut canary = Canary::new(vec![20, 100]);
        assert_eq!((canary.total(), canary.share()), (2, Some(Share::Percent(20))));
        canary.step = 2;
        assert_eq!(canary.share(), Some(Share::Percent(100)));
        canary.step = 3;
        assert_eq!(canary.share(), None);
        let mut one = Canary::new(Vec::new());
        assert_eq!((one.total(), one.share()), (1, Some(Share::One)));
        one.step = 2;
        assert_eq!(one.share(), None);
    }

    #[test]
    fn a_share_is_rounded_and_never_nothing() {
        let counts = |share: Share| [0, 1, 2, 5, 10].map(|instances| share.of(instances));
        assert_eq!(counts(Share::One), [0, 1, 1, 1, 1]);
        assert_eq!(counts(Share::Percent(1)), [0, 1, 1, 1, 1]);
        assert_eq!(counts(Share::Percent(50)), [0, 1, 1, 3, 5]);
        assert_eq!(counts(Share::Percent(80)), [0, 1, 2, 4, 8]);
        assert_eq!(counts(Share::Percent(100)), [0, 1, 2, 5, 10]);
        assert!(Share::Percent(100).is_whole() && !Share::Percent(99).is_whole() && !Share::One.is_whole());
    }
}
