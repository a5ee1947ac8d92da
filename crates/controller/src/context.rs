//! What every handler and background task works with.

use crate::auth::{Keys, Lockout, Rates};
use crate::config::{Config, Oidc};
use crate::machines::Machines;
use crate::oauth::Provider;
use api::cell::WorkStats;
use blobstore::Blobstore;
use model::Timestamp;
use model::id::{CellId, WorkId};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use store::Store;
use telemetry::applog::LogStore;
use tokio::sync::Notify;

/// Where instants come from; tests bring their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Everything shared, in one place. Clones share it.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub blobs: Blobstore,
    /// What apps said.
    pub logs: LogStore,
    /// Signs and verifies access tokens.
    pub tokens: Keys,
    /// Who tried too many passwords.
    pub lockout: Lockout,
    /// Who asked how often.
    pub(crate) rates: Rates,
    /// Where people sign in who don't here.
    pub(crate) oidc: Option<Provider>,
    pub clock: Clock,
    pub config: Arc<Config>,
    pub wake: Wake,
    /// What work uses, as cells last reported.
    pub usage: Usage,
    /// What instances are known by to clients of SSH.
    pub(crate) host_key: crate::sessions::HostKeyCell,
    /// The authority of machines' certificates, where there are such.
    pub(crate) machines: Option<Machines>,
}

impl Context {
    /// A context on an open store. `clock` is the system's, except in tests.
    #[must_use]
    pub fn new(
        store: Store,
        blobs: Blobstore,
        logs: LogStore,
        tokens: Keys,
        config: Arc<Config>,
        clock: Clock,
    ) -> Self {
        Self {
            store,
            blobs,
            logs,
            tokens,
            lockout: Lockout::default(),
            rates: Rates::default(),
            oidc: config.oidc.clone().and_then(provider),
            clock,
            config,
            wake: Wake::default(),
            usage: Usage::default(),
            host_key: crate::sessions::HostKeyCell::default(),
            machines: None,
        }
    }

    /// With machines that prove themselves by certificates.
    #[must_use]
    pub fn with_machines(mut self, machines: Machines) -> Self {
        self.machines = Some(machines);
        self
    }

    /// Now, in the platform's precision: microseconds, as the store keeps them.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = (self.clock)();
        now.replace_nanosecond(now.nanosecond() / 1000 * 1000).unwrap_or(now)
    }

    /// The system's clock.
    #[must_use]
    pub fn system_clock() -> Clock {
        Arc::new(Timestamp::now_utc)
    }
}

/// What talks to the identity provider. Without it people sign in here alone.
fn provider(config: Oidc) -> Option<Provider> {
    let made = Provider::new(config);
    made.inspect_err(|error| tracing::error!(%error, "nobody can sign in at the identity provider"))
        .ok()
}

/// Wakes background tasks at once, instead of when they next look.
#[derive(Clone, Default)]
pub struct Wake {
    scheduler: Arc<Notify>,
}

impl Wake {
    /// Something that the scheduler plans by was written.
    pub fn scheduler(&self) {
        self.scheduler.notify_one();
    }

    /// Waits until somebody calls [`Wake::scheduler`]; a call while nobody waited counts. For the scheduler's task only.
    pub async fn scheduler_woken(&self) {
        self.scheduler.notified().await;
    }
}

/// Most pieces of work that a cell's use is kept of; beyond, all of its are forgotten and heard anew.
const MAX_USED: usize = 20_000;

/// The last report of use, by cell and work, so that a cell speaks of its own alone. Kept in memory only: it is old within
/// seconds.
#[derive(Clone, Default)]
pub struct Usage(Arc<RwLock<HashMap<CellId, HashMap<WorkId, WorkStats>>>>);

impl Usage {
    /// Takes over what a cell reported.
    pub fn record(&self, cell: CellId, stats: impl IntoIterator<Item = WorkStats>) {
        let mut usage = self.0.write();
        let usage = usage.entry(cell).or_default();
        if usage.len() > MAX_USED {
            usage.clear();
        }
        usage.extend(stats.into_iter().map(|stat| (stat.work, stat)));
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.write().clear();
    }

    /// What this piece of work used last, by its cell's word.
    #[must_use]
    pub fn of(&self, cell: CellId, work: WorkId) -> Option<WorkStats> {
        self.0.read().get(&cell)?.get(&work).cloned()
    }

    /// Forgets work of a cell that ended.
    pub fn forget(&self, cell: CellId, works: &[WorkId]) {
        if let Some(usage) = self.0.write().get_mut(&cell) {
            for work in works {
                usage.remove(work);
            }
        }
    }
}
