//! Which instance a request goes to. Pure: the turn, the load and what failed are read from what is given, randomness
//! and time are arguments.
//!
//! Candidates are those that were not tried for this request, have room, and are not passed over because they failed;
//! where only failed ones are left, those. Of the candidates those of the router's own zone come first, on the first
//! attempt. Then the policy of the route decides; where none is set, the less busy of two taken at random.

mod hash;

pub use hash::hash;

use crate::endpoint::Endpoint;
use api::edge::{LoadBalancing, RouteOptions};
use model::id::WorkId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Weight of an instance whose weight is not named.
const WEIGHT: u32 = 100;

/// An instance as one route has it.
pub struct Member {
    /// The instance.
    pub endpoint: Arc<Endpoint>,
    /// Its share in relation to the others; 0 is none.
    pub weight: u32,
}

/// The instances of a route with what choosing among them needs.
#[derive(Default)]
pub struct Members {
    all: Vec<Member>,
    /// Whether weights and zones make no difference.
    even: bool,
    turn: AtomicU32,
}

/// What a choice depends on besides the instances.
#[derive(Default)]
pub struct Wish<'a> {
    /// The route's policy; `None` is the less busy of two.
    pub policy: Option<LoadBalancing>,
    /// Hash of the field's value; where the request lacks the field, the default policy holds.
    pub hash: Option<u64>,
    /// Times the mean load that a hashed instance may have; 0 is no bound.
    pub balance: f64,
    /// Those tried for this request.
    pub tried: &'a [WorkId],
    /// The router's zone.
    pub zone: Option<&'a str>,
    /// Requests that an instance may have at once.
    pub most: u32,
    /// The time on the clock of failures.
    pub now_ms: u64,
    /// A random number.
    pub random: u64,
}

/// No instance can take the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nobody {
    /// There is none that was not tried.
    Left,
    /// All have as many requests as they may have.
    Free,
}

impl Members {
    /// Of `all`, as the controllers name them.
    pub fn new(all: Vec<(Arc<Endpoint>, Option<u16>)>) -> Self {
        let all: Vec<Member> = all
            .into_iter()
            .map(|(endpoint, weight)| Member {
                endpoint,
                weight: weight.map_or(WEIGHT, u32::from),
            })
            .collect();
        let even = all
            .windows(2)
            .all(|two| two[0].weight == two[1].weight && two[0].endpoint.zone == two[1].endpoint.zone)
            && all.first().is_none_or(|member| member.weight > 0);
        Self {
            all,
            even,
            turn: AtomicU32::new(0),
        }
    }

    /// The instances as controllers send them.
    pub fn wire(&self) -> Vec<api::edge::Endpoint> {
        self.all
            .iter()
            .map(|member| {
                let weight = (member.weight != WEIGHT).then(|| u16::try_from(member.weight).unwrap_or(u16::MAX));
                member.endpoint.wire(weight)
            })
            .collect()
    }

    /// The instances.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.all.iter().map(|member| &member.endpoint)
    }

    /// The instance for a request.
    ///
    /// # Errors
    /// Where none can take it.
    pub fn choose(&self, wish: &Wish<'_>) -> Result<&Arc<Endpoint>, Nobody> {
        self.choose_of(wish, |_| true)
    }

    /// The same among those that `fits` says.
    ///
    /// # Errors
    /// Where none of them can take it.
    pub fn choose_of(&self, wish: &Wish<'_>, fits: impl Fn(&Endpoint) -> bool) -> Result<&Arc<Endpoint>, Nobody> {
        let sound =
            |member: &Member| !member.endpoint.is_failed(wish.now_ms) && member.endpoint.outstanding() < wish.most;
        if wish.tried.is_empty() && self.even && self.all.iter().all(|member| sound(member) && fits(&member.endpoint)) {
            return self
                .decide(wish, self.all.len(), |n| self.all.get(n))
                .ok_or(Nobody::Left);
        }
        let untried: Vec<&Member> = self
            .all
            .iter()
            .filter(|member| member.weight > 0 && fits(&member.endpoint) && !wish.tried.contains(&member.endpoint.work))
            .collect();
        if untried.is_empty() {
            return Err(Nobody::Left);
        }
        let free: Vec<&Member> = untried
            .into_iter()
            .filter(|member| member.endpoint.outstanding() < wish.most)
            .collect();
        let mut candidates: Vec<&Member> = free.iter().copied().filter(|member| sound(member)).collect();
        if candidates.is_empty() {
            candidates = free;
        }
        let near = |member: &&Member| wish.zone.is_some() && member.endpoint.zone.as_deref() == wish.zone;
        if wish.tried.is_empty() && candidates.iter().any(near) {
            candidates.retain(near);
        }
        self.decide(wish, candidates.len(), |n| candidates.get(n).copied())
            .ok_or(Nobody::Free)
    }

    fn decide<'a>(
        &'a self,
        wish: &Wish<'_>,
        count: usize,
        get: impl Fn(usize) -> Option<&'a Member>,
    ) -> Option<&'a Arc<Endpoint>> {
        if count < 2 {
            return get(0).map(|member| &member.endpoint);
        }
        let all = || (0..count).filter_map(&get);
        let member = match (wish.policy, wish.hash) {
            (Some(LoadBalancing::RoundRobin), _) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                get(in_turn(turn, all(), count, self.even))
            }
            (Some(LoadBalancing::LeastConnection), _) => least(all(), count, wish.random),
            (Some(LoadBalancing::Hash), Some(value)) => hash::choose(all(), value, wish.balance),
            _ => of_two(count, get, wish.random, self.even),
        };
        member.map(|member| &member.endpoint)
    }
}

/// Whether a request has less to wait for at `a` than at `b`, by their shares.
fn is_less_busy(a: &Member, b: &Member) -> bool {
    let busy = |member: &Member, other: &Member| u64::from(member.endpoint.outstanding()) * u64::from(other.weight);
    busy(a, b) < busy(b, a)
}

/// Each by its share, spread evenly: in as many turns as there are shares every member comes exactly that often.
fn in_turn<'a>(turn: u32, all: impl Iterator<Item = &'a Member> + Clone, count: usize, even: bool) -> usize {
    if even {
        return turn as usize % count;
    }
    let divisor = all
        .clone()
        .fold(0, |divisor, member| common_divisor(divisor, member.weight));
    let shares = all
        .clone()
        .map(|member| u64::from(member.weight / divisor.max(1)))
        .sum::<u64>();
    if shares == 0 {
        return 0;
    }
    // A step near the golden section, coprime to the number of shares, visits them all and never the neighbour next.
    let mut step = (shares * 618 / 1000).max(1);
    while common_divisor(u32::try_from(step).unwrap_or(1), u32::try_from(shares).unwrap_or(1)) != 1 {
        step += 1;
    }
    let mut place = u64::from(turn) % shares * step % shares;
    for (n, member) in all.enumerate() {
        let share = u64::from(member.weight / divisor.max(1));
        if place < share {
            return n;
        }
        place -= share;
    }
    0
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// The least busy of all; of equals one at random.
fn least<'a>(all: impl Iterator<Item = &'a Member> + Clone, count: usize, random: u64) -> Option<&'a Member> {
    let first = (random % count as u64) as usize;
    let turned = all.clone().skip(first).chain(all.take(first));
    turned.reduce(|best, member| if is_less_busy(member, best) { member } else { best })
}

/// The less busy of two different ones, each drawn by its share.
fn of_two<'a>(count: usize, get: impl Fn(usize) -> Option<&'a Member>, random: u64, even: bool) -> Option<&'a Member> {
    let span = count as u64;
    let (first, second) = if even {
        let first = (random >> 32) % span;
        // Shifted by 1 to span - 1: always another one.
        (first, (first + 1 + (random & 0xffff_ffff) % (span - 1)) % span)
    } else {
        let weight = |n: u64| get(n as usize).map_or(0, |member| u64::from(member.weight));
        let draw = |without: Option<u64>, random: u64| {
            let others = move || (0..span).filter(move |n| Some(*n) != without);
            let mut place = random % others().map(weight).sum::<u64>().max(1);
            others().find(|n| {
                let here = place < weight(*n);
                place = place.wrapping_sub(weight(*n));
                here
            })
        };
        let first = draw(None, random >> 32)?;
        (first, draw(Some(first), random & 0xffff_ffff)?)
    };
    let (first, second) = (get(first as usize)?, get(second as usize)?);
    Some(if is_less_busy(second, first) { second } else { first })
}

/// The bound that a route sets for hashing; what makes no sense is none.
pub fn balance(options: &RouteOptions) -> f64 {
    options.hash_balance.filter(|balance| *balance >= 1.0).unwrap_or(0.0)
}

#[cfg(test)]
mod tests;
