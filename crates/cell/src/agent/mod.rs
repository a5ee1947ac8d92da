//! The agent: one loop that owns the set of work, takes over assignment sets, and reports.
//!
//! ```text
//!  controller ──feed──▶ [agent: reconcile] ──Message──▶ actors
//!             ◀─report──     ▲──────────────Update────────┘
//! ```
//! It acts only on whole assignment sets; while there is no controller it goes on with the last one. It holds no
//! sandbox itself: when it ends, by a signal or by `kill -9`, all work stays, and the next agent takes it up.

pub(crate) mod client;
mod feed;
mod reconcile;
mod report;
mod start;
mod told;

use crate::core::Core;
use crate::error::{Error, blocking, chain, kernel};
use crate::exec;
use crate::ledger::Record;
use crate::stats::{self, Rates};
use crate::work::{self, Handle, Message, Update};
use api::cell::{Down, WorkStats};
use feed::Heard;
use model::Timestamp;
use model::id::{CellId, WorkId};
use model::resource::CellInfo;
use model::security::Policies;
use model::work::{Assignment, Observation, Owner, Wanted, WorkState};
use reconcile::{Held, Step, reconcile};
use report::{Outcome, Reports};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use told::{Batch, Telling};

pub use start::{run, teardown};

/// Messages of the feed that wait.
const HEARD: usize = 16;
/// Longest time that tearing everything down takes before what is left is swept.
const TEARDOWN: Duration = Duration::from_secs(20);

/// A running agent, for the daemon it is part of. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Agent {
    cell: CellId,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
enum Command {
    DestroyAll(oneshot::Sender<Result<(), Error>>),
}

impl Agent {
    /// The cell's id.
    #[must_use]
    pub const fn cell(&self) -> CellId {
        self.cell
    }

    /// Stops all work of this cell and removes all its sandboxes. The agent takes on nothing after this.
    ///
    /// # Errors
    /// Something resisted; the next agent sweeps it.
    pub async fn destroy_all(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::DestroyAll(reply)).await;
        sent.map_err(|_| Error::ShuttingDown)?;
        answer.await.map_err(|_| Error::ShuttingDown)?
    }
}

/// One piece of work as the agent knows it.
struct Entry {
    handle: Handle,
    wanted: Wanted,
    epoch: u64,
    cleaned: bool,
    owner: Owner,
}

/// The loop's state.
struct State {
    core: Arc<Core>,
    works: BTreeMap<WorkId, Entry>,
    observed: BTreeMap<WorkId, Observation>,
    /// The last assignment set, to go on with when something has ended.
    assigned: Option<Vec<Assignment>>,
    reports: Reports,
    telling: Telling,
    rates: Rates,
    /// Whether everything was to be torn down: nothing is taken on any more.
    closing: bool,
    /// Who waits for it.
    tearing_down: Option<oneshot::Sender<Result<(), Error>>>,
}

impl State {
    /// Runs until `shutdown`.
    async fn run(
        mut self,
        info: CellInfo,
        mut updates: mpsc::Receiver<Update>,
        mut commands: mpsc::Receiver<Command>,
        mut told: mpsc::Receiver<Batch>,
        shutdown: CancellationToken,
    ) {
        let open = |core: &Arc<Core>| {
            let (sender, heard) = mpsc::channel(HEARD);
            let following = feed::follow(Arc::clone(core), info.clone(), sender);
            (tokio::spawn(following), heard)
        };
        let (mut following, mut heard) = open(&self.core);
        let mut measuring = tokio::time::interval(stats::INTERVAL);
        let (measured_to, mut measured) = mpsc::channel::<Vec<_>>(1);
        let mut deadline: Option<tokio::time::Instant> = None;
        self.telling.begin(&self.core).await;
        loop {
            self.reports.send(&self.observed);
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(message) = heard.recv() => self.hear(message).await,
                Some(batch) = told.recv() => {
                    told::write(&batch, &self.observed, |work| Some(&self.works.get(&work)?.owner));
                }
                Some(update) = updates.recv() => {
                    self.update(update).await;
                    while let Ok(update) = updates.try_recv() {
                        self.update(update).await;
                    }
                }
                outcome = self.reports.next() => {
                    if outcome == Outcome::Unknown {
                        following.abort();
                        (following, heard) = open(&self.core);
                    }
                }
                _ = measuring.tick() => {
                    self.measure(&measured_to);
                    // What an actor was too busy to hear is told again.
                    self.reconcile();
                }
                Some(figures) = measured.recv() => {
                    let news: Vec<WorkStats> = self.rates.take(&figures);
                    self.reports.measured(news);
                }
                Some(Command::DestroyAll(reply)) = commands.recv() => {
                    self.tear_down(reply);
                    deadline = Some(tokio::time::Instant::now() + TEARDOWN);
                }
                () = until(deadline) => {
                    deadline = None;
                    self.torn_down().await;
                }
            }
            if self.tearing_down.is_some() && self.works.values().all(|entry| entry.cleaned) {
                deadline = None;
                self.torn_down().await;
            }
        }
        following.abort();
        let _ = following.await;
    }

    async fn hear(&mut self, message: Heard) {
        match message {
            Heard::Connected(terms) => {
                tracing::info!(cell.id = %self.core.cell, lease_ms = terms.lease_ms, "connected to the controller");
                self.reports.connected(terms);
            }
            Heard::Down(Down::Assignments { revision, assignments }) => {
                tracing::debug!(revision, count = assignments.len(), "took over an assignment set");
                if !self.closing {
                    self.assigned = Some(assignments);
                    self.reconcile();
                }
                // Also while everything ends: how it ended is to be told.
                self.reports.took_over(revision);
            }
            Heard::Down(Down::Policies { policies }) => self.take_policies(policies).await,
            Heard::Down(Down::Exec(request)) => match self.works.get(&request.work) {
                Some(entry) => drop(entry.handle.tell(Message::Exec(request))),
                None => exec::refuse(Arc::clone(&self.core), request, "the instance is not on this cell"),
            },
            Heard::Down(Down::Ping) => {}
        }
    }

    /// What holds from now on: the actors put what runs under it, the network what is to come.
    async fn take_policies(&mut self, policies: Policies) {
        tracing::debug!(
            groups = policies.groups.len(),
            spaces = policies.spaces.len(),
            "took over security groups"
        );
        self.core.rulebook.take(policies).await;
        let core = Arc::clone(&self.core);
        // Not waited for: each sandbox is put under its own policy anyway.
        self.core.tasks.spawn_blocking(move || {
            let usual = core.rulebook.usual();
            let set = usual.map_or(Ok(()), |usual| core.runtime.set_default_policy(&usual));
            if let Err(error) = set {
                tracing::error!(error = %chain(&error), "failed to prepare networks for new rules");
            }
        });
        self.telling.begin(&self.core).await;
    }

    async fn update(&mut self, update: Update) {
        match update {
            Update::Observed(observation) => {
                let (work, ended) = (observation.work, observation.state.is_final());
                self.observed.insert(work, observation);
                self.reports.changed(work);
                if ended {
                    self.reconcile();
                }
            }
            Update::Cleaned(work) => {
                if let Some(entry) = self.works.get_mut(&work) {
                    entry.cleaned = true;
                }
            }
            Update::Forgotten(work) => {
                self.works.remove(&work);
                self.observed.remove(&work);
                self.reports.changed(work);
            }
            Update::Broken(work) => self.mend(work).await,
        }
    }

    /// Gives work whose actor broke to a new one, as a new agent would.
    async fn mend(&mut self, work: WorkId) {
        tracing::error!(work.id = %work, "the actor of work broke, taking the work up again");
        self.works.remove(&work);
        match start::adopt_one(&self.core, work).await {
            Ok(Some((record, sandbox))) => self.take_on(record, sandbox),
            Ok(None) => drop(self.observed.remove(&work)),
            Err(error) => tracing::error!(work.id = %work, error = %chain(&error), "failed to take up work again"),
        }
    }

    /// Takes the steps to the last assignment set.
    fn reconcile(&mut self) {
        let Some(assigned) = &self.assigned else { return };
        let held: BTreeMap<WorkId, Held> = self
            .works
            .iter()
            .map(|(work, entry)| {
                let ended = self.observed.get(work).is_some_and(|seen| seen.state.is_final());
                let (wanted, epoch) = (entry.wanted, entry.epoch);
                (*work, Held { wanted, epoch, ended })
            })
            .collect();
        for step in reconcile(&held, assigned) {
            match step {
                Step::Begin(assignment) => self.begin(*assignment),
                Step::Tell { work, wanted, epoch } => self.tell(work, wanted, epoch),
                Step::Forget(work) => {
                    if let Some(entry) = self.works.get(&work) {
                        entry.handle.tell(Message::Forget);
                    }
                }
            }
        }
    }

    fn begin(&mut self, assignment: Assignment) {
        let Assignment {
            work,
            epoch,
            wanted,
            spec,
        } = assignment;
        let record = Record::new(work, epoch, wanted, spec, Timestamp::now_utc());
        self.observed.insert(
            work,
            Observation {
                work,
                epoch,
                state: WorkState::Placed,
                routable: false,
                address: None,
                since: record.since,
                phases: Vec::new(),
            },
        );
        self.take_on(record, None);
    }

    /// Gives work to an actor.
    fn take_on(&mut self, record: Record, adopted: Option<sandbox::Sandbox>) {
        let (work, wanted, epoch) = (record.work, record.wanted, record.epoch);
        let (cleaned, owner) = (record.cleaned, record.spec.owner.clone());
        let handle = work::spawn(Arc::clone(&self.core), record, adopted);
        self.works.insert(
            work,
            Entry {
                handle,
                wanted,
                epoch,
                cleaned,
                owner,
            },
        );
    }

    fn tell(&mut self, work: WorkId, wanted: Wanted, epoch: u64) {
        if let Some(entry) = self.works.get_mut(&work)
            && entry.handle.tell(Message::Want { wanted, epoch })
        {
            (entry.wanted, entry.epoch) = (wanted, epoch);
        }
    }

    fn measure(&self, to: &mpsc::Sender<Vec<(WorkId, tokio::time::Instant, stats::Measured)>>) {
        let running: Vec<WorkId> = self
            .works
            .iter()
            .filter(|(work, _)| {
                self.observed
                    .get(work)
                    .is_some_and(|seen| seen.state == WorkState::Running)
            })
            .map(|(work, _)| *work)
            .collect();
        // At most one measurement at a time: a slow one is not joined by another.
        if let Ok(permit) = to.clone().try_reserve_owned()
            && !running.is_empty()
        {
            let runtime = self.core.runtime.clone();
            self.core.tasks.spawn_blocking(move || {
                let measured = stats::measure(&runtime, &running);
                stats::publish(&measured);
                drop(permit.send(measured));
            });
        }
    }

    fn tear_down(&mut self, reply: oneshot::Sender<Result<(), Error>>) {
        tracing::info!(count = self.works.len(), "tearing down all work of this cell");
        self.assigned = None;
        self.closing = true;
        self.tearing_down = Some(reply);
        let works: Vec<(WorkId, u64)> = self.works.iter().map(|(work, entry)| (*work, entry.epoch)).collect();
        for (work, epoch) in works {
            self.tell(work, Wanted::Stop, epoch);
        }
    }

    /// Sweeps what is left and answers who waits.
    async fn torn_down(&mut self) {
        let Some(reply) = self.tearing_down.take() else { return };
        let runtime = self.core.runtime.clone();
        let swept = blocking(move || runtime.sweep(&HashSet::new()).map_err(kernel("destroy all sandboxes"))).await;
        if let Err(error) = &swept {
            tracing::error!(error = %chain(error), "failed to destroy all sandboxes");
        }
        let _ = reply.send(swept.map(drop));
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
