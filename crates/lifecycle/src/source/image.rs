//! An OCI image layout as one tree: the layers of the image for this architecture over each other, whiteouts applied.
//! Every blob is checked against its digest before anything of it is used.

use super::archive::{ENTRIES, limited};
use crate::image::decoded;
use image::layout::Layout;
use std::fs;
use std::io;
use std::path::{Component, Path};

/// Unpacks the image of `layout` into the new folder `tree`.
///
/// # Errors
/// Where the layout is not what its digests say, has no image for this machine, or its layers lead outside.
pub fn flatten(layout: &Path, tree: &Path) -> io::Result<()> {
    fs::create_dir_all(tree)?;
    let told = |error: image::Error| invalid(crate::errors::chain(&error));
    let (layout, image) = Layout::open(layout).map_err(told)?;
    for layer in &image.layers {
        // Once for its digest: what is unpacked from here on is known to be what it says.
        io::copy(&mut layout.layer(layer).map_err(told)?, &mut io::sink())?;
        apply(decoded(layout.layer(layer).map_err(told)?)?, tree)?;
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

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
