//! Layers of images: owners, whiteouts, names that come again; and what is refused all the same.

use super::*;
use rustix::fs::FileType;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;
use tar::EntryType;

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    entries: 100,
};

/// An archive of entries: kind, name, link or contents, user.
fn tar(entries: &[(EntryType, &str, &str, u64)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, text, user) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == EntryType::Directory { 0o750 } else { 0o4640 });
        header.set_uid(*user);
        header.set_gid(*user);
        header.set_mtime(1);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let contents = if *kind == EntryType::Regular {
            text.as_bytes()
        } else {
            b""
        };
        if *kind != EntryType::Regular {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_size(contents.len() as u64);
        header.set_cksum();
        builder.append(&header, contents).expect("appended");
    }
    builder.into_inner().expect("finished")
}

struct Root(tempfile::TempDir);

impl Root {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("readable")
    }

    fn is_whiteout(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok_and(|found| found.file_type().is_char_device() && found.rdev() == 0)
    }

    fn is_opaque(&self, name: &str) -> bool {
        is_opaque(&fs::File::open(self.path(name)).expect("opened").into())
    }
}

fn unpack(entries: &[(EntryType, &str, &str, u64)]) -> Result<Root, Error> {
    let root = Root(tempfile::tempdir().expect("folder"));
    let tar = tar(entries);
    let result = archive(tar.as_slice(), Target::Folder(root.0.path()), LIMITS, Form::Image);
    super::erofs_tests::same(&tar, LIMITS, Form::Image);
    result.map(|_| root)
}

#[test]
fn owners_are_the_images_and_set_user_id_is_nobodys() {
    let root = unpack(&[
        (EntryType::Directory, "srv/", "", 7),
        (EntryType::Regular, "srv/file", "x", 1000),
        (EntryType::Symlink, "srv/up", "../../../../etc/passwd", 0),
        (EntryType::Regular, "made/between", "x", 5),
    ])
    .expect("unpacked");
    let owner = |name: &str| {
        let found = fs::symlink_metadata(root.path(name)).expect("there");
        (found.uid(), found.mode() & 0o7777)
    };
    assert_eq!(owner("srv"), (7, 0o750));
    assert_eq!(owner("srv/file"), (1000, 0o640));
    assert_eq!(owner("made"), (0, 0o755));
    let target = fs::read_link(root.path("srv/up")).expect("a link");
    assert_eq!(target, PathBuf::from("../../../../etc/passwd"));
}

#[test]
fn what_is_removed_is_what_overlays_take_for_it() {
    let root = unpack(&[
        (EntryType::Directory, "etc/", "", 0),
        (EntryType::Regular, "etc/.wh.gone", "", 0),
        (EntryType::Directory, "cleared/", "", 0),
        (EntryType::Regular, "cleared/new", "x", 0),
        (EntryType::Regular, "cleared/.wh..wh..opq", "", 0),
        (EntryType::Regular, "also/.wh..wh..opq", "", 0),
        (EntryType::Directory, "both/", "", 0),
        (EntryType::Regular, ".wh.both", "", 0),
        (EntryType::Regular, ".wh.again", "", 0),
        (EntryType::Directory, "again/", "", 0),
        (EntryType::Regular, "here", "x", 0),
        (EntryType::Regular, ".wh.here", "", 0),
        (EntryType::Regular, ".wh..wh.plnk", "", 0),
    ])
    .expect("unpacked");
    assert!(root.is_whiteout("etc/gone"));
    assert!(root.is_opaque("cleared") && root.text("cleared/new") == "x");
    assert!(root.is_opaque("also"));
    assert!(
        root.is_opaque("both") && root.is_opaque("again"),
        "only layers below are meant"
    );
    assert_eq!(root.text("here"), "x");
    assert!(!root.path(".wh..wh.plnk").exists() && !root.is_opaque("etc"));
}

#[test]
fn the_root_itself_may_be_cleared() {
    let root = unpack(&[(EntryType::Regular, ".wh..wh..opq", "", 0)]).expect("unpacked");
    assert!(root.is_opaque(""));
}

#[test]
fn a_name_that_comes_again_counts_and_takes_no_link_with_it() {
    let root = unpack(&[
        (EntryType::Regular, "one", "first", 0),
        (EntryType::Link, "two", "one", 0),
        (EntryType::Regular, "one", "second", 0),
        (EntryType::Symlink, "link", "/etc/hostname", 0),
        (EntryType::Regular, "link", "mine", 0),
        (EntryType::Directory, "dir/", "", 0),
        (EntryType::Directory, "dir/", "", 9),
    ])
    .expect("unpacked");
    assert_eq!(
        (root.text("one"), root.text("two")),
        ("second".to_owned(), "first".to_owned())
    );
    assert_eq!(root.text("link"), "mine");
    assert_eq!(fs::metadata(root.path("dir")).expect("there").uid(), 9);
}

#[test]
fn what_would_leave_the_root_or_be_a_device_is_refused() {
    for (what, entries) in [
        ("..", vec![(EntryType::Regular, "../x", "", 0)]),
        ("absolute", vec![(EntryType::Regular, "/x", "", 0)]),
        ("a whiteout above", vec![(EntryType::Regular, "../.wh.x", "", 0)]),
        ("a whiteout of ..", vec![(EntryType::Regular, ".wh...", "", 0)]),
        ("a whiteout of nothing", vec![(EntryType::Regular, ".wh.", "", 0)]),
        ("a device", vec![(EntryType::Char, "dev/null", "", 0)]),
        ("a disk", vec![(EntryType::Block, "dev/sda", "", 0)]),
        ("a pipe", vec![(EntryType::Fifo, "pipe", "", 0)]),
        ("a user above", vec![(EntryType::Regular, "x", "", 70_000)]),
        (
            "through a link",
            vec![(EntryType::Symlink, "a", "/etc", 0), (EntryType::Regular, "a/x", "", 0)],
        ),
        (
            "a whiteout through a link",
            vec![
                (EntryType::Symlink, "a", "/etc", 0),
                (EntryType::Regular, "a/.wh.passwd", "", 0),
            ],
        ),
        (
            "through what is removed",
            vec![(EntryType::Regular, ".wh.a", "", 0), (EntryType::Regular, "a/x", "", 0)],
        ),
        (
            "a hard link to what is not here",
            vec![(EntryType::Link, "x", "etc/passwd", 0)],
        ),
        (
            "a hard link to a link",
            vec![
                (EntryType::Symlink, "a", "/etc/shadow", 0),
                (EntryType::Link, "x", "a", 0),
            ],
        ),
        (
            "a hard link to a device",
            vec![(EntryType::Regular, ".wh.a", "", 0), (EntryType::Link, "x", "a", 0)],
        ),
        (
            "a file for a folder",
            vec![(EntryType::Directory, "a/", "", 0), (EntryType::Regular, "a", "", 0)],
        ),
    ] {
        assert!(unpack(&entries).is_err(), "{what}");
    }
}

#[test]
fn a_droplets_layer_knows_no_whiteouts() {
    let root = tempfile::tempdir().expect("folder");
    let bytes = tar(&[(EntryType::Regular, "etc/.wh.gone", "", 5)]);
    archive(bytes.as_slice(), Target::Folder(root.path()), LIMITS, Form::Droplet).expect("unpacked");
    let found = fs::symlink_metadata(root.path().join("etc/.wh.gone")).expect("a plain file");
    assert!(found.is_file() && found.uid() == owner());
    assert!(!FileType::from_raw_mode(found.mode()).is_char_device());
}
