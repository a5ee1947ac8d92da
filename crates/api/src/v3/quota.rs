//! Quotas of organisations and of spaces, and what is in use.

use super::{Guid, Links, ToMany};
use model::Timestamp;
use model::id::{OrgId, QuotaId, SpaceId};
use model::quota::QuotaLimits;
use serde::{Deserialize, Serialize};

/// A quota of organisations.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OrganizationQuota {
    pub guid: QuotaId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    pub name: String,
    pub apps: AppsQuota,
    pub services: ServicesQuota,
    pub routes: RoutesQuota,
    pub domains: DomainsQuota,
    pub relationships: OrganizationQuotaRelationships,
    #[serde(default)]
    pub links: Links,
}

/// A quota of spaces.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SpaceQuota {
    pub guid: QuotaId,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub created_at: Timestamp,
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub updated_at: Timestamp,
    pub name: String,
    pub apps: AppsQuota,
    pub services: ServicesQuota,
    pub routes: RoutesQuota,
    pub relationships: SpaceQuotaRelationships,
    #[serde(default)]
    pub links: Links,
}

/// What apps may use; `null` is no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppsQuota {
    pub total_memory_in_mb: Option<u64>,
    pub per_process_memory_in_mb: Option<u64>,
    pub log_rate_limit_in_bytes_per_second: Option<u64>,
    pub total_instances: Option<u64>,
    pub per_app_tasks: Option<u64>,
}

/// What of services may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServicesQuota {
    pub paid_services_allowed: bool,
    pub total_service_instances: Option<u64>,
    pub total_service_keys: Option<u64>,
}

/// How many routes there may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RoutesQuota {
    pub total_routes: Option<u64>,
    pub total_reserved_ports: Option<u64>,
}

/// How many private domains there may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DomainsQuota {
    pub total_domains: Option<u64>,
}

/// Whom a quota of organisations binds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OrganizationQuotaRelationships {
    pub organizations: ToMany<OrgId>,
}

/// Where a quota of spaces belongs, and whom it binds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SpaceQuotaRelationships {
    pub organization: super::ToOne<OrgId>,
    #[serde(default = "nobody")]
    pub spaces: ToMany<SpaceId>,
}

fn nobody() -> ToMany<SpaceId> {
    ToMany { data: Vec::new() }
}

/// `POST` and `PATCH` of a quota: what is absent stays, `null` takes a bound away.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QuotaWrite {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub apps: AppsChange,
    #[serde(default)]
    pub services: ServicesChange,
    #[serde(default)]
    pub routes: RoutesChange,
    #[serde(default)]
    pub domains: DomainsChange,
    #[serde(default)]
    pub relationships: QuotaRelationshipsWrite,
}

/// Whom a new quota binds, and where one of spaces belongs.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QuotaRelationshipsWrite {
    #[serde(default)]
    pub organization: Option<Data<Guid<OrgId>>>,
    #[serde(default)]
    pub organizations: Option<ToMany<OrgId>>,
    #[serde(default)]
    pub spaces: Option<ToMany<SpaceId>>,
}

/// Something within `data`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Data<T> {
    pub data: T,
}

macro_rules! changes {
    ($($(#[$doc:meta])* $name:ident { $($field:ident),+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct $name {
            $(
                /// `None`: nothing is said; `Some(None)`: no bound.
                #[serde(default, deserialize_with = "said")]
                pub $field: Option<Option<u64>>,
            )+
        }
    )+};
}

changes! {
    /// Changes of what apps may use.
    AppsChange { total_memory_in_mb, per_process_memory_in_mb, log_rate_limit_in_bytes_per_second, total_instances, per_app_tasks }
    /// Changes of how many routes there may be.
    RoutesChange { total_routes, total_reserved_ports }
    /// Changes of how many domains there may be.
    DomainsChange { total_domains }
}

/// Changes of what of services may be used.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServicesChange {
    #[serde(default)]
    pub paid_services_allowed: Option<bool>,
    #[serde(default, deserialize_with = "said")]
    pub total_service_instances: Option<Option<u64>>,
    #[serde(default, deserialize_with = "said")]
    pub total_service_keys: Option<Option<u64>>,
}

fn said<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    let said = Option::<u64>::deserialize(deserializer)?;
    // What no database counts to.
    if said.is_some_and(|bound| i64::try_from(bound).is_err()) {
        return Err(serde::de::Error::custom(format!("a bound is at most {}", i64::MAX)));
    }
    Ok(Some(said))
}

impl QuotaWrite {
    /// The bounds with what is said here.
    pub fn apply(&self, limits: &mut QuotaLimits) {
        let set = |to: &mut Option<u64>, from: Option<Option<u64>>| {
            if let Some(said) = from {
                *to = said;
            }
        };
        set(&mut limits.total_memory_mb, self.apps.total_memory_in_mb);
        set(&mut limits.instance_memory_mb, self.apps.per_process_memory_in_mb);
        set(
            &mut limits.log_bytes_per_second,
            self.apps.log_rate_limit_in_bytes_per_second,
        );
        set(&mut limits.total_instances, self.apps.total_instances);
        set(&mut limits.app_tasks, self.apps.per_app_tasks);
        set(
            &mut limits.total_service_instances,
            self.services.total_service_instances,
        );
        set(&mut limits.total_service_keys, self.services.total_service_keys);
        set(&mut limits.total_routes, self.routes.total_routes);
        set(&mut limits.total_reserved_ports, self.routes.total_reserved_ports);
        set(&mut limits.total_domains, self.domains.total_domains);
        if let Some(paid) = self.services.paid_services_allowed {
            limits.paid_services = paid;
        }
    }
}

impl From<&QuotaLimits> for AppsQuota {
    fn from(limits: &QuotaLimits) -> Self {
        Self {
            total_memory_in_mb: limits.total_memory_mb,
            per_process_memory_in_mb: limits.instance_memory_mb,
            log_rate_limit_in_bytes_per_second: limits.log_bytes_per_second,
            total_instances: limits.total_instances,
            per_app_tasks: limits.app_tasks,
        }
    }
}

impl From<&QuotaLimits> for ServicesQuota {
    fn from(limits: &QuotaLimits) -> Self {
        Self {
            paid_services_allowed: limits.paid_services,
            total_service_instances: limits.total_service_instances,
            total_service_keys: limits.total_service_keys,
        }
    }
}

impl From<&QuotaLimits> for RoutesQuota {
    fn from(limits: &QuotaLimits) -> Self {
        Self {
            total_routes: limits.total_routes,
            total_reserved_ports: limits.total_reserved_ports,
        }
    }
}
