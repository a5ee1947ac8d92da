//! A mirror of this platform's own layout, a folder or a server: `<mirror>/<runtime>/index.json` beside the files it names.
//! With one, builds need nothing else of the world for their runtimes.

use super::{Form, Release, Root, Source};
use crate::http::{Client, Integrity, address};
use crate::{Failure, Result, Variables};
use serde::Deserialize;

/// Names the mirror: a folder of the staging sandbox, or the address of a server.
pub const SETTING: &str = "BP_MIRROR";

/// The part of a mirror that is about one runtime.
#[derive(Debug)]
pub struct Mirror {
    base: String,
    runtime: String,
}

#[derive(Deserialize)]
struct Index {
    releases: Vec<Entry>,
}

/// A file of the mirror, as `index.json` has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: String,
    /// As `uname -m` says it; absent for files that run anywhere.
    #[serde(default)]
    arch: Option<String>,
    /// Relative to the index, or an address.
    file: String,
    sha256: String,
    /// Folders around the runtime in the archive.
    #[serde(default)]
    strip: Option<usize>,
    /// The folder of the archive that is the runtime.
    #[serde(default)]
    below: Option<String>,
}

impl Mirror {
    /// The mirror that [`SETTING`] names, if it does.
    #[must_use]
    pub fn configured(variables: &Variables, runtime: &str) -> Option<Self> {
        variables.get(SETTING).map(|base| Self {
            base: address(base),
            runtime: runtime.to_owned(),
        })
    }

    fn unusable(&self, what: &str) -> Failure {
        Failure::new(
            format!(
                "the mirror {} is not as it should be: {}/index.json {what}",
                self.base, self.runtime
            ),
            format!(
                "The operator repairs it, or the setting {SETTING} of staging; buildpacks/README.md has the layout."
            ),
        )
    }

    fn release(&self, entry: Entry) -> Result<Release> {
        let integrity = Integrity::from_sha256_hex(&entry.sha256)
            .ok_or_else(|| self.unusable(&format!("gives no sha256 for {}", entry.file)))?;
        let form = Form::of(&entry.file)
            .ok_or_else(|| self.unusable(&format!("names {}, which is neither .tar.gz nor .zip", entry.file)))?;
        let url = if entry.file.contains("://") {
            entry.file
        } else {
            format!("{}/{}/{}", self.base, self.runtime, entry.file)
        };
        let root = match entry.below {
            Some(folder) => Root::Below(folder.into()),
            None => Root::Strip(entry.strip.unwrap_or(1)),
        };
        Ok(Release {
            version: entry.version,
            url,
            integrity,
            form,
            root,
        })
    }
}

impl Source for Mirror {
    fn describe(&self) -> String {
        format!("the mirror {}", self.base)
    }

    fn releases(&self, client: &Client) -> Result<Vec<Release>> {
        let url = format!("{}/{}/index.json", self.base, self.runtime);
        let answer = client.get(&url, "application/json")?;
        let index: Index =
            serde_json::from_slice(&answer.body).map_err(|error| self.unusable(&format!("cannot be read: {error}")))?;
        let here = index
            .releases
            .into_iter()
            .filter(|entry| entry.arch.as_deref().is_none_or(|arch| arch == std::env::consts::ARCH));
        here.map(|entry| self.release(entry)).collect()
    }
}
