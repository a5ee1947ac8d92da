//! The actor: from assignment to the last trace of a piece of work.

use super::supervise::{Watched, supervise};
use super::{Message, Update, outcome};
use crate::cache::Tree;
use crate::core::Core;
use crate::error::{Error, blocking, chain, kernel};
use crate::exec;
use crate::ledger::Record;
use crate::policy;
use crate::steps::{outputs, prepare, shape};
use model::Timestamp;
use model::id::WorkId;
use model::staging::{BuildResult, PhaseTime};
use model::work::{Cause, Observation, Outcome, Wanted, WorkEvent, WorkKind, WorkState};
use sandbox::net::Egress;
use sandbox::{Exit, Sandbox};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Longest wait for others to let go of a sandbox that is to be destroyed.
const LET_GO: Duration = Duration::from_secs(2);
/// Time to another try of what could not be cleaned up.
const CLEAN_AGAIN: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Actor {
    pub(super) core: Arc<Core>,
    pub(super) record: Record,
    pub(super) inbox: mpsc::Receiver<Message>,
    address: Option<Ipv4Addr>,
    trees: Vec<Tree>,
    /// The policy that its sandbox was made under, where this agent made it.
    pub(super) under: Option<Egress>,
    forgotten: bool,
}

/// Why preparing ended without a sandbox.
enum NotUp {
    /// It was told to stop, or failed.
    Ended(Cause),
    /// The agent is going; the next one starts anew.
    Abandoned,
}

impl Actor {
    pub(super) fn new(core: Arc<Core>, record: Record, inbox: mpsc::Receiver<Message>) -> Self {
        Self {
            core,
            record,
            inbox,
            address: None,
            trees: Vec::new(),
            under: None,
            forgotten: false,
        }
    }

    /// Runs until the work is forgotten or the agent is gone.
    pub(super) async fn run(mut self, adopted: Option<Sandbox>) {
        let adopted = adopted.map(Arc::new);
        if let Some(sandbox) = &adopted {
            self.address = sandbox.address();
            self.trees = prepare::hold(&self.core, &self.record.spec);
            self.follow(sandbox).await;
        }
        self.publish().await;
        let sandbox = if self.record.state.is_final() {
            adopted
        } else {
            match self.live(adopted).await {
                Some(sandbox) => sandbox,
                None => return,
            }
        };
        self.clean(sandbox).await;
        self.rest().await;
    }

    /// Brings it to its end. `None` where the agent is gone before that.
    async fn live(&mut self, adopted: Option<Arc<Sandbox>>) -> Option<Option<Arc<Sandbox>>> {
        let up = match adopted {
            Some(sandbox) if self.record.state.rank() >= WorkState::Starting.rank() => Ok(sandbox),
            Some(sandbox) if self.never_ran(&sandbox).await => {
                match destroy(&self.core, self.record.work, Some(sandbox)).await {
                    Ok(()) => self.bring_up().await,
                    Err(error) => Err(not_started(&error)),
                }
            }
            Some(sandbox) => {
                self.step(WorkEvent::Started);
                self.save_seen().await;
                Ok(sandbox)
            }
            None => self.bring_up().await,
        };
        match up {
            Ok(sandbox) => {
                if let Watched::Abandoned = supervise(self, &sandbox).await {
                    return None;
                }
                self.conclude(&sandbox).await;
                Some(Some(sandbox))
            }
            Err(NotUp::Ended(cause)) => {
                let build = self.is_build().then(|| Box::new(outputs::failed(&cause, None)));
                self.end(cause, build).await;
                Some(None)
            }
            Err(NotUp::Abandoned) => None,
        }
    }

    /// From an assignment to a running process.
    async fn bring_up(&mut self) -> Result<Arc<Sandbox>, NotUp> {
        if self.record.wanted != Wanted::Run {
            return Err(NotUp::Ended(Cause::Stopped { killed: false }));
        }
        if self.record.state == WorkState::Placed {
            self.step(WorkEvent::Prepare);
            self.save().await.map_err(|error| not_started(&error))?;
            self.publish().await;
        }
        let core = Arc::clone(&self.core);
        let spec = self.record.spec.clone();
        let preparing = async {
            let prepared = prepare::prepare(&core, &spec).await?;
            core.leased().await;
            Ok::<_, Error>(prepared)
        };
        let prepared = tokio::select! {
            prepared = preparing => prepared.map_err(|error| not_started(&error))?,
            why = self.until_stop() => return Err(why),
        };
        self.phase("fetch", prepared.spent.fetch);
        self.phase("unpack", prepared.spent.unpack);
        let turn = tokio::select! {
            turn = core.starts.acquire() => turn,
            why = self.until_stop() => return Err(why),
        };
        let policy = policy::egress(&core.config, core.rulebook.now().as_deref(), &spec);
        self.under = Some(policy.clone());
        let shape = shape::sandbox(&core.config, self.record.work, &spec, &prepared, policy)
            .map_err(|error| not_started(&error))?;
        self.trees = prepared.trees;
        let began = Instant::now();
        let runtime = core.runtime.clone();
        let work = self.record.work;
        let created = blocking(move || runtime.create(&shape).map_err(kernel(format!("start work {work}")))).await;
        drop(turn);
        let sandbox = Arc::new(created.map_err(|error| not_started(&error))?);
        self.phase("sandbox", began.elapsed());
        self.address = sandbox.address();
        self.follow(&sandbox).await;
        self.say(format!(
            "Cell {} successfully created container for instance {work}",
            core.cell
        ));
        self.step(WorkEvent::Started);
        self.save_seen().await;
        Ok(sandbox)
    }

    /// Whether the agent before this one died before the sandbox could run anything. One whose app runs answers.
    async fn never_ran(&self, sandbox: &Arc<Sandbox>) -> bool {
        const NO_SIGNAL: i32 = 0;
        let asked = Arc::clone(sandbox);
        let found = blocking(move || {
            if asked.signal(NO_SIGNAL).is_ok() {
                return Ok(false);
            }
            // An end that no init recorded counts from when the sandbox was asked for.
            let exit = asked.exit().map_err(kernel("read the end of a sandbox"))?;
            Ok(exit.is_some_and(|exit| exit.started_ns == asked.created_ns()))
        });
        found.await.unwrap_or(false)
    }

    /// Ships its log.
    async fn follow(&self, sandbox: &Sandbox) {
        let source = shape::source(self.record.work, &self.record.spec);
        self.core.logs.follow(source, sandbox.log_dir()).await;
    }

    /// Takes messages until one says to stop.
    async fn until_stop(&mut self) -> NotUp {
        loop {
            let Some(message) = self.inbox.recv().await else {
                return NotUp::Abandoned;
            };
            if self.hear(message) {
                return NotUp::Ended(Cause::Stopped { killed: false });
            }
        }
    }

    /// Takes a message that is about the work and not its sandbox. Says whether it has to end.
    pub(super) fn hear(&mut self, message: Message) -> bool {
        match message {
            Message::Want { wanted, epoch } => {
                self.record.epoch = epoch;
                self.record.wanted = wanted;
                wanted == Wanted::Stop
            }
            Message::Forget => {
                self.forgotten = true;
                true
            }
            Message::Exec(request) => {
                exec::refuse(Arc::clone(&self.core), request, "the instance is not running");
                false
            }
        }
    }

    /// Finds out why its process ended, and takes over what it leaves.
    async fn conclude(&mut self, sandbox: &Arc<Sandbox>) {
        let (asked, work) = (Arc::clone(sandbox), self.record.work);
        let exit = blocking(move || asked.exit().map_err(kernel(format!("read the end of work {work}")))).await;
        let exit = exit.unwrap_or_else(|error| {
            tracing::error!(work.id = %work, error = %chain(&error), "failed to find out how work ended");
            None
        });
        let cause = outcome::cause(self.record.ending.clone(), exit.as_ref());
        let build = self.collect(sandbox, &cause, exit.as_ref()).await;
        self.say(outcome::last_line(&cause, exit.as_ref()));
        self.end(cause, build).await;
    }

    /// The result of a build: what it left, or why it left nothing.
    async fn collect(&self, sandbox: &Arc<Sandbox>, cause: &Cause, exit: Option<&Exit>) -> Option<Box<BuildResult>> {
        let WorkKind::Build(build) = &self.record.spec.kind else {
            return None;
        };
        if !matches!(cause, Cause::Exited { .. }) {
            return Some(Box::new(outputs::failed(cause, None)));
        }
        let collected = outputs::collect(&self.core, self.record.work, build, sandbox).await;
        let code = exit.and_then(|exit| exit.code);
        Some(Box::new(match collected {
            Ok(result) if result.error.is_some() || code == Some(0) => result,
            Ok(_) => outputs::failed(cause, None),
            Err(error) => {
                tracing::warn!(work.id = %self.record.work, error = %chain(&error), "a build left no usable result");
                outputs::failed(cause, Some(&error))
            }
        }))
    }

    async fn end(&mut self, cause: Cause, build: Option<Box<BuildResult>>) {
        tracing::info!(work.id = %self.record.work, app.id = %self.record.spec.owner.app, %cause, "work ended");
        let at = Timestamp::now_utc();
        self.step(WorkEvent::Ended(Outcome { cause, at, build }));
        self.save_seen().await;
    }

    /// Removes everything it has on this host, but the log that is not shipped yet.
    async fn clean(&mut self, sandbox: Option<Arc<Sandbox>>) {
        let work = self.record.work;
        if let Some(sandbox) = sandbox {
            if let Err(error) = self.core.logs.ended(work, &sandbox.log_dir()).await {
                tracing::warn!(work.id = %work, error = %chain(&error), "the rest of a log is lost");
            }
            let mut sandbox = Some(sandbox);
            while let Err(error) = destroy(&self.core, work, sandbox.take()).await {
                tracing::error!(work.id = %work, error = %chain(&error), "failed to remove a sandbox, trying again");
                tokio::time::sleep(CLEAN_AGAIN).await;
            }
        }
        self.trees.clear();
        self.record.cleaned = true;
        if let Err(error) = self.save().await {
            tracing::warn!(work.id = %work, error = %chain(&error), "failed to write the ledger");
        }
        let _ = self.core.updates.send(Update::Cleaned(work)).await;
    }

    /// Stays until the controller knows how it ended.
    async fn rest(mut self) {
        while !self.forgotten {
            let Some(message) = self.inbox.recv().await else { return };
            let epoch = self.record.epoch;
            self.hear(message);
            if self.record.epoch != epoch {
                self.publish().await;
            }
        }
        let (ledger, work) = (Arc::clone(&self.core.ledger), self.record.work);
        if let Err(error) = blocking(move || ledger.remove(work)).await {
            tracing::warn!(work.id = %work, error = %chain(&error), "failed to forget work");
        }
        let _ = self.core.updates.send(Update::Forgotten(work)).await;
    }

    /// Goes to the state after `event`.
    pub(super) fn step(&mut self, event: WorkEvent) {
        match self.record.state.clone().step(event) {
            Ok(state) => {
                self.record.state = state;
                self.record.since = Timestamp::now_utc();
            }
            Err(error) => tracing::error!(work.id = %self.record.work, %error, "an event that does not fit"),
        }
    }

    /// Tells the agent where the work stands.
    pub(super) async fn publish(&self) {
        let record = &self.record;
        let running = record.state == WorkState::Running;
        let seen = Observation {
            work: record.work,
            epoch: record.epoch,
            state: record.state.clone(),
            routable: running && matches!(record.spec.kind, WorkKind::Instance(_)),
            address: self.address,
            since: record.since,
            phases: record.phases.clone(),
        };
        let _ = self.core.updates.send(Update::Observed(seen)).await;
    }

    /// Writes the ledger.
    pub(super) async fn save(&mut self) -> Result<(), Error> {
        let (ledger, mut record) = (Arc::clone(&self.core.ledger), self.record.clone());
        let generation = blocking(move || ledger.write(&mut record).map(|()| record.generation)).await?;
        self.record.generation = generation;
        Ok(())
    }

    /// Tells what was seen, then writes it down: if that fails, the next agent sees it again.
    pub(super) async fn save_seen(&mut self) {
        self.publish().await;
        if let Err(error) = self.save().await {
            tracing::warn!(work.id = %self.record.work, error = %chain(&error), "failed to write the ledger");
        }
    }

    pub(super) fn phase(&mut self, name: &str, time: Duration) {
        self.record.phases.push(PhaseTime {
            name: name.to_owned(),
            duration_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        });
    }

    /// Adds a line of the platform to the work's log.
    pub(super) fn say(&self, text: String) {
        self.core.logs.note(self.record.work, text);
    }

    fn is_build(&self) -> bool {
        matches!(self.record.spec.kind, WorkKind::Build(_))
    }
}

fn not_started(error: &Error) -> NotUp {
    let missing = matches!(error, Error::NoStack { .. });
    NotUp::Ended(Cause::NotStarted {
        detail: chain(error),
        retryable: !missing && !is_permanent(error),
    })
}

/// Whether the same work would fail the same way anywhere.
fn is_permanent(error: &Error) -> bool {
    match error {
        Error::Layer { source, .. } => is_permanent(source),
        Error::Mismatch { .. } | Error::Unpack(_) | Error::Image { .. } => true,
        Error::Sandbox { source, .. } => {
            matches!(
                **source,
                sandbox::Error::Invalid { .. } | sandbox::Error::Program { .. }
            )
        }
        _ => false,
    }
}

/// Destroys the sandbox of `work` once nobody else looks at it; without a handle, whatever is left of it.
async fn destroy(core: &Core, work: WorkId, handle: Option<Arc<Sandbox>>) -> Result<(), Error> {
    let mut own = None;
    if let Some(shared) = handle {
        let began = Instant::now();
        while Arc::strong_count(&shared) > 1 && began.elapsed() < LET_GO {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        own = Arc::into_inner(shared);
    }
    let runtime = core.runtime.clone();
    blocking(move || {
        let found = match own {
            Some(own) => Some(own),
            None => runtime
                .adopt(&work.to_string())
                .map_err(kernel(format!("find work {work}")))?,
        };
        found.map_or(Ok(()), |found| {
            found.destroy().map_err(kernel(format!("remove work {work}")))
        })
    })
    .await
}
