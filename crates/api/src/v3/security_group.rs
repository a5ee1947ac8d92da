//! Security groups.

use super::{Links, ToMany};
use model::Timestamp;
use model::id::{SecurityGroupId, SpaceId};
use model::security::{SecurityRule, Uses};
use serde::{Deserialize, Serialize};

/// A security group.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecurityGroup {
    pub guid: SecurityGroupId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    pub name: String,
    pub rules: Vec<SecurityRule>,
    pub globally_enabled: Uses,
    pub relationships: SecurityGroupRelationships,
    #[serde(default)]
    pub links: Links,
}

/// The spaces that a security group is bound to, as far as the caller may see them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecurityGroupRelationships {
    pub running_spaces: ToMany<SpaceId>,
    pub staging_spaces: ToMany<SpaceId>,
}

/// `/v3/security_groups/{guid}/relationships/…`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecurityGroupSpaces {
    pub data: Vec<super::Guid<SpaceId>>,
    #[serde(default)]
    pub links: Links,
}
