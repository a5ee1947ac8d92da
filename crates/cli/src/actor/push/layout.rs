//! Images on this machine that are pushed: a layout as it is, an archive of one unpacked first. What is in it the
//! platform looks at.

use crate::errors::Error;
use std::fs::File;
use std::io::{BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};

/// Most bytes of an archive's files, and most of them: what a package may have.
const MAX_BYTES: u64 = crate::source::MAX_PACKAGE_BYTES;
const MAX_FILES: usize = 10_000;
/// One of these a layout has.
const MARKS: [&str; 2] = [image::layout::INDEX_FILE, "manifest.json"];

/// The folder with the layout that `path` is, with the temporary one that it was unpacked into.
type Opened = (Option<PathBuf>, Option<tempfile::TempDir>);

/// Finds the layout at `path`.
///
/// # Errors
/// Where there is none, or it cannot be unpacked.
pub fn open(path: &Path) -> Result<Opened, Error> {
    let is_one = |folder: &Path| MARKS.iter().any(|mark| folder.join(mark).is_file());
    let none = || Error::Usage {
        message: format!("{} is no image", path.display()),
        hint: Some("name a folder in the OCI image layout, or an archive that docker save wrote".into()),
    };
    if path.is_dir() {
        return if is_one(path) {
            Ok((Some(path.to_owned()), None))
        } else {
            Err(none())
        };
    }
    let failed = |error: std::io::Error| Error::File {
        operation: "read",
        path: path.to_owned(),
        detail: error.to_string(),
    };
    let folder = tempfile::tempdir().map_err(failed)?;
    unpack(path, folder.path()).map_err(failed)?;
    if is_one(folder.path()) {
        Ok((Some(folder.path().to_owned()), Some(folder)))
    } else {
        Err(none())
    }
}

/// Unpacks an archive into the empty `folder`.
///
/// # Errors
/// Where it is none, leads outside or holds too much.
pub fn unpack(path: &Path, folder: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut magic = [0; 2];
    let read = file.read(&mut magic)?;
    file.rewind()?;
    let buffered = BufReader::with_capacity(256 * 1024, file);
    let reader: Box<dyn Read> = if magic[..read] == [0x1f, 0x8b] {
        Box::new(flate2::read::MultiGzDecoder::new(buffered))
    } else {
        Box::new(buffered)
    };
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(false);
    let too_much = || std::io::Error::other(format!("it holds more than {MAX_FILES} files or {MAX_BYTES} bytes"));
    let mut left = MAX_BYTES;
    for (at, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        left = left.checked_sub(entry.size()).ok_or_else(too_much)?;
        if at >= MAX_FILES {
            return Err(too_much());
        }
        if !entry.unpack_in(folder)? {
            return Err(std::io::Error::other(format!(
                "its entry {} leads out of it",
                entry.path()?.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut builder = tar::Builder::new(file.reopen().expect("opened"));
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, &b"[]"[..]).expect("appended");
        builder.finish().expect("finished");
        file
    }

    #[test]
    fn archives_are_unpacked_and_what_is_no_image_is_said() {
        let (folder, kept) = open(archive("manifest.json").path()).expect("opens");
        assert!(folder.expect("a folder").join("manifest.json").is_file() && kept.is_some());
        assert!(open(archive("other.json").path()).is_err());
        assert!(open(archive("../manifest.json").path()).is_err());
        assert!(open(Path::new("/nonexistent")).is_err());
        assert!(open(tempfile::tempdir().expect("folder").path()).is_err());
    }
}
