//! Tasks: one-off runs of a droplet.

use super::{Guid, Links, Metadata, ToOne};
use model::Timestamp;
use model::id::{AppId, DropletId, ProcessId, TaskId};
use model::resource::TaskState;
use serde::{Deserialize, Serialize};

/// A task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Task {
    pub guid: TaskId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    /// Counted per app, from 1.
    pub sequence_id: u32,
    pub name: String,
    /// Left out for those who may not see an app's secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    pub state: TaskState,
    pub memory_in_mb: u32,
    pub disk_in_mb: u32,
    /// `-1`: no limit of its own.
    pub log_rate_limit_in_bytes_per_second: i64,
    pub result: TaskResult,
    pub droplet_guid: DropletId,
    pub relationships: TaskRelationships,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub links: Links,
}

/// How a task ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TaskResult {
    /// Why it failed; `None` before its end and after success.
    pub failure_reason: Option<String>,
}

/// What a task belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TaskRelationships {
    pub app: ToOne<AppId>,
}

/// `POST /v3/apps/{guid}/tasks`. A command, or a process whose command is taken.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TaskCreate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_in_mb: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_in_mb: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_rate_limit_in_bytes_per_second: Option<i64>,
    /// Another droplet of the app than its current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub droplet_guid: Option<DropletId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TaskTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// Where a task's command comes from if it names none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TaskTemplate {
    pub process: Guid<ProcessId>,
}
