//! When the steps of a start were done, here and inside.

use std::time::Duration;

use super::Made;
use crate::{Phase, StartReport, sys};

/// Names of steps, with when each was done in monotonic nanoseconds.
pub type Steps = Vec<(String, u64)>;

/// When the steps of a start were done.
#[derive(Debug)]
pub struct Clock {
    /// Unix nanoseconds.
    pub asked_ns: u64,
    began: u64,
    steps: Steps,
}

impl Clock {
    pub fn start() -> Clock {
        Clock {
            asked_ns: sys::now_ns(),
            began: sys::monotonic_ns(),
            steps: Vec::with_capacity(24),
        }
    }

    pub fn step(&mut self, name: &str) {
        self.steps.push((name.to_owned(), sys::monotonic_ns()));
    }

    /// The report, with the steps that init took since the start began.
    pub fn report(mut self, made: Made, inside: Steps) -> StartReport {
        let inside = inside.into_iter().filter(|(_, at)| *at >= self.began);
        self.steps
            .extend(inside.map(|(name, at)| (format!("init: {name}"), at)));
        self.steps.sort_by_key(|(_, at)| *at);
        let began = self.began;
        let phases = self.steps.into_iter().map(|(name, at)| Phase {
            name,
            at: Duration::from_nanos(at - began),
        });
        StartReport {
            parked: made == Made::Parked,
            blank: made == Made::Blank,
            phases: phases.collect(),
        }
    }
}
