//! Choice by hash: every instance gets a score for a value, and the highest wins, so that a change of instances moves
//! only the values of those that came or went, and every router chooses the same without talking to the others.

use super::Member;

/// The hash of a field's value (FNV-1a).
pub fn hash(value: &[u8]) -> u64 {
    value.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The member with the highest score for `value` whose load is within `balance` times the mean; 0 is no bound.
pub fn choose<'a>(all: impl Iterator<Item = &'a Member> + Clone, value: u64, balance: f64) -> Option<&'a Member> {
    let best = |all: &mut dyn Iterator<Item = &'a Member>| {
        all.map(|member| (score(member, value), member))
            .reduce(|best, other| if other.0 > best.0 { other } else { best })
            .map(|(_, member)| member)
    };
    let first = best(&mut all.clone())?;
    if balance < 1.0 {
        return Some(first);
    }
    let weights: f64 = all.clone().map(|member| f64::from(member.weight)).sum();
    let load: f64 = all.clone().map(|member| f64::from(member.endpoint.outstanding())).sum();
    // With this request counted in, so that there is always one below the bound.
    let fits = |member: &&Member| {
        let share = (load + 1.0) * f64::from(member.weight) / weights;
        f64::from(member.endpoint.outstanding()) < (balance * share).ceil()
    };
    if fits(&first) {
        return Some(first);
    }
    best(&mut all.filter(fits)).or(Some(first))
}

/// Weighted rendezvous hashing: members get values in proportion to their weights.
fn score(member: &Member, value: u64) -> f64 {
    let (high, low) = member.endpoint.work.0.as_u64_pair();
    let mixed = mix(value ^ mix(high ^ mix(low)));
    // 53 bits, never 0, so that the logarithm is finite.
    let unit = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(member.weight) / -unit.ln()
}

/// The finaliser of SplitMix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
