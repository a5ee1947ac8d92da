//! What all work of a cell shares: configuration, caches, the sandbox runtime, and the way to tell the agent.

use crate::agent::client::Client;
use crate::archives::Archives;
use crate::config::Config;
use crate::layers::Layers;
use crate::ledger::Ledger;
use crate::logs::Logs;
use crate::packages::Packages;
use crate::policy::Rulebook;
use crate::stack::Stacks;
use crate::work::Update;
use model::id::CellId;
use sandbox::Runtime;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by the agent and the actors of work.
#[derive(Debug)]
pub(crate) struct Core {
    pub config: Config,
    pub cell: CellId,
    pub runtime: Runtime,
    pub layers: Layers,
    pub packages: Packages,
    pub archives: Archives,
    pub stacks: Stacks,
    pub ledger: Arc<Ledger>,
    /// Where work may connect to.
    pub rulebook: Rulebook,
    pub logs: Logs,
    pub client: Client,
    /// Sandboxes being made.
    pub starts: Semaphore,
    /// Exec sessions.
    pub sessions: Arc<Semaphore>,
    /// Until when the controller counts this cell as alive; `None` before the first report.
    pub lease: watch::Receiver<Option<Instant>>,
    /// All tasks that hold on to sandboxes.
    pub tasks: TaskTracker,
    /// Ends the agent.
    pub shutdown: CancellationToken,
    /// To the agent.
    pub updates: mpsc::Sender<Update>,
}

impl Core {
    /// Waits until the lease is held: without it other cells may have been given the same work.
    pub(crate) async fn leased(&self) {
        let mut lease = self.lease.clone();
        // An error means that the agent is gone, and with it everything that could renew the lease.
        if lease
            .wait_for(|until| until.is_some_and(|until| until > Instant::now()))
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}
