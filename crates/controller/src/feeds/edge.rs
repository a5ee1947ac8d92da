//! The route table as routers are to have it, its revisions, and what each router acknowledged.

use api::edge::{Ack, Endpoint, RouteEntry, RouteKey, Table};
use model::Timestamp;
use model::id::WorkId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::RouteTarget;
use tokio::sync::watch;

/// Deltas that are kept; a router further behind gets a snapshot.
const KEPT_DELTAS: usize = 256;
/// A connected router that has not acknowledged for this long is cut off, so that it connects and says so anew.
pub(crate) const ACK_DEADLINE: Duration = Duration::from_secs(5);
/// A router that connects again and again and acknowledges nothing for this long is not waited for.
const MUTE_LIMIT: Duration = Duration::from_secs(30);
/// A router that is gone for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// Table and routers. Clones share it.
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

struct Inner {
    lease: Duration,
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

struct State {
    started: Instant,
    /// The revision before the first: later ones are this process's own.
    base: u64,
    revision: u64,
    routes: BTreeMap<RouteKey, RouteEntry>,
    deltas: VecDeque<Arc<Table>>,
    /// At which revision work came into the table, or left it.
    entered: HashMap<WorkId, u64>,
    left: HashMap<WorkId, u64>,
    announced: HashSet<WorkId>,
    routers: HashMap<String, Router>,
}

#[derive(Default)]
struct Router {
    session: u64,
    connected: bool,
    gone_at: Option<Instant>,
    acked: u64,
    draining: HashSet<WorkId>,
    behind_since: Option<Instant>,
    /// As `behind_since`, but over sessions.
    mute_since: Option<Instant>,
}

impl Router {
    /// Whether it may still send requests by an old table.
    fn blocks(&self, lease: Duration) -> bool {
        let there = self.connected || self.gone_at.is_some_and(|at| at.elapsed() < lease);
        there && self.mute_since.is_none_or(|since| since.elapsed() < MUTE_LIMIT)
    }
}

impl Edge {
    pub(crate) fn new(now: Timestamp, lease: Duration) -> Self {
        let state = State::new(now);
        Self(Arc::new(Inner {
            lease,
            revision: watch::Sender::new(state.base),
            state: Mutex::new(state),
        }))
    }

    /// Begins anew: table and routers of an earlier term are forgotten.
    pub(crate) fn begin(&self, now: Timestamp) {
        *self.0.state.lock() = State::new(now);
    }

    /// Takes over the table as it is in the database; a change makes a new revision.
    pub(crate) fn refresh(&self, targets: Vec<RouteTarget>) {
        let routes: BTreeMap<RouteKey, RouteEntry> = targets.into_iter().map(entry).collect();
        let mut guard = self.0.state.lock();
        let state = &mut *guard;
        if routes == state.routes && state.revision > state.base {
            return;
        }
        let base = state.revision;
        state.revision += 1;
        let revision = state.revision;
        let upserts = routes
            .iter()
            .filter(|(key, entry)| state.routes.get(key) != Some(entry));
        let delta = Table::Delta {
            revision,
            base,
            upserts: upserts.map(|(_, entry)| entry.clone()).collect(),
            removes: state
                .routes
                .keys()
                .filter(|key| !routes.contains_key(key))
                .cloned()
                .collect(),
        };
        let (before, after) = (works(&state.routes), works(&routes));
        for work in after.difference(&before) {
            state.entered.insert(*work, revision);
            state.left.remove(work);
        }
        for work in before.difference(&after) {
            state.entered.remove(work);
            state.left.insert(*work, revision);
        }
        state.routes = routes;
        state.deltas.push_back(Arc::new(delta));
        if state.deltas.len() > KEPT_DELTAS {
            state.deltas.pop_front();
        }
        for router in state.routers.values_mut().filter(|router| router.connected) {
            router.behind_since.get_or_insert_with(Instant::now);
            router.mute_since.get_or_insert_with(Instant::now);
        }
        drop(guard);
        self.0.revision.send_replace(revision);
    }

    /// Forgets work that ended.
    pub(crate) fn retain(&self, live: &HashSet<WorkId>) {
        let mut state = self.0.state.lock();
        state.left.retain(|work, _| live.contains(work));
        state.announced.retain(|work| live.contains(work));
    }

    /// Whether every live router has the work in its table, or nothing leads to it.
    pub(crate) fn is_routed(&self, work: WorkId) -> bool {
        let state = self.0.state.lock();
        state.settled(self.0.lease)
            && state
                .entered
                .get(&work)
                .is_none_or(|entered| state.acked(*entered, self.0.lease))
    }

    /// Whether no live router has the work in its table, nor a request of it in flight.
    pub(crate) fn is_drained(&self, work: WorkId) -> bool {
        let state = self.0.state.lock();
        let left = state.left.get(&work).copied().unwrap_or(state.base + 1);
        let in_flight = state
            .routers
            .values()
            .any(|router| router.blocks(self.0.lease) && router.draining.contains(&work));
        state.settled(self.0.lease)
            && !state.entered.contains_key(&work)
            && state.acked(left, self.0.lease)
            && !in_flight
    }

    /// Work that has come to every live router since the last call.
    pub(crate) fn newly_routed(&self) -> Vec<WorkId> {
        let mut state = self.0.state.lock();
        if !state.settled(self.0.lease) {
            return Vec::new();
        }
        // What was in the first table was announced in an earlier life.
        let first = state.base + 1;
        let routed: Vec<WorkId> = state
            .entered
            .iter()
            .filter(|(work, entered)| {
                **entered > first && !state.announced.contains(*work) && state.acked(**entered, self.0.lease)
            })
            .map(|(work, _)| *work)
            .collect();
        state.announced.extend(&routed);
        routed
    }

    /// Time until a router that is gone no longer counts.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let state = self.0.state.lock();
        let gone = state
            .routers
            .values()
            .filter(|router| !router.connected)
            .filter_map(|router| router.gone_at);
        gone.chain([state.started])
            .filter_map(|since| self.0.lease.checked_sub(since.elapsed()))
            .min()
            .map(|time| time + Duration::from_millis(1))
    }

    /// Tells of new revisions.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }

    /// A router opened its feed; number of the session.
    pub(crate) fn connected(&self, router: &str) -> u64 {
        let mut state = self.0.state.lock();
        state
            .routers
            .retain(|_, router| router.gone_at.is_none_or(|at| at.elapsed() < FORGET_AFTER));
        let router = state.routers.entry(router.to_owned()).or_default();
        if router.gone_at.is_some_and(|at| at.elapsed() > self.0.lease) {
            router.mute_since = None;
        }
        router.mute_since.get_or_insert_with(Instant::now);
        router.session += 1;
        router.connected = true;
        router.gone_at = None;
        // What it said before may be of a table that it has lost.
        router.acked = 0;
        router.behind_since = Some(Instant::now());
        router.session
    }

    /// The router's feed ended.
    pub(crate) fn disconnected(&self, router: &str, session: u64) {
        if let Some(router) = self.0.state.lock().routers.get_mut(router)
            && router.session == session
        {
            router.connected = false;
            router.gone_at = Some(Instant::now());
            router.behind_since = None;
        }
    }

    /// A router is a part of the platform no more: its session ends.
    pub(crate) fn cut(&self, router: &str) {
        if let Some(router) = self.0.state.lock().routers.get_mut(router) {
            router.session += 1;
            router.connected = false;
            router.gone_at = Some(Instant::now());
            router.behind_since = None;
        }
    }

    /// Whether the session should end: another took its place, or the router has stopped acknowledging.
    pub(crate) fn is_stale(&self, router: &str, session: u64) -> bool {
        self.0.state.lock().routers.get(router).is_none_or(|router| {
            router.session != session || router.behind_since.is_some_and(|since| since.elapsed() > ACK_DEADLINE)
        })
    }

    /// A router said what it has.
    pub(crate) fn acknowledge(&self, router: &str, ack: Ack) {
        let mut state = self.0.state.lock();
        let newest = state.revision;
        let Some(router) = state.routers.get_mut(router) else {
            return;
        };
        if ack.revision < router.acked || ack.revision > newest {
            return;
        }
        let moved = ack.revision > router.acked;
        router.acked = ack.revision;
        router.draining = ack.draining.into_iter().collect();
        if router.acked == newest {
            (router.behind_since, router.mute_since) = (None, None);
        } else if moved {
            (router.behind_since, router.mute_since) = (Some(Instant::now()), Some(Instant::now()));
        }
    }

    /// The whole table. `None` before it was read for the first time.
    pub(crate) fn snapshot(&self) -> Option<(u64, Table)> {
        let state = self.0.state.lock();
        (state.revision > state.base).then(|| {
            let routes = state.routes.values().cloned().collect();
            (
                state.revision,
                Table::Snapshot {
                    revision: state.revision,
                    routes,
                },
            )
        })
    }

    /// What brings a router from revision `from` to the newest; `None` where only a snapshot does.
    pub(crate) fn deltas(&self, from: u64) -> Option<Vec<Arc<Table>>> {
        let state = self.0.state.lock();
        let follows = |table: &&Arc<Table>| matches!(table.as_ref(), Table::Delta { base, .. } if *base >= from);
        let deltas: Vec<Arc<Table>> = state.deltas.iter().filter(follows).cloned().collect();
        let first = deltas.first().map(|table| match table.as_ref() {
            Table::Delta { base, .. } => *base,
            Table::Snapshot { .. } | Table::Ping => 0,
        });
        (first.is_none_or(|base| base == from) && (first.is_some() || from == state.revision)).then_some(deltas)
    }

    /// How many routers are connected now.
    pub(crate) fn routers(&self) -> usize {
        self.0
            .state
            .lock()
            .routers
            .values()
            .filter(|router| router.connected)
            .count()
    }
}

impl State {
    fn new(now: Timestamp) -> Self {
        // Revisions grow over terms and restarts too, as long as clocks do.
        let base = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        Self {
            started: Instant::now(),
            base,
            revision: base,
            routes: BTreeMap::new(),
            deltas: VecDeque::new(),
            entered: HashMap::new(),
            left: HashMap::new(),
            announced: HashSet::new(),
            routers: HashMap::new(),
        }
    }

    /// Whether the table was read and routers had the time to find this controller.
    fn settled(&self, lease: Duration) -> bool {
        self.revision > self.base && self.started.elapsed() >= lease
    }

    fn acked(&self, revision: u64, lease: Duration) -> bool {
        self.routers
            .values()
            .all(|router| router.acked >= revision || !router.blocks(lease))
    }
}

fn works(routes: &BTreeMap<RouteKey, RouteEntry>) -> BTreeSet<WorkId> {
    routes
        .values()
        .flat_map(|entry| entry.endpoints.iter().map(|endpoint| endpoint.work))
        .collect()
}

fn entry(target: RouteTarget) -> (RouteKey, RouteEntry) {
    let key = RouteKey {
        host: target.host,
        path: target.path,
    };
    let endpoints = target.endpoints.into_iter().map(|endpoint| Endpoint {
        work: endpoint.work,
        app: endpoint.app,
        index: endpoint.index,
        address: SocketAddrV4::new(endpoint.address, endpoint.port),
        process: endpoint.process,
        protocol: endpoint.protocol,
        weight: None,
        zone: None,
    });
    let entry = RouteEntry {
        key: key.clone(),
        route: target.route,
        endpoints: endpoints.collect(),
        options: api::edge::RouteOptions {
            loadbalancing: target.options.loadbalancing,
            hash_balance: target.options.hash_balance(),
            hash_header: target.options.hash_header,
            ..api::edge::RouteOptions::default()
        },
    };
    (key, entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::{AppId, RouteId};
    use store::RouteEndpoint;
    use uuid::Uuid;

    fn target(works: &[u128]) -> Vec<RouteTarget> {
        let endpoints = works.iter().map(|n| RouteEndpoint {
            work: work(*n),
            app: AppId(Uuid::nil()),
            process: None,
            protocol: api::edge::Protocol::default(),
            index: 0,
            address: [10, 180, 0, 2].into(),
            port: 8080,
        });
        vec![RouteTarget {
            route: RouteId(Uuid::nil()),
            host: "shop.localhost".to_owned(),
            path: String::new(),
            options: model::routing::RouteOptions::default(),
            endpoints: endpoints.collect(),
        }]
    }

    fn work(n: u128) -> WorkId {
        WorkId(Uuid::from_u128(n))
    }

    fn ack(edge: &Edge, router: &str, draining: &[u128]) {
        let (revision, _) = edge.snapshot().expect("a table");
        let draining = draining.iter().map(|n| work(*n)).collect();
        edge.acknowledge(router, Ack { revision, draining });
    }

    fn edge() -> Edge {
        Edge::new(Timestamp::UNIX_EPOCH, Duration::ZERO)
    }

    #[test]
    fn an_instance_is_routed_once_every_router_has_it() {
        let edge = edge();
        assert!(!edge.is_routed(work(1)), "the table was not read yet");
        edge.refresh(target(&[]));
        assert!(edge.is_routed(work(1)), "nothing leads to it");
        edge.connected("a");
        edge.connected("b");
        edge.refresh(target(&[1]));
        ack(&edge, "a", &[]);
        assert!(!edge.is_routed(work(1)));
        assert_eq!(edge.newly_routed(), []);
        ack(&edge, "b", &[]);
        assert!(edge.is_routed(work(1)));
        assert_eq!((edge.newly_routed(), edge.newly_routed()), (vec![work(1)], vec![]));
    }

    #[test]
    fn an_instance_is_drained_once_no_router_has_it_or_a_request_of_it() {
        let edge = edge();
        edge.refresh(target(&[1]));
        edge.connected("a");
        ack(&edge, "a", &[]);
        assert!(!edge.is_drained(work(1)));
        edge.refresh(target(&[]));
        assert!(!edge.is_drained(work(1)), "not acknowledged");
        ack(&edge, "a", &[1]);
        assert!(!edge.is_drained(work(1)), "a request is in flight");
        ack(&edge, "a", &[]);
        assert!(edge.is_drained(work(1)));
    }

    #[test]
    fn a_router_that_left_does_not_count_and_one_that_came_back_says_all_anew() {
        let edge = edge();
        edge.refresh(target(&[1]));
        let first = edge.connected("a");
        assert!(!edge.is_routed(work(1)));
        edge.disconnected("a", first);
        assert!(edge.is_routed(work(1)), "its lease is zero here");
        let second = edge.connected("a");
        edge.disconnected("a", first);
        assert!(
            !edge.is_routed(work(1)),
            "an old session's end says nothing of the new one"
        );
        assert!(edge.is_stale("a", first) && !edge.is_stale("a", second));
        ack(&edge, "a", &[]);
        assert!(edge.is_routed(work(1)));
        edge.acknowledge(
            "a",
            Ack {
                revision: u64::MAX,
                draining: Vec::new(),
            },
        );
        edge.refresh(target(&[1, 2]));
        assert!(!edge.is_routed(work(2)), "an acknowledgement of the future is none");
    }

    #[test]
    fn deltas_lead_from_a_revision_to_the_newest() {
        let edge = edge();
        edge.refresh(target(&[]));
        let (first, _) = edge.snapshot().expect("a table");
        assert_eq!(edge.deltas(first).map(|deltas| deltas.len()), Some(0));
        edge.refresh(target(&[1]));
        edge.refresh(target(&[1]));
        edge.refresh(target(&[1, 2]));
        assert_eq!(
            edge.deltas(first).map(|deltas| deltas.len()),
            Some(2),
            "what does not change makes no revision"
        );
        assert!(edge.deltas(first + 7).is_none());
        for n in 0..KEPT_DELTAS as u128 {
            edge.refresh(target(&[n + 10]));
        }
        assert!(edge.deltas(first).is_none(), "too far behind: a snapshot");
    }
}
