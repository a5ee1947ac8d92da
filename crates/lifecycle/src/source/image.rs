//! An OCI image layout as one tree: the layers of the image for this architecture over each other, whiteouts applied.
//! Every blob is checked against its digest before anything of it is used.

use super::archive::{ENTRIES, decoded, limited};
use super::digest_of;
use crate::cnb::descriptor::ARCH;
use model::digest::Digest;
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::{Component, Path};

/// Longest index, manifest or configuration.
const DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Most layers of an image.
const LAYERS: usize = 512;
/// Most indices within each other.
const DEPTH: usize = 4;

#[derive(Debug, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Reference>,
    #[serde(default)]
    layers: Vec<Reference>,
}

#[derive(Debug, Clone, Deserialize)]
struct Reference {
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// Unpacks the image of `layout` into the new folder `tree`.
///
/// # Errors
/// Where the layout is not what its digests say, has no image for this machine, or its layers lead outside.
pub fn flatten(layout: &Path, tree: &Path) -> io::Result<()> {
    fs::create_dir_all(tree)?;
    let mut index: Index = parse(&read(&layout.join("index.json"))?)?;
    let mut depth = 0;
    while index.layers.is_empty() {
        let fits = |reference: &&Reference| {
            reference.platform.as_ref().is_none_or(|platform| {
                (platform.os.is_empty() || platform.os == "linux")
                    && (platform.architecture.is_empty() || platform.architecture == ARCH)
            })
        };
        let chosen = index.manifests.iter().find(fits);
        let chosen = chosen.ok_or_else(|| invalid(format!("the image has no manifest for linux/{ARCH}")))?;
        depth += 1;
        if depth > DEPTH {
            return Err(invalid("the image's indices have no end".to_owned()));
        }
        let mut file = blob(layout, &chosen.digest)?;
        let mut text = Vec::new();
        file.by_ref().take(DOCUMENT_BYTES).read_to_end(&mut text)?;
        index = parse(&text)?;
    }
    if index.layers.len() > LAYERS {
        return Err(invalid(format!("the image has more than {LAYERS} layers")));
    }
    for layer in &index.layers {
        let mut file = blob(layout, &layer.digest)?;
        let mut magic = [0; 4];
        let _ = file.read(&mut magic)?;
        file.rewind()?;
        apply(decoded(file, magic)?, tree)?;
    }
    Ok(())
}

fn apply(layer: impl io::Read, tree: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(limited(layer));
    archive.set_preserve_mtime(false);
    for (at, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        if at >= ENTRIES {
            return Err(invalid(format!("a layer of the image has more than {ENTRIES} entries")));
        }
        let path = entry.path()?.into_owned();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(hidden) = name.strip_prefix(".wh.") else {
            if !entry.unpack_in(tree)? {
                return Err(invalid(format!("its entry {} leads out of the image", path.display())));
            }
            continue;
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let normal = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if !folder.components().all(normal) {
            return Err(invalid(format!("its entry {} leads out of the image", path.display())));
        }
        let folder = tree.join(folder);
        // A link on the way could make this remove what is elsewhere.
        if !folder.canonicalize().is_ok_and(|real| real.starts_with(tree)) {
            continue;
        }
        if hidden == ".wh..opq" {
            for entry in fs::read_dir(&folder)? {
                remove(&entry?.path())?;
            }
        } else {
            remove(&folder.join(hidden))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// A blob whose bytes are those of its digest.
fn blob(layout: &Path, digest: &str) -> io::Result<File> {
    let digest: Digest = digest
        .parse()
        .map_err(|_| invalid(format!("the image names the digest {digest:?}")))?;
    let mut file = File::open(layout.join("blobs/sha256").join(digest.hex()))
        .map_err(|error| invalid(format!("the image lacks its blob {digest}: {error}")))?;
    let found = digest_of(&mut file)?;
    if found != digest {
        return Err(invalid(format!("the image's blob {digest} has the digest {found}")));
    }
    file.rewind()?;
    Ok(file)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(DOCUMENT_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn parse(text: &[u8]) -> io::Result<Index> {
    serde_json::from_slice(text).map_err(|error| invalid(format!("a document of the image cannot be read: {error}")))
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
