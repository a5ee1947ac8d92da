//! Bills of materials: `<layer>.sbom.<format>.json`, `launch.sbom.<format>.json` and `build.sbom.<format>.json` beside a
//! buildpack's layers. They are gathered below `/layers/sbom`, go into the droplet as one layer, and come back with the
//! layers that they describe. What they say is the buildpack's matter: it is not read.

use super::descriptor::Buildpack;
use super::layers::Layer;
use crate::paths::escape_id;
use crate::{Error, Paths};
use model::staging::{CachedLayer, SbomFile};
use std::fs;
use std::path::{Path, PathBuf};

/// Owner and name under which the gathered files are kept for the next build; no buildpack may have this id.
pub const OWNER: &str = "sbom";
/// The folder of the gathered files, as a layer's name.
pub const LAYER: &str = "files";
/// Formats by file name, with their media types.
const FORMATS: [(&str, &str); 3] = [
    ("cdx", "application/vnd.cyclonedx+json"),
    ("spdx", "application/spdx+json"),
    ("syft", "application/vnd.syft+json"),
];
/// Largest file that is kept.
const LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// Where the gathered files lie.
#[must_use]
pub fn folder(paths: &Paths) -> PathBuf {
    paths.layers.join(OWNER).join(LAYER)
}

/// Puts back the files of the layers in `restored` that have their metadata back.
///
/// # Errors
/// Where a file cannot be copied.
pub fn restore(paths: &Paths, buildpack: &str, restored: &[CachedLayer]) -> Result<(), Error> {
    let own = paths.buildpack_layers(buildpack);
    for layer in restored.iter().filter(|layer| layer.buildpack == buildpack) {
        if !own.join(format!("{}.toml", layer.layer)).is_file() {
            continue;
        }
        for scope in ["launch", "build", "cache"] {
            let kept = folder(paths).join(scope).join(escape_id(buildpack)).join(&layer.layer);
            for (format, _) in FORMATS {
                let from = kept.join(format!("sbom.{format}.json"));
                let to = own.join(format!("{}.sbom.{format}.json", layer.layer));
                if from.is_file() && !to.exists() {
                    copy(&from, &to)?;
                }
            }
        }
    }
    Ok(())
}

/// Forgets what earlier builds gathered; to be called when every buildpack has its own back.
///
/// # Errors
/// Where the folder cannot be removed.
pub fn clear(paths: &Paths) -> Result<(), Error> {
    let folder = folder(paths);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// What `buildpack` wrote, found beside its layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    from: PathBuf,
    /// As it will be listed.
    pub file: SbomFile,
}

/// Finds the files of `buildpack`.
///
/// # Errors
/// [`Error::Contract`] where it writes a format that it does not declare, or one is no file or too large.
pub fn find(paths: &Paths, buildpack: &Buildpack, layers: &[Layer]) -> Result<Vec<Found>, Error> {
    let own = paths.buildpack_layers(buildpack.id());
    let mut found = Vec::new();
    for (format, media_type) in FORMATS {
        let mut note = |stem: &str, layer: Option<&str>, scope: &str| -> Result<(), Error> {
            let name = format!("{stem}.sbom.{format}.json");
            let from = own.join(&name);
            let Ok(status) = fs::symlink_metadata(&from) else {
                return Ok(());
            };
            let invalid = |reason: String| Error::Contract {
                buildpack: buildpack.name.clone(),
                file: name.clone(),
                reason,
            };
            if !status.is_file() || status.len() > LIMIT_BYTES {
                return Err(invalid("it is no file, or longer than 64 MiB".to_owned()));
            }
            let declared = &buildpack.descriptor.buildpack.sbom_formats;
            if !declared.iter().any(|declared| media_of(declared) == media_type) {
                return Err(invalid(format!(
                    "buildpack.toml does not list {media_type} in its sbom-formats"
                )));
            }
            let mut path = folder(paths).join(scope).join(escape_id(buildpack.id()));
            path.extend(layer);
            found.push(Found {
                from,
                file: SbomFile {
                    buildpack: buildpack.id().to_owned(),
                    layer: layer.map(str::to_owned),
                    scope: scope.to_owned(),
                    media_type: media_type.to_owned(),
                    path: path.join(format!("sbom.{format}.json")).display().to_string(),
                },
            });
            Ok(())
        };
        note("launch", None, "launch")?;
        note("build", None, "build")?;
        for layer in layers {
            let types = layer.toml.types;
            let scope = match (types.launch, types.cache) {
                (true, _) => "launch",
                (false, true) => "cache",
                (false, false) => "build",
            };
            note(&layer.name, Some(&layer.name), scope)?;
        }
    }
    Ok(found)
}

/// A media type without its parameters, such as the version of the format.
fn media_of(declared: &str) -> &str {
    declared.split(';').next().unwrap_or_default().trim()
}

/// Gathers the files of all buildpacks; `None` where there are none.
///
/// # Errors
/// Where a file cannot be copied.
pub fn gather(paths: &Paths, found: &[Found]) -> Result<Option<PathBuf>, Error> {
    for Found { from, file } in found {
        let to = Path::new(&file.path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(Error::file("create folder", parent))?;
        }
        copy(from, to)?;
    }
    Ok((!found.is_empty()).then(|| folder(paths)))
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::copy(from, to).map(|_| ()).map_err(Error::file("write", to))
}
