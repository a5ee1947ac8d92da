//! Service instances that users provide, and their bindings to apps.

use super::{Guid, Links, Metadata, ToOne};
use model::Timestamp;
use model::id::{AppId, BindingId, ServiceInstanceId, SpaceId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A service instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceInstance {
    pub guid: ServiceInstanceId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    pub name: String,
    /// `user-provided`.
    #[serde(rename = "type")]
    pub kind: String,
    pub tags: Vec<String>,
    pub syslog_drain_url: Option<String>,
    pub route_service_url: Option<String>,
    pub last_operation: LastOperation,
    pub relationships: ServiceInstanceRelationships,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub links: Links,
}

/// How the last change went. What users provide changes at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LastOperation {
    /// `create` or `update`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `succeeded`.
    pub state: String,
    pub description: String,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
}

/// What a service instance belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceInstanceRelationships {
    pub space: ToOne<SpaceId>,
}

/// `POST` and `PATCH /v3/service_instances`. `null` takes away what can be absent.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceInstanceWrite {
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub relationships: Option<ServiceInstanceRelationships>,
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    #[serde(default)]
    pub credentials: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "super::process::double::deserialize")]
    pub syslog_drain_url: Option<Option<String>>,
    #[serde(default, deserialize_with = "super::process::double::deserialize")]
    pub route_service_url: Option<Option<String>>,
    #[serde(default)]
    pub metadata: Option<Metadata>,
}

/// A binding of an app to a service instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceBinding {
    pub guid: BindingId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    pub name: Option<String>,
    /// `app`.
    #[serde(rename = "type")]
    pub kind: String,
    pub last_operation: LastOperation,
    pub relationships: ServiceBindingRelationships,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub links: Links,
}

/// Both ends of a binding.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceBindingRelationships {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<ToOne<AppId>>,
    pub service_instance: ToOne<ServiceInstanceId>,
}

/// `POST /v3/service_credential_bindings`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceBindingCreate {
    /// `app`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub name: Option<String>,
    pub relationships: ServiceBindingRelationships,
    #[serde(default)]
    pub metadata: Option<Metadata>,
}

/// `PATCH /v3/service_credential_bindings/{guid}`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MetadataUpdate {
    #[serde(default)]
    pub metadata: Option<Metadata>,
}

/// `GET .../details`: what the app gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceBindingDetails {
    pub credentials: Value,
    pub syslog_drain_url: Option<String>,
    pub volume_mounts: Vec<Value>,
}

/// Relationships to many resources.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ToMany_{Id}"))]
pub struct ToMany<Id> {
    pub data: Vec<Guid<Id>>,
}
