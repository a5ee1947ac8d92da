//! What goes into a build and what comes out: the contract between controller, cell and the lifecycle in the staging sandbox.

use crate::digest::Digest;
use crate::secret::SecretEnv;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Read by the lifecycle from `/paas/build.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildInput {
    /// For messages only.
    pub app_name: String,
    /// Name of the stack, as `CF_STACK` says it.
    pub stack: String,
    /// Buildpacks to run, in order. With `detect` they are candidates of which the first that matches runs.
    pub buildpacks: Vec<BuildpackMount>,
    /// Whether the buildpacks were not chosen by the user and have to be detected.
    pub detect: bool,
    /// The app's own variables, which builds see.
    pub env: SecretEnv,
    /// Memory of the staging sandbox in MiB.
    pub memory_mb: u32,
    /// Layers of the app's last build.
    pub restored: Vec<CachedLayer>,
    /// `store.toml` metadata of the app's last build, by buildpack id.
    pub store: BTreeMap<String, serde_json::Value>,
}

/// A buildpack as a folder inside the staging sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackMount {
    /// Name that users know, such as `nodejs_buildpack`.
    pub name: String,
    /// Folder inside the sandbox, such as `/.paas/buildpacks/nodejs`.
    pub path: String,
}

/// What a layer is for, as Cloud Native Buildpacks say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayerTypes {
    /// Part of the droplet.
    #[serde(default)]
    pub launch: bool,
    /// Seen by later buildpacks.
    #[serde(default)]
    pub build: bool,
    /// Restored to the next build.
    #[serde(default)]
    pub cache: bool,
}

/// A layer of the last build, offered to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CachedLayer {
    /// Id of the buildpack that owns it.
    pub buildpack: String,
    /// Name of the layer below that buildpack's folder.
    pub layer: String,
    /// Of the uncompressed, normalised tar rooted at `/`.
    pub digest: Digest,
    /// Compressed size in the blob store.
    pub size_bytes: u64,
    /// As the buildpack declared it.
    pub types: LayerTypes,
    /// `[metadata]` of the layer's TOML.
    pub metadata: serde_json::Value,
    /// Whether the contents are present in the staging sandbox (else only the metadata is restored).
    pub contents: bool,
}

/// What a layer of a droplet holds, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerKind {
    /// A language runtime or tool.
    Runtime,
    /// What the lock file asked for.
    Dependencies,
    /// The app itself.
    App,
    /// Launch metadata.
    Config,
}

/// One layer of a droplet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropletLayer {
    /// Of the uncompressed, normalised tar rooted at `/`.
    pub digest: Digest,
    /// Compressed size in bytes.
    pub size_bytes: u64,
    /// What it holds.
    pub kind: LayerKind,
    /// `buildpack:layer`, or `app`, `config`.
    pub name: String,
    /// File below `/paas/out/` with the layer as `tar.zst`, where this build wrote it; absent where it was reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A process type that the droplet offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessTemplate {
    /// Such as `web`.
    #[serde(rename = "type")]
    pub process_type: String,
    /// As people read it.
    pub command: String,
    /// Where it came from, such as `Procfile` or `package.json scripts.start`.
    pub source: String,
    /// Started when nobody names a type.
    pub default: bool,
    /// Memory that the buildpack asks for it, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
}

/// A process that a classic buildpack wants to run beside others, in the same instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarTemplate {
    /// Its name, the process type that the buildpack gave it.
    pub name: String,
    /// What the shell runs.
    pub command: String,
    /// Process types beside which it runs.
    pub process_types: Vec<String>,
    /// Memory of the instance that it takes, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
}

/// A bill of materials that a buildpack wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SbomFile {
    /// Id of the buildpack.
    pub buildpack: String,
    /// Of which layer; absent where it is of the whole build or launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// `launch`, `build` or `cache`: where what it lists ends up.
    pub scope: String,
    /// Media type, such as `application/vnd.cyclonedx+json`.
    pub media_type: String,
    /// Where it lies in the droplet's layer `sbom`, absolute.
    pub path: String,
}

/// A buildpack that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedBuildpack {
    /// Id of the buildpack, or its name where the contract knows no id.
    pub id: String,
    /// Name that users know.
    pub name: String,
    /// Its version, empty where it has none.
    pub version: String,
    /// What it said it found, such as `Node 22`.
    pub detected: String,
}

/// How long a part of the build took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// `detect`, `build <buildpack>`, `export`.
    pub name: String,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// CF's class of a staging failure; decides error code and exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureClass {
    /// No buildpack matched.
    NoAppDetectedError,
    /// A buildpack's build or compile failed.
    BuildpackCompileFailed,
    /// A buildpack's release failed.
    BuildpackReleaseFailed,
    /// The build was killed for its memory.
    StagingOutOfMemory,
    /// It took longer than allowed.
    StagingTimeExpired,
    /// Anything else.
    StagingError,
}

/// Why a build failed, in words for the person who pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildFailure {
    /// CF's class.
    pub class: FailureClass,
    /// What failed, one line.
    pub title: String,
    /// The likely cause from the evidence.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// Written by the lifecycle to `/paas/out/result.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildResult {
    /// Layers of the droplet, uppermost first.
    pub layers: Vec<DropletLayer>,
    /// Layers to offer to the next build; each is in `layers` or has its own entry in `cache_files`.
    pub cache: Vec<CachedLayer>,
    /// Cache-only layers written by this build, as `layers` has them.
    pub cache_files: Vec<DropletLayer>,
    /// `store.toml` metadata by buildpack id.
    pub store: BTreeMap<String, serde_json::Value>,
    /// Process types of the droplet.
    pub processes: Vec<ProcessTemplate>,
    /// Buildpacks that took part.
    pub buildpacks: Vec<UsedBuildpack>,
    /// What classic buildpacks want to run beside the processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<SidecarTemplate>,
    /// Labels of the droplet; the last buildpack that sets one wins.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Bills of materials that buildpacks wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sboms: Vec<SbomFile>,
    /// Time by phase.
    pub phases: Vec<PhaseTime>,
    /// Set where the build failed; then there are no layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<BuildFailure>,
}
