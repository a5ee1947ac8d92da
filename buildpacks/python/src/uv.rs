//! uv, the installer: one static program, taken from the package index into a layer that only builds see.

use buildpack_kit::source::mirror::Mirror;
use buildpack_kit::source::pypi::{self, Wheels};
use buildpack_kit::source::{self, Recipe, Release, Root, Source, Wanted};
use buildpack_kit::{BuildContext, Failure, Result, Types, Variables, Version};
use std::path::{Path, PathBuf};

/// Its name, wherever it lies in the archive.
const PROGRAM: &str = "uv";
/// The version that this buildpack is tested with; another by `BP_UV_VERSION`.
const VERSION: &str = "0.13.9";
/// Changes whenever the layout of the layer does.
const LAYOUT: &str = "1";

/// The index that the platform or the app configured.
#[must_use]
pub fn index(variables: &Variables) -> &str {
    pypi::index(variables)
}

/// Whether another index than the public one is configured.
#[must_use]
pub fn is_mirrored(variables: &Variables) -> bool {
    index(variables) != pypi::INDEX
}

/// The program, downloaded unless the last build left it.
///
/// # Errors
/// Where it cannot be had.
pub fn provide(context: &BuildContext) -> Result<PathBuf> {
    let variables = &context.variables;
    let (text, said_by) = match variables.get("BP_UV_VERSION") {
        Some(text) => (text, "BP_UV_VERSION"),
        None => (VERSION, "default"),
    };
    let wanted = Wanted {
        layer: "uv",
        title: "uv",
        text,
        said_by,
        types: Types::CACHED,
        layout: LAYOUT,
    };
    let mirror = Mirror::configured(variables, "uv");
    let wheels = Wheels::new(variables, "uv", Root::Strip(0));
    let source: &dyn Source = mirror.as_ref().map_or(&wheels, |mirror| mirror);
    let recipe = Recipe {
        choose: &|releases| choose(releases, text),
        place: &|path| path.ends_with(PROGRAM).then(|| PathBuf::from("bin").join(PROGRAM)),
        finish: &|_| Ok(()),
    };
    let provided = source::provide(context, &wanted, source, &recipe)?;
    Ok(provided.layer.dir.join("bin").join(PROGRAM))
}

/// Keeps the layer with uv in the cache although this build did not need it.
///
/// # Errors
/// Where its description cannot be written.
pub fn keep(context: &BuildContext) -> Result<()> {
    source::keep_unused(&context.layer("uv"), Types::CACHED)
}

/// The release of version `wanted`, or else the newest.
fn choose(releases: &[Release], wanted: &str) -> Result<Release> {
    let numbered = releases
        .iter()
        .filter_map(|release| Some((Version::parse(&release.version)?, release)));
    let exact = releases.iter().find(|release| release.version == wanted);
    let newest = || numbered.max_by(|a, b| a.0.cmp(&b.0)).map(|(_, release)| release);
    exact.or_else(newest).cloned().ok_or_else(|| {
        Failure::new(
            "the configured source has no uv for this machine",
            "The operator checks the mirror settings of staging (BP_MIRROR, UV_DEFAULT_INDEX, PIP_INDEX_URL).",
        )
    })
}

/// Folder for what uv keeps while it runs.
#[must_use]
pub fn cache(tmp: &Path) -> PathBuf {
    tmp.join("uv-cache")
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildpack_kit::http::Integrity;
    use buildpack_kit::source::Form;

    #[test]
    fn the_tested_version_is_taken_where_there_is_one() {
        let releases: Vec<Release> = ["0.9.9", "0.13.9", "0.14.0rc1", "0.20.0"]
            .iter()
            .map(|version| Release {
                version: (*version).to_owned(),
                url: String::new(),
                integrity: Integrity::Sha256(Vec::new()),
                form: Form::Zip,
                root: Root::Strip(0),
            })
            .collect();
        assert_eq!(choose(&releases, "0.13.9").unwrap().version, "0.13.9");
        assert_eq!(choose(&releases, "9").unwrap().version, "0.20.0");
        assert!(choose(&[], "9").is_err());
    }
}
