//! Deployments: rollouts.

use super::{Guid, Links, Metadata, ToOne};
use model::Timestamp;
use model::id::{AppId, DeploymentId, DropletId, ProcessId, RevisionId};
use serde::{Deserialize, Serialize};

/// A deployment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Deployment {
    pub guid: DeploymentId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    pub status: DeploymentStatus,
    /// `rolling` or `canary`.
    pub strategy: String,
    pub options: DeploymentOptions,
    pub droplet: Guid<DropletId>,
    #[serde(default)]
    pub previous_droplet: Option<Guid<DropletId>>,
    /// What it deploys, as the app's revisions list it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<DeploymentRevision>,
    #[serde(default)]
    pub new_processes: Vec<DeploymentProcess>,
    pub relationships: DeploymentRelationships,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub links: Links,
}

/// How far a deployment is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentStatus {
    /// `ACTIVE` or `FINALIZED`.
    pub value: String,
    /// `DEPLOYING`, `PAUSED`, `CANCELING`; `DEPLOYED`, `CANCELED`, `SUPERSEDED`.
    pub reason: String,
    pub details: DeploymentDetails,
    /// How far a canary is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStatus>,
}

/// How far a canary is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CanaryStatus {
    pub steps: CanaryProgress,
}

/// The step that a canary is at.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CanaryProgress {
    /// From 1.
    pub current: u32,
    pub total: u32,
}

/// The revision that a deployment deploys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentRevision {
    pub guid: RevisionId,
    pub version: u32,
}

/// More about the status.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentDetails {
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub last_status_change: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub last_successful_healthcheck: Timestamp,
    /// Why the platform cancelled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Options of a deployment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentOptions {
    /// New instances at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// Web instances to end up with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_instances: Option<u32>,
    /// Where a canary stops for a look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryOptions>,
}

/// The steps of a canary.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CanaryOptions {
    /// Absent or empty: one step, of one instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<CanaryStep>>,
}

/// A step of a canary.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CanaryStep {
    /// Percent of the instances, 1 to 100.
    pub instance_weight: i64,
}

/// A process that a deployment changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentProcess {
    pub guid: ProcessId,
    #[serde(rename = "type")]
    pub process_type: String,
}

/// What a deployment belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentRelationships {
    pub app: ToOne<AppId>,
}

/// `POST /v3/deployments`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentCreate {
    /// Absent: the app's current droplet, restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub droplet: Option<Guid<DropletId>>,
    /// Instead of a droplet: what the app ran once, with environment and commands of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Guid<RevisionId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<DeploymentOptions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    pub relationships: DeploymentRelationships,
}
