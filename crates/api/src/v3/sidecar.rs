//! Sidecars: what runs beside the processes of an app.

use super::ToOne;
use model::Timestamp;
use model::id::{AppId, SidecarId};
use model::sidecar::Origin;
use serde::{Deserialize, Serialize};

/// A sidecar.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sidecar {
    pub guid: SidecarId,
    pub name: String,
    pub command: String,
    pub process_types: Vec<String>,
    /// Of the memory of the processes that it runs beside.
    pub memory_in_mb: Option<u32>,
    pub origin: Origin,
    pub relationships: SidecarRelationships,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
}

/// What a sidecar belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SidecarRelationships {
    pub app: ToOne<AppId>,
}

/// A sidecar of a revision.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevisionSidecar {
    pub name: String,
    pub command: String,
    pub process_types: Vec<String>,
    pub memory_in_mb: Option<u32>,
}
