//! Layers of droplets, images and stacks: tar archives, as a cell unpacks them.

use crate::scratch::Scratch;
use std::path::Path;
use unpack::Form;

/// Compiled alone: the rest of the cell would bring a web server and a client that no target needs.
#[path = "../../../../crates/cell/src/unpack/mod.rs"]
#[allow(dead_code, unused_imports, reason = "a cell's whole module")]
mod unpack;

const LIMITS: unpack::Limits = unpack::Limits {
    bytes: 1 << 20,
    entries: 100,
};
const BLOCK: usize = 512;
/// Headers that are made whole; an archive of this size has no more.
const HEADERS: usize = 64;

/// A tar archive: read only, or written below a folder.
pub fn plain(data: &[u8]) {
    unpacked(data, Form::Droplet);
}

/// The same by the rules of an image's layer: with owners, names that come again, and names of what is removed.
pub fn image(data: &[u8]) {
    unpacked(data, Form::Image);
}

fn unpacked(data: &[u8], form: Form) {
    let Some((how, data)) = data.split_first() else { return };
    let tar = repaired(data);
    if how % 4 != 0 {
        let _ = unpack::archive(&tar[..], unpack::Target::Nothing, LIMITS, form);
        return;
    }
    let scratch = Scratch::new();
    let inside = scratch.path().join("inside");
    std::fs::create_dir(&inside).expect("memory takes a folder");
    let outside = scratch.write("outside", b"untouched");
    let written = unpack::archive(&tar[..], unpack::Target::Folder(&inside), LIMITS, form);
    assert_eq!(
        std::fs::read(&outside).ok().as_deref(),
        Some(&b"untouched"[..]),
        "it reached outside"
    );
    let beside = std::fs::read_dir(scratch.path()).expect("the folder is ours").count();
    assert_eq!(beside, 2, "something lies outside");
    let found = count(&inside);
    if let Ok(unpacked) = &written {
        assert!(unpacked.entries <= LIMITS.entries, "more entries than allowed");
        assert!(unpacked.bytes <= LIMITS.bytes, "more bytes than allowed");
        let read =
            unpack::archive(&tar[..], unpack::Target::Nothing, LIMITS, form).expect("what can be written can be read");
        assert_eq!(read, *unpacked, "reading and writing differ");
    }
    assert!(found <= 100 * 128, "{found} files from at most 100 entries");
    as_image(&tar, form, written.as_ref().ok(), found);
}

/// The same archive as an image: taken or refused as its tree is, and where this machine mounts it, with as many files.
fn as_image(tar: &[u8], form: Form, written: Option<&unpack::Unpacked>, found: usize) {
    use std::os::fd::AsRawFd as _;
    // Not in memory: images are mounted from files of other file systems only.
    let file = tempfile::NamedTempFile::new_in("/var/tmp").expect("a file");
    let target = unpack::Target::Image(file.reopen().expect("it is ours"));
    let image = unpack::archive(tar, target, LIMITS, form);
    assert_eq!(image.as_ref().ok(), written, "an image and a tree differ: {image:?}");
    if image.is_err() {
        return;
    }
    if let Ok(mount) = unpack::erofs::mount(file.path()) {
        let shown = format!("/proc/self/fd/{}", mount.as_raw_fd());
        assert_eq!(
            count(Path::new(&shown)),
            found,
            "an image shows other files than a tree has"
        );
    }
}

/// Files and folders below `folder`; none of them set to another user.
fn count(folder: &Path) -> usize {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let meta = entry.metadata().expect("it is there");
        assert_eq!(
            meta.mode() & 0o6000,
            0,
            "{} runs as another user",
            entry.path().display()
        );
        found += 1;
        if meta.is_dir() {
            found += count(&entry.path());
        }
    }
    found
}

/// The archive with the checksums that its headers should have, or no change would get beyond the first.
pub fn repaired(data: &[u8]) -> Vec<u8> {
    let mut tar = data.to_vec();
    let mut at = 0;
    for _ in 0..HEADERS {
        let Some(block) = tar.get_mut(at..at + BLOCK) else {
            break;
        };
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        if sum == 8 * u32::from(b' ') {
            // An empty block is the end.
            block[148..156].fill(0);
        } else {
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let digits = String::from_utf8_lossy(&block[124..136]);
        let digits = digits.trim_matches(|c: char| c == '\0' || c == ' ');
        let size = usize::from_str_radix(digits, 8).unwrap_or(0).min(tar.len());
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    tar
}

pub fn plain_seeds() -> Vec<Vec<u8>> {
    let long = "long/".repeat(30) + "name";
    let entries: [Entry<'_>; 9] = [
        ("home/", tar::EntryType::Directory, "", b""),
        ("home/file", tar::EntryType::Regular, "", b"contents"),
        ("home/link", tar::EntryType::Symlink, "/home/file", b""),
        ("home/hard", tar::EntryType::Link, "home/file", b""),
        ("../out", tar::EntryType::Regular, "", b"x"),
        ("home/link/below", tar::EntryType::Regular, "", b"x"),
        ("null", tar::EntryType::Char, "", b""),
        (&long, tar::EntryType::Regular, "", b"far"),
        ("pax", tar::EntryType::XHeader, "", b"20 path=a/long/name\n"),
    ];
    let mut seeds: Vec<Vec<u8>> = entries.iter().map(|entry| one(&[*entry])).collect();
    seeds.push(one(&entries[..4]));
    seeds.push(one(&entries));
    seeds
}

pub fn image_seeds() -> Vec<Vec<u8>> {
    let entries: [Entry<'_>; 8] = [
        ("etc/", tar::EntryType::Directory, "", b""),
        ("etc/.wh.gone", tar::EntryType::Regular, "", b""),
        ("etc/.wh..wh..opq", tar::EntryType::Regular, "", b""),
        (".wh.etc", tar::EntryType::Regular, "", b""),
        ("file", tar::EntryType::Regular, "", b"one"),
        ("file", tar::EntryType::Regular, "", b"two"),
        ("up", tar::EntryType::Symlink, "../../etc", b""),
        ("up/.wh.passwd", tar::EntryType::Regular, "", b""),
    ];
    let mut seeds = plain_seeds();
    seeds.extend(entries.iter().map(|entry| one(&[*entry])));
    seeds.push(one(&entries));
    seeds
}

/// Name, kind, target of a link, contents.
type Entry<'a> = (&'a str, tar::EntryType, &'a str, &'a [u8]);

/// A seed with these entries.
fn one(all: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(vec![0]);
    for (name, kind, target, contents) in all {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(contents.len() as u64);
        if name.len() < 100 {
            // Also names that the safe setter would refuse.
            let field = header.as_gnu_mut().expect("it is one");
            field.name[..name.len()].copy_from_slice(name.as_bytes());
            field.linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_cksum();
            builder.append(&header, *contents).expect("memory takes it");
        } else {
            builder
                .append_data(&mut header, name, *contents)
                .expect("memory takes it");
        }
    }
    builder.into_inner().expect("memory takes it")
}

/// A compressed archive, read only.
pub fn compressed(data: &[u8]) {
    if let Ok(unpacked) = unpack::layer(data, unpack::Target::Nothing, LIMITS, Form::Droplet) {
        assert!(unpacked.bytes <= LIMITS.bytes, "more bytes than allowed");
    }
}

pub fn compressed_seeds() -> Vec<Vec<u8>> {
    let compress = |seed: Vec<u8>| zstd::encode_all(&seed[1..], 3).expect("memory takes it");
    let mut seeds: Vec<Vec<u8>> = plain_seeds().into_iter().map(compress).collect();
    // More than the limit from little.
    seeds.push(zstd::encode_all(&vec![0; 4 << 20][..], 3).expect("memory takes it"));
    seeds
}
