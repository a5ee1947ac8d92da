//! Host and path to endpoints. Readers never wait; one writer applies what the controllers send.
//!
//! The usual change, other endpoints of a known route, swaps that route's list and touches nothing else.

use crate::choice::{self, Members};
use crate::endpoint::Endpoint;
use crate::metrics::RouteCounts;
use api::edge::{LoadBalancing, Protocol, RouteEntry, RouteKey, RouteOptions, Table as Message};
use arc_swap::ArcSwap;
use http::HeaderName;
use model::id::{RouteId, WorkId};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddrV4;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;

/// Longest host name that is looked up; DNS allows no longer one.
const MAX_HOST: usize = 253;

/// A route and where it leads now.
pub struct Route {
    /// Its id.
    pub id: RouteId,
    /// What it is matched by.
    pub key: RouteKey,
    /// Begun with the first request: most routes of a large platform have none for long.
    counts: OnceLock<Box<RouteCounts>>,
    now: ArcSwap<Destinations>,
}

/// What changes of a route while it is there.
#[derive(Default)]
pub struct Destinations {
    /// The instances.
    pub members: Members,
    /// What holds for this route alone.
    pub options: Options,
}

/// Options as requests need them.
#[derive(Default)]
pub struct Options {
    /// How an instance is chosen; `None` is the router's default.
    pub policy: Option<LoadBalancing>,
    /// The field that is hashed.
    pub hash_header: Option<HeaderName>,
    /// Times the mean load that a hashed instance may have; 0 is no bound.
    pub balance: f64,
    /// From the end of a request to the head of its response.
    pub timeout: Option<Duration>,
    /// Largest body of a request, in bytes.
    pub max_body: Option<u64>,
    /// As they came, where there are any.
    wire: Option<Box<RouteOptions>>,
}

impl Options {
    /// What can't be understood is as if it were not set: controllers check what users write.
    fn new(wire: &RouteOptions) -> Self {
        Self {
            policy: wire.loadbalancing,
            hash_header: wire.hash_header.as_deref().and_then(|name| name.parse().ok()),
            balance: choice::balance(wire),
            timeout: wire
                .request_timeout_seconds
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(u64::from(seconds))),
            max_body: wire.max_body_bytes,
            wire: (!wire.is_default()).then(|| Box::new(wire.clone())),
        }
    }
}

impl Route {
    fn new(entry: &RouteEntry, now: Destinations) -> Self {
        Self {
            id: entry.route,
            key: entry.key.clone(),
            counts: OnceLock::new(),
            now: ArcSwap::from_pointee(now),
        }
    }

    /// Where it leads now.
    pub fn now(&self) -> arc_swap::Guard<Arc<Destinations>> {
        self.now.load()
    }

    /// What its requests are counted in.
    pub fn counts(&self) -> &RouteCounts {
        self.counts.get_or_init(Box::default)
    }

    /// The same, if there was a request.
    pub fn counted(&self) -> Option<&RouteCounts> {
        self.counts.get().map(AsRef::as_ref)
    }
}

/// Routes of one host, longest path first.
type Host = Vec<Arc<Route>>;

/// The table as readers see it.
#[derive(Default)]
pub struct Table {
    hosts: papaya::HashMap<Box<str>, Arc<Host>>,
}

impl Table {
    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Every route, as controllers send it.
    pub fn entries(&self) -> Vec<RouteEntry> {
        let hosts = self.hosts.pin();
        let routes = hosts.values().flat_map(|routes| routes.iter());
        routes
            .map(|route| {
                let now = route.now();
                RouteEntry {
                    key: route.key.clone(),
                    route: route.id,
                    endpoints: now.members.wire(),
                    options: now.options.wire.as_deref().cloned().unwrap_or_default(),
                }
            })
            .collect()
    }

    /// Every route that had a request.
    pub fn counted(&self) -> Vec<Arc<Route>> {
        let hosts = self.hosts.pin();
        let routes = hosts.values().flat_map(|routes| routes.iter());
        routes.filter(|route| route.counted().is_some()).cloned().collect()
    }

    /// The route for a host name (without port) and a path: the longest path of the host, else of `*.parent` and so on.
    pub fn lookup(&self, host: &str, path: &str) -> Option<Arc<Route>> {
        if host.is_empty() || host.len() > MAX_HOST {
            return None;
        }
        let mut buffer = [0; MAX_HOST + 2];
        // Two bytes in front leave room for "*.".
        buffer[2..2 + host.len()].copy_from_slice(host.as_bytes());
        buffer[2..2 + host.len()].make_ascii_lowercase();
        let end = 2 + host.len();
        let hosts = self.hosts.pin();
        let find = |name: &[u8]| {
            let routes = hosts.get(std::str::from_utf8(name).ok()?)?;
            routes.iter().find(|route| path_matches(&route.key.path, path)).cloned()
        };
        if let Some(route) = find(&buffer[2..end]) {
            return Some(route);
        }
        let mut from = 2;
        while let Some(dot) = buffer[from..end].iter().position(|byte| *byte == b'.') {
            let mut name = [0; MAX_HOST + 2];
            let rest = &buffer[from + dot..end];
            name[0] = b'*';
            name[1..=rest.len()].copy_from_slice(rest);
            if let Some(route) = find(&name[..=rest.len()]) {
                return Some(route);
            }
            from += dot + 1;
        }
        None
    }
}

/// Whether `prefix` (empty or `/a/b`) covers whole segments of `path`.
fn path_matches(prefix: &str, path: &str) -> bool {
    match path.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(prefix) => {
            matches!(path.as_bytes().get(prefix.len()), None | Some(b'/' | b'?')) || prefix.is_empty()
        }
        _ => false,
    }
}

/// A delta that does not apply to this table: ask for a snapshot.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the delta applies to revision {base}, the table is at {revision}")]
pub struct OutOfStep {
    /// What the delta wants.
    pub base: u64,
    /// What is here.
    pub revision: u64,
}

/// What makes an endpoint another one.
type Place = (WorkId, SocketAddrV4, Protocol);

/// The one that changes a table.
pub struct Writer {
    table: Arc<Table>,
    workers: usize,
    revision: u64,
    routes: HashMap<RouteKey, Arc<Route>>,
    /// Endpoints with the number of routes that list them; what listens at one port of an instance is one endpoint,
    /// whichever route leads there.
    endpoints: HashMap<Place, (Arc<Endpoint>, usize)>,
    draining: Vec<Arc<Endpoint>>,
    drained: Arc<Notify>,
}

impl Writer {
    /// A writer of an empty table.
    pub fn new(table: Arc<Table>, workers: usize) -> Self {
        Self {
            table,
            workers,
            revision: 0,
            routes: HashMap::new(),
            endpoints: HashMap::new(),
            draining: Vec::new(),
            drained: Arc::new(Notify::new()),
        }
    }

    /// The revision that the table is at.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Told whenever the last request of an endpoint that left the table has ended.
    pub fn drained(&self) -> Arc<Notify> {
        Arc::clone(&self.drained)
    }

    /// Endpoints that left the table and still have requests in flight.
    pub fn draining(&mut self) -> Vec<WorkId> {
        self.draining.retain(|endpoint| endpoint.outstanding() > 0);
        let works: BTreeSet<WorkId> = self.draining.iter().map(|endpoint| endpoint.work).collect();
        works.into_iter().collect()
    }

    /// Applies a message.
    ///
    /// # Errors
    /// A delta for another revision than this table's; the table is as it was.
    pub fn apply(&mut self, message: Message) -> Result<(), OutOfStep> {
        match message {
            Message::Ping => {}
            Message::Snapshot { revision, routes } => {
                let mut gone: HashMap<_, _> = self.routes.keys().map(|key| (key.clone(), ())).collect();
                for entry in routes {
                    gone.remove(&entry.key);
                    self.upsert(entry);
                }
                gone.into_keys().for_each(|key| self.remove(&key));
                self.revision = revision;
            }
            Message::Delta {
                revision,
                base,
                upserts,
                removes,
            } => {
                if base != self.revision {
                    return Err(OutOfStep {
                        base,
                        revision: self.revision,
                    });
                }
                upserts.into_iter().for_each(|entry| self.upsert(entry));
                removes.iter().for_each(|key| self.remove(key));
                self.revision = revision;
            }
        }
        Ok(())
    }

    fn upsert(&mut self, entry: RouteEntry) {
        let wire = entry.endpoints.iter();
        let members = wire.map(|endpoint| (self.acquire(endpoint), endpoint.weight)).collect();
        let fresh = Destinations {
            members: Members::new(members),
            options: Options::new(&entry.options),
        };
        match self.routes.get(&entry.key) {
            Some(route) if route.id == entry.route => {
                let old = route.now.swap(Arc::new(fresh));
                self.release(&old);
            }
            _ => {
                self.remove(&entry.key);
                let route = Arc::new(Route::new(&entry, fresh));
                self.routes.insert(entry.key.clone(), Arc::clone(&route));
                self.change_host(&entry.key.host, |routes| {
                    routes.push(route);
                    routes.sort_by_key(|route| std::cmp::Reverse(route.key.path.len()));
                });
            }
        }
    }

    fn remove(&mut self, key: &RouteKey) {
        let Some(route) = self.routes.remove(key) else { return };
        self.change_host(&key.host, |routes| routes.retain(|other| other.key != *key));
        let old = route.now.swap(Arc::default());
        self.release(&old);
    }

    fn change_host(&self, host: &str, change: impl FnOnce(&mut Host)) {
        let hosts = self.table.hosts.pin();
        let mut routes = hosts
            .get(host)
            .map(|routes| routes.as_ref().clone())
            .unwrap_or_default();
        change(&mut routes);
        if routes.is_empty() {
            hosts.remove(host);
        } else {
            hosts.insert(host.into(), Arc::new(routes));
        }
    }

    fn acquire(&mut self, wire: &api::edge::Endpoint) -> Arc<Endpoint> {
        let (workers, drained) = (self.workers, &self.drained);
        let (endpoint, uses) = self
            .endpoints
            .entry((wire.work, wire.address, wire.protocol))
            .or_insert_with(|| (Arc::new(Endpoint::new(wire, workers, Arc::clone(drained))), 0));
        *uses += 1;
        Arc::clone(endpoint)
    }

    fn release(&mut self, old: &Destinations) {
        for endpoint in old.members.endpoints() {
            let place = (endpoint.work, endpoint.address, endpoint.protocol);
            let Some((_, uses)) = self.endpoints.get_mut(&place) else {
                continue;
            };
            *uses -= 1;
            if *uses == 0 {
                self.endpoints.remove(&place);
                endpoint.remove();
                if endpoint.outstanding() > 0 {
                    self.draining.push(Arc::clone(endpoint));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::AppId;
    use std::net::Ipv4Addr;
    use uuid::Uuid;

    fn entry(host: &str, path: &str, works: &[u128]) -> RouteEntry {
        let endpoint = |work: &u128| api::edge::Endpoint {
            work: WorkId(Uuid::from_u128(*work)),
            app: AppId(Uuid::from_u128(9)),
            index: 0,
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80),
            process: None,
            protocol: api::edge::Protocol::default(),
            weight: None,
            zone: None,
        };
        RouteEntry {
            key: RouteKey {
                host: host.into(),
                path: path.into(),
            },
            route: RouteId(Uuid::from_u128(host.len() as u128 * 1000 + path.len() as u128)),
            endpoints: works.iter().map(endpoint).collect(),
            options: api::edge::RouteOptions::default(),
        }
    }

    fn filled(routes: Vec<RouteEntry>) -> (Arc<Table>, Writer) {
        let table = Arc::new(Table::default());
        let mut writer = Writer::new(Arc::clone(&table), 1);
        writer
            .apply(Message::Snapshot { revision: 1, routes })
            .expect("a snapshot always applies");
        (table, writer)
    }

    fn found(table: &Table, host: &str, path: &str) -> Option<String> {
        table
            .lookup(host, path)
            .map(|route| format!("{}{}", route.key.host, route.key.path))
    }

    #[test]
    fn longest_path_then_wildcards() {
        let (table, _writer) = filled(vec![
            entry("a.example.com", "", &[1]),
            entry("a.example.com", "/shop", &[2]),
            entry("a.example.com", "/shop/cart", &[3]),
            entry("*.example.com", "", &[4]),
            entry("*.com", "/deep", &[5]),
        ]);
        for (host, path, route) in [
            ("a.example.com", "/", Some("a.example.com")),
            ("A.Example.COM", "/shop?x=1", Some("a.example.com/shop")),
            ("a.example.com", "/shopping", Some("a.example.com")),
            ("a.example.com", "/shop/cart/1", Some("a.example.com/shop/cart")),
            ("b.example.com", "/x", Some("*.example.com")),
            ("b.c.example.com", "/x", Some("*.example.com")),
            ("other.com", "/deep/down", Some("*.com/deep")),
            ("other.com", "/", None),
            ("", "/", None),
            ("example.org", "/", None),
        ] {
            assert_eq!(found(&table, host, path).as_deref(), route, "{host}{path}");
        }
        assert_eq!(found(&table, &"x".repeat(400), "/"), None);
    }

    /// The first endpoint of a host.
    fn first(table: &Table, host: &str) -> Arc<Endpoint> {
        let route = table.lookup(host, "/").expect("there");
        Arc::clone(route.now().members.endpoints().next().expect("one"))
    }

    #[test]
    fn one_instance_is_one_endpoint_and_leaves_with_its_last_route() {
        let (table, mut writer) = filled(vec![entry("a.test", "", &[1]), entry("b.test", "", &[1, 2])]);
        let endpoint = first(&table, "a.test");
        let request = endpoint.enter().expect("in the table");
        let delta = |revision, upserts, removes| Message::Delta {
            revision,
            base: revision - 1,
            upserts,
            removes,
        };
        writer
            .apply(delta(2, vec![], vec![entry("a.test", "", &[]).key]))
            .expect("in step");
        assert!(!endpoint.is_removed());
        writer
            .apply(delta(3, vec![entry("b.test", "", &[2])], vec![]))
            .expect("in step");
        assert!(endpoint.is_removed());
        assert_eq!(writer.draining(), [endpoint.work]);
        drop(request);
        assert!(writer.draining().is_empty());
        assert!(found(&table, "a.test", "/").is_none());
    }

    #[test]
    fn a_delta_out_of_step_changes_nothing() {
        let (table, mut writer) = filled(vec![entry("a.test", "", &[1])]);
        let removes = vec![entry("a.test", "", &[]).key];
        let result = writer.apply(Message::Delta {
            revision: 9,
            base: 8,
            upserts: vec![],
            removes,
        });
        assert_eq!(result, Err(OutOfStep { base: 8, revision: 1 }));
        assert!(found(&table, "a.test", "/").is_some());
    }

    #[test]
    fn a_snapshot_replaces_what_is_not_in_it_and_keeps_what_is() {
        let (table, mut writer) = filled(vec![entry("a.test", "", &[1]), entry("b.test", "", &[2])]);
        let kept = first(&table, "b.test");
        writer
            .apply(Message::Snapshot {
                revision: 7,
                routes: vec![entry("b.test", "", &[2])],
            })
            .expect("applies");
        assert!(found(&table, "a.test", "/").is_none());
        let now = first(&table, "b.test");
        assert!(Arc::ptr_eq(&kept, &now) && !kept.is_removed());
        assert_eq!(writer.revision(), 7);
    }
}
