//! The archive of what the server lacks. Equal input makes equal bytes, whoever packs it and when.

use super::{File, Link};
use crate::errors::Error;
use std::io::{Seek as _, SeekFrom};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Extensions of files that don't get smaller.
const PACKED: &[&str] = &[
    "7z", "br", "bz2", "gif", "gz", "jar", "jpeg", "jpg", "mp3", "mp4", "png", "tgz", "war", "webm", "webp", "whl",
    "woff", "woff2", "xz", "zip", "zst",
];

/// Packs `files`, `links` and `folders` into a temporary file that is gone when it is closed; returns it and its length.
///
/// # Errors
/// Where a file can't be read or the archive not written.
pub fn pack(files: &[&File], links: &[Link], folders: &[String]) -> Result<(std::fs::File, u64), Error> {
    let file = tempfile::tempfile().map_err(|error| Error::file("create", "a temporary file", &error))?;
    let mut archive = ZipWriter::new(std::io::BufWriter::new(file));
    for folder in folders {
        archive
            .add_directory(format!("{folder}/"), options(0o755))
            .map_err(|error| failed(folder, &error))?;
    }
    for link in links {
        archive
            .add_symlink(link.path.as_str(), link.target.as_str(), options(0o777))
            .map_err(|error| failed(&link.path, &error))?;
    }
    for file in files {
        let method = if is_packed(&file.path) {
            CompressionMethod::Stored
        } else {
            CompressionMethod::Deflated
        };
        let level = (method == CompressionMethod::Deflated).then_some(1);
        let options = options(file.mode).compression_method(method).compression_level(level);
        archive
            .start_file(file.path.as_str(), options)
            .map_err(|error| failed(&file.path, &error))?;
        let copied = std::fs::File::open(&file.source)
            .and_then(|mut source| std::io::copy(&mut source, &mut archive))
            .map_err(|error| Error::file("pack", &file.source, &error))?;
        if copied != file.stamp.bytes {
            return Err(Error::Changed {
                path: file.source.clone(),
            });
        }
    }
    let writer = archive.finish().map_err(|error| failed("its end", &error))?;
    let mut file = writer
        .into_inner()
        .map_err(|error| Error::file("write", "a temporary file", error.error()))?;
    let length = file
        .seek(SeekFrom::End(0))
        .map_err(|error| Error::file("write", "a temporary file", &error))?;
    Ok((file, length))
}

fn options(mode: u32) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .unix_permissions(mode)
}

fn is_packed(path: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, extension)| PACKED.contains(&extension.to_ascii_lowercase().as_str()))
}

fn failed(path: &str, error: &dyn std::error::Error) -> Error {
    Error::File {
        operation: "pack",
        path: path.into(),
        detail: error.to_string(),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::source::scan::scan;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    fn packed(names: &[&str]) -> Vec<u8> {
        let root = tempfile::tempdir().expect("folder");
        for name in names {
            std::fs::write(root.path().join(name), format!("contents of {name}")).expect("written");
        }
        std::fs::set_permissions(root.path().join("run.sh"), std::fs::Permissions::from_mode(0o755)).expect("set");
        std::os::unix::fs::symlink("run.sh", root.path().join("start")).expect("linked");
        std::fs::create_dir(root.path().join("empty")).expect("made");
        let tree = scan(root.path()).expect("scans");
        let files: Vec<_> = tree.files.iter().collect();
        let (mut file, length) = pack(&files, &tree.links, &tree.empty_folders).expect("packs");
        let mut bytes = Vec::new();
        file.rewind().expect("rewinds");
        file.read_to_end(&mut bytes).expect("reads");
        assert_eq!(bytes.len() as u64, length);
        bytes
    }

    #[test]
    fn equal_trees_make_equal_archives() {
        assert_eq!(
            packed(&["a.txt", "run.sh", "z.png"]),
            packed(&["z.png", "run.sh", "a.txt"])
        );
    }

    #[test]
    fn modes_links_and_empty_folders_are_kept() {
        let bytes = packed(&["run.sh"]);
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).expect("opens");
        let names: Vec<String> = (0..archive.len())
            .map(|index| {
                archive
                    .by_index_raw(index)
                    .expect("there")
                    .name()
                    .expect("UTF-8")
                    .into_owned()
            })
            .collect();
        assert_eq!(names, ["empty/", "start", "run.sh"]);
        assert_eq!(
            archive
                .by_name("run.sh")
                .expect("there")
                .unix_mode()
                .map(|mode| mode & 0o777),
            Some(0o755)
        );
        let mut link = archive.by_name("start").expect("there");
        assert!(link.is_symlink());
        let mut target = String::new();
        link.read_to_string(&mut target).expect("reads");
        assert_eq!(target, "run.sh");
    }
}
