//! How many requests one may make in an hour, or whatever is set: counted by user, and by address where nobody is logged
//! in, in the memory of one controller.

use crate::error::Failure;
use api::error::Code;
use http::{HeaderMap, HeaderValue};
use model::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Who is counted at once; beyond it windows that ended are forgotten, and then whoever began first.
const MOST: usize = 100_000;

/// What is allowed. Zero is no limit.
#[derive(Debug, Clone)]
pub struct RateLimits {
    /// Requests of a user in a window. Administrators have no limit.
    pub requests: u32,
    /// Requests without a token, of one address, in a window.
    pub unauthenticated: u32,
    pub window: Duration,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            requests: 0,
            unauthenticated: 0,
            window: Duration::from_secs(3600),
        }
    }
}

/// Requests so far. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Rates(Arc<Mutex<HashMap<String, Window>>>);

#[derive(Clone, Copy)]
struct Window {
    until: Timestamp,
    count: u32,
}

/// Where somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub limit: u32,
    pub remaining: u32,
    /// When counting begins anew.
    pub reset: Timestamp,
    /// This request is one too many.
    pub exceeded: bool,
}

/// Where the standing of a request is put for the headers of its answer.
#[derive(Clone, Default)]
pub(crate) struct RateSlot(Arc<Mutex<Option<Standing>>>);

impl RateSlot {
    /// Counts were taken.
    pub fn set(&self, standing: Standing) {
        *self.0.lock() = Some(standing);
    }

    /// Adds CF's headers where there is a limit.
    pub fn write(&self, headers: &mut HeaderMap, now: Timestamp) {
        let Some(standing) = *self.0.lock() else { return };
        headers.insert("x-ratelimit-limit", standing.limit.into());
        headers.insert("x-ratelimit-remaining", standing.remaining.into());
        let reset = standing.reset.unix_timestamp();
        headers.insert("x-ratelimit-reset", HeaderValue::from(reset));
        if standing.exceeded {
            let seconds = (reset - now.unix_timestamp()).max(1);
            headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}

impl Rates {
    /// Counts a request of `who`.
    pub fn take(&self, who: &str, limit: u32, window: Duration, now: Timestamp) -> Standing {
        let mut windows = self.0.lock();
        if windows.len() >= MOST && !windows.contains_key(who) {
            windows.retain(|_, window| window.until > now);
            if windows.len() >= MOST {
                let first = windows.iter().min_by_key(|(_, window)| window.until);
                if let Some(first) = first.map(|(who, _)| who.clone()) {
                    windows.remove(&first);
                }
            }
        }
        let of = windows.entry(who.to_owned()).or_insert(Window {
            until: now + window,
            count: 0,
        });
        if of.until <= now {
            *of = Window {
                until: now + window,
                count: 0,
            };
        }
        of.count = of.count.saturating_add(1);
        Standing {
            limit,
            remaining: limit.saturating_sub(of.count),
            reset: of.until,
            exceeded: of.count > limit,
        }
    }
}

/// What a request that is one too many is answered.
pub(crate) fn exceeded() -> Failure {
    Failure::new(Code::RateLimitExceeded, "Rate Limit Exceeded")
}

/// The same where nobody is logged in.
pub(crate) fn exceeded_by_address() -> Failure {
    Failure::new(
        Code::AddressRateLimitExceeded,
        "Rate Limit Exceeded: Unauthenticated requests from this IP address have exceeded the limit. Please log in.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_window_is_counted_down_and_begins_anew() {
        let (rates, now) = (Rates::default(), Timestamp::UNIX_EPOCH);
        let take = |who: &str, at: u64| rates.take(who, 2, HOUR, now + Duration::from_secs(at));
        assert_eq!((take("ann", 0).remaining, take("ann", 1).remaining), (1, 0));
        let third = take("ann", 2);
        assert!(third.exceeded);
        assert_eq!(third.reset, now + HOUR);
        assert!(!take("bob", 3).exceeded, "each has their own");
        let next = take("ann", 3600);
        assert!(!next.exceeded);
        assert_eq!((next.remaining, next.reset), (1, now + 2 * HOUR));
    }

    #[test]
    fn addresses_that_are_made_up_do_not_fill_the_memory() {
        let (rates, now) = (Rates::default(), Timestamp::UNIX_EPOCH);
        for n in 0..MOST as u64 {
            rates.take(&n.to_string(), 1, Duration::from_secs(1), now);
        }
        for n in 0..10 {
            rates.take(&format!("more{n}"), 1, HOUR, now + Duration::from_secs(5));
        }
        assert!(rates.0.lock().len() <= 10);
    }
}
