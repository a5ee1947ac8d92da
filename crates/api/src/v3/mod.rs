//! The public API: Cloud Foundry v3's resources as they travel, both ways. Field names are CF's.
//!
//! Types named after a resource are answers, `*Create`, `*Update` and the like are bodies of requests. Readers pass
//! over fields that they do not know. What calls mean is in CF's documentation; what of it is served, in [`ROUTES`].

pub mod app;
pub mod build;
pub mod deployment;
pub mod event;
pub mod job;
pub mod lists;
pub mod logcache;
pub mod oauth;
#[cfg(feature = "schema")]
pub mod operations;
pub mod package;
pub mod process;
pub mod quota;
pub mod revision;
pub mod root;
pub mod route;
mod routes;
pub mod security_group;
pub mod service;
pub mod sidecar;
pub mod task;
pub mod tenant;

pub use app::*;
pub use build::*;
pub use deployment::*;
pub use event::*;
pub use job::*;
pub use package::*;
pub use process::*;
pub use quota::*;
pub use revision::*;
pub use root::*;
pub use route::*;
pub use routes::ROUTES;
pub use security_group::*;
pub use service::*;
pub use sidecar::*;
pub use task::*;
pub use tenant::*;

pub use model::resource::Metadata;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most entries of one page.
pub const MAX_PER_PAGE: u32 = 5000;
/// Entries of a page where the client says nothing.
pub const DEFAULT_PER_PAGE: u32 = 50;
/// The version of CF's API that is spoken.
pub const CF_API_VERSION: &str = "3.211.0";

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "{T}List"))]
pub struct List<T> {
    #[serde(default)]
    pub pagination: Pagination,
    pub resources: Vec<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub included: Option<serde_json::Value>,
}

/// One resource, with what was asked to come along.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "{T}Shown"))]
pub struct Shown<T> {
    #[serde(flatten)]
    pub resource: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub included: Option<serde_json::Value>,
}

/// Where a page is in its list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pagination {
    #[serde(default)]
    pub total_results: u64,
    #[serde(default)]
    pub total_pages: u64,
    #[serde(default)]
    pub first: Option<Link>,
    #[serde(default)]
    pub last: Option<Link>,
    #[serde(default)]
    pub next: Option<Link>,
    #[serde(default)]
    pub previous: Option<Link>,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Link {
    /// Absolute.
    pub href: String,
    /// Where it is not GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// Links of a resource, by name.
pub type Links = BTreeMap<String, Link>;

/// The id of another resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Guid_{Id}"))]
pub struct Guid<Id> {
    pub guid: Id,
}

/// A relationship to one resource, or to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ToOne_{Id}"))]
pub struct ToOne<Id> {
    pub data: Option<Guid<Id>>,
}

impl<Id> Default for ToOne<Id> {
    fn default() -> Self {
        Self { data: None }
    }
}

impl<Id> ToOne<Id> {
    /// To this one.
    pub const fn to(guid: Id) -> Self {
        Self {
            data: Some(Guid { guid }),
        }
    }

    /// The id, where there is one.
    pub fn id(self) -> Option<Id> {
        self.data.map(|data| data.guid)
    }
}

/// Lifecycle of an app or a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lifecycle {
    /// `buildpack`, `cnb` or `docker`.
    #[serde(rename = "type", default = "buildpack")]
    pub kind: String,
    #[serde(default)]
    pub data: LifecycleData,
}

fn buildpack() -> String {
    "buildpack".to_owned()
}

/// Buildpacks and stack; nothing of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LifecycleData {
    /// Empty or absent to detect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildpacks: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}
