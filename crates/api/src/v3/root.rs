//! The root documents.

use super::Link;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Root {
    pub links: BTreeMap<String, Option<RootLink>>,
}

/// A link to a part of the platform.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RootLink {
    pub href: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<BTreeMap<String, String>>,
}

/// `GET /v3`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct V3Root {
    pub links: BTreeMap<String, Link>,
}

/// `GET /v3/info`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Info {
    pub name: String,
    pub build: String,
    pub version: u32,
    pub description: String,
    pub cli_version: CliVersion,
    #[serde(default)]
    pub custom: serde_json::Value,
    #[serde(default)]
    pub links: super::Links,
}

/// Versions of CF's command line that fit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CliVersion {
    pub minimum: String,
    pub recommended: String,
}
