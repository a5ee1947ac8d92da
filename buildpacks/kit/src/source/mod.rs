//! Where runtimes come from, one way for all languages: a source is asked for its releases, one of them is chosen, and its
//! file becomes a layer, verified. What was resolved is used again while it satisfies the app, so that an unchanged push
//! asks nobody; after a week newer releases are looked for.
//!
//! Which release is wanted, and which of its files, is the language's business.

pub mod debian;
pub mod mirror;
pub mod npm;
pub mod pypi;
mod signed;

use crate::archive::{unpack_deb, unpack_tar_gz, unpack_zip};
use crate::http::{Client, Integrity};
use crate::{BuildContext, Failure, Layer, Result, Types, output};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How long a resolved version is used without looking for a newer one, in seconds.
const REFRESH: u64 = 7 * 24 * 3600;

/// One version of a runtime that can be had for this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// As its publisher writes it.
    pub version: String,
    /// Its file.
    pub url: String,
    /// What the publisher says of the file.
    pub integrity: Integrity,
    /// Of what kind the file is.
    pub form: Form,
    /// Where in the archive the runtime lies.
    pub root: Root,
}

/// Of what kind a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `.tar.gz`, `.tgz`.
    TarGz,
    /// `.zip`, `.whl`, `.jar`.
    Zip,
    /// `.deb`: what it installs.
    Deb,
}

impl Form {
    /// By the end of a file's name; `None` for kinds that are not read.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if ends(&[".tar.gz", ".tgz"]) {
            Some(Self::TarGz)
        } else if ends(&[".zip", ".whl", ".jar"]) {
            Some(Self::Zip)
        } else {
            None
        }
    }
}

/// Where in an archive the runtime lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// Below so many folders.
    Strip(usize),
    /// In this folder; the rest is not part of it.
    Below(PathBuf),
}

impl Root {
    fn of(&self, path: &Path) -> Option<PathBuf> {
        let found = match self {
            Self::Strip(count) => path.components().skip(*count).collect(),
            Self::Below(folder) => path.strip_prefix(folder).ok()?.to_owned(),
        };
        Some(found).filter(|path| !path.as_os_str().is_empty())
    }
}

/// Somewhere a runtime is published.
pub trait Source {
    /// For people, such as `the package index https://pypi.org/simple`.
    fn describe(&self) -> String;

    /// Everything it has for this machine.
    ///
    /// # Errors
    /// Where it cannot be asked, or answers with something else.
    fn releases(&self, client: &Client) -> Result<Vec<Release>>;
}

/// A runtime that a build needs.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Name of its layer.
    pub layer: &'a str,
    /// For people, such as `Go`.
    pub title: &'a str,
    /// The version or range as written.
    pub text: &'a str,
    /// Where it is written, such as `go.mod`.
    pub said_by: &'a str,
    /// What the layer is for.
    pub types: Types,
    /// Changes whenever what is made of a release does.
    pub layout: &'a str,
}

/// A runtime in its layer.
#[derive(Debug)]
pub struct Provided {
    /// The layer, kept.
    pub layer: Layer,
    /// Its version.
    pub version: String,
}

/// What a language knows of its releases.
pub struct Recipe<'a> {
    /// The one that is wanted.
    pub choose: &'a dyn Fn(&[Release]) -> Result<Release>,
    /// Where a file of the runtime goes in the layer; `None` leaves it out.
    pub place: &'a dyn Fn(&Path) -> Option<PathBuf>,
    /// Completes a layer that was filled.
    pub finish: &'a dyn Fn(&Layer) -> Result<()>,
}

/// The runtime in its layer: as the last build left it, or installed now.
///
/// # Errors
/// Where no release will do, or it cannot be had.
pub fn provide(
    context: &BuildContext,
    wanted: &Wanted<'_>,
    source: &dyn Source,
    recipe: &Recipe<'_>,
) -> Result<Provided> {
    let mut layer = context.layer(wanted.layer);
    let now = SystemTime::now();
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let described = source.describe();
    let known = restored(&layer, wanted, &described);
    if let Some((version, resolved)) = &known
        && seconds.saturating_sub(*resolved) < REFRESH
    {
        announce(wanted, version, "reused");
        return keep(layer, wanted, version, &described, *resolved);
    }
    let client = Client::new(&context.variables)?;
    let chosen = source.releases(&client).and_then(|releases| (recipe.choose)(&releases));
    let release = match (chosen, known) {
        (Ok(release), _) => release,
        (Err(failure), Some((version, resolved))) => {
            output::alert(&format!(
                "No newer {} could be looked for: {}",
                wanted.title, failure.cause
            ));
            return keep(layer, wanted, &version, &described, resolved);
        }
        (Err(failure), None) => return Err(failure),
    };
    if layer.is(&key(wanted, &release.version)) {
        announce(wanted, &release.version, "still the newest");
    } else {
        announce(wanted, &release.version, &format!("installing from {described}"));
        layer.reset()?;
        unpack(&client, &release, &context.layers, &layer.dir, recipe.place)?;
        (recipe.finish)(&layer)?;
    }
    keep(layer, wanted, &release.version, &described, seconds)
}

/// Downloads `release` and unpacks what `place` takes of it into `target`; `scratch` is on the same file system.
///
/// # Errors
/// Where it cannot be had, or is not what its publisher describes.
pub fn unpack(
    client: &Client,
    release: &Release,
    scratch: &Path,
    target: &Path,
    place: &dyn Fn(&Path) -> Option<PathBuf>,
) -> Result<()> {
    let put = |path: &Path| release.root.of(path).and_then(|path| place(&path));
    match release.form {
        Form::TarGz => {
            return client.download(&release.url, &release.integrity, |reader| {
                unpack_tar_gz(reader, target, put)
            });
        }
        Form::Deb => {
            return client.download(&release.url, &release.integrity, |reader| {
                unpack_deb(reader, target, put)
            });
        }
        Form::Zip => {}
    }
    // The index of a zip is at its end, so it is kept until it is complete.
    let mut file = tempfile::tempfile_in(scratch).map_err(Failure::file("create a file in", scratch))?;
    client.download(&release.url, &release.integrity, |reader| {
        rewind(&mut file)?;
        io::copy(reader, &mut file).map(drop)
    })?;
    unpack_zip(file, target, put).map_err(Failure::file("unpack an archive into", target))
}

fn rewind(file: &mut File) -> io::Result<()> {
    io::Seek::rewind(file)?;
    file.set_len(0)
}

fn key(wanted: &Wanted<'_>, version: &str) -> String {
    format!("{}-{version}-{}", wanted.layer, wanted.layout)
}

/// The version in the restored layer where it was made for the same wish, with the time at which it was resolved.
fn restored(layer: &Layer, wanted: &Wanted<'_>, source: &str) -> Option<(String, u64)> {
    let version = layer.restored("version")?.to_owned();
    let resolved = layer.restored("resolved")?.parse().ok()?;
    let same = layer.restored("wanted") == Some(wanted.text) && layer.restored("source") == Some(source);
    (same && layer.is(&key(wanted, &version))).then_some((version, resolved))
}

fn keep(layer: Layer, wanted: &Wanted<'_>, version: &str, source: &str, resolved: u64) -> Result<Provided> {
    let resolved = resolved.to_string();
    let metadata = [
        ("version", version),
        ("wanted", wanted.text),
        ("source", source),
        ("resolved", &resolved),
    ];
    layer.keep(wanted.types, &key(wanted, version), &metadata)?;
    Ok(Provided {
        layer,
        version: version.to_owned(),
    })
}

/// Keeps a layer of [`provide`] as it was restored, for a build that does not need it.
///
/// # Errors
/// Where its description cannot be written.
pub fn keep_unused(layer: &Layer, types: Types) -> Result<()> {
    let names = ["version", "wanted", "source", "resolved"];
    let metadata: Vec<(&str, &str)> = names
        .iter()
        .filter_map(|name| Some((*name, layer.restored(name)?)))
        .collect();
    match layer.restored("key") {
        Some(key) if layer.is(key) => layer.keep(types, key, &metadata),
        _ => Ok(()),
    }
}

fn announce(wanted: &Wanted<'_>, version: &str, how: &str) {
    let said = if wanted.said_by == "default" {
        "default".to_owned()
    } else {
        format!("{} in {}", wanted.text, wanted.said_by)
    };
    output::headline(&format!("{} {version} ({said}): {how}", wanted.title));
}

#[cfg(test)]
mod tests;
