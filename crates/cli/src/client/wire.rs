//! Shapes of answers: the members that this program uses, with the rest kept so that `--json` shows all of it.

use model::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

macro_rules! resource {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident : $type:ty,)* })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            /// Members that this program does not use.
            #[serde(flatten)]
            pub rest: Map<String, Value>,
        }
    )+};
}

pub(super) use resource;

/// `GET /`.
#[derive(Debug, Clone, Deserialize)]
pub struct Root {
    pub links: Links,
}

/// Addresses of the API's companions.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Links {
    #[serde(default)]
    pub cloud_controller_v3: Option<Link>,
    #[serde(default)]
    pub uaa: Option<Link>,
    #[serde(default)]
    pub login: Option<Link>,
    #[serde(default)]
    pub app_ssh: Option<super::v3::SshLink>,
}

/// `GET /v3/info`: what the platform says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub name: String,
    /// Its version.
    #[serde(default)]
    pub build: String,
    #[serde(default)]
    pub custom: Custom,
}

/// What a platform of ours adds.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Custom {
    /// Where its router listens, which serves plain HTTP.
    #[serde(default)]
    pub router_port: Option<u16>,
}

impl Platform {
    /// The platform's own version; `None` of another implementation of the API.
    pub fn version(&self) -> Option<&str> {
        (self.name == "paas" && !self.build.is_empty()).then_some(self.build.as_str())
    }
}

/// One address.
#[derive(Debug, Clone, Deserialize)]
pub struct Link {
    #[serde(default)]
    pub href: String,
    #[serde(default)]
    pub meta: Map<String, Value>,
}

/// Of the token server.
#[derive(Debug, Clone, Deserialize)]
pub struct Tokens {
    pub access_token: Secret,
    #[serde(default)]
    pub refresh_token: Option<Secret>,
}

/// A page of a list.
#[derive(Debug, Clone, Deserialize)]
pub struct Page<T> {
    #[serde(default)]
    pub pagination: Option<Pagination>,
    pub resources: Vec<T>,
}

/// Where the next page is.
#[derive(Debug, Clone, Deserialize)]
pub struct Pagination {
    #[serde(default)]
    pub next: Option<Link>,
}

/// A reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guid {
    pub guid: String,
}

resource! {
    /// An organisation, a space, a domain or a context of any kind: what has a name.
    Named {
        guid: String,
        name: String,
    }
    /// An app.
    App {
        guid: String,
        name: String,
        #[serde(default)]
        state: String,
        #[serde(default)]
        lifecycle: Lifecycle,
        #[serde(default)]
        created_at: String,
        #[serde(default)]
        updated_at: String,
    }
    /// What builds an app.
    LifecycleData {
        #[serde(default)]
        buildpacks: Option<Vec<String>>,
        #[serde(default)]
        stack: Option<String>,
    }
    /// A process.
    Process {
        guid: String,
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        instances: u32,
        #[serde(default)]
        memory_in_mb: u32,
        #[serde(default)]
        disk_in_mb: u32,
        #[serde(default)]
        command: Option<String>,
        #[serde(default)]
        process_instances: Vec<Instance>,
        #[serde(default)]
        relationships: ProcessRelations,
    }
    /// State of an instance, as lists embed it and statistics show it.
    Instance {
        index: u32,
        state: String,
        #[serde(default)]
        since: Option<f64>,
        #[serde(default)]
        uptime: Option<u64>,
        #[serde(default)]
        usage: Option<Usage>,
        #[serde(default)]
        mem_quota: Option<u64>,
        #[serde(default)]
        disk_quota: Option<u64>,
        #[serde(default)]
        details: Option<String>,
    }
    /// What an instance uses.
    Usage {
        #[serde(default)]
        cpu: Option<f64>,
        #[serde(default)]
        mem: Option<u64>,
        #[serde(default)]
        disk: Option<u64>,
    }
    /// A route.
    Route {
        guid: String,
        url: String,
        #[serde(default)]
        host: Option<String>,
        #[serde(default)]
        path: Option<String>,
        #[serde(default)]
        destinations: Vec<Destination>,
    }
    /// Where a route leads.
    Destination {
        guid: String,
        app: DestinationApp,
    }
    /// The app of a destination.
    DestinationApp {
        guid: String,
    }
    /// Source that was uploaded.
    Package {
        guid: String,
        #[serde(default)]
        state: String,
        #[serde(default)]
        data: Value,
    }
    /// A staging.
    Build {
        guid: String,
        #[serde(default)]
        created_at: String,
        #[serde(default)]
        state: String,
        #[serde(default)]
        error: Option<Value>,
        #[serde(default)]
        droplet: Option<Guid>,
        #[serde(default)]
        package: Option<Guid>,
    }
    /// What staging made.
    Droplet {
        guid: String,
        #[serde(default)]
        created_at: String,
        #[serde(default)]
        buildpacks: Option<Vec<Value>>,
        /// The image that it is.
        #[serde(default)]
        image: Option<String>,
    }
    /// A one-off run of a droplet.
    Task {
        guid: String,
        sequence_id: u32,
        name: String,
        state: String,
        #[serde(default)]
        command: Option<String>,
        #[serde(default)]
        created_at: String,
        #[serde(default)]
        result: TaskResult,
    }
    /// What an app ran.
    Revision {
        guid: String,
        version: u32,
        #[serde(default)]
        description: String,
        #[serde(default)]
        deployable: bool,
        #[serde(default)]
        created_at: String,
    }
    /// A rollout.
    Deployment {
        guid: String,
        #[serde(default)]
        status: DeploymentStatus,
        #[serde(default)]
        droplet: Option<Guid>,
        #[serde(default)]
        created_at: String,
    }
    /// What happened.
    AuditEvent {
        guid: String,
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        created_at: String,
        #[serde(default)]
        actor: EventParty,
        #[serde(default)]
        target: EventParty,
        #[serde(default)]
        data: Value,
    }
    /// A host that runs work.
    Cell {
        id: String,
        name: String,
        #[serde(default)]
        zone: String,
        #[serde(default)]
        cordoned: bool,
        #[serde(default)]
        draining: u32,
        #[serde(default)]
        alive: Option<bool>,
        #[serde(default)]
        memory_mb: u64,
        #[serde(default)]
        memory_used_mb: Option<u64>,
        #[serde(default)]
        cpus: u32,
        #[serde(default)]
        work: Option<u64>,
        #[serde(default)]
        version: String,
        #[serde(default)]
        isolation: Vec<String>,
    }
}

/// Process to app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRelations {
    #[serde(default)]
    pub app: Option<Relation>,
}

/// A to-one relationship.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    pub data: Guid,
}

/// How an app is built.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lifecycle {
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub data: Option<LifecycleData>,
}

/// How far a deployment is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    #[serde(default)]
    pub value: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub details: Map<String, Value>,
    /// Of a canary: how far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Value>,
}

/// How a task ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskResult {
    #[serde(default)]
    pub failure_reason: Option<String>,
}

impl Task {
    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        self.state == "SUCCEEDED" || self.state == "FAILED"
    }

    /// Why it failed.
    pub fn reason(&self) -> Option<&str> {
        self.result.failure_reason.as_deref()
    }
}

impl DeploymentStatus {
    /// Whether it waits for a word.
    pub fn is_paused(&self) -> bool {
        self.reason == "PAUSED"
    }

    /// Of a canary: the step that it is at, and how many there are.
    pub fn steps(&self) -> Option<(u64, u64)> {
        let steps = self.canary.as_ref()?.get("steps")?;
        Some((steps.get("current")?.as_u64()?, steps.get("total")?.as_u64()?))
    }

    /// Whether nothing more will happen.
    pub fn is_final(&self) -> bool {
        self.value == "FINALIZED"
    }

    /// Whether it went to its end.
    pub fn is_deployed(&self) -> bool {
        self.is_final() && self.reason == "DEPLOYED"
    }

    /// Why the platform cancelled it.
    pub fn error(&self) -> Option<String> {
        self.details.get("error").and_then(Value::as_str).map(str::to_owned)
    }
}

/// Who did something, or to what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventParty {
    #[serde(default)]
    pub guid: String,
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub name: String,
}

/// An operation of the server.
#[derive(Debug, Clone, Deserialize)]
pub struct Job {
    pub state: String,
    #[serde(default)]
    pub errors: Vec<api::error::ApiError>,
    #[serde(default)]
    pub warnings: Vec<JobWarning>,
}

/// Something that the user should know although the job succeeded.
#[derive(Debug, Clone, Deserialize)]
pub struct JobWarning {
    #[serde(default)]
    pub detail: String,
}

/// A file, as resource matching and uploads name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Relative to the app's folder, with `/`.
    pub path: String,
    /// Permission bits in octal.
    pub mode: String,
    pub checksum: Checksum,
    pub size_in_bytes: u64,
}

/// SHA-1 in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Checksum {
    pub value: String,
}

/// Answer of resource matching.
#[derive(Debug, Clone, Deserialize)]
pub struct Matched {
    #[serde(default)]
    pub resources: Vec<MatchedResource>,
}

/// A file that the server has.
#[derive(Debug, Clone, Deserialize)]
pub struct MatchedResource {
    pub checksum: Checksum,
    #[serde(default)]
    pub size_in_bytes: u64,
}

/// An event of the app's stream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct StreamEvent {
    pub sequence: i64,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub data: Value,
    #[serde(default)]
    pub created_at: String,
}

impl StreamEvent {
    /// A text member of its data.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.data.get(name).and_then(Value::as_str)
    }

    /// When it happened.
    pub fn at(&self) -> Option<time::OffsetDateTime> {
        parse_time(&self.created_at)
    }
}

/// An RFC 3339 instant.
pub fn parse_time(text: &str) -> Option<time::OffsetDateTime> {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()
}
