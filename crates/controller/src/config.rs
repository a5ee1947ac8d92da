//! Configuration of the controller, as plain values: whoever starts it has read and checked files and environment.

use crate::auth::RateLimits;
use model::Secret;
use model::name::{DomainName, StackName};
use std::path::PathBuf;
use std::time::Duration;

/// Configuration of a controller.
#[derive(Debug, Clone)]
pub struct Config {
    /// How clients reach the API, without a slash at the end, such as `http://127.0.0.1:8181`.
    pub public_url: String,
    /// Where the router listens, for messages: URLs of apps are `http://<host>[:port]`.
    pub router_port: u16,
    /// How other controllers reach this one, such as `http://10.0.0.1:8181`.
    pub advertise: String,
    /// Where people reach instances by SSH, host and port, as the root document says it; `None` where nobody may have
    /// sessions in instances.
    pub ssh_address: Option<String>,
    pub database: Database,
    /// Where packages, layers and the like are kept.
    pub blobs: Blobs,
    /// Folder of the apps' logs.
    pub log_dir: PathBuf,
    /// What environment and credentials are encrypted with.
    pub encryption_key: EncryptionKey,
    /// A secret by which all cells and routers may prove themselves; `None` where only certificates count.
    pub machine_token: Option<Secret>,
    /// How machines that prove themselves by certificates come to this controller; `None` where there are none.
    pub machines: Option<crate::machines::Settings>,
    /// What an empty database is filled with.
    pub bootstrap: Bootstrap,
    /// Built-in buildpacks, in the order in which they are tried.
    pub buildpacks: Vec<BuildpackInfo>,
    /// Version of the lifecycle; part of what decides whether a build can be reused.
    pub lifecycle_version: String,
    /// The program `paas-lifecycle`, which goes into exported images.
    pub lifecycle_path: PathBuf,
    /// What requests and keys are held to.
    pub limits: Limits,
    /// The identity provider where people can sign in too.
    pub oidc: Option<Oidc>,
}

/// An identity provider (OpenID Connect).
#[derive(Clone)]
pub struct Oidc {
    /// Its own name of itself: an address, below which its description is.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Secret,
    /// `openid`, and what its claims come with.
    pub scopes: Vec<String>,
    /// What users from there are told apart by from users of other origins.
    pub origin: String,
    /// Text of the link to it.
    pub label: String,
    /// The claim that is the user's name.
    pub name_claim: String,
}

impl std::fmt::Debug for Oidc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oidc")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// What requests and keys are held to.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many requests one may make.
    pub rate: RateLimits,
    /// How long a key signs access tokens before a new one takes over.
    pub key_age: Duration,
    /// Longest wait for a whole body that is no upload, and for the next bytes of an upload.
    pub body_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rate: RateLimits::default(),
            key_age: Duration::from_secs(90 * 24 * 3600),
            body_wait: Duration::from_secs(60),
        }
    }
}

/// A key with its id, by which a later one can take over.
#[derive(Clone)]
pub struct EncryptionKey {
    pub id: u32,
    /// 32 random bytes.
    pub key: [u8; 32],
}

impl std::fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncryptionKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Where desired state is kept.
#[derive(Debug, Clone)]
pub enum Database {
    /// Embedded, in this file.
    Sqlite(PathBuf),
    /// A PostgreSQL server by URL.
    Postgres(Secret),
}

/// Where blobs are kept.
#[derive(Debug, Clone)]
pub enum Blobs {
    /// In this folder.
    Directory(PathBuf),
    /// In an S3-compatible store; `scratch` is a folder for what is under way.
    S3 { store: blobstore::S3, scratch: PathBuf },
}

/// What an empty database is filled with; what is there already stays.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    pub admin_name: String,
    pub admin_password: Secret,
    /// Organisation and space that are made, where given.
    pub org: Option<String>,
    pub space: Option<String>,
    /// The shared domain that apps get routes in.
    pub domain: DomainName,
    /// Stacks; the first is the default.
    pub stacks: Vec<StackName>,
}

/// A built-in buildpack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildpackInfo {
    /// Name that users know, such as `nodejs_buildpack`.
    pub name: String,
    /// Id by its own description.
    pub id: String,
    pub version: String,
    /// Folder below `/.paas/buildpacks/` inside a staging sandbox.
    pub folder: String,
}
