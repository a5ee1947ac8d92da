//! An instance as a router knows it: its requests in flight, its idle connections, whether it left the table.
//!
//! The hand-over between "a request takes this endpoint" and "this endpoint left the table" has no gap: a request
//! counts itself in before it looks at `removed`, the table sets `removed` before it looks at the count. So either the
//! request sees that it has to choose again, or the table sees that the endpoint is in use.

use crate::proxy::upstream::Idle;
use model::id::{AppId, WorkId};
use parking_lot::Mutex;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

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
    in_flight: AtomicU32,
    removed: AtomicBool,
    failed_until_ms: AtomicU64,
    idle: Box<[Mutex<Vec<Idle>>]>,
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
            in_flight: AtomicU32::new(0),
            removed: AtomicBool::new(false),
            failed_until_ms: AtomicU64::new(0),
            idle: (0..workers).map(|_| Mutex::new(Vec::new())).collect(),
            drained,
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

    /// It could not be connected to: pass it over until `until_ms`.
    pub fn fail(&self, until_ms: u64) {
        self.failed_until_ms.store(until_ms, Ordering::Relaxed);
    }

    /// It answered.
    pub fn succeed(&self) {
        if self.failed_until_ms.load(Ordering::Relaxed) != 0 {
            self.failed_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Takes it out of use: no request takes it any more, its idle connections close.
    pub fn remove(&self) {
        self.removed.store(true, Ordering::SeqCst);
        for pool in &self.idle {
            pool.lock().clear();
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
        self.idle[worker].lock().pop()
    }

    /// Keeps a connection for the next request, unless there are `max` or the endpoint left the table.
    ///
    /// Connections that have become too old on the way are closed; the oldest stand first.
    pub fn keep_idle(&self, worker: usize, connection: Idle, max: usize, max_age: Duration) {
        let mut pool = self.idle[worker].lock();
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

    pub fn endpoint(index: u32) -> Arc<Endpoint> {
        let wire = api::edge::Endpoint {
            work: WorkId(uuid::Uuid::from_u128(u128::from(index) + 1)),
            app: AppId(uuid::Uuid::from_u128(7)),
            index,
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1),
            process: None,
            protocol: api::edge::Protocol::default(),
            weight: None,
            zone: None,
        };
        Arc::new(Endpoint::new(&wire, 1, Arc::new(Notify::new())))
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
    fn failures_pass() {
        let endpoint = endpoint(0);
        endpoint.fail(1_000);
        assert!(endpoint.is_failed(999));
        assert!(!endpoint.is_failed(1_000));
        endpoint.fail(2_000);
        endpoint.succeed();
        assert!(!endpoint.is_failed(1_500));
    }
}
