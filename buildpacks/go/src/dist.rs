//! Releases laid out as Go itself publishes them: for operators who let builds reach that, or mirror it.
//!
//! `<base>/?mode=json&include=all` (`<base>/index.json` in a folder) and `<base>/go1.2.3.linux-amd64.tar.gz`.

use buildpack_kit::http::{Client, Integrity, address};
use buildpack_kit::source::{Form, Release, Root, Source};
use buildpack_kit::{Failure, Result, Variables};
use serde::Deserialize;

/// Names the place.
const SETTING: &str = "BP_GO_MIRROR";

/// The place.
#[derive(Debug)]
pub struct Dist {
    base: String,
}

#[derive(Deserialize)]
struct Listed {
    version: String,
    stable: bool,
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    filename: String,
    os: String,
    arch: String,
    kind: String,
    sha256: String,
}

impl Dist {
    /// The place that [`SETTING`] names, if it does.
    #[must_use]
    pub fn configured(variables: &Variables) -> Option<Self> {
        variables.get(SETTING).map(|base| Self { base: address(base) })
    }

    fn parse(&self, body: &[u8]) -> Result<Vec<Release>> {
        let listed: Vec<Listed> = serde_json::from_slice(body).map_err(|error| {
            Failure::new(
                format!("{} does not list releases of Go as expected: {error}", self.base),
                format!("The operator checks the setting {SETTING} of staging."),
            )
        })?;
        let arch = if std::env::consts::ARCH == "aarch64" {
            "arm64"
        } else {
            "amd64"
        };
        let found = listed.into_iter().filter(|listed| listed.stable).filter_map(|listed| {
            let fits = |file: &Entry| file.os == "linux" && file.arch == arch && file.kind == "archive";
            let file = listed.files.into_iter().find(fits)?;
            Some(Release {
                version: listed.version.trim_start_matches("go").to_owned(),
                url: format!("{}/{}", self.base, file.filename),
                integrity: Integrity::from_sha256_hex(&file.sha256)?,
                form: Form::TarGz,
                root: Root::Strip(1),
            })
        });
        Ok(found.collect())
    }
}

impl Source for Dist {
    fn describe(&self) -> String {
        self.base.clone()
    }

    fn releases(&self, client: &Client) -> Result<Vec<Release>> {
        let index = if self.base.starts_with("file://") {
            "index.json"
        } else {
            "?mode=json&include=all"
        };
        let answer = client.get(&format!("{}/{index}", self.base), "application/json")?;
        self.parse(&answer.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_for_this_machine_is_found() {
        let dist = Dist {
            base: "https://mirror.test/go".to_owned(),
        };
        let arch = if std::env::consts::ARCH == "aarch64" {
            "arm64"
        } else {
            "amd64"
        };
        let file = |arch: &str, kind: &str| {
            serde_json::json!({ "filename": format!("go1.27.3.linux-{arch}.tar.gz"), "os": "linux", "arch": arch,
                "kind": kind, "sha256": "00".repeat(32) })
        };
        let index = serde_json::json!([
            { "version": "go1.28rc1", "stable": false, "files": [] },
            { "version": "go1.27.3", "stable": true, "files": [file("vax", "archive"), file(arch, "installer"), file(arch, "archive")] },
        ]);
        let releases = dist.parse(index.to_string().as_bytes()).unwrap();
        assert_eq!(releases.len(), 1);
        assert_eq!(releases[0].version, "1.27.3");
        assert!(releases[0].url.starts_with("https://mirror.test/go/go1.27.3.linux-"));
        assert!(dist.parse(b"{}").unwrap_err().remedy.contains(SETTING));
    }
}
