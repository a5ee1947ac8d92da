//! Processes, their scale and their instances.

use super::{Links, Metadata, ToOne};
use model::Timestamp;
use model::id::{AppId, ProcessId, VersionId};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Process {
    pub guid: ProcessId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    #[serde(rename = "type")]
    pub process_type: String,
    /// `None` in lists, where nobody may read it.
    pub command: Option<String>,
    pub instances: u32,
    pub memory_in_mb: u32,
    pub disk_in_mb: u32,
    /// -1 for the cell's own bound.
    pub log_rate_limit_in_bytes_per_second: i64,
    pub health_check: HealthCheck,
    #[serde(default)]
    pub readiness_health_check: Option<HealthCheck>,
    pub relationships: ProcessRelationships,
    /// With `embed=process_instances`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_instances: Option<Vec<ProcessInstance>>,
    /// The version that its instances are to run.
    #[serde(default)]
    pub version: Option<VersionId>,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub links: Links,
}

/// What a process belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProcessRelationships {
    pub app: ToOne<AppId>,
}

/// An instance in short.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProcessInstance {
    pub index: u32,
    pub state: InstanceState,
    /// Seconds in this state.
    pub since: i64,
}

/// State of an instance, as CF names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum InstanceState {
    Starting,
    Running,
    Crashed,
    Down,
    Stopping,
}

/// A health check as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthCheck {
    /// `port`, `http` or `process`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default)]
    pub data: HealthCheckData,
}

/// Times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthCheckData {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_timeout: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

impl From<&model::health::HealthCheck> for HealthCheck {
    fn from(check: &model::health::HealthCheck) -> Self {
        use model::health::Probe;
        let (kind, endpoint) = match &check.probe {
            Probe::Port => ("port", None),
            Probe::Process => ("process", None),
            Probe::Http { endpoint } => ("http", Some(endpoint.clone())),
        };
        Self {
            kind: Some(kind.to_owned()),
            data: HealthCheckData {
                timeout: Some(check.start_timeout_seconds),
                invocation_timeout: Some(check.invocation_timeout_seconds),
                interval: Some(check.interval_seconds),
                endpoint,
            },
        }
    }
}

/// `PATCH /v3/processes/{guid}`. Takes effect at the next restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProcessUpdate {
    /// `null` goes back to the droplet's own command.
    #[serde(
        default,
        serialize_with = "double::serialize",
        deserialize_with = "double::deserialize",
        skip_serializing_if = "Option::is_none"
    )]
    pub command: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

pub(super) mod double {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<Option<String>>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().and_then(Option::as_ref).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
        Option::deserialize(deserializer).map(Some)
    }
}

/// `POST .../actions/scale`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Scale {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_in_mb: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_in_mb: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_rate_limit_in_bytes_per_second: Option<i64>,
}

/// `GET /v3/processes/{guid}/stats`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stats {
    pub resources: Vec<InstanceStats>,
}

/// An instance in full.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstanceStats {
    #[serde(rename = "type")]
    pub process_type: String,
    pub index: u32,
    pub state: InstanceState,
    #[serde(default)]
    pub routable: Option<bool>,
    /// Absent where nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<InstanceUsage>,
    /// Where it runs: the cell's name.
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub instance_internal_ip: Option<Ipv4Addr>,
    /// Seconds since it came into this state.
    #[serde(default)]
    pub uptime: Option<i64>,
    /// Bytes.
    #[serde(default)]
    pub mem_quota: Option<u64>,
    /// Bytes.
    #[serde(default)]
    pub disk_quota: Option<u64>,
    #[serde(default)]
    pub log_rate_limit: Option<i64>,
    #[serde(default)]
    pub fds_quota: Option<u64>,
    #[serde(default)]
    pub isolation_segment: Option<String>,
    /// Why it does not run, in words.
    #[serde(default)]
    pub details: Option<String>,
    /// Ours: the version it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    /// Ours: the work that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_guid: Option<model::id::WorkId>,
}

/// What an instance uses.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstanceUsage {
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub time: Timestamp,
    /// Fraction of one core.
    pub cpu: f64,
    #[serde(default)]
    pub cpu_entitlement: Option<f64>,
    /// Bytes.
    pub mem: u64,
    /// Bytes.
    pub disk: u64,
    /// Bytes per second.
    pub log_rate: u64,
}
