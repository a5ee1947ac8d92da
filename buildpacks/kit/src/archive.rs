//! Unpacks the archives of registries into layers: regular files, folders and links that stay inside, nothing else.

use flate2::read::GzDecoder;
use std::borrow::Cow;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

/// Most bytes that one archive may unpack to.
const TOTAL_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Unpacks a `.tgz` into `target` without its first path component. `place` says where an entry goes, relative to `target`,
/// or that it is left out.
///
/// # Errors
/// Where it is damaged, leads outside, or cannot be written.
pub fn unpack_tgz(reader: impl Read, target: &Path, place: impl Fn(&Path) -> Option<PathBuf>) -> io::Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(reader).take(TOTAL_BYTES));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let stripped: PathBuf = path.components().skip(1).collect();
        if stripped.as_os_str().is_empty() {
            continue;
        }
        let Some(place) = place(&stripped) else { continue };
        let file = inside(target, &place)?;
        match entry.header().entry_type() {
            tar::EntryType::Directory => fs::create_dir_all(&file)?,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let executable = entry.header().mode()? & 0o111 != 0;
                write(&file, executable, &mut entry)?;
            }
            // Packages of registries hold no links; what claims to be one is left out.
            _ => {}
        }
    }
    Ok(())
}

/// Unpacks the one file of a zip whose path ends with `suffix` to `target`, executable.
///
/// # Errors
/// Where it is damaged, has no such file, or cannot be written.
pub fn unpack_zip_file(reader: impl Read + Seek, suffix: &str, target: &Path) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(reader).map_err(io::Error::other)?;
    let mut names = archive.file_names().filter_map(Result::ok);
    let name = names.find(|name| name.ends_with(suffix)).map(Cow::into_owned);
    drop(names);
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("the archive has no {suffix}")))?;
    let file = archive.by_name(&name).map_err(io::Error::other)?;
    write(target, true, &mut file.take(TOTAL_BYTES))
}

fn inside(target: &Path, path: &Path) -> io::Result<PathBuf> {
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(target.join(path));
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{} leads out of the archive", path.display()),
    ))
}

fn write(file: &Path, executable: bool, content: &mut impl Read) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mode = if executable { 0o755 } else { 0o644 };
    let mut output = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(file)?;
    io::copy(content, &mut output).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::os::unix::fs::PermissionsExt as _;

    fn tgz(entries: &[(&str, u32)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, mode) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(2);
            header.set_mode(*mode);
            // Names that the safe setter would refuse.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, &b"hi"[..]).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn files_are_placed_with_their_executable_bit() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = tgz(&[("package/bin/node", 0o755), ("package/README.md", 0o600)]);
        unpack_tgz(&bytes[..], folder.path(), |path| {
            path.starts_with("bin").then(|| path.to_owned())
        })
        .unwrap();
        let mode = fs::metadata(folder.path().join("bin/node"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
        assert!(!folder.path().join("README.md").exists());
    }

    #[test]
    fn nothing_leads_outside() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = tgz(&[("package/../../evil", 0o644)]);
        assert!(unpack_tgz(&bytes[..], &folder.path().join("a"), |path| Some(path.to_owned())).is_err());
        assert!(!folder.path().join("evil").exists());
    }

    #[test]
    fn a_file_of_a_zip_is_found_by_its_end() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        zip.start_file("uv-1.data/scripts/uv", zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(b"tool").unwrap();
        let bytes = zip.finish().unwrap();
        let target = folder.path().join("bin/uv");
        unpack_zip_file(bytes.clone(), "/scripts/uv", &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"tool");
        assert!(unpack_zip_file(bytes, "/scripts/pip", &target).is_err());
    }
}
