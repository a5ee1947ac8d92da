//! Which endpoint a request goes to: the one with fewer requests in flight of two taken at random. Pure.

use crate::endpoint::Endpoint;
use model::id::WorkId;
use std::sync::Arc;

/// Chooses among `endpoints`, given a random number and the works that were `tried` for this request.
///
/// Endpoints that recently could not be connected to are passed over unless nothing else is left; those tried for this
/// request never come again.
pub fn choose<'a>(
    endpoints: &'a [Arc<Endpoint>],
    tried: &[WorkId],
    now_ms: u64,
    random: u64,
) -> Option<&'a Arc<Endpoint>> {
    let untried = |endpoint: &&Arc<Endpoint>| !tried.contains(&endpoint.work);
    let sound = |endpoint: &&Arc<Endpoint>| untried(endpoint) && !endpoint.is_failed(now_ms);
    if tried.is_empty() && endpoints.iter().all(|endpoint| !endpoint.is_failed(now_ms)) {
        return of_two(endpoints.len(), |n| endpoints.get(n), random);
    }
    let pool: Vec<&Arc<Endpoint>> = endpoints.iter().filter(sound).collect();
    let pool = if pool.is_empty() {
        endpoints.iter().filter(untried).collect()
    } else {
        pool
    };
    of_two(pool.len(), |n| pool.get(n).copied(), random)
}

fn of_two<'a>(
    count: usize,
    get: impl Fn(usize) -> Option<&'a Arc<Endpoint>>,
    random: u64,
) -> Option<&'a Arc<Endpoint>> {
    if count < 2 {
        return get(0);
    }
    let span = count as u64;
    let first = (random >> 32) % span;
    // Shifted by 1 to span - 1: always another one.
    let second = (first + 1 + (random & 0xffff_ffff) % (span - 1)) % span;
    let (first, second) = (get(first as usize)?, get(second as usize)?);
    Some(if second.outstanding() < first.outstanding() {
        second
    } else {
        first
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::tests::endpoint;
    use proptest::prelude::*;

    #[test]
    fn nothing_of_nothing() {
        assert!(choose(&[], &[], 0, 1).is_none());
    }

    #[test]
    fn the_less_busy_of_two() {
        let endpoints = [endpoint(0), endpoint(1)];
        let _request = endpoints[0].enter().expect("in the table");
        for random in [0, 1, u64::MAX, 1 << 33] {
            assert_eq!(choose(&endpoints, &[], 0, random).map(|e| e.index), Some(1));
        }
    }

    proptest! {
        #[test]
        fn never_one_that_was_tried(count in 0_u32..6, tried in proptest::collection::vec(0_u32..6, 0..6), failed in proptest::collection::vec(0_u32..6, 0..6), random: u64) {
            let endpoints: Vec<_> = (0..count).map(endpoint).collect();
            for endpoint in &endpoints {
                if failed.contains(&endpoint.index) { endpoint.fail(10); }
            }
            let works: Vec<_> = endpoints.iter().filter(|e| tried.contains(&e.index)).map(|e| e.work).collect();
            let chosen = choose(&endpoints, &works, 5, random);
            prop_assert_eq!(chosen.is_some(), works.len() < endpoints.len());
            if let Some(chosen) = chosen {
                prop_assert!(!works.contains(&chosen.work));
                let sound_left = endpoints.iter().any(|e| !works.contains(&e.work) && !e.is_failed(5));
                prop_assert_eq!(chosen.is_failed(5), !sound_left);
            }
        }
    }
}
