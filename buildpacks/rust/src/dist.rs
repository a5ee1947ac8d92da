//! Toolchains laid out as Rust itself publishes them: a manifest for each channel, with address and digest of each part.
//!
//! `<base>/dist/[<date>/]channel-rust-<channel>.toml`, and in it the components of every machine.

use crate::version::Wanted;
use buildpack_kit::http::{Client, Integrity, address};
use buildpack_kit::source::{Form, Release, Root, Source};
use buildpack_kit::{Failure, Result, Variables};
use serde::Deserialize;
use std::cell::OnceCell;
use std::collections::BTreeMap;

/// Names another place with this layout.
pub const SETTING: &str = "BP_RUST_MIRROR";
/// Where nobody configured another, and what manifests write into their addresses.
const HOME: &str = "https://static.rust-lang.org";
/// What compiles, and what has to be beside it.
pub const COMPONENTS: [&str; 3] = ["rustc", "cargo", "rust-std"];

/// The place, asked for one channel.
#[derive(Debug)]
pub struct Dist {
    base: String,
    wanted: Wanted,
    parts: OnceCell<BTreeMap<&'static str, Release>>,
}

#[derive(Deserialize)]
struct Manifest {
    date: String,
    pkg: BTreeMap<String, Package>,
}

#[derive(Deserialize)]
struct Package {
    version: String,
    #[serde(default)]
    target: BTreeMap<String, File>,
}

#[derive(Deserialize)]
struct File {
    available: bool,
    url: Option<String>,
    hash: Option<String>,
}

impl Dist {
    /// The one that [`SETTING`] names, else Rust's own.
    #[must_use]
    pub fn new(variables: &Variables, wanted: &Wanted) -> Self {
        Self {
            base: address(variables.get(SETTING).unwrap_or(HOME)),
            wanted: wanted.clone(),
            parts: OnceCell::new(),
        }
    }

    /// Whether an operator named it.
    #[must_use]
    pub fn is_configured(variables: &Variables) -> bool {
        variables.get(SETTING).is_some()
    }

    /// A component of the channel, once [`Source::releases`] has read it.
    #[must_use]
    pub fn part(&self, component: &str) -> Option<&Release> {
        self.parts.get()?.get(component)
    }

    fn manifest(&self, client: &Client, channel: &str) -> Result<Manifest> {
        let (folder, name) = match channel.split_once('-') {
            Some((name, date)) => (format!("dist/{date}"), name),
            None => ("dist".to_owned(), channel),
        };
        let url = format!("{}/{folder}/channel-rust-{name}.toml", self.base);
        let answer = client.get(&url, "*/*")?;
        let read = toml::from_str(&String::from_utf8_lossy(&answer.body));
        read.map_err(|error| {
            Failure::new(
                format!("{url} is no manifest of a toolchain: {}", error.message()),
                format!("The operator checks the setting {SETTING} of staging."),
            )
        })
    }

    /// Says what there is instead, as far as the place tells.
    fn missing(&self, client: &Client, failure: Failure) -> Failure {
        let is_missing = ["404", "403", "No such file"]
            .iter()
            .any(|word| failure.cause.contains(word));
        let stable = is_missing.then(|| self.manifest(client, "stable").ok()).flatten();
        let Some(newest) = stable.and_then(|stable| Some(release_of(&stable.pkg.get("rustc")?.version).to_owned()))
        else {
            return failure;
        };
        let Wanted { channel, said_by } = &self.wanted;
        Failure::new(
            format!("Rust {channel} ({said_by}) cannot be had here; the newest release is {newest}"),
            "Ask for a release that exists; or the operator names another source for staging (BP_RUST_MIRROR, BP_MIRROR).",
        )
    }

    fn parse(&self, manifest: &Manifest) -> Result<BTreeMap<&'static str, Release>> {
        let machine = machine();
        let lacks = |component: &str| {
            Failure::new(
                format!("Rust {} has no {component} for {machine}", self.wanted.channel),
                "Ask for another version: not every nightly has every part.",
            )
        };
        let mut parts = BTreeMap::new();
        for component in COMPONENTS {
            let package = manifest.pkg.get(component).ok_or_else(|| lacks(component))?;
            let file = package.target.get(&machine).filter(|file| file.available);
            let file = file.ok_or_else(|| lacks(component))?;
            let url = file.url.as_deref().ok_or_else(|| lacks(component))?;
            let integrity = file.hash.as_deref().and_then(Integrity::from_sha256_hex);
            let release = Release {
                version: version(manifest, release_of(&package.version)),
                url: url.replacen(HOME, &self.base, 1),
                integrity: integrity.ok_or_else(|| lacks(component))?,
                form: Form::TarGz,
                root: Root::Strip(2),
            };
            parts.insert(component, release);
        }
        Ok(parts)
    }
}

impl Source for Dist {
    fn describe(&self) -> String {
        self.base.clone()
    }

    fn releases(&self, client: &Client) -> Result<Vec<Release>> {
        let manifest = self.manifest(client, &self.wanted.channel);
        let manifest = manifest.map_err(|failure| self.missing(client, failure))?;
        let parts = self.parse(&manifest)?;
        let compiler = parts.get("rustc").cloned().into_iter().collect();
        let _ = self.parts.set(parts);
        Ok(compiler)
    }
}

/// As manifests name the machines that programs of ours run on.
fn machine() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// `1.85.1` of `1.85.1 (4eb161250 2025-03-15)`.
fn release_of(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// What is no release yet has the same number for weeks: there the day counts too.
fn version(manifest: &Manifest, release: &str) -> String {
    if release.contains('-') {
        format!("{release}-{}", manifest.date)
    } else {
        release.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(compiler: &str) -> String {
        let mut text = "manifest-version = \"2\"\ndate = \"2026-10-15\"\n".to_owned();
        for component in COMPONENTS {
            text.push_str(&format!(
                "[pkg.{component}]\nversion = \"{compiler} (abc 2026-10-01)\"\n[pkg.{component}.target.{}]\navailable = true\n\
                 url = \"{HOME}/dist/2026-10-15/{component}.tar.gz\"\nhash = \"{}\"\n",
                machine(),
                "00".repeat(32)
            ));
        }
        text + "[pkg.rust-src]\nversion = \"1\"\n[pkg.rust-src.target.\"*\"]\navailable = false\n"
    }

    fn dist(folder: &std::path::Path, channel: &str) -> Dist {
        let variables = Variables([(SETTING.into(), folder.as_os_str().to_owned())].into());
        let wanted = Wanted {
            channel: channel.to_owned(),
            said_by: "test",
        };
        Dist::new(&variables, &wanted)
    }

    #[test]
    fn a_channel_names_its_parts() {
        let folder = tempfile::tempdir().unwrap();
        let dated = folder.path().join("dist/2026-10-15");
        std::fs::create_dir_all(&dated).unwrap();
        std::fs::write(folder.path().join("dist/channel-rust-1.99.toml"), manifest("1.99.1")).unwrap();
        std::fs::write(dated.join("channel-rust-nightly.toml"), manifest("2.1.0-nightly")).unwrap();
        let client = Client::new(&Variables::default()).unwrap();
        for (channel, version) in [("1.99", "1.99.1"), ("nightly-2026-10-15", "2.1.0-nightly-2026-10-15")] {
            let dist = dist(folder.path(), channel);
            assert_eq!(dist.releases(&client).unwrap()[0].version, version);
            let url = &dist.part("rust-std").unwrap().url;
            assert!(
                url.starts_with("file://") && url.ends_with("2026-10-15/rust-std.tar.gz"),
                "{url}"
            );
        }
    }

    #[test]
    fn what_is_not_published_is_told_with_what_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("dist")).unwrap();
        let client = Client::new(&Variables::default()).unwrap();
        let failure = dist(folder.path(), "1.999").releases(&client).unwrap_err();
        assert!(failure.remedy.contains("mirror folder"), "{failure:?}");
        let stable = folder.path().join("dist/channel-rust-stable.toml");
        std::fs::write(&stable, manifest("1.99.1")).unwrap();
        let failure = dist(folder.path(), "1.999").releases(&client).unwrap_err();
        assert!(failure.cause.contains("the newest release is 1.99.1"), "{failure:?}");
        std::fs::write(&stable, "date = 'x'\n[pkg]\n").unwrap();
        let failure = dist(folder.path(), "stable").releases(&client).unwrap_err();
        assert!(failure.cause.contains("has no rustc"), "{failure:?}");
    }
}
