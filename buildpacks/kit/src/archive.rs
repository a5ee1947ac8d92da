//! Unpacks the archives of registries into layers: regular files, folders and links that stay inside, nothing else.

use flate2::read::GzDecoder;
use std::borrow::Cow;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

/// Most bytes that one archive may unpack to.
const TOTAL_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Most links that one archive may hold.
const LINKS: usize = 10_000;

/// Unpacks a `.tgz` into `target` without its first path component. `place` says where an entry goes, relative to `target`,
/// or that it is left out.
///
/// # Errors
/// Where it is damaged, leads outside, or cannot be written.
pub fn unpack_tgz(reader: impl Read, target: &Path, place: impl Fn(&Path) -> Option<PathBuf>) -> io::Result<()> {
    unpack_tar_gz(reader, target, |path| {
        let stripped: PathBuf = path.components().skip(1).collect();
        if stripped.as_os_str().is_empty() {
            None
        } else {
            place(&stripped)
        }
    })
}

/// Unpacks a `.tgz` into `target`; `place` is asked with the whole path of each entry.
///
/// # Errors
/// As [`unpack_tgz`].
pub fn unpack_tar_gz(reader: impl Read, target: &Path, place: impl Fn(&Path) -> Option<PathBuf>) -> io::Result<()> {
    unpack_tar(GzDecoder::new(reader), target, &place)
}

/// Unpacks what a `.deb` installs into `target`; `place` is asked with the whole path of each entry.
///
/// # Errors
/// As [`unpack_tgz`], and where it is compressed in a way that is not read.
pub fn unpack_deb(mut reader: impl Read, target: &Path, place: impl Fn(&Path) -> Option<PathBuf>) -> io::Result<()> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut magic = [0; 8];
    reader.read_exact(&mut magic)?;
    if magic != *b"!<arch>\n" {
        return Err(invalid("it is no package of Debian".to_owned()));
    }
    loop {
        let mut head = [0; 60];
        reader.read_exact(&mut head)?;
        let text = String::from_utf8_lossy(&head).into_owned();
        let name = text
            .get(..16)
            .unwrap_or_default()
            .trim_end_matches([' ', '/'])
            .to_owned();
        let size = text.get(48..58).and_then(|size| size.trim().parse::<u64>().ok());
        let size = size.ok_or_else(|| invalid(format!("the part {name} of it has no size")))?;
        let mut part = reader.by_ref().take(size);
        match name.as_str() {
            "data.tar.xz" => return unpack_tar(lzma_rust2::XzReader::new(part, true), target, &place),
            "data.tar.gz" => return unpack_tar(GzDecoder::new(part), target, &place),
            "data.tar" => return unpack_tar(part, target, &place),
            name if name.starts_with("data.tar") => return Err(invalid(format!("{name} cannot be read"))),
            _ => {
                io::copy(&mut part, &mut io::sink())?;
                // Parts begin at even places.
                io::copy(&mut reader.by_ref().take(size % 2), &mut io::sink())?;
            }
        }
    }
}

fn unpack_tar(reader: impl Read, target: &Path, place: &dyn Fn(&Path) -> Option<PathBuf>) -> io::Result<()> {
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(reader.take(TOTAL_BYTES));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let path: PathBuf = path
            .components()
            .filter(|part| !matches!(part, Component::CurDir))
            .collect();
        let Some(place) = place(&path).filter(|place| !place.as_os_str().is_empty()) else {
            continue;
        };
        let file = inside(target, &place)?;
        match entry.header().entry_type() {
            tar::EntryType::Directory => fs::create_dir_all(&file)?,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let executable = entry.header().mode()? & 0o111 != 0;
                write(&file, executable, &mut entry)?;
            }
            tar::EntryType::Symlink if links.len() < LINKS => {
                if let Some(to) = entry.link_name()? {
                    links.push((file, place, to.into_owned()));
                }
            }
            // Nothing else belongs into a runtime or a package: what claims to be a device is left out.
            _ => {}
        }
    }
    // Last, so that nothing is written through one.
    for (file, place, to) in links {
        link(&file, &place, &to)?;
    }
    Ok(())
}

/// Makes a link that stays inside the archive's folder; another one is left out, as nothing that is needed is behind it.
fn link(file: &Path, place: &Path, to: &Path) -> io::Result<()> {
    let depth = place.components().count() - 1;
    let up = to.components().take_while(|part| *part == Component::ParentDir).count();
    // Upwards only at its beginning: past another link it could mean anything.
    let plain = to
        .components()
        .skip(up)
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if to.is_absolute() || up > depth || !plain || file.symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    std::os::unix::fs::symlink(to, file)
}

/// Unpacks a zip, or a wheel or jar, which are zips, into `target`; `place` is asked with the whole path of each entry.
///
/// # Errors
/// Where it is damaged, leads outside, or cannot be written.
pub fn unpack_zip(reader: impl Read + Seek, target: &Path, place: impl Fn(&Path) -> Option<PathBuf>) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(reader).map_err(io::Error::other)?;
    let mut left = TOTAL_BYTES;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(io::Error::other)?;
        let name = entry.name().map_err(io::Error::other)?.into_owned();
        let Some(place) = place(Path::new(&name)).filter(|place| !place.as_os_str().is_empty()) else {
            continue;
        };
        let file = inside(target, &place)?;
        let mode = entry.unix_mode().unwrap_or(0o644);
        let is_link = mode & 0o170_000 == 0o120_000;
        if entry.is_dir() {
            fs::create_dir_all(&file)?;
        } else if !is_link {
            left = left
                .checked_sub(entry.size())
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the archive unpacks to more than 2 GiB"))?;
            let size = entry.size();
            write(&file, mode & 0o111 != 0, &mut entry.by_ref().take(size))?;
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
    fn a_package_of_debian_is_unpacked_and_its_scripts_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut deb = b"!<arch>\n".to_vec();
        let mut add = |name: &str, content: &[u8]| {
            deb.extend(
                format!(
                    "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                    0,
                    0,
                    0,
                    100644,
                    content.len()
                )
                .bytes(),
            );
            deb.extend(content);
            deb.extend(vec![b'\n'; content.len() % 2]);
        };
        add("debian-binary", b"2.0\n");
        add("control.tar.gz", &tgz(&[("./postinst", 0o755)]));
        add("data.tar.gz", &tgz(&[("./usr/bin/tool", 0o755)]));
        unpack_deb(&deb[..], folder.path(), |path| Some(path.to_owned())).unwrap();
        assert_eq!(fs::read(folder.path().join("usr/bin/tool")).unwrap(), b"hi");
        assert!(!folder.path().join("postinst").exists());
        assert!(unpack_deb(&b"PK"[..], folder.path(), |_| None).is_err());
        let odd = String::from_utf8_lossy(&deb).replace("data.tar.gz ", "data.tar.lzo");
        assert!(unpack_deb(odd.as_bytes(), folder.path(), |_| None).is_err());
    }

    #[test]
    fn nothing_leads_outside() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = tgz(&[("package/../../evil", 0o644)]);
        assert!(unpack_tgz(&bytes[..], &folder.path().join("a"), |path| Some(path.to_owned())).is_err());
        assert!(!folder.path().join("evil").exists());
    }

    #[test]
    fn links_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, to) in [
            ("jdk/legal/a", "../b/c"),
            ("jdk/lib/out", "../../../etc"),
            ("jdk/lib/abs", "/etc"),
            ("jdk/lib/odd", "x/../../.."),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            builder.append_link(&mut header, path, to).unwrap();
        }
        let bytes = builder.into_inner().unwrap().finish().unwrap();
        unpack_tgz(&bytes[..], folder.path(), |path| Some(path.to_owned())).unwrap();
        assert_eq!(
            fs::read_link(folder.path().join("legal/a")).unwrap(),
            Path::new("../b/c")
        );
        for name in ["lib/out", "lib/abs", "lib/odd"] {
            assert!(folder.path().join(name).symlink_metadata().is_err(), "{name}");
        }
    }

    #[test]
    fn a_zip_is_unpacked_with_its_modes() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file("go/bin/go", options.unix_permissions(0o755)).unwrap();
        zip.write_all(b"tool").unwrap();
        zip.start_file("go-1.dist-info/RECORD", options).unwrap();
        let bytes = zip.finish().unwrap();
        unpack_zip(bytes, folder.path(), |path| {
            path.strip_prefix("go").ok().map(Path::to_owned)
        })
        .unwrap();
        let mode = fs::metadata(folder.path().join("bin/go")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
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
