//! What users provide to their apps under a name: service instances, and their bindings.

use super::Metadata;
use crate::Timestamp;
use crate::id::{AppId, BindingId, ServiceInstanceId, SpaceId};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};

/// Credentials, a log drain or a route service that a user provides under a name.
#[derive(Debug, Clone)]
pub struct ServiceInstance {
    pub id: ServiceInstanceId,
    pub space: SpaceId,
    pub name: String,
    pub secrets: ServiceSecrets,
    /// Words that apps find it by.
    pub tags: Vec<String>,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What of a service instance is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceSecrets {
    /// A JSON object.
    pub credentials: Secret,
    /// Where logs of bound apps go; may have a password in it.
    pub syslog_drain_url: Option<Secret>,
    /// Where requests to bound routes go first.
    pub route_service_url: Option<Secret>,
}

/// An app that gets the credentials of a service instance.
#[derive(Debug, Clone)]
pub struct Binding {
    pub id: BindingId,
    pub instance: ServiceInstanceId,
    pub app: AppId,
    /// The name that the app sees instead of the instance's.
    pub name: Option<String>,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}
