//! `manifest.yml`: what apps are to be, as people write it. Used by the command line and the API alike.
//!
//! Reading is strict: an unknown key, a value of another type or beyond a limit is a [`Problem`] that names its place
//! and says what is meant; all of them are found in one pass. What Cloud Foundry's manifests have and this platform
//! does not yet do is refused by name, never passed over. Local matters (`path`) are kept for the command line.

mod beside;
mod image;
mod parse;
mod read;
mod routes;

pub use parse::{check_env_name, parse};

use crate::Secret;
use crate::health::{HealthCheck, Probe};
use crate::limits::Limits;
use crate::name::{AppName, ProcessType, StackName};
use crate::resource::Metadata;
use crate::routing::{OptionsChange, Protocol};
use crate::staging::SidecarTemplate;
use std::collections::BTreeMap;

/// Bytes of a manifest.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Apps of a manifest.
pub const MAX_APPS: usize = 100;
/// Routes of an app.
pub const MAX_ROUTES: usize = 100;
/// Services of an app.
pub const MAX_SERVICES: usize = 100;
/// Processes of an app.
pub const MAX_PROCESSES: usize = 50;
/// Buildpacks of an app.
pub const MAX_BUILDPACKS: usize = 20;
/// Environment variables of an app.
pub const MAX_ENV: usize = 1000;
/// Bytes of names and values of an app's environment together.
pub const MAX_ENV_BYTES: usize = 128 * 1024;
/// Bytes of a command.
pub const MAX_COMMAND_BYTES: usize = 4096;
/// Instances of a process.
pub const MAX_INSTANCES: u32 = 1000;
/// Seconds that a start may take.
pub const MAX_START_TIMEOUT: u32 = 600;

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// At least one, each name once.
    pub apps: Vec<App>,
}

/// An app of a manifest. `None`: the manifest says nothing, what is there stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    pub name: AppName,
    /// Folder or archive on the machine of the person who pushes.
    pub path: Option<String>,
    /// Whether it is an image, which whoever pushes makes the package of.
    pub docker: bool,
    /// Empty to detect.
    pub buildpacks: Option<Vec<String>>,
    pub stack: Option<StackName>,
    /// Added to what the app has.
    pub env: BTreeMap<String, Secret>,
    pub routes: Routes,
    /// Service instances of the space that the app is to be bound to; bindings that are not named stay.
    pub services: Vec<Service>,
    pub metadata: Option<Metadata>,
    /// `web` first, where it is mentioned.
    pub processes: Vec<Process>,
    /// What runs beside them; those that are there and not named stay.
    pub sidecars: Vec<SidecarTemplate>,
}

/// Which routes an app is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// None at all; those that are there are unmapped.
    pub none: bool,
    /// One with a random host name, where the app has none.
    pub random: bool,
    /// One made of the app's name, where the app has none.
    pub default: bool,
    /// Added to those that are there.
    pub named: Vec<NamedRoute>,
}

/// A route that an app is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedRoute {
    /// `host.domain/path`, without scheme.
    pub address: String,
    /// What the app speaks there; `None` leaves it as it is.
    pub protocol: Option<Protocol>,
    /// What is to change of how its requests are spread.
    pub options: OptionsChange,
}

/// A service instance that an app is to be bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    /// The name that the app sees instead.
    pub binding_name: Option<String>,
}

/// A process of an app. `None`: the manifest says nothing, what is there stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub process_type: ProcessType,
    /// `Some(None)` goes back to the droplet's own command.
    pub command: Option<Option<String>>,
    pub instances: Option<u32>,
    pub memory_mb: Option<u32>,
    pub disk_mb: Option<u32>,
    /// `Some(None)`: no limit but the cell's own.
    pub log_bytes_per_second: Option<Option<u64>>,
    pub health: HealthChange,
}

/// What of a health check is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthChange {
    pub kind: Option<HealthKind>,
    pub endpoint: Option<String>,
    pub start_timeout_seconds: Option<u32>,
    pub invocation_timeout_seconds: Option<u32>,
    pub interval_seconds: Option<u32>,
}

/// Kind of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthKind {
    Port,
    Http,
    Process,
}

impl Process {
    /// One of which nothing is said.
    #[must_use]
    pub fn of_type(process_type: ProcessType) -> Self {
        Self {
            process_type,
            command: None,
            instances: None,
            memory_mb: None,
            disk_mb: None,
            log_bytes_per_second: None,
            health: HealthChange::default(),
        }
    }

    /// `limits` with what is said here.
    #[must_use]
    pub fn limits(&self, limits: Limits) -> Limits {
        Limits {
            memory_mb: self.memory_mb.unwrap_or(limits.memory_mb),
            disk_mb: self.disk_mb.unwrap_or(limits.disk_mb),
            log_bytes_per_second: self.log_bytes_per_second.unwrap_or(limits.log_bytes_per_second),
            ..limits
        }
    }
}

impl HealthChange {
    /// `check` with what is said here. An endpoint alone does not make a port check an HTTP check.
    #[must_use]
    pub fn apply(&self, check: &HealthCheck) -> HealthCheck {
        let known = match &check.probe {
            Probe::Http { endpoint } => endpoint.clone(),
            Probe::Port | Probe::Process => "/".to_owned(),
        };
        let endpoint = self.endpoint.clone().unwrap_or(known);
        let probe = match (self.kind, &check.probe) {
            (Some(HealthKind::Port), _) => Probe::Port,
            (Some(HealthKind::Process), _) => Probe::Process,
            (Some(HealthKind::Http), _) | (None, Probe::Http { .. }) => Probe::Http { endpoint },
            (None, other) => other.clone(),
        };
        HealthCheck {
            probe,
            start_timeout_seconds: self.start_timeout_seconds.unwrap_or(check.start_timeout_seconds),
            invocation_timeout_seconds: self
                .invocation_timeout_seconds
                .unwrap_or(check.invocation_timeout_seconds),
            interval_seconds: self.interval_seconds.unwrap_or(check.interval_seconds),
        }
    }
}

/// Something wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Problem {
    /// Such as `applications[0].memory`.
    pub place: String,
    pub message: String,
    /// What to do, where that is known.
    pub hint: Option<String>,
}

/// Everything wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "; " };
            write!(f, "{comma}{problem}")?;
            if let Some(hint) = &problem.hint {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
