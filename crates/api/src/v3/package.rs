//! Packages, and asking which files are known.

use super::{Links, Metadata, ToOne};
use model::id::{AppId, PackageId};
use model::resource::PackageState;
use model::{Secret, Timestamp};
use serde::{Deserialize, Serialize};

/// A package.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Package {
    pub guid: PackageId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    #[serde(rename = "type")]
    pub kind: String,
    pub data: PackageData,
    pub state: PackageState,
    pub relationships: PackageRelationships,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub links: Links,
}

/// What a package holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PackageData {
    #[serde(default)]
    pub error: Option<String>,
    /// Names the tree, whatever archive it came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Of type `docker`: the image's reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Name at the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Never shown: [`REDACTED`] where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// Stands for a password that there is.
pub const REDACTED: &str = "***";

/// A checksum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Checksum {
    /// `sha256`; in [`Resource`] CF means `sha1`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Hexadecimal.
    pub value: Option<String>,
}

/// What a package belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PackageRelationships {
    pub app: ToOne<AppId>,
}

/// `POST /v3/packages`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PackageCreate {
    /// `bits` or `docker`; absent where it is a copy of another.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Of type `docker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PackageData>,
    pub relationships: PackageRelationships,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// `PATCH /v3/packages/{guid}`: other credentials for the image, or metadata.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PackageUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// `POST /v3/resource_matches`, and its answer: those that need not be uploaded. Also the field `resources` of
/// `POST /v3/packages/{guid}/upload`, as a list of [`Resource`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResourceMatches {
    pub resources: Vec<Resource>,
}

/// A file by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Resource {
    /// SHA-1, 40 hexadecimal digits.
    pub checksum: Checksum,
    pub size_in_bytes: u64,
    #[serde(default)]
    pub path: String,
    /// Permission bits as octal digits, such as `644`.
    #[serde(default)]
    pub mode: String,
}
