//! Releases as the Adoptium API lists them: for operators who let builds reach that, or mirror it.
//!
//! `<base>/v3/assets/latest/21/hotspot?…`, in a folder `<base>/21-jre.json` and `<base>/21-jdk.json`.

use buildpack_kit::http::{Client, Integrity, address};
use buildpack_kit::source::{Form, Release, Root, Source};
use buildpack_kit::{Failure, Result, Variables};
use serde::Deserialize;

/// Names the place.
const SETTING: &str = "BP_JAVA_MIRROR";

/// The place, asked for one release of Java.
#[derive(Debug)]
pub struct Api {
    base: String,
    major: u64,
    kind: &'static str,
}

#[derive(Deserialize)]
struct Asset {
    binary: Binary,
    version: Semantic,
}

#[derive(Deserialize)]
struct Semantic {
    major: u64,
    minor: u64,
    security: u64,
}

#[derive(Deserialize)]
struct Binary {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    checksum: String,
    link: String,
    name: String,
}

impl Api {
    /// The place that [`SETTING`] names, if it does; `kind` is `jre` or `jdk`.
    #[must_use]
    pub fn configured(variables: &Variables, major: u64, kind: &'static str) -> Option<Self> {
        let base = address(variables.get(SETTING)?);
        Some(Self { base, major, kind })
    }

    fn url(&self) -> String {
        let (base, major, kind) = (&self.base, self.major, self.kind);
        if base.starts_with("file://") {
            return format!("{base}/{major}-{kind}.json");
        }
        let arch = if std::env::consts::ARCH == "aarch64" {
            "aarch64"
        } else {
            "x64"
        };
        format!("{base}/v3/assets/latest/{major}/hotspot?architecture={arch}&image_type={kind}&os=linux&vendor=eclipse")
    }

    fn parse(&self, body: &[u8]) -> Result<Vec<Release>> {
        let assets: Vec<Asset> = serde_json::from_slice(body).map_err(|error| {
            Failure::new(
                format!("{} does not list releases of Java as expected: {error}", self.base),
                format!("The operator checks the setting {SETTING} of staging."),
            )
        })?;
        let local = self.base.starts_with("file://");
        let releases = assets.into_iter().filter_map(|asset| {
            let package = asset.binary.package;
            Some(Release {
                version: format!(
                    "{}.{}.{}",
                    asset.version.major, asset.version.minor, asset.version.security
                ),
                // A folder has the file beside the list, wherever that was published.
                url: if local {
                    format!("{}/{}", self.base, package.name)
                } else {
                    package.link
                },
                integrity: Integrity::from_sha256_hex(&package.checksum)?,
                form: Form::of(&package.name)?,
                root: Root::Strip(1),
            })
        });
        Ok(releases.collect())
    }
}

impl Source for Api {
    fn describe(&self) -> String {
        self.base.clone()
    }

    fn releases(&self, client: &Client) -> Result<Vec<Release>> {
        self.parse(&client.get(&self.url(), "application/json")?.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listed_archive_is_found() {
        let variables = Variables([(SETTING.into(), "https://api.test".into())].into());
        let api = Api::configured(&variables, 21, "jre").unwrap();
        assert!(
            api.url()
                .starts_with("https://api.test/v3/assets/latest/21/hotspot?architecture=")
        );
        let body = serde_json::json!([{
            "binary": { "package": { "checksum": "00".repeat(32), "link": "https://x.test/jre.tar.gz", "name": "jre.tar.gz" } },
            "version": { "major": 21, "minor": 0, "security": 8 },
        }]);
        let found = api.parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(
            (found[0].version.as_str(), found[0].url.as_str()),
            ("21.0.8", "https://x.test/jre.tar.gz")
        );
        let variables = Variables([(SETTING.into(), "/mirror".into())].into());
        let api = Api::configured(&variables, 21, "jre").unwrap();
        assert_eq!(
            api.parse(body.to_string().as_bytes()).unwrap()[0].url,
            "file:///mirror/jre.tar.gz"
        );
        assert!(api.parse(b"{}").is_err());
    }
}
