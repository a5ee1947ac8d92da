//! uv, the installer: one static program, taken from the package index into a layer that only builds see.

use buildpack_kit::archive::unpack_zip_file;
use buildpack_kit::http::{Client, Integrity};
use buildpack_kit::{BuildContext, Failure, Result, Types, Variables, output};
use pep440_rs::Version;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use url::Url;

/// The version that this buildpack is tested with; another by `BP_UV_VERSION`.
const VERSION: &str = "0.13.9";
/// Where nobody configured another.
const INDEX: &str = "https://pypi.org/simple";
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.5";
/// Largest file of uv that is taken.
const LARGEST: u64 = 256 * 1024 * 1024;

/// The index that the platform or the app configured.
#[must_use]
pub fn index(variables: &Variables) -> &str {
    let names = ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"];
    names
        .iter()
        .find_map(|name| variables.get(name))
        .unwrap_or(INDEX)
        .trim_end_matches('/')
}

/// Whether another index than the public one is configured.
#[must_use]
pub fn is_mirrored(variables: &Variables) -> bool {
    index(variables) != INDEX
}

/// A file that an index offers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    name: String,
    url: String,
    sha256: String,
}

/// The program, downloaded unless the last build left it.
///
/// # Errors
/// Where it cannot be had.
pub fn provide(context: &BuildContext) -> Result<PathBuf> {
    let wanted = context.variables.get("BP_UV_VERSION").unwrap_or(VERSION);
    let mut layer = context.layer("uv");
    let program = layer.dir.join("bin/uv");
    if !layer.is(wanted) {
        let client = Client::new(&context.variables)?;
        let offer = choose(&offers(&client, index(&context.variables))?, wanted)?;
        output::headline(&format!("uv: downloading {}", offer.name));
        layer.reset()?;
        let integrity = Integrity::from_sha256_hex(&offer.sha256);
        let integrity = integrity.ok_or_else(|| unusable("gives no checksum (sha256) for uv"))?;
        client.download(&offer.url, &integrity, |reader| {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(reader, LARGEST), &mut bytes)?;
            unpack_zip_file(Cursor::new(bytes), "/scripts/uv", &program)
        })?;
    }
    layer.keep(Types::CACHED, wanted, &[])?;
    Ok(program)
}

fn unusable(what: &str) -> Failure {
    Failure::new(
        format!("the package index {what}"),
        "The operator checks the mirror settings of staging (UV_DEFAULT_INDEX, PIP_INDEX_URL).",
    )
}

fn offers(client: &Client, index: &str) -> Result<Vec<Offer>> {
    let url = format!("{index}/uv/");
    let answer = client.get(&url, ACCEPT)?;
    let base = Url::parse(&url).map_err(|_| unusable("has an address that is none"))?;
    if answer.content_type.contains("json") {
        parse_json(&answer.body, &base)
    } else {
        Ok(parse_html(&String::from_utf8_lossy(&answer.body), &base))
    }
}

#[derive(Deserialize)]
struct Listing {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    url: String,
    hashes: BTreeMap<String, String>,
}

fn parse_json(body: &[u8], base: &Url) -> Result<Vec<Offer>> {
    let listing: Listing =
        serde_json::from_slice(body).map_err(|error| unusable(&format!("answers with something else: {error}")))?;
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

/// The file for this machine of version `wanted`, or else of the newest that there is.
fn choose(offers: &[Offer], wanted: &str) -> Result<Offer> {
    let suffix = format!(
        "-py3-none-manylinux_2_17_{arch}.manylinux2014_{arch}.whl",
        arch = std::env::consts::ARCH
    );
    let fits: Vec<(Version, &Offer)> = offers
        .iter()
        .filter_map(|offer| {
            let version: Version = offer.name.strip_prefix("uv-")?.strip_suffix(&suffix)?.parse().ok()?;
            (!version.any_prerelease()).then_some((version, offer))
        })
        .collect();
    let exact = fits.iter().find(|(version, _)| version.to_string() == wanted);
    let chosen = exact.or_else(|| fits.iter().max_by(|a, b| a.0.cmp(&b.0)));
    chosen
        .map(|(_, offer)| (*offer).clone())
        .ok_or_else(|| unusable("has no uv for this machine"))
}

/// Folder for what uv keeps while it runs.
#[must_use]
pub fn cache(tmp: &Path) -> PathBuf {
    tmp.join("uv-cache")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("https://mirror.test/simple/uv/").unwrap()
    }

    fn name(version: &str) -> String {
        let arch = std::env::consts::ARCH;
        format!("uv-{version}-py3-none-manylinux_2_17_{arch}.manylinux2014_{arch}.whl")
    }

    #[test]
    fn both_forms_of_an_index_are_read() {
        let name = name("0.13.9");
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
    fn the_tested_version_is_taken_where_there_is_one() {
        let offers: Vec<Offer> = ["0.9.9", "0.13.9", "0.14.0rc1", "0.20.0"]
            .iter()
            .map(|version| Offer {
                name: name(version),
                url: String::new(),
                sha256: String::new(),
            })
            .collect();
        assert_eq!(choose(&offers, "0.13.9").unwrap().name, name("0.13.9"));
        assert_eq!(choose(&offers, "9").unwrap().name, name("0.20.0"));
        assert!(choose(&[], "9").is_err());
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
