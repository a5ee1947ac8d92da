//! Unpacks an archive of whatever form: zip, tar, compressed or not, with or without one folder around everything, or an
//! OCI image. Inside a sandbox, so what it has to guard is the build: against what leads outside, and against endlessness.

use super::{image, only_folder};
use crate::image::decoded;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

/// Most bytes that an archive may unpack to.
pub const TOTAL_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Most entries of an archive.
pub const ENTRIES: usize = 200_000;
/// Longest target of a link.
const TARGET_BYTES: u64 = 4096;

/// Unpacks `file` below the empty `folder` and says where the buildpack is.
///
/// # Errors
/// Where it is no archive, damaged, leads outside, or holds too much.
pub fn unpack(mut file: File, folder: &Path) -> io::Result<PathBuf> {
    let mut magic = [0; 2];
    let read = file.read(&mut magic)?;
    file.rewind()?;
    if magic[..read] == *b"PK" {
        unpack_zip(file, folder)?;
    } else {
        unpack_tar(decoded(file)?, folder)?;
    }
    let root = only_folder(folder)?;
    if !root.join("oci-layout").is_file() {
        return Ok(root);
    }
    let tree = folder.with_extension("image");
    image::flatten(&root, &tree)?;
    Ok(tree)
}

fn unpack_tar(reader: impl Read, folder: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(limited(reader));
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(false);
    archive.set_overwrite(true);
    for (at, entry) in archive.entries()?.enumerate() {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        if at >= ENTRIES {
            return Err(too_much("entries", ENTRIES as u64));
        }
        if !entry.unpack_in(folder)? {
            return Err(leads_out(&entry.path()?));
        }
    }
    Ok(())
}

fn unpack_zip(file: File, folder: &Path) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(&error))?;
    if archive.len() > ENTRIES {
        return Err(too_much("entries", ENTRIES as u64));
    }
    let mut left = TOTAL_BYTES;
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(|error| damaged(&error))?;
        let name = entry.name().map_err(|error| damaged(&error))?.into_owned();
        let path = inside(folder, Path::new(&name))?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        if entry.is_dir() {
            fs::create_dir_all(&path)?;
        } else if entry.is_symlink() {
            let mut target = String::new();
            entry.by_ref().take(TARGET_BYTES).read_to_string(&mut target)?;
            symlink(target, &path)?;
        } else {
            let mode = entry.unix_mode().unwrap_or(0o755) & 0o777;
            let mut output = File::options()
                .write(true)
                .create_new(true)
                .mode(mode | 0o600)
                .open(&path)?;
            let written = io::copy(&mut entry.by_ref().take(left + 1), &mut output)?;
            left = left
                .checked_sub(written)
                .ok_or_else(|| too_much("bytes", TOTAL_BYTES))?;
        }
    }
    Ok(())
}

/// `folder` and `name`, which must not lead outside, also not over a link that the archive made.
fn inside(folder: &Path, name: &Path) -> io::Result<PathBuf> {
    let mut path = folder.to_owned();
    for part in name.components() {
        match part {
            Component::CurDir => continue,
            Component::Normal(part) => path.push(part),
            _ => return Err(leads_out(name)),
        }
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
            return Err(leads_out(name));
        }
    }
    Ok(path)
}

/// `reader` with an end.
pub fn limited(reader: impl Read) -> impl Read {
    Limited {
        inner: reader,
        left: TOTAL_BYTES,
    }
}

struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| too_much("bytes", TOTAL_BYTES))?;
        Ok(read)
    }
}

fn damaged(error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("it is no archive, or damaged: {error}"),
    )
}

fn leads_out(name: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("its entry {} leads out of the archive", name.display()),
    )
}

fn too_much(what: &str, limit: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("it unpacks to more than {limit} {what}"),
    )
}
