//! An instance as a router knows it: its requests in flight, its idle connections, whether it left the table.
//!
//! The hand-over between "a request takes this endpoint" and "this endpoint left the table" has no gap: a request
//! counts itself in before it looks at `removed`, the table sets `removed` before it looks at the count. So either the
//! request sees that it has to choose again, or the table sees that the endpoint is in use.

use crate::proxy::upstream::{Idle, Shared};
use api::edge::Protocol;
use model::id::{AppId, ProcessId, WorkId};
use parking_lot::Mutex;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Requests in a row that have to break off for an endpoint to be passed over.
const BREAKS: u32 = 5;
/// How often the time that an endpoint is passed over doubles.
const DOUBLINGS: u32 = 3;

/// Connections of one worker.
#[derive(Default)]
struct Pool {
    idle: Mutex<Vec<Idle>>,
    /// One of HTTP/2, which all requests share.
    shared: Mutex<Option<Shared>>,
}

/// One instance.
pub struct Endpoint {
    /// Its work.
    pub work: WorkId,
    /// The app.
    pub app: AppId,
    /// Index among the instances of its process.
    pub index: u32,
    /// Where it listens.
    pub address: SocketAddrV4,
    /// The process that it is an instance of.
    pub process: Option<ProcessId>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it runs.
    pub zone: Option<Box<str>>,
    in_flight: AtomicU32,
    removed: AtomicBool,
    failed_until_ms: AtomicU64,
    /// How often it was put out of use in a row, and how often in a row a request of it broke off.
    ejections: AtomicU32,
    breaks: AtomicU32,
    pools: Box<[Pool]>,
    drained: Arc<Notify>,
}

impl Endpoint {
    /// An endpoint with a pool for each of `workers`; `drained` is told when the last request of a removed one ends.
    pub fn new(endpoint: &api::edge::Endpoint, workers: usize, drained: Arc<Notify>) -> Self {
        Self {
            work: endpoint.work,
            app: endpoint.app,
            index: endpoint.index,
            address: endpoint.address,
            process: endpoint.process,
            protocol: endpoint.protocol,
            zone: endpoint.zone.as_deref().map(Into::into),
            in_flight: AtomicU32::new(0),
            removed: AtomicBool::new(false),
            failed_until_ms: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            breaks: AtomicU32::new(0),
            pools: (0..workers).map(|_| Pool::default()).collect(),
            drained,
        }
    }

    /// As controllers send it, with the weight that a route gives it.
    pub fn wire(&self, weight: Option<u16>) -> api::edge::Endpoint {
        api::edge::Endpoint {
            work: self.work,
            app: self.app,
            index: self.index,
            address: self.address,
            process: self.process,
            protocol: self.protocol,
            weight,
            zone: self.zone.as_deref().map(ToOwned::to_owned),
        }
    }

    /// Requests in flight.
    pub fn outstanding(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Whether it is passed over at `now_ms` because it could not be connected to.
    pub fn is_failed(&self, now_ms: u64) -> bool {
        self.failed_until_ms.load(Ordering::Relaxed) > now_ms
    }

    /// It could not be connected to: it is passed over at once, for `base_ms`, twice that the next time and so on.
    pub fn fail(&self, now_ms: u64, base_ms: u64) {
        // Requests that were under way together count once.
        if self.is_failed(now_ms) {
            return;
        }
        let times = self.ejections.fetch_add(1, Ordering::Relaxed).min(DOUBLINGS);
        self.failed_until_ms
            .store(now_ms.saturating_add(base_ms << times), Ordering::Relaxed);
    }

    /// A request of it broke off before it was answered. One may be the request's fault; several in a row are not.
    pub fn broke_off(&self, now_ms: u64, base_ms: u64) {
        if self.breaks.fetch_add(1, Ordering::Relaxed) + 1 >= BREAKS {
            self.breaks.store(0, Ordering::Relaxed);
            self.fail(now_ms, base_ms);
        }
    }

    /// It answered.
    pub fn succeed(&self) {
        for counter in [&self.ejections, &self.breaks] {
            if counter.load(Ordering::Relaxed) != 0 {
                counter.store(0, Ordering::Relaxed);
            }
        }
        if self.failed_until_ms.load(Ordering::Relaxed) != 0 {
            self.failed_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Takes it out of use: no request takes it any more, its idle connections close.
    pub fn remove(&self) {
        self.removed.store(true, Ordering::SeqCst);
        for pool in &self.pools {
            pool.idle.lock().clear();
            pool.shared.lock().take();
        }
    }

    /// Whether it left the table.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }

    /// Counts a request in, or `None` where the endpoint left the table.
    pub fn enter(self: &Arc<Self>) -> Option<InFlight> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let request = InFlight(Arc::clone(self));
        // Dropping the guard counts out again.
        (!self.is_removed()).then_some(request)
    }

    /// The youngest idle connection of `worker`: the one the instance is least likely to have closed.
    pub fn take_idle(&self, worker: usize) -> Option<Idle> {
        self.pools[worker].idle.lock().pop()
    }

    /// The connection of HTTP/2 that requests of `worker` share, if it is open.
    pub fn shared(&self, worker: usize) -> Option<Shared> {
        let mut shared = self.pools[worker].shared.lock();
        if shared.as_ref().is_some_and(Shared::is_closed) {
            shared.take();
        }
        shared.clone()
    }

    /// Makes a connection the one that requests of `worker` share.
    pub fn share(&self, worker: usize, connection: Shared) {
        let mut shared = self.pools[worker].shared.lock();
        if !self.is_removed() {
            *shared = Some(connection);
        }
    }

    /// Keeps a connection for the next request, unless there are `max` or the endpoint left the table.
    ///
    /// Connections that have become too old on the way are closed; the oldest stand first.
    pub fn keep_idle(&self, worker: usize, connection: Idle, max: usize, max_age: Duration) {
        let mut pool = self.pools[worker].idle.lock();
        let fresh = pool.iter().position(|idle| idle.age() <= max_age).unwrap_or(pool.len());
        pool.drain(..fresh);
        if pool.len() < max && !self.is_removed() {
            pool.push(connection);
        }
    }
}

/// A request in flight; dropping it counts it out.
pub struct InFlight(Arc<Endpoint>);

impl InFlight {
    /// The endpoint that has it.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let before = self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.0.is_removed() {
            self.0.drained.notify_one();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    pub fn wire(index: u32) -> api::edge::Endpoint {
        api::edge::Endpoint {
            work: WorkId(uuid::Uuid::from_u128(u128::from(index) + 1)),
            app: AppId(uuid::Uuid::from_u128(7)),
            index,
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1),
            process: Some(ProcessId(uuid::Uuid::from_u128(70))),
            protocol: Protocol::Http1,
            weight: None,
            zone: None,
        }
    }

    pub fn endpoint(index: u32) -> Arc<Endpoint> {
        Arc::new(Endpoint::new(&wire(index), 1, Arc::new(Notify::new())))
    }

    #[test]
    fn a_removed_endpoint_takes_nothing_and_tells_when_it_is_empty() {
        let endpoint = endpoint(0);
        let request = endpoint.enter().expect("in the table");
        endpoint.remove();
        assert!(endpoint.enter().is_none());
        assert_eq!(endpoint.outstanding(), 1);
        drop(request);
        assert_eq!(endpoint.outstanding(), 0);
        // The permit was stored, so a waiter that comes now does not wait.
        let notified = endpoint.drained.notified();
        tokio::pin!(notified);
        assert!(notified.enable());
    }

    #[test]
    fn failures_pass_later_each_time_until_it_answers() {
        let endpoint = endpoint(0);
        endpoint.fail(0, 1_000);
        endpoint.fail(1, 1_000);
        assert!(endpoint.is_failed(999));
        assert!(!endpoint.is_failed(1_000));
        endpoint.fail(1_000, 1_000);
        assert!(endpoint.is_failed(2_999) && !endpoint.is_failed(3_000));
        for _ in 0..10 {
            endpoint.fail(10_000, 1_000);
            endpoint.fail(30_000, 1_000);
        }
        assert!(!endpoint.is_failed(38_000));
        endpoint.succeed();
        endpoint.fail(50_000, 1_000);
        assert!(endpoint.is_failed(50_999) && !endpoint.is_failed(51_000));
    }

    #[test]
    fn several_requests_in_a_row_that_break_off_put_it_out() {
        let endpoint = endpoint(0);
        for _ in 1..BREAKS {
            endpoint.broke_off(0, 10);
        }
        endpoint.succeed();
        for _ in 1..BREAKS {
            endpoint.broke_off(0, 10);
        }
        assert!(!endpoint.is_failed(1));
        endpoint.broke_off(0, 10);
        assert!(endpoint.is_failed(1) && !endpoint.is_failed(10));
    }
}
