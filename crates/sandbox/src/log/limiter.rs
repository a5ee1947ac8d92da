//! The rate limit on kept output, and the count of what it cost. Time is an argument.

const SECOND: u64 = 1_000_000_000;

/// A token bucket over bytes that also counts what it refuses.
#[derive(Debug)]
pub struct Limiter {
    rate: u64,
    burst: u64,
    tokens: u64,
    refilled_ns: u64,
    dropped: Dropped,
    noted_ns: u64,
    limiting: bool,
}

/// Output that was not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Lines (or pieces of split lines).
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Limiter {
    /// `rate` bytes per second (`u64::MAX` for no limit), at most `burst` at once.
    pub fn new(rate: u64, burst: u64, now_ns: u64) -> Limiter {
        let burst = burst.max(1);
        Limiter {
            rate,
            burst,
            tokens: burst,
            refilled_ns: now_ns,
            dropped: Dropped::default(),
            noted_ns: 0,
            limiting: false,
        }
    }

    /// Adds what has accrued since the last call.
    pub fn refill(&mut self, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.refilled_ns);
        let accrued = u128::from(elapsed) * u128::from(self.rate) / u128::from(SECOND);
        if accrued > 0 {
            let tokens = u128::from(self.tokens) + accrued;
            self.tokens = tokens.min(u128::from(self.burst)) as u64;
            self.refilled_ns = now_ns;
        }
    }

    /// Whether a line of `bytes` may be kept; counts it if not.
    pub fn admit(&mut self, bytes: usize) -> bool {
        if self.rate == u64::MAX {
            return true;
        }
        let cost = bytes as u64 + 1;
        if cost <= self.tokens {
            self.tokens -= cost;
            return true;
        }
        self.dropped.lines += 1;
        self.dropped.bytes += cost;
        false
    }

    /// What to tell the user now, if anything: at the first drop, then once a second with
    /// counts, so that a flood costs a line a second.
    pub fn note(&mut self, now_ns: u64, last: bool) -> Option<String> {
        if self.dropped == Dropped::default() {
            self.limiting &= !last && now_ns < self.noted_ns + SECOND;
            return None;
        }
        let head = format!("app instance exceeded log rate limit ({} bytes/sec)", self.rate);
        if !self.limiting && !last {
            self.limiting = true;
            self.noted_ns = now_ns;
            return Some(head);
        }
        if !last && now_ns < self.noted_ns + SECOND {
            return None;
        }
        self.noted_ns = now_ns;
        let dropped = std::mem::take(&mut self.dropped);
        Some(format!(
            "{head}: dropped {} lines, {} bytes",
            dropped.lines, dropped.bytes
        ))
    }

    /// Nanoseconds until [`Limiter::note`] has something to say.
    pub fn note_due(&self, now_ns: u64) -> Option<u64> {
        (self.dropped != Dropped::default()).then(|| (self.noted_ns + SECOND).saturating_sub(now_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_burst_then_the_rate_and_counts_the_rest() {
        let mut limiter = Limiter::new(100, 50, 0);
        assert!(limiter.admit(49));
        assert!(!limiter.admit(9));
        assert!(limiter.note(1, false).unwrap().ends_with("(100 bytes/sec)"));
        assert!(!limiter.admit(9));
        assert_eq!(limiter.note(2, false), None);
        assert_eq!(limiter.note_due(1), Some(SECOND));
        limiter.refill(SECOND / 10);
        assert!(limiter.admit(9));
        let told = limiter.note(SECOND + 2, false).unwrap();
        assert!(told.ends_with("dropped 2 lines, 20 bytes"), "{told}");
        assert_eq!(limiter.note_due(SECOND + 2), None);
    }

    #[test]
    fn refills_to_the_burst_only_and_loses_no_fractions() {
        let mut limiter = Limiter::new(10, 100, 0);
        assert!(limiter.admit(99));
        for step in 1..=20 {
            limiter.refill(step * SECOND / 20);
        }
        assert!(limiter.admit(9) && !limiter.admit(0));
        limiter.refill(SECOND * 1000);
        assert!(limiter.admit(99) && !limiter.admit(0));
    }

    #[test]
    fn no_limit_is_no_limit_and_the_end_is_told() {
        let mut limiter = Limiter::new(u64::MAX, 1, 0);
        assert!(limiter.admit(1 << 40));
        let mut limiter = Limiter::new(0, 1, 0);
        assert!(!limiter.admit(5));
        assert!(limiter.note(5, true).unwrap().contains("dropped 1 lines, 6 bytes"));
    }
}
