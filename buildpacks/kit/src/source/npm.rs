//! Packages of the npm registry, or of a mirror of it, read without npm: npm itself comes from there.

use super::{Form, Release, Root};
use crate::archive::unpack_tgz;
use crate::http::{Client, Integrity};
use crate::{Failure, Result, Variables};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where nobody configured another.
const REGISTRY: &str = "https://registry.npmjs.org";
/// The short form of a package's index.
const ABBREVIATED: &str = "application/vnd.npm.install-v1+json, application/json;q=0.8";

/// A registry.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    url: String,
}

/// All versions of a package.
#[derive(Debug, Deserialize)]
pub struct Index {
    versions: BTreeMap<String, Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    dist: Dist,
}

#[derive(Debug, Deserialize)]
struct Dist {
    tarball: String,
    integrity: Option<String>,
}

impl Registry {
    /// The one that `npm_config_registry` names, else the public one.
    ///
    /// # Errors
    /// Where the certificate bundle cannot be read.
    pub fn new(variables: &Variables) -> Result<Self> {
        let named = variables
            .get("npm_config_registry")
            .or_else(|| variables.get("NPM_CONFIG_REGISTRY"));
        Ok(Self {
            client: Client::new(variables)?,
            url: named.unwrap_or(REGISTRY).trim_end_matches('/').to_owned(),
        })
    }

    /// All versions of `package`.
    ///
    /// # Errors
    /// Where the registry cannot be reached, or does not have it.
    pub fn index(&self, package: &str) -> Result<Index> {
        let url = format!("{}/{package}", self.url);
        let answer = self.client.get(&url, ABBREVIATED)?;
        serde_json::from_slice(&answer.body).map_err(|error| {
            Failure::new(
                format!("{url} did not answer with the index of a package: {error}"),
                "The operator checks the registry mirror (npm_config_registry) of staging.",
            )
        })
    }

    /// The file of `version`.
    ///
    /// # Errors
    /// Where there is none, or nothing says what is in it.
    pub fn release(&self, index: &Index, version: &str) -> Result<Release> {
        let unknown = |what: &str| {
            Failure::new(
                format!("the registry {} has no {what} of version {version}", self.url),
                "The operator checks the registry mirror (npm_config_registry) of staging.",
            )
        };
        let dist = &index.versions.get(version).ok_or_else(|| unknown("package"))?.dist;
        let integrity = dist.integrity.as_deref().and_then(Integrity::from_sri);
        Ok(Release {
            version: version.to_owned(),
            url: dist.tarball.clone(),
            integrity: integrity.ok_or_else(|| unknown("checksum (sha512)"))?,
            form: Form::TarGz,
            root: Root::Strip(1),
        })
    }

    /// Unpacks `version` into `target`; `place` says where each file goes.
    ///
    /// # Errors
    /// Where it cannot be had, or is not what the registry describes.
    pub fn unpack(
        &self,
        index: &Index,
        version: &str,
        target: &Path,
        place: impl Fn(&Path) -> Option<PathBuf>,
    ) -> Result<()> {
        let release = self.release(index, version)?;
        self.client.download(&release.url, &release.integrity, |reader| {
            unpack_tgz(reader, target, &place)
        })
    }
}

impl Index {
    /// Versions in no particular order.
    #[must_use]
    pub fn versions(&self) -> Vec<String> {
        self.versions.keys().cloned().collect()
    }
}
