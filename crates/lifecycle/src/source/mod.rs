//! Buildpacks that have to be had first: uploaded archives, archives and repositories behind a URL, folders of the app.
//!
//! It all happens inside the staging sandbox, under the build's own limits and network rules: whatever a URL leads to and
//! whatever an archive holds can harm nothing but this build. Downloads with a digest are kept for the next build.

mod archive;
mod image;
mod remote;

use crate::cnb::layers::{Layer, LayerToml};
use crate::cnb::process::Surroundings;
use crate::{Error, Paths, ui};
use model::digest::Digest;
use model::staging::{BuildInput, BuildpackMount, BuildpackSource, LayerTypes};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Owner under which downloads are kept; no buildpack may have this id.
const OWNER: &str = "generated";
/// Name of a download in its folder.
const FILE: &str = "bits";

/// Buildpacks as folders, and what the next build gets back.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The input's buildpacks, in order; every one a folder now.
    pub buildpacks: Vec<BuildpackMount>,
    /// Downloads.
    pub caches: Vec<Layer>,
}

/// Makes a folder of every buildpack of `input`.
///
/// # Errors
/// [`Error::Source`] with the buildpack that cannot be had.
pub fn fetch(paths: &Paths, input: &BuildInput, around: &Surroundings, tmp: &Path) -> Result<Fetched, Error> {
    let mut fetched = Fetched::default();
    for (at, mount) in input.buildpacks.iter().enumerate() {
        let Some(source) = &mount.source else {
            fetched.buildpacks.push(mount.clone());
            continue;
        };
        let folder = tmp.join("sources").join(at.to_string());
        let failed = |reason: String| Error::Source {
            buildpack: mount.name.clone(),
            reason,
        };
        std::fs::create_dir_all(&folder).map_err(Error::file("create folder", &folder))?;
        let root = match source {
            BuildpackSource::Archive { path, digest } => open(Path::new(path), Some(digest))
                .and_then(|file| archive::unpack(file, &folder))
                .map_err(|error| failed(error.to_string()))?,
            BuildpackSource::Url { url, digest } => {
                let (file, cache) = download(paths, input, around, url, digest.as_ref(), tmp).map_err(failed)?;
                fetched.caches.extend(cache);
                archive::unpack(file, &folder).map_err(|error| failed(error.to_string()))?
            }
            BuildpackSource::Git { url, reference } => {
                remote::clone(url, reference.as_deref(), &folder, around).map_err(failed)?;
                folder.clone()
            }
            BuildpackSource::App { path } => {
                copy_from_app(&paths.app, path, &folder).map_err(|error| failed(error.to_string()))?;
                folder.clone()
            }
        };
        fetched.buildpacks.push(BuildpackMount {
            name: mount.name.clone(),
            path: root.display().to_string(),
            source: None,
        });
    }
    Ok(fetched)
}

/// The archive at `url`, from the last build where that had it.
fn download(
    paths: &Paths,
    input: &BuildInput,
    around: &Surroundings,
    url: &str,
    digest: Option<&Digest>,
    tmp: &Path,
) -> Result<(File, Option<Layer>), String> {
    let Some(digest) = digest else {
        let file = tmp.join("download");
        let found = remote::download(url, &file, around)?;
        ui::detail(&format!("To pin it, name it {url}#{found}"));
        return Ok((open(&file, None).map_err(|error| error.to_string())?, None));
    };
    let folder = paths.layers.join(OWNER).join(digest.hex());
    let file = folder.join(FILE);
    let is_back = |layer: &model::staging::CachedLayer| layer.buildpack == OWNER && layer.layer == digest.hex();
    if input.restored.iter().any(is_back) && file.is_file() {
        ui::headline(&format!("Buildpack of {url} as the last build had it"));
    } else {
        std::fs::create_dir_all(&folder).map_err(|error| format!("create {}: {error}", folder.display()))?;
        let found = remote::download(url, &file, around)?;
        if found != *digest {
            let _ = std::fs::remove_file(&file);
            return Err(format!(
                "what {url} answers has the digest {found}, and {digest} is asked for"
            ));
        }
    }
    let opened = open(&file, Some(digest)).map_err(|error| error.to_string())?;
    let layer = Layer {
        buildpack: OWNER.to_owned(),
        name: digest.hex(),
        dir: folder,
        toml: LayerToml {
            types: LayerTypes {
                cache: true,
                ..LayerTypes::default()
            },
            metadata: toml::Table::new(),
        },
    };
    Ok((opened, Some(layer)))
}

/// Opens a file that must have this digest.
fn open(path: &Path, digest: Option<&Digest>) -> io::Result<File> {
    use io::Seek as _;
    let mut file = File::open(path)?;
    if let Some(digest) = digest {
        let found = digest_of(&mut file)?;
        if found != *digest {
            return Err(io::Error::other(format!(
                "its digest is {found}, and {digest} is asked for"
            )));
        }
        file.rewind()?;
    }
    Ok(file)
}

fn digest_of(reader: &mut impl Read) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(Digest::from_sha256(hash.finalize().into())),
            read => hash.update(&chunk[..read]),
        }
    }
}

/// Copies a folder of the app, which the build may change.
fn copy_from_app(app: &Path, path: &str, to: &Path) -> io::Result<()> {
    let from = app.join(path);
    let inside = from.canonicalize()?.starts_with(app.canonicalize()?);
    if !inside || !from.is_dir() {
        return Err(io::Error::other(format!("{path} is no folder of the app")));
    }
    crate::classic::copy_tree(&from, to)
}

/// The folder that holds the buildpack: `folder`, or the one folder in it.
fn only_folder(folder: &Path) -> io::Result<PathBuf> {
    if is_buildpack(folder) {
        return Ok(folder.to_owned());
    }
    let entries: Result<Vec<_>, _> = std::fs::read_dir(folder)?.collect();
    match entries?.as_slice() {
        [only] if only.file_type()?.is_dir() => Ok(only.path()),
        _ => Ok(folder.to_owned()),
    }
}

fn is_buildpack(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    has("buildpack.toml") || has("bin") || has("cnb/buildpacks") || has("oci-layout")
}
