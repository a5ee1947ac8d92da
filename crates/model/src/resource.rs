//! What users and operators create: the desired state. Field names are those of the CF v3 API where it has them.

mod rollout;
mod service;

pub use crate::image::AppLifecycle;
pub use rollout::{Deployment, DeploymentState, Revision};
pub use service::{Binding, ServiceInstance, ServiceSecrets};

pub use crate::machine::Cell;

use crate::Timestamp;
use crate::digest::Digest;
use crate::health::HealthCheck;
use crate::id::{
    AppId, BuildId, BuildpackId, CellId, DestinationId, DomainId, DropletId, EventId, JobId, OrgId, PackageId,
    ProcessId, QuotaId, RouteId, SpaceId, StackId, TaskId, UserId, VersionId,
};
use crate::image::{ImageConfig, RegistryImage};
use crate::limits::Limits;
use crate::name::{AppName, DomainName, Hostname, ProcessType, StackName, TenantName};
use crate::quota::QuotaLimits;
use crate::routing::{Protocol, RouteOptions};
use crate::secret::SecretEnv;
use crate::staging::{BuildFailure, CachedLayer, DropletLayer, ProcessTemplate, SidecarTemplate, UsedBuildpack};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Labels and annotations of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Metadata {
    /// Queryable.
    #[serde(default)]
    pub labels: BTreeMap<String, Option<String>>,
    /// Free text.
    #[serde(default)]
    pub annotations: BTreeMap<String, Option<String>>,
}

/// An organisation.
#[derive(Debug, Clone)]
pub struct Org {
    pub id: OrgId,
    pub name: TenantName,
    pub suspended: bool,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A space.
#[derive(Debug, Clone)]
pub struct Space {
    pub id: SpaceId,
    pub org: OrgId,
    pub name: TenantName,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A user. `admin` is the scope `cloud_controller.admin`.
#[derive(Debug, Clone)]
pub struct User {
    pub id: UserId,
    pub name: String,
    /// Where they sign in: [`User::HERE`], or the name of an identity provider.
    pub origin: String,
    pub admin: bool,
    pub metadata: Metadata,
    pub created_at: Timestamp,
}

/// A role's type, as CF names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RoleType {
    OrganizationUser,
    OrganizationAuditor,
    OrganizationManager,
    OrganizationBillingManager,
    SpaceAuditor,
    SpaceDeveloper,
    SpaceManager,
    SpaceSupporter,
}

/// A role of a user.
#[derive(Debug, Clone)]
pub struct Role {
    pub id: crate::id::RoleId,
    pub user: UserId,
    pub role: RoleType,
    /// Always set: a space role names the space's organisation too.
    pub org: OrgId,
    pub space: Option<SpaceId>,
    pub created_at: Timestamp,
}

/// Whether an app is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum AppState {
    Started,
    Stopped,
}

/// An app.
#[derive(Debug, Clone)]
pub struct App {
    pub id: AppId,
    pub space: SpaceId,
    pub name: AppName,
    pub state: AppState,
    pub lifecycle: AppLifecycle,
    /// Buildpacks that the user chose; empty to detect.
    pub buildpacks: Vec<String>,
    pub stack: StackName,
    pub env: SecretEnv,
    pub droplet: Option<DropletId>,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A process of an app. What its instances run is in its version.
#[derive(Debug, Clone)]
pub struct Process {
    pub id: ProcessId,
    pub app: AppId,
    pub process_type: ProcessType,
    pub instances: u32,
    pub limits: Limits,
    pub health: HealthCheck,
    /// Command that the user set; overrides the droplet's.
    pub command: Option<String>,
    /// The version that instances are to run; `None` until the app was started once.
    pub version: Option<VersionId>,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// An immutable version of a process. Whatever would need new instances makes a new one.
#[derive(Debug, Clone)]
pub struct ProcessVersion {
    pub id: VersionId,
    pub process: ProcessId,
    pub app: AppId,
    pub droplet: DropletId,
    pub command: Option<String>,
    pub env: SecretEnv,
    pub limits: Limits,
    pub health: HealthCheck,
    /// What runs beside its instances.
    pub sidecars: Vec<SidecarTemplate>,
    pub grace_seconds: u32,
    pub created_at: Timestamp,
}

/// State of a package, as CF names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PackageState {
    AwaitingUpload,
    ProcessingUpload,
    Ready,
    Failed,
    Expired,
}

/// Source that was uploaded.
#[derive(Debug, Clone)]
pub struct Package {
    pub id: PackageId,
    pub app: AppId,
    pub state: PackageState,
    /// Digest of its index, once it is ready.
    pub digest: Option<Digest>,
    /// Bytes of its files.
    pub size_bytes: u64,
    pub error: Option<String>,
    /// The image that it is; then it has no bits.
    pub image: Option<RegistryImage>,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// State of a build, as CF names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum BuildState {
    Staging,
    Staged,
    Failed,
}

/// A staging of a package.
#[derive(Debug, Clone)]
pub struct Build {
    pub id: BuildId,
    pub app: AppId,
    pub package: PackageId,
    pub state: BuildState,
    pub error: Option<BuildFailure>,
    pub droplet: Option<DropletId>,
    pub lifecycle: AppLifecycle,
    pub buildpacks: Vec<String>,
    pub stack: StackName,
    pub limits: Limits,
    /// Hash over all that decides the result; an equal earlier build's droplet is taken as it is.
    pub input_digest: Option<Digest>,
    pub created_by: UserId,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What staging made.
#[derive(Debug, Clone)]
pub struct Droplet {
    pub id: DropletId,
    pub app: AppId,
    pub package: Option<PackageId>,
    pub build: Option<BuildId>,
    /// Over the list of its layers.
    pub digest: Digest,
    pub layers: Vec<DropletLayer>,
    pub processes: Vec<ProcessTemplate>,
    pub buildpacks: Vec<UsedBuildpack>,
    /// What its buildpacks want to run beside its processes.
    pub sidecars: Vec<SidecarTemplate>,
    /// How it is run, where it is an image: then its layers are the image's, and need no stack.
    pub image: Option<ImageConfig>,
    pub stack: StackName,
    pub input_digest: Option<Digest>,
    pub metadata: Metadata,
    pub created_at: Timestamp,
}

impl Droplet {
    /// Whether it can be run: one that awaits its upload has no layers.
    #[must_use]
    pub fn is_staged(&self) -> bool {
        !self.layers.is_empty()
    }
}

/// What the next build of an app gets from the last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildCache {
    pub layers: Vec<CachedLayer>,
    pub store: BTreeMap<String, serde_json::Value>,
}

/// A domain. Shared ones belong to no organisation.
#[derive(Debug, Clone)]
pub struct Domain {
    pub id: DomainId,
    pub name: DomainName,
    pub org: Option<OrgId>,
    pub internal: bool,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A route: host and path below a domain.
#[derive(Debug, Clone)]
pub struct Route {
    pub id: RouteId,
    pub space: SpaceId,
    pub domain: DomainId,
    pub domain_name: DomainName,
    /// `None` for the domain itself.
    pub host: Option<Hostname>,
    /// Empty, or beginning with `/`.
    pub path: String,
    pub options: RouteOptions,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Where a route leads.
#[derive(Debug, Clone)]
pub struct Destination {
    pub id: DestinationId,
    pub route: RouteId,
    pub app: AppId,
    pub process_type: ProcessType,
    /// `None` for the app's own port.
    pub port: Option<u16>,
    pub protocol: Protocol,
    pub created_at: Timestamp,
}

/// State of a task, as CF names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskState {
    Pending,
    Running,
    Succeeded,
    Canceling,
    Failed,
}

/// A one-off run of a droplet.
#[derive(Debug, Clone)]
pub struct Task {
    pub id: TaskId,
    pub app: AppId,
    pub sequence: u32,
    pub name: String,
    pub command: String,
    pub droplet: DropletId,
    pub limits: Limits,
    pub state: TaskState,
    pub failure: Option<String>,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// State of a job, as CF names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum JobState {
    Processing,
    Complete,
    Failed,
}

/// An operation that a client asks after.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: JobId,
    /// Such as `app.delete` or `space.apply_manifest`.
    pub operation: String,
    pub state: JobState,
    pub error: Option<JobError>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Why a job failed, in the terms of the API's error envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    pub code: u32,
    pub title: String,
    pub detail: String,
}

/// Something that happened: by a user (`audit.*`) or by itself (`app.crash`, phases of a push).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    /// Grows with each event; a client resumes after the last it saw.
    pub sequence: i64,
    /// Such as `audit.app.create`, `app.crash`, `build.staged`, `instance.running`.
    #[serde(rename = "type")]
    pub kind: String,
    pub actor: Actor,
    pub target: Target,
    pub org: Option<OrgId>,
    pub space: Option<SpaceId>,
    pub data: serde_json::Value,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: Timestamp,
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Actor {
    /// User id, or the name of the part of the platform.
    pub guid: String,
    /// `user` or `process`.
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
}

/// What it was done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Target {
    pub guid: String,
    /// `app`, `route`, `space` ...
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
}

/// A buildpack known to the platform.
#[derive(Debug, Clone, PartialEq)]
pub struct Buildpack {
    pub id: BuildpackId,
    pub name: String,
    /// Of this stack only.
    pub stack: Option<StackName>,
    /// From 1, in the order in which they are tried.
    pub position: u32,
    pub enabled: bool,
    /// Its bits cannot be replaced.
    pub locked: bool,
    /// Name of the built-in one that this is; then it has no bits of its own.
    pub builtin: Option<String>,
    /// Of the archive as it was uploaded.
    pub filename: Option<String>,
    /// Of the archive's bytes.
    pub digest: Option<Digest>,
    pub size_bytes: u64,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Buildpack {
    /// Whether there is something to run.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.builtin.is_some() || self.digest.is_some()
    }
}

/// A stack known to the platform.
#[derive(Debug, Clone)]
pub struct Stack {
    pub id: StackId,
    pub name: StackName,
    pub description: String,
    pub default: bool,
    pub metadata: Metadata,
    pub created_at: Timestamp,
}

/// A host that runs work, as it described itself when it joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellInfo {
    pub id: CellId,
    /// Name for people: the host's name unless configured.
    pub name: String,
    pub zone: String,
    pub tags: Vec<String>,
    /// Stacks it can run.
    pub stacks: Vec<StackName>,
    /// Memory for work, in MiB.
    pub memory_mb: u64,
    /// Disk for work, in MiB.
    pub disk_mb: u64,
    pub cpus: u32,
    /// Most pieces of work at once.
    pub max_work: u32,
    /// What its kernel gives or lacks, in words, for operators.
    pub isolation: Vec<String>,
    pub version: String,
}

/// What all of an organisation, or of a space, may use together.
#[derive(Debug, Clone)]
pub struct Quota {
    pub id: QuotaId,
    pub name: String,
    /// Of spaces of this organisation; `None`: a quota of organisations.
    pub org: Option<OrgId>,
    pub limits: QuotaLimits,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}
