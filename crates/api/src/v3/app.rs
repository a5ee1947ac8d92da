//! Apps and their environment.

use super::{Lifecycle, Links, Metadata, ToOne};
use model::Timestamp;
use model::id::{AppId, DropletId, SpaceId};
use model::resource::AppState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An app.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct App {
    pub guid: AppId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    pub name: String,
    pub state: AppState,
    pub lifecycle: Lifecycle,
    pub relationships: AppRelationships,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub links: Links,
}

/// What an app belongs to and runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppRelationships {
    pub space: ToOne<SpaceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_droplet: Option<ToOne<DropletId>>,
}

/// `POST /v3/apps`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppCreate {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_variables: Option<BTreeMap<String, Option<EnvValue>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    pub relationships: AppRelationships,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// `PATCH /v3/apps/{guid}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// A value as clients send it: text, number or truth; it is kept as text. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct EnvValue(pub serde_json::Value);

impl std::fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl EnvValue {
    /// As an environment variable. `None` for lists and maps.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match &self.0 {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            serde_json::Value::Bool(truth) => Some(truth.to_string()),
            serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
        }
    }
}

impl From<&str> for EnvValue {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// `PATCH /v3/apps/{guid}/environment_variables`: `null` removes a variable.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnvPatch {
    pub var: BTreeMap<String, Option<EnvValue>>,
}

/// `GET /v3/apps/{guid}/environment_variables`, and the answer to [`EnvPatch`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnvVariables {
    pub var: BTreeMap<String, EnvValue>,
    #[serde(default)]
    pub links: Links,
}

/// `GET /v3/apps/{guid}/env`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppEnv {
    #[serde(default)]
    pub staging_env_json: BTreeMap<String, EnvValue>,
    #[serde(default)]
    pub running_env_json: BTreeMap<String, EnvValue>,
    #[serde(default)]
    pub environment_variables: BTreeMap<String, EnvValue>,
    #[serde(default)]
    pub system_env_json: serde_json::Value,
    #[serde(default)]
    pub application_env_json: serde_json::Value,
}

/// A feature of an app.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppFeature {
    pub name: String,
    pub description: String,
    pub enabled: bool,
}

/// Body of `PATCH` on a feature of an app or a space.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FeatureUpdate {
    pub enabled: bool,
}

/// `GET` and `PATCH /v3/apps/{guid}/relationships/current_droplet`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CurrentDroplet {
    #[serde(flatten)]
    pub droplet: ToOne<DropletId>,
    #[serde(default)]
    pub links: Links,
}
