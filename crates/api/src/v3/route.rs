//! Domains, routes and destinations.

use super::{Guid, Links, Metadata, ToOne};
use model::Timestamp;
use model::id::{AppId, DestinationId, DomainId, OrgId, RouteId, SpaceId};
use serde::{Deserialize, Serialize};

/// A domain.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Domain {
    pub guid: DomainId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    pub name: String,
    pub internal: bool,
    #[serde(default)]
    pub router_group: Option<serde_json::Value>,
    pub supported_protocols: Vec<String>,
    pub relationships: DomainRelationships,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub links: Links,
}

/// Whose a domain is; shared ones are nobody's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DomainRelationships {
    pub organization: ToOne<OrgId>,
}

/// `POST /v3/domains`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DomainCreate {
    pub name: String,
    #[serde(default)]
    pub internal: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relationships: Option<DomainRelationships>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// `PATCH /v3/routes/{guid}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RouteUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// `loadbalancing`, `hash_header`, `hash_balance`, as text; null removes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A route.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Route {
    pub guid: RouteId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    pub protocol: String,
    pub host: String,
    pub path: String,
    pub port: Option<u16>,
    /// Host name and path, without scheme.
    pub url: String,
    pub destinations: Vec<Destination>,
    #[serde(default)]
    pub options: serde_json::Value,
    pub relationships: RouteRelationships,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub links: Links,
}

/// What a route belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RouteRelationships {
    pub space: ToOne<SpaceId>,
    pub domain: ToOne<DomainId>,
}

/// `POST /v3/routes`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RouteCreate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `loadbalancing`, `hash_header`, `hash_balance`, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<serde_json::Map<String, serde_json::Value>>,
    pub relationships: RouteRelationships,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// Where a route leads.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Destination {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<DestinationId>,
    pub app: DestinationApp,
    #[serde(default)]
    pub weight: Option<u32>,
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub protocol: Option<String>,
}

/// The app that a route leads to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DestinationApp {
    pub guid: AppId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<DestinationProcess>,
}

/// The process that a route leads to; `web` where nothing is said.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DestinationProcess {
    #[serde(rename = "type")]
    pub process_type: String,
}

/// `GET`, `POST` and `PATCH /v3/routes/{guid}/destinations`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Destinations {
    pub destinations: Vec<Destination>,
    #[serde(default)]
    pub links: Links,
}

/// `PATCH /v3/routes/{guid}/destinations/{destination}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DestinationUpdate {
    /// `http1` or `http2`; null is the default.
    #[serde(default)]
    pub protocol: Option<String>,
}

/// `GET /v3/domains/{guid}/route_reservations`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RouteReservation {
    pub matching_route: bool,
}

/// The app's relation as other resources name it.
pub type AppGuid = Guid<AppId>;
