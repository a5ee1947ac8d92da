//! Indices and manifests, in the forms of the image specification and of Docker's registry, which differ in names only.

use crate::{ARCHITECTURE, DOCUMENT_BYTES, Error};
use model::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An index of the image specification.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A manifest of the image specification.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A configuration of the image specification.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer, not compressed.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A layer, compressed by gzip.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A layer, compressed by zstd.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// What is taken for a manifest.
pub const MANIFESTS: [&str; 4] = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

/// A blob by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What kind of blob it is; may be empty in a layout.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// Of its bytes.
    pub digest: Digest,
    /// Its bytes, as many as they are said to be.
    #[serde(default)]
    pub size: u64,
    /// For which machine, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes, such as the reference's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A blob at hand.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// A machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Such as `linux`.
    #[serde(default)]
    pub os: String,
}

impl Platform {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        Self {
            architecture: ARCHITECTURE.to_owned(),
            os: "linux".to_owned(),
        }
    }

    fn fits(&self) -> bool {
        (self.os.is_empty() || self.os == "linux")
            && (self.architecture.is_empty() || self.architecture == ARCHITECTURE)
    }
}

/// Several images, or several indices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// [`INDEX`].
    #[serde(rename = "mediaType", default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// What it holds.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// What of it is for this machine.
    ///
    /// # Errors
    /// Where there is nothing.
    pub fn choose(&self) -> Result<&Descriptor, Error> {
        let fits = |one: &&Descriptor| one.platform.as_ref().is_none_or(Platform::fits);
        self.manifests.iter().find(fits).ok_or_else(|| {
            let platforms = self.manifests.iter().filter_map(|one| one.platform.as_ref());
            Error::NoPlatform {
                found: platforms
                    .map(|platform| format!("{}/{}", platform.os, platform.architecture))
                    .take(16)
                    .collect(),
            }
        })
    }
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// [`MANIFEST`].
    #[serde(rename = "mediaType", default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// How it is run.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a registry or a layout has below a digest or a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Several.
    Index(Index),
    /// One.
    Manifest(Manifest),
}

/// The kind that a document says it is of, where it does, and what else tells them apart.
#[derive(Deserialize)]
struct Probe {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    #[serde(rename = "schemaVersion", default)]
    schema_version: u32,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads a document, whatever it is.
    ///
    /// # Errors
    /// Where it is neither, or of an old form.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let probe: Probe = parse("manifest", text)?;
        if probe.schema_version == 1 {
            return Err(Error::Kind {
                what: "manifest",
                media_type: "Docker schema 1".to_owned(),
            });
        }
        match (probe.manifests, probe.layers) {
            (Some(_), None) => parse("index", text).map(Self::Index),
            (None, Some(_)) => parse("manifest", text).map(Self::Manifest),
            // A document that could be read as either is how one is passed off as the other.
            (Some(_), Some(_)) => Err(Error::invalid("its manifest is an index too")),
            (None, None) => Err(Error::Kind {
                what: "manifest",
                media_type: probe.media_type,
            }),
        }
    }
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, Error> {
    if text.len() as u64 > DOCUMENT_BYTES {
        return Err(Error::TooMuch {
            what: "bytes in a document",
            limit: DOCUMENT_BYTES,
        });
    }
    serde_json::from_slice(text).map_err(|error| Error::invalid(format!("its {what} cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(os: &str, architecture: &str) -> Descriptor {
        Descriptor {
            platform: Some(Platform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
            }),
            ..Descriptor::new(MANIFEST, crate::digest(architecture.as_bytes()), 1)
        }
    }

    #[test]
    fn what_is_for_this_machine_is_chosen() {
        let mut index = Index {
            schema_version: 2,
            media_type: INDEX.to_owned(),
            manifests: vec![
                entry("windows", ARCHITECTURE),
                entry("linux", "m68k"),
                entry("linux", ARCHITECTURE),
            ],
        };
        assert_eq!(index.choose().expect("there"), &index.manifests[2]);
        index.manifests.pop();
        let error = index.choose().expect_err("nothing").to_string();
        assert_eq!(error, format!("no manifest for linux/{ARCHITECTURE}"));
    }

    #[test]
    fn documents_are_told_apart_and_nothing_is_both() {
        let digest = crate::digest(b"x");
        let one = format!(r#"{{"mediaType":"x","digest":"{digest}","size":1}}"#);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{one},"layers":[{one}]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{one}]}}"#);
        let both = format!(r#"{{"schemaVersion":2,"manifests":[{one}],"config":{one},"layers":[]}}"#);
        assert!(matches!(
            Document::parse(manifest.as_bytes()),
            Ok(Document::Manifest(_))
        ));
        assert!(matches!(Document::parse(index.as_bytes()), Ok(Document::Index(_))));
        for bad in [
            both.as_str(),
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
            r#"{"schemaVersion":2}"#,
            "[]",
            "",
        ] {
            assert!(Document::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
