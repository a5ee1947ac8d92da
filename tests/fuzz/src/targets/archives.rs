//! Archives that clients and registries send.

use crate::scratch::Scratch;
use blobstore::pack::{PackageIndex, TreeLimits, ingest_zip};
use std::io::{Cursor, Write as _};
use std::path::Path;

#[path = "../../../../buildpacks/kit/src/archive.rs"]
#[allow(dead_code, reason = "the kit's whole module, of which one way is taken here")]
mod archive;

const LIMITS: TreeLimits = TreeLimits {
    entries: 100,
    total_bytes: 1 << 20,
    file_bytes: 256 << 10,
    path_bytes: 256,
    depth: 16,
    ratio: 200,
};

/// A source package from upload to index.
pub fn zip(data: &[u8]) {
    let scratch = Scratch::new();
    let file = tempfile::NamedTempFile::new_in(scratch.path()).expect("memory takes a file");
    let Ok(ingested) = ingest_zip(Cursor::new(data), &LIMITS, file) else {
        return;
    };
    let total: u64 = ingested.entries.iter().map(|entry| entry.size).sum();
    assert!(total <= LIMITS.total_bytes, "{total} bytes passed the limit");
    assert!(ingested.entries.len() <= LIMITS.entries, "more entries than allowed");
    for entry in &ingested.entries {
        assert_inside(&entry.path);
        assert!(entry.size <= LIMITS.file_bytes, "{} is too large", entry.path);
        assert!(entry.path.len() <= LIMITS.path_bytes, "{} is too long", entry.path);
    }
    let Ok(index) = PackageIndex::build(ingested.entries, &LIMITS) else {
        return;
    };
    let links: Vec<&str> = index
        .entries()
        .iter()
        .filter(|entry| entry.mode.is_link())
        .map(|entry| entry.path.as_str())
        .collect();
    for entry in index.entries() {
        let below = |link: &&str| entry.path.strip_prefix(*link).is_some_and(|rest| rest.starts_with('/'));
        assert!(!links.iter().any(below), "{} lies below a link", entry.path);
    }
}

fn assert_inside(path: &str) {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    assert!(
        !path.contains('\0') && path.split('/').all(plain),
        "{path:?} is not plainly inside"
    );
}

pub fn zip_seeds() -> Vec<Vec<u8>> {
    type Write = fn(&mut zip::ZipWriter<Cursor<Vec<u8>>>, zip::write::SimpleFileOptions) -> zip::result::ZipResult<()>;
    let writes: [Write; 5] = [
        |zip, options| {
            zip.start_file("a.txt", options)?;
            Ok(zip.write_all(b"hello hello hello hello")?)
        },
        |zip, options| {
            zip.add_directory("folder/", options)?;
            zip.start_file("folder/x", options.unix_permissions(0o755))?;
            Ok(zip.write_all(&[0; 4000])?)
        },
        |zip, options| zip.add_symlink("link", "folder/x", options),
        |zip, options| {
            zip.start_file("../up", options)?;
            Ok(zip.write_all(b"x")?)
        },
        |zip, options| {
            zip.start_file("big", options.large_file(true))?;
            Ok(zip.write_all(b"zip64")?)
        },
    ];
    let mut seeds = Vec::new();
    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        for write in writes {
            let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
            write(&mut writer, options).expect("memory takes an entry");
            seeds.push(writer.finish().expect("memory takes an archive").into_inner());
        }
    }
    seeds
}

/// What buildpacks fetch from registries.
pub fn registry(data: &[u8]) {
    let scratch = Scratch::new();
    let inside = scratch.path().join("target");
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            let data = gzip(data);
            let _ = archive::unpack_tgz(&data[..], &inside, |path| Some(path.to_owned()));
        }
        1 => {
            let _ = archive::unpack_zip_file(Cursor::new(data), "esbuild", &inside);
        }
        _ => {
            let _ = archive::unpack_deb(data, &inside, |path| Some(path.to_owned()));
        }
    }
    let entries = std::fs::read_dir(scratch.path()).expect("the folder is ours");
    assert!(
        entries.flatten().all(|entry| entry.path() == inside),
        "something lies outside"
    );
    assert_no_way_out(&inside, scratch.path());
}

/// No link below `folder` leads out of `root`.
fn assert_no_way_out(folder: &Path, root: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("it is there");
        if kind.is_dir() {
            assert_no_way_out(&entry.path(), root);
        }
        if let Ok(led) = entry.path().canonicalize() {
            assert!(
                led.starts_with(root),
                "{} leads to {}",
                entry.path().display(),
                led.display()
            );
        }
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    // What matters is the archive within; compressed here, so that every change of the input reaches it.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder
        .write_all(&super::layers::repaired(data))
        .expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

pub fn registry_seeds() -> Vec<Vec<u8>> {
    let tars = super::layers::plain_seeds()
        .into_iter()
        .map(|seed| [&[0], &seed[1..]].concat());
    let zips = zip_seeds().into_iter().map(|seed| [&[1], &seed[..]].concat());
    let packages = super::layers::plain_seeds().into_iter().map(|seed| package(&seed[1..]));
    tars.chain(zips).chain(packages).collect()
}

/// A package of Debian with `tar` as what it installs.
fn package(tar: &[u8]) -> Vec<u8> {
    let head = |name: &str, size: usize| format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, "100644");
    let version = "2.0\n";
    let mut all = b"\x02!<arch>\n".to_vec();
    all.extend(head("debian-binary", version.len()).bytes());
    all.extend(version.bytes());
    all.extend(head("data.tar", tar.len()).bytes());
    all.extend(tar);
    all
}
