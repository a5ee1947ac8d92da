//! What goes into a build and what comes out: the contract between controller, cell and the lifecycle in the staging sandbox.

use crate::digest::Digest;
use crate::image::{ImageConfig, ImageSource};
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
    /// The image that the app is, where it is one: then no buildpack runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
}

/// A buildpack as a folder inside the staging sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackMount {
    /// Name that users know, such as `nodejs_buildpack`.
    pub name: String,
    /// Folder inside the sandbox, such as `/.paas/buildpacks/nodejs`; empty with a `source`.
    pub path: String,
    /// Where it has to be had from first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<BuildpackSource>,
}

/// Where a buildpack that is no folder of the platform comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum BuildpackSource {
    /// An archive of the blob store, which the cell shows at this path.
    Archive {
        /// Inside the sandbox.
        path: String,
        /// Of the archive's bytes.
        digest: Digest,
    },
    /// An archive that the build downloads.
    Url {
        /// `http` or `https`.
        url: String,
        /// Of the archive's bytes, where the user pinned it.
        digest: Option<Digest>,
    },
    /// A repository that the build clones.
    Git {
        /// As `git` takes it.
        url: String,
        /// Branch, tag or commit.
        reference: Option<String>,
    },
    /// A folder of the app.
    App {
        /// Relative to the app.
        path: String,
    },
}

/// Where a staging sandbox sees an archive of the blob store.
#[must_use]
pub fn archive_path(digest: &Digest) -> String {
    format!("{ARCHIVES}/{}/bits", digest.hex())
}

/// Folder of the archives that a staging sandbox sees, each in a folder named after its digest.
pub const ARCHIVES: &str = "/.paas/archives";

/// Why a text is neither the name of a buildpack nor says where to get one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SourceError {
    reason: &'static str,
}

impl BuildpackSource {
    /// The source that `text` describes, as users write it behind `-b`; `None` where it is a plain name.
    ///
    /// ```text
    /// https://host/buildpack.zip#sha256:<64 digits>   an archive, pinned
    /// https://host/buildpack.tgz                      an archive
    /// https://host/owner/repository.git#branch        a repository
    /// ./folder                                        a folder of the app
    /// ```
    ///
    /// # Errors
    /// Where it is meant to be a source and cannot be one.
    pub fn parse(text: &str) -> Result<Option<Self>, SourceError> {
        let fail = |reason| Err(SourceError { reason });
        if let Some(path) = text.strip_prefix("./") {
            let plain = |part: &str| !matches!(part, "" | "." | "..");
            if path.contains('\0') || !path.trim_end_matches('/').split('/').all(plain) {
                return fail("a folder of the app is written ./folder, without .. in it");
            }
            return Ok(Some(Self::App { path: path.to_owned() }));
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return Ok(None);
        };
        if text.len() > 2048 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return fail("its URL is too long, or has spaces in it");
        }
        let (url, fragment) = text
            .split_once('#')
            .map_or((text, None), |(url, rest)| (url, Some(rest)));
        let is_http = matches!(scheme, "http" | "https");
        if scheme == "git" || is_http && is_repository(url) {
            if fragment.is_some_and(|reference| reference.is_empty() || reference.starts_with('-')) {
                return fail("what follows # is no branch, tag or commit");
            }
            return Ok(Some(Self::Git {
                url: url.to_owned(),
                reference: fragment.map(str::to_owned),
            }));
        }
        if !is_http {
            return fail("only http, https and git URLs are taken");
        }
        match fragment.map(str::parse).transpose() {
            Ok(digest) => Ok(Some(Self::Url {
                url: url.to_owned(),
                digest,
            })),
            Err(_) => fail("what follows # is no digest of the form sha256:<64 digits>"),
        }
    }

    /// Whether the same text always means the same bytes.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        match self {
            Self::Archive { .. } | Self::App { .. } => true,
            Self::Url { digest, .. } => digest.is_some(),
            Self::Git { reference, .. } => reference.as_ref().is_some_and(|reference| {
                reference.len() >= 40 && reference.bytes().all(|byte| byte.is_ascii_hexdigit())
            }),
        }
    }
}

/// As Cloud Foundry decides it: what is no archive by its name is a repository.
fn is_repository(url: &str) -> bool {
    let path = url.split('?').next().unwrap_or(url);
    let archive = [".zip", ".tgz", ".tar.gz", ".tar", ".tar.zst", ".cnb"];
    !archive.iter().any(|end| path.ends_with(end))
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
    /// A layer of an image: owners, whiteouts and all. Together with the image's others it is the root file system.
    Image,
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

/// A process that runs beside others in the same instance: of a classic buildpack, or of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarTemplate {
    /// Its name; of a buildpack's, the process type that it gave it.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// How the droplet is run, where it is an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageConfig>,
    /// Time by phase.
    pub phases: Vec<PhaseTime>,
    /// Set where the build failed; then there are no layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<BuildFailure>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_as_users_write_them() {
        let hex = "ab".repeat(32);
        let pinned = format!("https://h/b.zip#sha256:{hex}");
        for (text, expected) in [
            ("nodejs_buildpack", None),
            (
                "./tools/buildpack",
                Some(BuildpackSource::App {
                    path: "tools/buildpack".to_owned(),
                }),
            ),
            (
                "https://h/b.tgz",
                Some(BuildpackSource::Url {
                    url: "https://h/b.tgz".to_owned(),
                    digest: None,
                }),
            ),
            (
                &pinned,
                Some(BuildpackSource::Url {
                    url: "https://h/b.zip".to_owned(),
                    digest: Some(format!("sha256:{hex}").parse().unwrap()),
                }),
            ),
            (
                "https://h/o/r",
                Some(BuildpackSource::Git {
                    url: "https://h/o/r".to_owned(),
                    reference: None,
                }),
            ),
            (
                "https://h/o/r.git#v1",
                Some(BuildpackSource::Git {
                    url: "https://h/o/r.git".to_owned(),
                    reference: Some("v1".to_owned()),
                }),
            ),
        ] {
            assert_eq!(BuildpackSource::parse(text), Ok(expected), "{text}");
        }
        for bad in [
            "ftp://h/b.zip",
            "./../x",
            "./",
            "https://h/b.zip#x",
            "https://h/r.git#--upload-pack=x",
            "https://h/a b.zip",
        ] {
            assert!(BuildpackSource::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_cannot_change_is_pinned() {
        for (text, pinned) in [
            ("https://h/b.zip".to_owned(), false),
            (format!("https://h/b.zip#sha256:{}", "0".repeat(64)), true),
            ("https://h/r.git#main".to_owned(), false),
            (format!("https://h/r.git#{}", "a".repeat(40)), true),
            ("./x".to_owned(), true),
        ] {
            assert_eq!(
                BuildpackSource::parse(&text).unwrap().unwrap().is_pinned(),
                pinned,
                "{text}"
            );
        }
    }
}
