//! What a plan is made from. Plain data, filled by the controller or by a simulation.

use crate::crash::{CrashPolicy, History};
use model::Timestamp;
use model::canary::Share;
use model::digest::Digest;
use model::id::{AppId, BuildId, CellId, DeploymentId, ProcessId, TaskId, VersionId, WorkId};
use model::name::StackName;
use model::work::{Cause, Wanted, WorkState};
use std::collections::{BTreeMap, BTreeSet};
use time::Duration;

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// Every process of every app, also of stopped ones.
    pub processes: Vec<Process>,
    /// Deployments under way: `DEPLOYING`, `PAUSED` or `CANCELING`. At most one for a process.
    pub deployments: Vec<Deployment>,
    /// Builds and tasks that have not ended.
    pub jobs: Vec<Job>,
}

/// A process and the version that its instances are to run.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub id: ProcessId,
    /// Its app.
    pub app: AppId,
    /// Whether routers send requests to it.
    pub routable: bool,
    /// Instances wanted; 0 where the app is stopped.
    pub instances: u32,
    /// The version to run where no deployment is under way; `None` until the app was started once.
    pub version: Option<VersionId>,
    /// What an instance needs, for each version that may have to be placed: the wanted one and those of a deployment.
    pub needs: BTreeMap<VersionId, Needs>,
}

/// What a piece of work asks of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// MiB of memory.
    pub memory_mb: u32,
    /// MiB of disk.
    pub disk_mb: u32,
    /// Root file system.
    pub stack: StackName,
    /// Isolation segment that it is to be in; `None`: cells that are of none.
    pub segment: Option<String>,
    /// Layers it mounts: a cell that has them is preferred.
    pub layers: Vec<Digest>,
}

/// A rollout that is under way.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// The process whose version it changes.
    pub process: ProcessId,
    /// The version to reach.
    pub version: VersionId,
    /// The version to keep until then, and to return to.
    pub previous: Option<VersionId>,
    /// New instances that may be on their way at once.
    pub max_in_flight: u32,
    /// How far it goes for now; `None`: to the end.
    pub canary: Option<Share>,
    /// Whether it is known to have got that far.
    pub paused: bool,
    /// Whether it is being taken back.
    pub canceling: bool,
    /// When it began: crashes before do not count against it.
    pub created_at: Timestamp,
}

/// Names a build or a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobRef {
    /// A staging.
    Build(BuildId),
    /// A one-off run.
    Task(TaskId),
}

/// A build or a task that has not ended.
#[derive(Debug, Clone)]
pub struct Job {
    /// Which.
    pub id: JobRef,
    /// Its app.
    pub app: AppId,
    /// What it asks of a cell.
    pub needs: Needs,
    /// Whether a user wants it ended.
    pub cancel: bool,
    /// How earlier placements of it ended, oldest first.
    pub tries: Vec<(WorkId, Cause)>,
    /// When it was asked for: older ones are placed first.
    pub created_at: Timestamp,
}

/// What is known.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// All work that has not ended.
    pub works: Vec<Work>,
    /// How instances of each process version ended by themselves.
    pub history: BTreeMap<(ProcessId, VersionId), History>,
}

/// What a piece of work is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// An instance.
    Instance {
        /// Its process.
        process: ProcessId,
        /// What it runs.
        version: VersionId,
        /// 0-based.
        index: u32,
    },
    /// A build or a task.
    Job(JobRef),
}

/// A piece of work that has not ended.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its id.
    pub id: WorkId,
    /// What it is for.
    pub slot: Slot,
    /// Where it is.
    pub cell: CellId,
    /// What it holds of that cell.
    pub memory_mb: u32,
    /// What it holds of that cell.
    pub disk_mb: u32,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// When `wanted` took its value.
    pub wanted_since: Timestamp,
    /// Last observation.
    pub state: WorkState,
    /// Last observation: requests may be sent to it.
    pub routable: bool,
    /// Every live router has it in its table, or nothing routes to it.
    pub routed: bool,
    /// No live router has it in its table nor a request of it in flight.
    pub drained: bool,
    /// When it was placed.
    pub created_at: Timestamp,
}

/// A cell as a candidate.
#[derive(Debug, Clone)]
pub struct CellView {
    /// Its id.
    pub id: CellId,
    /// Its name, for explanations.
    pub name: String,
    /// Failure domain.
    pub zone: String,
    /// Stacks it can run.
    pub stacks: BTreeSet<StackName>,
    /// Isolation segments that it is of: it takes nothing of others, nor what is in none.
    pub segments: BTreeSet<String>,
    /// Memory for work, in MiB.
    pub memory_mb: u64,
    /// Disk for work, in MiB.
    pub disk_mb: u64,
    /// Most pieces of work at once.
    pub max_work: u32,
    /// Memory of work that it still holds although it is no longer assigned, in MiB.
    pub held_memory_mb: u64,
    /// Disk of such work, in MiB.
    pub held_disk_mb: u64,
    /// Takes no new work.
    pub cordoned: bool,
    /// Whether it said what it holds since its lease began; until then nothing new is placed on it.
    pub synced: bool,
    /// It is alive until then.
    pub lease_until: Timestamp,
    /// Layers it has unpacked, as far as known.
    pub layers: BTreeSet<Digest>,
}

/// Times and limits of the planner.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Restart of crashed instances.
    pub crash: CrashPolicy,
    /// Longest wait for requests in flight before an instance is stopped.
    pub drain_timeout: Duration,
    /// After the end of a lease, before its work is replaced elsewhere.
    pub lease_grace: Duration,
    /// Crashes of new instances after which a deployment is cancelled.
    pub deployment_crashes: usize,
    /// Placements of one build or task before it is given up.
    pub job_tries: usize,
    /// How long a build waits for a lost cell where no other takes it.
    pub job_lost_after: Duration,
    /// Cells whose instances are to move away, each with how many may be on their way at once. They have to be cordoned.
    pub draining: BTreeMap<CellId, u32>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            crash: CrashPolicy::default(),
            drain_timeout: Duration::seconds(30),
            lease_grace: Duration::seconds(5),
            deployment_crashes: 3,
            job_tries: 3,
            job_lost_after: Duration::minutes(5),
            draining: BTreeMap::new(),
        }
    }
}
