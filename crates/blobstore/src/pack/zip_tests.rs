//! The hostile corpus: archives made byte by byte, because well-behaved writers refuse to write most of them.

use super::*;
use crate::Limits;
use crate::pack::{Materialise, materialise, read_file};
use proptest::prelude::*;
use std::io::{Cursor, Write as _};

const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

/// One stored entry as an archive has it. `method` and `claimed` may lie.
struct Raw<'a> {
    name: &'a [u8],
    mode: u32,
    contents: &'a [u8],
    flags: u16,
}

fn raw<'a>(name: &'a str, mode: u32, contents: &'a str) -> Raw<'a> {
    Raw {
        name: name.as_bytes(),
        mode,
        contents: contents.as_bytes(),
        flags: 0,
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (0_u32.wrapping_sub(crc & 1)))
        })
    })
}

fn archive(entries: &[Raw<'_>]) -> Vec<u8> {
    let (mut bytes, mut table) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = bytes.len() as u32;
        let size = entry.contents.len() as u32;
        let mut common = Vec::new();
        common.extend(20_u16.to_le_bytes());
        common.extend(entry.flags.to_le_bytes());
        common.extend([0; 6]); // stored, no time
        for number in [crc32(entry.contents), size, size] {
            common.extend(number.to_le_bytes());
        }
        common.extend((entry.name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(entry.name);
        bytes.extend(entry.contents);
        table.extend(b"PK\x01\x02\x14\x03"); // made on Unix
        table.extend(&common);
        table.extend([0; 6]); // no comment, one disk, no attributes
        table.extend((entry.mode << 16).to_le_bytes());
        table.extend(offset.to_le_bytes());
        table.extend(entry.name);
    }
    let start = bytes.len() as u32;
    bytes.extend(&table);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend((entries.len() as u16).to_le_bytes());
    bytes.extend((entries.len() as u16).to_le_bytes());
    bytes.extend((table.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

fn limits() -> TreeLimits {
    TreeLimits {
        entries: 10,
        total_bytes: 100 << 20,
        file_bytes: 90 << 20,
        depth: 5,
        ..TreeLimits::default()
    }
}

fn ingest(bytes: &[u8]) -> Result<Ingested, Error> {
    ingest_zip(Cursor::new(bytes), &limits(), NamedTempFile::new().unwrap())
}

fn refused(entries: &[Raw<'_>]) -> Error {
    ingest(&archive(entries)).err().expect("the archive is refused")
}

/// A deflated archive as ordinary tools write it.
fn deflated(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in files {
        writer
            .start_file(*name, zip::write::SimpleFileOptions::default().unix_permissions(0o644))
            .unwrap();
        writer.write_all(contents).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[tokio::test]
async fn an_ordinary_archive_becomes_a_package() {
    let folder = tempfile::tempdir().unwrap();
    let store = Blobstore::open_directory(&folder.path().join("store"), Limits::default()).unwrap();
    let bytes = archive(&[
        raw("./app/", 0o040_700, ""),
        raw("app/run", 0o104_755, "#!/bin/sh\n"),
        raw("app/current", LINK, "../app/run"),
        raw("windows", 0, "x"),
        raw("empty/", 0, ""),
    ]);
    let path = folder.path().join("upload");
    std::fs::write(&path, &bytes).unwrap();
    let open = || std::fs::File::open(&path).unwrap();
    let index = store_zip(&store, open(), Vec::new(), &limits()).await.unwrap();
    let found: Vec<_> = index
        .entries()
        .iter()
        .map(|entry| (entry.path.as_str(), entry.mode.bits()))
        .collect();
    let expected = [
        ("app/current", LINK),
        ("app/run", 0o100_755),
        ("empty", 0o040_755),
        ("windows", 0o100_744),
    ];
    assert_eq!(
        found, expected,
        "set-uid does not survive, implied folders are left out"
    );
    assert_eq!(
        PackageIndex::load(&store, index.digest(), &limits()).await.unwrap(),
        index
    );
    assert_eq!(
        read_file(&store, index.find("app/run").unwrap()).await.unwrap(),
        b"#!/bin/sh\n"
    );
    let again = store_zip(&store, open(), Vec::new(), &limits()).await.unwrap();
    assert_eq!(again.digest(), index.digest());

    // What a push brings may be joined with what is known, but not with what is gone.
    std::fs::write(&path, archive(&[raw("new", FILE, "x")])).unwrap();
    let mut known = index.find("app/run").unwrap().clone();
    let joined = store_zip(&store, open(), vec![known.clone()], &limits()).await.unwrap();
    assert_eq!(joined.packs().len(), 2);
    known.place.as_mut().unwrap().pack = model::Digest::from_sha256([1; 32]);
    let refused = store_zip(&store, open(), vec![known], &limits()).await;
    assert!(
        matches!(&refused, Err(Error::Store(error)) if error.is_missing()),
        "{refused:?}"
    );

    let dir = folder.path().join("tree");
    std::fs::create_dir(&dir).unwrap();
    let options = Materialise {
        dir: dir.clone(),
        prefix: String::new(),
        owner: None,
        limits: limits(),
    };
    materialise(&store, &index, options).await.unwrap();
    assert_eq!(std::fs::read(dir.join("app/current")).unwrap(), b"#!/bin/sh\n");
}

#[test]
fn known_files_need_no_second_upload() {
    let first = ingest(&deflated(&[("a", b"aaa"), ("b", b"bbb")])).unwrap();
    let second = ingest(&deflated(&[("b", b"changed")])).unwrap();
    let mut entries = second.entries;
    entries.push(first.entries[0].clone());
    let index = PackageIndex::build(entries, &limits()).unwrap();
    assert_eq!(index.packs().len(), 2);
    assert_eq!(
        hex::encode(index.find("a").unwrap().sha1),
        "7e240de74fb1ed08fa08d38063f6a6a91462a815"
    );
}

#[test]
fn refuses_names_that_leave() {
    for name in [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a\\..\\x",
        "C:\\x",
        "",
        "a\0b",
        "a/b/c/d/e/f",
    ] {
        let error = refused(&[raw(name, FILE, "x")]);
        assert!(matches!(&error, Error::Path { .. }), "{name:?}: {error}");
        assert!(error.is_callers());
    }
}

#[test]
fn refuses_links_and_devices() {
    for target in ["/etc/passwd", "..", "a/../../x", ""] {
        let error = refused(&[raw("l", LINK, target)]);
        assert!(
            matches!(&error, Error::Link { path, .. } if path == "l"),
            "{target:?}: {error}"
        );
    }
    let long = "x".repeat(5000);
    assert!(matches!(refused(&[raw("l", LINK, &long)]), Error::Link { .. }));
    for (kind, name) in [
        (0o020_644, "device"),
        (0o060_644, "device"),
        (0o010_644, "pipe"),
        (0o140_644, "socket"),
    ] {
        let error = refused(&[raw("d", kind, "")]);
        assert!(
            matches!(&error, Error::Special { what, .. } if *what == name),
            "{kind:o}: {error}"
        );
    }
    assert!(matches!(refused(&[raw("l/", LINK, "x")]), Error::Special { .. }));
}

#[test]
fn refuses_what_overlaps() {
    assert!(matches!(
        refused(&[raw("a", FILE, "1"), raw("a", FILE, "2")]),
        Error::Duplicate { .. }
    ));
    assert!(matches!(
        refused(&[raw("a", FILE, "1"), raw("./a", FILE, "2")]),
        Error::Duplicate { .. }
    ));
    // A file below a link would be written through it.
    let through = archive(&[raw("l", LINK, "other"), raw("l/x", FILE, "1")]);
    let built = PackageIndex::build(ingest(&through).unwrap().entries, &limits());
    assert!(matches!(built, Err(Error::NotAFolder { .. })), "{built:?}");
}

#[test]
fn refuses_too_much() {
    let names: Vec<String> = (0..11).map(|at| at.to_string()).collect();
    let many: Vec<Raw<'_>> = names.iter().map(|name| raw(name, FILE, "")).collect();
    assert!(matches!(refused(&many), Error::TooManyEntries { limit: 10 }));

    let zeros = vec![0; 70 << 20];
    let bomb = ingest(&deflated(&[("ok", b"fine"), ("bomb", &zeros)])).err().unwrap();
    assert!(
        matches!(&bomb, Error::Bomb { path, ratio: 200 } if path == "bomb"),
        "{bomb}"
    );
    let bytes = deflated(&[("a", &zeros[..1000]), ("b", &zeros[..1500])]);
    let refused = |limits: TreeLimits| ingest_zip(Cursor::new(&bytes), &limits, NamedTempFile::new().unwrap()).err();
    let large = refused(TreeLimits {
        file_bytes: 1499,
        ..limits()
    });
    assert!(matches!(&large, Some(Error::FileTooLarge { path, limit_bytes: 1499 }) if path == "b"));
    let total = refused(TreeLimits {
        total_bytes: 2499,
        ..limits()
    });
    assert!(matches!(&total, Some(Error::TotalTooLarge { path, limit_bytes: 2499 }) if path == "b"));
    assert!(
        refused(TreeLimits {
            total_bytes: 2500,
            file_bytes: 1500,
            ..limits()
        })
        .is_none()
    );
}

#[test]
fn a_claimed_size_is_not_believed() {
    let limits = TreeLimits {
        file_bytes: 1000,
        ..limits()
    };
    let contents = vec![b'x'; 50_000];
    let mut bytes = deflated(&[("liar", &contents)]);
    // Claim ten bytes, in the entry and in the table of contents.
    let claimed = 50_000_u32.to_le_bytes();
    for at in 0..bytes.len() - 4 {
        if bytes[at..at + 4] == claimed {
            bytes[at..at + 4].copy_from_slice(&10_u32.to_le_bytes());
        }
    }
    let refused = ingest_zip(Cursor::new(&bytes), &limits, NamedTempFile::new().unwrap())
        .err()
        .unwrap();
    assert!(
        matches!(refused, Error::FileTooLarge { .. } | Error::Entry { .. }),
        "{refused}"
    );
}

#[test]
fn refuses_what_it_cannot_read() {
    let encrypted = Raw {
        flags: 1,
        ..raw("secret", FILE, "0123456789abcdef")
    };
    assert!(matches!(refused(&[encrypted]), Error::Entry { path, .. } if path == "secret"));
    let mut damaged = archive(&[raw("a", FILE, "contents")]);
    let at = damaged.windows(8).position(|bytes| bytes == b"contents").unwrap();
    damaged[at] ^= 1;
    assert!(matches!(ingest(&damaged).err().unwrap(), Error::Entry { path, .. } if path == "a"));
    for bytes in [
        &b""[..],
        b"PK",
        b"not a zip archive at all, only some words",
        &archive(&[raw("a", FILE, "x")])[1..30],
    ] {
        assert!(matches!(ingest(bytes).err().unwrap(), Error::Archive { .. }));
    }
}

#[test]
fn an_empty_archive_is_an_empty_tree() {
    let ingested = ingest(&archive(&[])).unwrap();
    assert!(ingested.entries.is_empty() && ingested.pack.is_none());
}

#[test]
fn reads_zip64() {
    let mut bytes = deflated(&[("a", b"aaa")]);
    // Replace the end record by its large form: record, locator, and an end record that defers to them.
    let end = bytes.len() - 22;
    let number = |at: usize| u32::from_le_bytes(bytes[end + at..end + at + 4].try_into().unwrap());
    let (size, start) = (u64::from(number(12)), u64::from(number(16)));
    bytes.truncate(end);
    bytes.extend(b"PK\x06\x06");
    bytes.extend(44_u64.to_le_bytes());
    bytes.extend([45, 3, 45, 0]);
    bytes.extend([0; 8]);
    for value in [1, 1, size, start] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend((end as u64).to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
    assert_eq!(ingest(&bytes).unwrap().entries[0].path, "a");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Damage anywhere is an error or another valid tree, never a panic, and never a path outside.
    #[test]
    fn damage_never_panics(at in 0_usize..400, byte: u8, cut in 0_usize..400) {
        let mut bytes = archive(&[raw("a/b", FILE, "contents"), raw("l", LINK, "a/b"), raw("d/", 0o040_755, "")]);
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(bytes.len() - cut.min(bytes.len()) / 4 * usize::from(cut % 3 == 0));
        if let Ok(ingested) = ingest(&bytes) {
            for entry in &ingested.entries {
                prop_assert!(path::check(&entry.path, &limits()).is_ok());
            }
            let _ = PackageIndex::build(ingested.entries, &limits());
        }
    }

    /// Whatever tree goes in, the same files come out.
    #[test]
    fn contents_survive(files in prop::collection::btree_map("[a-c]{1,3}", prop::collection::vec(any::<u8>(), 0..2000), 0..6)) {
        let list: Vec<(&str, &[u8])> = files.iter().map(|(name, contents)| (name.as_str(), contents.as_slice())).collect();
        let ingested = ingest(&deflated(&list)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let store = Blobstore::open_directory(folder.path(), Limits::default()).unwrap();
            if let Some(pack) = ingested.pack {
                store.put_temporary(Kind::Pack, &pack.digest, pack.file).await.unwrap();
            }
            for entry in &ingested.entries {
                assert_eq!(read_file(&store, entry).await.unwrap(), files[&entry.path]);
            }
        });
        prop_assert_eq!(ingested.entries.len(), files.len());
    }
}
