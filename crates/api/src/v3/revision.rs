//! Revisions: what an app ran.

use super::{Guid, Links, Metadata, RevisionSidecar, ToOne};
use model::Timestamp;
use model::id::{AppId, DropletId, RevisionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A revision.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Revision {
    pub guid: RevisionId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    /// Counted per app, from 1.
    pub version: u32,
    pub droplet: Guid<DropletId>,
    /// By process type.
    pub processes: BTreeMap<String, RevisionProcess>,
    #[serde(default)]
    pub sidecars: Vec<RevisionSidecar>,
    pub description: String,
    /// Whether the droplet is still kept.
    pub deployable: bool,
    pub relationships: RevisionRelationships,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub links: Links,
}

/// What a revision says of a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevisionProcess {
    /// The app's own; `None` is the droplet's.
    pub command: Option<String>,
}

/// What a revision belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevisionRelationships {
    pub app: ToOne<AppId>,
}
