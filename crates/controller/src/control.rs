//! State that the control loop and the feeds share: all of it can be had again, none of it is the truth.

use crate::exec::Sessions;
use crate::feeds::{Cells, Edge};
use crate::lead::Lead;
use crate::logs::Marks;
use crate::{Context, Database};
use model::id::{ProcessId, VersionId};
use parking_lot::Mutex;
use scheduler::{History, Plan, Policy, Unplaced, Waiting};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Times of the feeds.
#[derive(Debug, Clone)]
pub struct Timing {
    /// How long a cell counts as alive after its last report.
    pub cell_lease: Duration,
    /// How often a cell is to report when nothing happens.
    pub cell_heartbeat: Duration,
    /// How long a router that is gone is waited for; also after a start, for routers not seen yet.
    pub router_lease: Duration,
    /// Silence after which a feed says that it is alive.
    pub ping: Duration,
    /// How long a cell may take to dial an exec session.
    pub exec_dial: Duration,
    /// How long an exec session may be silent.
    pub exec_idle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            cell_lease: Duration::from_secs(5),
            cell_heartbeat: Duration::from_millis(1500),
            router_lease: Duration::from_secs(3),
            ping: Duration::from_secs(5),
            exec_dial: Duration::from_secs(10),
            exec_idle: Duration::from_secs(30 * 60),
        }
    }
}

/// Why things are as they are, from the last plan.
#[derive(Debug, Clone, Default)]
pub struct Explanation {
    /// Work that no cell takes.
    pub unplaced: Vec<Unplaced>,
    /// Instances that wait for their next start.
    pub waiting: Vec<Waiting>,
    /// Crash counts.
    pub history: BTreeMap<(ProcessId, VersionId), History>,
}

/// The shared state. Clones share it.
#[derive(Clone)]
pub struct Control {
    pub context: Context,
    pub(crate) policy: Policy,
    pub(crate) timing: Timing,
    pub(crate) edge: Edge,
    pub(crate) cells: Cells,
    pub(crate) lead: Lead,
    pub(crate) sessions: Sessions,
    pub(crate) marks: Marks,
    /// Ends all; feeds end with the term of [`Lead`] already.
    pub(crate) shutdown: CancellationToken,
    explanation: Arc<Mutex<Arc<Explanation>>>,
}

impl Control {
    /// State of a controller that begins to run.
    #[must_use]
    pub fn new(context: Context, policy: Policy, timing: Timing, shutdown: CancellationToken) -> Self {
        let contested = matches!(context.config.database, Database::Postgres(_));
        Self {
            lead: Lead::new(contested, context.machines.as_ref(), &shutdown),
            edge: Edge::new(context.now(), timing.router_lease),
            cells: Cells::new(context.now() + timing.cell_lease),
            sessions: Sessions::default(),
            explanation: Arc::default(),
            marks: Marks::default(),
            shutdown,
            context,
            policy,
            timing,
        }
    }

    /// What was in memory is of an earlier term, or of none: cells and routers are heard anew.
    pub(crate) fn begin_term(&self) {
        let now = self.context.now();
        self.edge.begin(now);
        self.cells.begin(now + self.timing.cell_lease);
        self.context.usage.clear();
    }

    /// What the last plan said about what it did not do.
    #[must_use]
    pub fn explanation(&self) -> Arc<Explanation> {
        self.explanation.lock().clone()
    }

    pub(crate) fn explain(&self, plan: &Plan, history: &BTreeMap<(ProcessId, VersionId), History>) {
        let explanation = Explanation {
            unplaced: plan.unplaced.clone(),
            waiting: plan.waiting.clone(),
            history: history.clone(),
        };
        *self.explanation.lock() = Arc::new(explanation);
    }
}
