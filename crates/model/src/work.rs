//! Work: an app instance, a task or a build, placed on a cell. One state machine for all three.
//!
//! ```text
//! Placed ─▶ Preparing ─▶ Starting ─▶ Running ─▶ Stopping ─▶ Exited(outcome)
//!    └──────────┴───────────┴─────────── failure ───────────▶
//! ```
//! Here is the only transition function; the cell, the fake cell of the simulation and the controller use it.

use crate::Timestamp;
use crate::digest::Digest;
use crate::health::HealthCheck;
use crate::id::{AppId, BuildId, CellId, DropletId, OrgId, PackageId, ProcessId, SpaceId, TaskId, VersionId, WorkId};
use crate::image::ImageConfig;
use crate::limits::Limits;
use crate::name::{AppName, ProcessType, StackName};
use crate::secret::SecretEnv;
use crate::staging::{BuildInput, BuildResult, DropletLayer, SidecarTemplate};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Whose work it is; carried for logs, environment and messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The app.
    pub app: AppId,
    /// Its name when the work was placed.
    pub app_name: AppName,
    /// Its space.
    pub space: SpaceId,
    /// Name of the space.
    pub space_name: String,
    /// Its organisation: the tenant that caches and layers are scoped to.
    pub org: OrgId,
    /// Name of the organisation.
    pub org_name: String,
}

/// All that a cell needs to run a piece of work. Immutable once placed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkSpec {
    /// Whose it is.
    pub owner: Owner,
    /// What it may use.
    pub limits: Limits,
    /// Root file system below its own layers.
    pub stack: StackName,
    /// Environment, complete but for what only the cell knows (address, port, instance guid, memory limit).
    pub env: SecretEnv,
    /// What it does.
    pub kind: WorkKind,
}

/// What a piece of work does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum WorkKind {
    /// A long-running instance of a process.
    Instance(InstanceSpec),
    /// A command that runs once in the app's droplet.
    Task(TaskSpec),
    /// A staging of a package.
    Build(Box<BuildSpec>),
}

/// A long-running instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// The process it belongs to.
    pub process: ProcessId,
    /// Its type, such as `web`.
    pub process_type: ProcessType,
    /// The version it runs.
    pub version: VersionId,
    /// 0-based index among the instances of the process.
    pub index: u32,
    /// The droplet it runs.
    pub droplet: DropletId,
    /// Layers of that droplet, uppermost first.
    pub layers: Vec<DropletLayer>,
    /// Command that overrides the droplet's process type.
    pub command: Option<String>,
    /// How its health is found out.
    pub health: HealthCheck,
    /// Port that the app is to listen on, where it has one (`PORT`).
    pub port: Option<u16>,
    /// Seconds from SIGTERM to SIGKILL.
    pub grace_seconds: u32,
    /// Host names and paths routed to the app when it was placed, for `VCAP_APPLICATION`.
    pub uris: Vec<String>,
    /// What runs beside it in the same sandbox, and ends with it or ends it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<SidecarTemplate>,
    /// How it is run, where the droplet is an image: its layers are the whole root file system then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageConfig>,
}

/// A command that runs once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The task.
    pub task: TaskId,
    /// Its name, part of the log source `APP/TASK/<name>`.
    pub name: String,
    /// The droplet it runs in.
    pub droplet: DropletId,
    /// Layers of that droplet, uppermost first.
    pub layers: Vec<DropletLayer>,
    /// The shell command.
    pub command: String,
    /// Seconds until it is ended.
    pub timeout_seconds: u32,
    /// As [`InstanceSpec::image`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageConfig>,
}

/// A staging.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildSpec {
    /// The build.
    pub build: BuildId,
    /// The package it stages.
    pub package: PackageId,
    /// Digest of the package's index in the blob store; `None` of an image in a registry, which has no bits.
    pub package_digest: Option<Digest>,
    /// What the lifecycle is told.
    pub input: BuildInput,
    /// Seconds until it is ended.
    pub timeout_seconds: u32,
}

impl WorkKind {
    /// How it is run, where its droplet is an image.
    #[must_use]
    pub fn image(&self) -> Option<&ImageConfig> {
        match self {
            Self::Instance(instance) => instance.image.as_ref(),
            Self::Task(task) => task.image.as_ref(),
            Self::Build(_) => None,
        }
    }
}

/// What the controller wants of a placed piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// To run.
    Run,
    /// To go on running, but no longer to be routed to: it leaves the routers' tables.
    Drain,
    /// To stop: SIGTERM, grace, SIGKILL.
    Stop,
}

/// One entry of a cell's assignment set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// The work.
    pub work: WorkId,
    /// Fences off what an earlier holder of the lease says.
    pub epoch: u64,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// What it is.
    pub spec: WorkSpec,
}

/// Where a piece of work stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum WorkState {
    /// Given to a cell that has not begun.
    Placed,
    /// Layers are fetched and unpacked.
    Preparing,
    /// The process is there, its health not confirmed.
    Starting,
    /// Healthy (an instance) or under way (a task, a build).
    Running,
    /// Told to stop.
    Stopping,
    /// Gone.
    Exited(Outcome),
}

/// How a piece of work ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why it ended.
    pub cause: Cause,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: Timestamp,
    /// Of a build that ran to its end, failed or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Box<BuildResult>>,
}

/// Why a piece of work ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// It exited by itself.
    Exited {
        /// Exit code.
        code: i32,
    },
    /// A signal that the platform did not send ended it.
    Signalled {
        /// Signal number.
        signal: i32,
    },
    /// The kernel killed it at its memory limit.
    OutOfMemory {
        /// The limit in bytes.
        limit_bytes: u64,
        /// Peak use in bytes.
        peak_bytes: u64,
    },
    /// It did not become healthy in time.
    StartTimeout {
        /// The last answer of the health check, and what the app listened on instead.
        detail: String,
    },
    /// A healthy instance stopped answering.
    Unhealthy {
        /// The last answer of the health check.
        detail: String,
    },
    /// It ran longer than allowed.
    TimedOut {
        /// The time allowed, in seconds.
        seconds: u32,
    },
    /// It was told to stop, and did (within its grace or killed after it).
    Stopped {
        /// Whether the grace ran out.
        killed: bool,
    },
    /// It could not be started.
    NotStarted {
        /// What failed, for the person who pushed.
        detail: String,
        /// Whether another try may succeed.
        retryable: bool,
    },
    /// What runs beside it ended, and it with that.
    Sidecar {
        /// Of the sidecar.
        name: String,
        /// Why the sidecar ended.
        why: Box<Cause>,
    },
    /// Its cell is gone.
    CellLost,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MIB: u64 = 1024 * 1024;
        match self {
            Self::Exited { code } => write!(f, "Exited with status {code}"),
            Self::Signalled { signal } => write!(f, "Exited with status {} (signal {signal})", 128 + signal),
            Self::OutOfMemory {
                limit_bytes,
                peak_bytes,
            } => write!(
                f,
                "Exited with status 137 (out of memory: limit {} MiB, peak {} MiB)",
                limit_bytes / MIB,
                peak_bytes / MIB
            ),
            Self::StartTimeout { detail } => write!(f, "Startup health check never passed: {detail}"),
            Self::Unhealthy { detail } => write!(f, "Health check failed: {detail}"),
            Self::TimedOut { seconds } => write!(f, "Ended after {seconds} s, the time allowed"),
            Self::Stopped { killed: false } => f.write_str("Stopped"),
            Self::Stopped { killed: true } => f.write_str("Stopped (exceeded graceful shutdown interval)"),
            Self::NotStarted { detail, .. } => write!(f, "Could not be started: {detail}"),
            Self::Sidecar { name, why } => write!(f, "Sidecar {name}: {why}"),
            Self::CellLost => f.write_str("The cell it ran on was lost"),
        }
    }
}

/// What happens to a piece of work.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkEvent {
    /// The cell began to prepare it.
    Prepare,
    /// Its process was started.
    Started,
    /// Its health was confirmed, or it needs none.
    Healthy,
    /// It was told to stop.
    Stop,
    /// It is gone.
    Ended(Outcome),
}

/// An event that does not fit the state it met.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("work can't go from {from:?} by {event:?}")]
pub struct IllegalTransition {
    /// The state.
    pub from: Box<WorkState>,
    /// The event.
    pub event: Box<WorkEvent>,
}

impl WorkState {
    /// The state after `event`.
    ///
    /// Being told to stop twice is no error; an ended piece of work accepts nothing.
    ///
    /// # Errors
    /// Where the event does not fit the state.
    pub fn step(self, event: WorkEvent) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::Placed, WorkEvent::Prepare) => Ok(Self::Preparing),
            (Self::Preparing, WorkEvent::Started) => Ok(Self::Starting),
            (Self::Starting, WorkEvent::Healthy) => Ok(Self::Running),
            (Self::Placed | Self::Preparing | Self::Starting | Self::Running | Self::Stopping, WorkEvent::Stop) => {
                Ok(Self::Stopping)
            }
            (
                Self::Placed | Self::Preparing | Self::Starting | Self::Running | Self::Stopping,
                WorkEvent::Ended(outcome),
            ) => Ok(Self::Exited(outcome)),
            (from, event) => Err(IllegalTransition {
                from: Box::new(from),
                event: Box::new(event),
            }),
        }
    }

    /// Whether nothing more will happen to it.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Exited(_))
    }

    /// How far along it is: an observation never takes a row to a lower rank.
    #[must_use]
    pub const fn rank(&self) -> u8 {
        match self {
            Self::Placed => 0,
            Self::Preparing => 1,
            Self::Starting => 2,
            Self::Running => 3,
            Self::Stopping => 4,
            Self::Exited(_) => 5,
        }
    }
}

/// What a cell reports of one piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The work.
    pub work: WorkId,
    /// As it was assigned; others are stale.
    pub epoch: u64,
    /// Where it stands.
    #[serde(flatten)]
    pub state: WorkState,
    /// Whether requests may be sent to it (running and ready).
    pub routable: bool,
    /// Address at which the host reaches it, where it has a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Since when it is in this state.
    #[serde(with = "time::serde::rfc3339")]
    pub since: Timestamp,
    /// Phases that passed on the cell, with their time in milliseconds: `fetch`, `unpack`, `sandbox`, `healthy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<crate::staging::PhaseTime>,
}

/// A row of the `work` table: placement and what is known of it.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its id.
    pub id: WorkId,
    /// The cell it is placed on.
    pub cell: CellId,
    /// Its lease epoch.
    pub epoch: u64,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// What it is; never changes.
    pub spec: Arc<WorkSpec>,
    /// What was last observed.
    pub state: WorkState,
    /// Whether requests may be sent to it.
    pub routable: bool,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// When it was placed.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> WorkEvent {
        WorkEvent::Ended(Outcome {
            cause: Cause::Exited { code: 0 },
            at: Timestamp::UNIX_EPOCH,
            build: None,
        })
    }

    #[test]
    fn the_usual_way() {
        let mut state = WorkState::Placed;
        for (event, rank) in [
            (WorkEvent::Prepare, 1),
            (WorkEvent::Started, 2),
            (WorkEvent::Healthy, 3),
            (WorkEvent::Stop, 4),
            (WorkEvent::Stop, 4),
            (ended(), 5),
        ] {
            state = state.step(event).expect("legal");
            assert_eq!(state.rank(), rank);
        }
        assert!(state.is_final());
    }

    #[test]
    fn every_live_state_may_end_and_an_ended_one_accepts_nothing() {
        for state in [
            WorkState::Placed,
            WorkState::Preparing,
            WorkState::Starting,
            WorkState::Running,
        ] {
            let exited = state.step(ended()).expect("legal");
            for event in [
                WorkEvent::Prepare,
                WorkEvent::Started,
                WorkEvent::Healthy,
                WorkEvent::Stop,
                ended(),
            ] {
                assert!(exited.clone().step(event).is_err());
            }
        }
    }

    #[test]
    fn no_health_without_a_process() {
        assert!(WorkState::Placed.step(WorkEvent::Healthy).is_err());
        assert!(WorkState::Stopping.step(WorkEvent::Healthy).is_err());
    }

    #[test]
    fn causes_read_alone() {
        let oom = Cause::OutOfMemory {
            limit_bytes: 64 << 20,
            peak_bytes: 64 << 20,
        };
        assert_eq!(
            oom.to_string(),
            "Exited with status 137 (out of memory: limit 64 MiB, peak 64 MiB)"
        );
        let sidecar = Cause::Sidecar {
            name: "agent".to_owned(),
            why: Box::new(Cause::Exited { code: 3 }),
        };
        assert_eq!(sidecar.to_string(), "Sidecar agent: Exited with status 3");
        let text = serde_json::to_string(&sidecar).expect("serialises");
        assert_eq!(serde_json::from_str::<Cause>(&text).expect("reads its own"), sidecar);
    }
}
