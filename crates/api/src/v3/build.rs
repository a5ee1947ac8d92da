//! Builds and droplets.

use super::{Guid, Lifecycle, Links, Metadata, ToOne};
use model::Timestamp;
use model::id::{AppId, BuildId, DropletId, PackageId, UserId};
use model::resource::BuildState;
use model::staging::BuildFailure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A build.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Build {
    pub guid: BuildId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    pub state: BuildState,
    pub staging_memory_in_mb: u32,
    pub staging_disk_in_mb: u32,
    /// CF's one line: `<class> - <title>`.
    pub error: Option<String>,
    /// Ours: class, cause and remedy of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<BuildFailure>,
    /// Ours: an earlier droplet of the same input was taken, nothing was staged.
    #[serde(default)]
    pub reused: bool,
    pub lifecycle: Lifecycle,
    pub package: Guid<PackageId>,
    pub droplet: Option<Guid<DropletId>>,
    pub created_by: CreatedBy,
    pub relationships: BuildRelationships,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub links: Links,
}

/// Who made something.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreatedBy {
    pub guid: UserId,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub email: String,
}

/// What a build belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BuildRelationships {
    pub app: ToOne<AppId>,
}

/// `POST /v3/builds`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BuildCreate {
    pub package: Guid<PackageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging_memory_in_mb: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging_disk_in_mb: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// A droplet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Droplet {
    pub guid: DropletId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    /// `STAGED`, or `AWAITING_UPLOAD` of one that was made to be uploaded.
    pub state: String,
    pub error: Option<String>,
    pub lifecycle: Lifecycle,
    pub checksum: super::Checksum,
    pub buildpacks: Vec<DropletBuildpack>,
    /// `null` of an image, which needs none.
    pub stack: Option<String>,
    /// The image, pinned by its digest.
    #[serde(default)]
    pub image: Option<String>,
    /// What an image says of how it is run, as JSON; else empty.
    pub execution_metadata: String,
    /// Commands by process type.
    pub process_types: BTreeMap<String, String>,
    /// Ours: what it consists of.
    #[serde(default)]
    pub layers: Vec<DropletLayer>,
    pub relationships: BuildRelationships,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub links: Links,
}

/// `POST /v3/droplets`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DropletCreate {
    pub relationships: BuildRelationships,
    /// Commands by process type, which replace what the bits say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_types: Option<BTreeMap<String, String>>,
}

/// A layer of a droplet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DropletLayer {
    pub name: String,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub digest: model::Digest,
    pub size_bytes: u64,
}

/// A buildpack that took part.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DropletBuildpack {
    pub name: String,
    #[serde(default)]
    pub detect_output: Option<String>,
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub buildpack_name: Option<String>,
}
