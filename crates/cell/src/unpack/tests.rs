//! Layers that are fine, and a corpus of those that are not.

use super::*;
use sha2::{Digest as _, Sha256};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    entries: 100,
};

/// Builds archives entry by entry, hostile ones too.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// An entry whose name and link are written as they are.
    fn raw(mut self, kind: tar::EntryType, name: &[u8], link: &[u8], contents: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o6755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(contents.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.append(&header, contents).expect("append");
        self
    }

    fn file(self, name: &str, contents: &str) -> Self {
        self.raw(tar::EntryType::Regular, name.as_bytes(), b"", contents.as_bytes())
    }

    /// A file whose name needs an extension header.
    fn long(mut self, name: &str) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(1);
        self.0.append_data(&mut header, name, "x".as_bytes()).expect("append");
        self
    }

    fn folder(self, name: &str) -> Self {
        self.raw(tar::EntryType::Directory, name.as_bytes(), b"", b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(tar::EntryType::Symlink, name.as_bytes(), target.as_bytes(), b"")
    }

    fn hardlink(self, name: &str, target: &str) -> Self {
        self.raw(tar::EntryType::Link, name.as_bytes(), target.as_bytes(), b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("finish")
    }
}

fn unpack(tar: &[u8]) -> (tempfile::TempDir, Result<Unpacked, Error>) {
    let outer = tempfile::tempdir().expect("temporary folder");
    let root = outer.path().join("root");
    std::fs::create_dir(&root).expect("root");
    std::fs::write(outer.path().join("canary"), "alive").expect("canary");
    let result = archive(tar, Target::Folder(&root), LIMITS, Form::Droplet);
    assert_eq!(
        std::fs::read_to_string(outer.path().join("canary")).expect("canary"),
        "alive"
    );
    let names: Vec<_> = std::fs::read_dir(outer.path()).expect("list").collect();
    assert_eq!(names.len(), 2, "nothing beside the root");
    // An image takes and refuses the same.
    let image = tempfile::tempfile().expect("a file");
    let imaged = archive(tar, Target::Image(image), LIMITS, Form::Droplet);
    assert_eq!(imaged.as_ref().ok(), result.as_ref().ok(), "{imaged:?} for {result:?}");
    (outer, result)
}

#[test]
fn a_layer_becomes_a_tree_of_the_apps_user() {
    let tar = Tar::new()
        .folder("layers/")
        .folder("layers/node/")
        .file("layers/node/bin/node", "#!x")
        .symlink("layers/node/bin/npm", "../lib/npm.js")
        .symlink("layers/node/python", "/usr/bin/python3")
        .hardlink("layers/node/bin/nodejs", "layers/node/bin/node")
        .file("home/vcap/app/empty", "")
        .bytes();
    let (outer, result) = unpack(&tar);
    let unpacked = result.expect("unpacks");
    assert_eq!(unpacked.digest, Digest::from_sha256(Sha256::digest(&tar).into()));
    assert_eq!((unpacked.bytes, unpacked.entries), (tar.len() as u64, 7));
    let root = outer.path().join("root");
    let node = std::fs::metadata(root.join("layers/node/bin/node")).expect("file");
    assert_eq!(
        (node.uid(), node.gid(), node.nlink(), node.mtime()),
        (OWNER, OWNER, 2, 1_000_000)
    );
    assert_eq!(node.permissions().mode() & 0o7777, 0o755, "no setuid");
    let link = std::fs::symlink_metadata(root.join("layers/node/bin/npm")).expect("link");
    assert_eq!((link.is_symlink(), link.uid()), (true, OWNER));
    let made = std::fs::metadata(root.join("home/vcap")).expect("implied folder");
    assert_eq!((made.uid(), made.permissions().mode() & 0o7777), (OWNER, 0o755));
}

#[test]
fn compressed_layers_are_read_and_checked_without_a_folder_too() {
    let tar = Tar::new().file("a/b", "contents").bytes();
    let packed = zstd::encode_all(tar.as_slice(), 1).expect("compress");
    let unpacked = layer(packed.as_slice(), Target::Nothing, LIMITS, Form::Droplet).expect("reads");
    assert_eq!(unpacked.digest, Digest::from_sha256(Sha256::digest(&tar).into()));
    assert!(
        layer(&packed[..packed.len() - 3], Target::Nothing, LIMITS, Form::Droplet).is_err(),
        "cut off"
    );
    assert!(
        layer(tar.as_slice(), Target::Nothing, LIMITS, Form::Droplet).is_err(),
        "not compressed"
    );
}

#[test]
fn hostile_entries_are_refused() {
    use tar::EntryType as Kind;
    let corpus: Vec<(&str, Tar)> = vec![
        ("absolute", Tar::new().file("/canary", "dead")),
        ("up", Tar::new().file("../canary", "dead")),
        ("up inside", Tar::new().file("a/../../canary", "dead")),
        ("link out", Tar::new().symlink("a", "..")),
        ("link out, deep", Tar::new().symlink("a/b", "../../canary")),
        ("absolute link out", Tar::new().symlink("a", "/../canary")),
        ("no target", Tar::new().symlink("a", "")),
        (
            "through a link",
            Tar::new().symlink("a", "/tmp").file("a/canary", "dead"),
        ),
        (
            "through a link to itself",
            Tar::new().symlink("a", "a").file("a/b", "dead"),
        ),
        ("over a link", Tar::new().symlink("a", "b").file("a", "dead")),
        ("folder over a link", Tar::new().symlink("a", "/tmp").folder("a/")),
        ("twice", Tar::new().file("a", "1").file("a", "2")),
        ("file as folder", Tar::new().file("a", "1").file("a/b", "2")),
        ("hard link up", Tar::new().hardlink("a", "../canary")),
        ("hard link absolute", Tar::new().hardlink("a", "/etc/passwd")),
        (
            "hard link to a link",
            Tar::new().symlink("s", "/etc/passwd").hardlink("a", "s"),
        ),
        ("hard link to a folder", Tar::new().folder("d/").hardlink("a", "d")),
        ("hard link to nothing", Tar::new().hardlink("a", "b")),
        (
            "hard link through a link",
            Tar::new().symlink("s", "/etc").hardlink("a", "s/passwd"),
        ),
        ("character device", Tar::new().raw(Kind::Char, b"null", b"", b"")),
        ("block device", Tar::new().raw(Kind::Block, b"sda", b"", b"")),
        ("fifo", Tar::new().raw(Kind::Fifo, b"pipe", b"", b"")),
        ("sparse", Tar::new().raw(Kind::GNUSparse, b"sparse", b"", b"")),
        ("unknown", Tar::new().raw(Kind::new(b'Q'), b"odd", b"", b"")),
        (
            "folder with contents",
            Tar::new().raw(Kind::Directory, b"d/", b"", b"x"),
        ),
        ("link with contents", Tar::new().raw(Kind::Symlink, b"l", b"x", b"x")),
        ("root as a file", Tar::new().file("./", "x").file(".", "x")),
        ("too deep", Tar::new().long(&format!("{}x", "d/".repeat(130)))),
    ];
    for (what, tar) in corpus {
        let (_outer, result) = unpack(&tar.bytes());
        let error = result.expect_err(what);
        assert!(!matches!(error, Error::TooLarge { .. }), "{what}: {error}");
    }
}

#[test]
fn bombs_end_at_their_limits() {
    let zeros = vec![0; 4 << 20];
    let tar = Tar::new().raw(tar::EntryType::Regular, b"zeros", b"", &zeros).bytes();
    let packed = zstd::encode_all(tar.as_slice(), 1).expect("compress");
    assert!(packed.len() < 4096);
    let result = layer(packed.as_slice(), Target::Nothing, LIMITS, Form::Droplet);
    assert!(
        matches!(result, Err(Error::TooLarge { what: "bytes", .. })),
        "{result:?}"
    );

    let many = (0..101)
        .fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), ""))
        .bytes();
    let result = archive(many.as_slice(), Target::Nothing, LIMITS, Form::Droplet);
    assert!(
        matches!(result, Err(Error::TooLarge { what: "entries", .. })),
        "{result:?}"
    );

    let name = vec![b'x'; 512 << 10];
    let long = Tar::new()
        .raw(tar::EntryType::GNULongName, b"long", b"", &name)
        .file("x", "x")
        .bytes();
    let result = archive(long.as_slice(), Target::Nothing, LIMITS, Form::Droplet);
    assert!(
        matches!(
            result,
            Err(Error::TooLarge {
                what: "bytes in one header",
                ..
            })
        ),
        "{result:?}"
    );

    let mut trailing = Tar::new().file("a", "x").bytes();
    trailing.extend(vec![0; 2 << 20]);
    let result = archive(trailing.as_slice(), Target::Nothing, LIMITS, Form::Droplet);
    assert!(
        matches!(result, Err(Error::TooLarge { what: "bytes", .. })),
        "{result:?}"
    );
}

#[test]
fn what_is_cut_off_is_an_error() {
    let tar = Tar::new().file("a", &"x".repeat(2000)).bytes();
    for cut in [100, 512, 700, 1500] {
        let (_outer, result) = unpack(&tar[..cut]);
        assert!(matches!(result, Err(Error::Corrupt(_))), "{cut}: {result:?}");
    }
}
