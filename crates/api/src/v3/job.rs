//! Jobs: what `202 Accepted` points to.

use super::Links;
use crate::error::ApiError;
use model::Timestamp;
use model::id::JobId;
use model::resource::JobState;
use serde::{Deserialize, Serialize};

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Job {
    pub guid: JobId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    pub operation: String,
    pub state: JobState,
    #[serde(default)]
    pub errors: Vec<ApiError>,
    #[serde(default)]
    pub warnings: Vec<JobWarning>,
    #[serde(default)]
    pub links: Links,
}

/// A warning of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobWarning {
    pub detail: String,
}
