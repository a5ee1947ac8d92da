//! Brings an agent up: checks, opens everything, takes up the work of the agent before it, then runs.

use super::client::Client;
use super::report::Reports;
use super::told::Telling;
use super::{Agent, State};
use crate::archives::Archives;
use crate::config::Config;
use crate::core::Core;
use crate::error::{Error, blocking, chain, file, kernel};
use crate::layers::Layers;
use crate::ledger::{Ledger, Record};
use crate::logs::Shipper;
use crate::packages::Packages;
use crate::policy::Rulebook;
use crate::stack::Stacks;
use crate::stats::Rates;
use crate::work::Update;
use model::Timestamp;
use model::id::{CellId, WorkId};
use model::resource::CellInfo;
use model::work::{Cause, Outcome, WorkState};
use sandbox::net::Network;
use sandbox::{Isolation, Runtime, Sandbox};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Updates of actors that wait for the agent; beyond it they wait, the agent never waits for them.
const UPDATES: usize = 1024;
/// Longest wait at the end for what is being done for work at that moment.
const LET_GO: Duration = Duration::from_secs(10);
/// Commands of the daemon that wait.
const COMMANDS: usize = 4;

/// Runs a cell until `shutdown`; then all work goes on, for the next agent. `ready` gets the agent's handle once the
/// work of the agent before is taken up; that a controller is reached it does not wait for.
///
/// # Errors
/// The configuration or the host can't be used; nothing was started then.
pub async fn run(config: Config, shutdown: CancellationToken, ready: oneshot::Sender<Agent>) -> Result<(), Error> {
    let opened = blocking(move || Opened::open(config)).await?;
    let cell = opened.cell;
    let (sender, updates) = mpsc::channel(UPDATES);
    let (lease_sender, lease) = watch::channel(None);
    let client = opened.client.clone();
    let logs_dir = opened.config.dir("logs");
    let (shipper, logs) = Shipper::open(&logs_dir, client.clone(), opened.config.limits.log_tails_bytes)?;
    let info = opened.info()?;
    let adopted = opened.adopt().await?;
    opened.make_ready().await;
    shipper.forget_others(
        &adopted
            .iter()
            .filter(|(record, _)| !record.cleaned)
            .map(|(record, _)| record.work)
            .collect(),
    );
    let shipping = tokio::spawn(shipper.run(shutdown.clone()));
    let core = Arc::new(opened.core(logs, lease, sender, shutdown.clone()));
    let tasks = core.tasks.clone();
    let (telling, told) = Telling::new();
    let mut state = State {
        core,
        telling,
        works: BTreeMap::new(),
        observed: BTreeMap::new(),
        assigned: None,
        reports: Reports::new(client, lease_sender),
        rates: Rates::default(),
        closing: false,
        tearing_down: None,
    };
    tracing::info!(cell.id = %cell, adopted = adopted.len(), memory_mb = info.memory_mb, disk_mb = info.disk_mb, "cell is up");
    for (record, sandbox) in adopted {
        state.take_on(record, sandbox);
    }
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let _ = ready.send(Agent { cell, commands });
    state.run(info, updates, inbox, told, shutdown).await;
    let _ = shipping.await;
    tasks.close();
    // Whoever starts the next agent in this process needs the lock that the sandboxes hold.
    if tokio::time::timeout(LET_GO, tasks.wait()).await.is_err() {
        tracing::warn!(count = tasks.len(), "ended while some work was still being acted on");
    }
    Ok(())
}

/// Removes all sandboxes of a cell whose agent does not run, and what it knows of them. Blocking.
///
/// # Errors
/// Another agent runs, or something resisted.
pub fn teardown(config: &Config) -> Result<(), Error> {
    let runtime = Runtime::open(sandbox_config(config)).map_err(kernel("open the sandboxes"))?;
    runtime
        .sweep(&HashSet::new())
        .map_err(kernel("destroy all sandboxes"))?;
    let ledger = Ledger::open(&config.dir("ledger"))?;
    for record in ledger.load()? {
        ledger.remove(record.work)?;
    }
    crate::cache::remove_tree(&config.dir("logs"))?;
    runtime.close().map_err(kernel("close the sandboxes"))?;
    // The runtime removes a network that it opened itself, which it did only where something had to be adopted.
    Network::open(config.network.clone())
        .and_then(Network::destroy)
        .map_err(|source| sandbox::Error::Network {
            operation: format!("remove network {}", config.network.name),
            source: Box::new(source),
        })
        .map_err(kernel("remove the network of sandboxes"))
}

fn sandbox_config(config: &Config) -> sandbox::Config {
    sandbox::Config {
        state_dir: config.dir("sandboxes"),
        init_path: config.init_path.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        uid_base: config.uid_base,
        network: config.network.clone(),
        // Nothing of a shape: the root of an app would be a tenant's, and what is blank fits every start.
        parked: sandbox::Parking {
            max: 0,
            disks: config.limits.parked,
            blanks: config.limits.parked,
        },
    }
}

/// What is opened before anything runs.
struct Opened {
    config: Config,
    cell: CellId,
    runtime: Runtime,
    layers: Layers,
    packages: Packages,
    archives: Archives,
    stacks: Stacks,
    ledger: Arc<Ledger>,
    rulebook: Rulebook,
    client: Client,
}

/// Work of an earlier agent, with its sandbox where there is one.
type Adopted = Vec<(Record, Option<Sandbox>)>;

impl Opened {
    fn open(config: Config) -> Result<Self, Error> {
        config.check()?;
        std::fs::create_dir_all(&config.state_dir).map_err(file("create", &config.state_dir))?;
        let cell = config.identity()?;
        let client = Client::new(config.controllers.clone(), config.proof.clone(), cell);
        let client = client.map_err(|source| Error::Controller {
            operation: "prepare requests",
            source: Box::new(source),
        })?;
        let limits = config.limits;
        let rulebook = Rulebook::open(config.dir("policies.json"));
        let mut sandboxes = sandbox_config(&config);
        sandboxes.network.default_policy = rulebook.usual().unwrap_or_else(|| config.egress_running.clone());
        // First of all: it holds the lock that keeps a second agent away.
        let runtime = Runtime::open(sandboxes).map_err(kernel("open the sandboxes"))?;
        Ok(Self {
            cell,
            client,
            runtime,
            layers: Layers::open(
                &config.dir("layers"),
                config.blobs.clone(),
                config.caches.layers_bytes,
                limits.unpacks_at_once,
                limits.layer,
            )?,
            packages: Packages::open(
                &config.dir("packages"),
                config.blobs.clone(),
                config.caches.packages_bytes,
                limits.package,
            )?,
            archives: Archives::open(
                &config.dir("archives"),
                config.blobs.clone(),
                config.caches.archives_bytes,
            )?,
            stacks: Stacks::open(&config.dir("stacks"), &config.platform)?,
            ledger: Arc::new(Ledger::open(&config.dir("ledger"))?),
            rulebook,
            config,
        })
    }

    /// Finds the sandboxes of the ledger's records, and removes all others.
    async fn adopt(&self) -> Result<Adopted, Error> {
        let (ledger, runtime, stacks) = (Arc::clone(&self.ledger), self.runtime.clone(), self.stacks.clone());
        blocking(move || {
            let mut adopted = Adopted::new();
            for record in ledger.load()? {
                let work = record.work;
                let found = runtime
                    .adopt(&work.to_string())
                    .map_err(kernel(format!("adopt work {work}")));
                let sandbox = found.unwrap_or_else(|error| {
                    tracing::error!(work.id = %work, error = %chain(&error), "failed to adopt a sandbox, removing it");
                    None
                });
                match settle(record, sandbox.is_some()) {
                    Some(record) => adopted.push((record, sandbox)),
                    None => ledger.remove(work)?,
                }
            }
            let keep: HashSet<String> = adopted
                .iter()
                .filter_map(|(_, sandbox)| Some(sandbox.as_ref()?.id().to_owned()))
                .collect();
            let swept = runtime
                .sweep(&keep)
                .map_err(kernel("remove sandboxes that nobody knows"));
            match swept {
                Ok(ids) if ids.is_empty() => {}
                Ok(ids) => tracing::warn!(count = ids.len(), "removed sandboxes that the ledger does not know"),
                Err(error) => tracing::error!(error = %chain(&error), "failed to remove sandboxes"),
            }
            if keep.is_empty() {
                stacks.prune();
            }
            Ok(adopted)
        })
        .await
    }

    /// Has sandboxes made in advance from now on. Without them starts take longer.
    async fn make_ready(&self) {
        const NETWORKED: bool = true;
        let runtime = self.runtime.clone();
        let ready = blocking(move || {
            let made = runtime.make_ready(NETWORKED);
            made.map_err(kernel("make sandboxes in advance"))
        });
        if let Err(error) = ready.await {
            tracing::warn!(error = %chain(&error), "sandboxes are made when they are needed");
        }
    }

    fn info(&self) -> Result<CellInfo, Error> {
        let (memory_mb, disk_mb) = self.config.offered()?;
        let name = match self.config.name.as_str() {
            "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            name => name.to_owned(),
        };
        Ok(CellInfo {
            id: self.cell,
            name,
            zone: self.config.zone.clone(),
            tags: self.config.tags.clone(),
            stacks: self.stacks.names()?,
            memory_mb,
            disk_mb,
            cpus: std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1)),
            max_work: self.config.capacity.max_work,
            isolation: describe(&self.runtime.isolation()),
            version: self.config.version.clone(),
        })
    }

    fn core(
        self,
        logs: crate::logs::Logs,
        lease: watch::Receiver<Option<tokio::time::Instant>>,
        updates: mpsc::Sender<Update>,
        shutdown: CancellationToken,
    ) -> Core {
        Core {
            starts: Semaphore::new(self.config.limits.starts_at_once.max(1)),
            sessions: Arc::new(Semaphore::new(self.config.limits.sessions)),
            config: self.config,
            cell: self.cell,
            runtime: self.runtime,
            layers: self.layers,
            packages: self.packages,
            archives: self.archives,
            stacks: self.stacks,
            ledger: self.ledger,
            rulebook: self.rulebook,
            logs,
            client: self.client,
            lease,
            tasks: TaskTracker::new(),
            shutdown,
            updates,
        }
    }
}

/// Finds the record and the sandbox of one piece of work.
pub(super) async fn adopt_one(core: &Core, work: WorkId) -> Result<Option<(Record, Option<Sandbox>)>, Error> {
    let (ledger, runtime) = (Arc::clone(&core.ledger), core.runtime.clone());
    blocking(move || {
        let Some(record) = ledger.load()?.into_iter().find(|record| record.work == work) else {
            return Ok(None);
        };
        let sandbox = runtime
            .adopt(&work.to_string())
            .map_err(kernel(format!("adopt work {work}")))?;
        Ok(settle(record, sandbox.is_some()).map(|record| (record, sandbox)))
    })
    .await
}

/// What becomes of a record at the start of an agent, given whether its sandbox was found. `None`: it is dropped, and
/// begun anew if it is still assigned.
fn settle(mut record: Record, found: bool) -> Option<Record> {
    if record.state.is_final() {
        record.cleaned |= !found;
        return Some(record);
    }
    if found {
        return Some(record);
    }
    if record.state.rank() < WorkState::Starting.rank() {
        return None;
    }
    // It ran, and is gone without a trace: the host was restarted.
    let now = Timestamp::now_utc();
    let cause = record.ending.take().unwrap_or(Cause::CellLost);
    let build = matches!(record.spec.kind, model::work::WorkKind::Build(_))
        .then(|| Box::new(crate::steps::outputs::failed(&cause, None)));
    record.state = WorkState::Exited(Outcome { cause, at: now, build });
    record.since = now;
    record.cleaned = true;
    Some(record)
}

fn describe(isolation: &Isolation) -> Vec<String> {
    let mut lines = vec![
        format!("kernel {}", isolation.kernel),
        format!("control groups {}", isolation.cgroups),
        format!("private disks {}", isolation.disk),
        format!("namespaces {}", isolation.namespaces.join(" ")),
        format!("system call filter {}", if isolation.seccomp { "on" } else { "off" }),
    ];
    lines.extend(isolation.missing.iter().map(|what| format!("missing: {what}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use model::work::Wanted;

    fn record(state: WorkState) -> Record {
        let mut record = Record::new(
            testing::work(1),
            1,
            Wanted::Run,
            testing::instance_spec(),
            Timestamp::UNIX_EPOCH,
        );
        record.state = state;
        record
    }

    #[test]
    fn preparations_are_begun_anew_and_running_work_goes_on() {
        for state in [WorkState::Placed, WorkState::Preparing] {
            assert!(settle(record(state.clone()), false).is_none());
            assert_eq!(settle(record(state.clone()), true).expect("adopted").state, state);
        }
        for state in [WorkState::Starting, WorkState::Running, WorkState::Stopping] {
            assert_eq!(settle(record(state.clone()), true).expect("adopted").state, state);
            let gone = settle(record(state), false).expect("reported");
            let WorkState::Exited(outcome) = gone.state else {
                panic!("ended")
            };
            assert_eq!((outcome.cause, gone.cleaned), (Cause::CellLost, true));
        }
    }

    #[test]
    fn a_decided_end_stays_the_cause_and_an_end_stays_as_it_was() {
        let mut stopping = record(WorkState::Stopping);
        stopping.ending = Some(Cause::Stopped { killed: false });
        let WorkState::Exited(outcome) = settle(stopping, false).expect("reported").state else {
            panic!("ended")
        };
        assert_eq!(outcome.cause, Cause::Stopped { killed: false });
        let ended = record(WorkState::Exited(outcome));
        assert!(settle(ended.clone(), false).expect("reported").cleaned);
        assert!(!settle(ended, true).expect("to be cleaned").cleaned);
    }
}
