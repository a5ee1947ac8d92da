//! Audit events.

use super::{Guid, Links};
use model::Timestamp;
use model::id::{EventId, OrgId, SpaceId};
use model::resource::{Actor, Target};
use serde::{Deserialize, Serialize};

/// An audit event.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditEvent {
    pub guid: EventId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    #[serde(rename = "type")]
    pub kind: String,
    pub actor: Actor,
    pub target: Target,
    pub data: serde_json::Value,
    pub space: Option<Guid<SpaceId>>,
    pub organization: Option<Guid<OrgId>>,
    /// Ours: its place among all events.
    #[serde(default)]
    pub sequence: i64,
    #[serde(default)]
    pub links: Links,
}
