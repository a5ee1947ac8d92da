//! Tests of writing trees: what goes in comes out, whatever is damaged is refused.

use super::*;
use crate::pack::{Mode, PackWriter};
use std::os::unix::fs::MetadataExt as _;

struct Fixture {
    folder: tempfile::TempDir,
    store: Blobstore,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Blobstore::open_directory(&folder.path().join("store"), crate::Limits::default()).unwrap();
        Self { folder, store }
    }

    async fn package(&self, files: &[(&str, Mode, &[u8])]) -> PackageIndex {
        let mut writer = PackWriter::new(self.store.temporary().unwrap());
        for (path, mode, contents) in files {
            if mode.is_folder() {
                writer.add_folder((*path).to_owned());
            } else {
                writer.add((*path).to_owned(), *mode, *contents).unwrap();
            }
        }
        let (pack, entries) = writer.finish().unwrap();
        if let Some(pack) = pack {
            self.store
                .put_temporary(Kind::Pack, &pack.digest, pack.file)
                .await
                .unwrap();
        }
        PackageIndex::build(entries, &TreeLimits::default()).unwrap()
    }

    fn options(&self, name: &str) -> Materialise {
        let dir = self.folder.path().join(name);
        fs::create_dir(&dir).unwrap();
        Materialise {
            dir,
            prefix: "home/vcap/app".to_owned(),
            owner: None,
            limits: TreeLimits::default(),
        }
    }
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

#[tokio::test]
async fn writes_the_tree_as_it_was() {
    let fixture = Fixture::new();
    let (large, random) = (b"abcdefgh".repeat(500_000), noise(3 << 20));
    let files: Vec<(&str, Mode, &[u8])> = vec![
        ("bin/run", Mode::file(0o755), b"#!/bin/sh\n"),
        ("empty", Mode::file(0o600), b""),
        ("folder/of/none", Mode::FOLDER, b""),
        ("large", Mode::file(0o644), &large),
        ("link", Mode::LINK, b"bin/run"),
        ("random", Mode::file(0o440), &random),
        ("same", Mode::file(0o644), b"#!/bin/sh\n"),
    ];
    let index = fixture.package(&files).await;
    let pack = fixture
        .store
        .head(Kind::Pack, index.packs().first().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert!(
        pack.size_bytes < (3 << 20) + 2000,
        "compressed, deduplicated: {}",
        pack.size_bytes
    );

    let options = fixture.options("tree");
    let app = options.dir.join("home/vcap/app");
    let written = materialise(&fixture.store, &index, options).await.unwrap();
    assert_eq!(
        written,
        Materialised {
            files: 6,
            bytes: index.total_bytes()
        }
    );
    for (path, mode, contents) in &files {
        let metadata = fs::symlink_metadata(app.join(path)).unwrap();
        assert_eq!(metadata.mtime(), MTIME_SECONDS as i64, "{path}");
        if mode.is_file() {
            assert_eq!(metadata.mode(), mode.bits(), "{path}");
            assert!(fs::read(app.join(path)).unwrap() == *contents, "{path}");
        }
        if !mode.is_folder() {
            let entry = index.find(path).unwrap();
            assert!(read_file(&fixture.store, entry).await.unwrap() == *contents, "{path}");
        }
    }
    assert_eq!(fs::read_link(app.join("link")).unwrap(), Path::new("bin/run"));
    assert!(app.join("folder/of/none").is_dir());
    assert_eq!(fs::metadata(app).unwrap().mtime(), MTIME_SECONDS as i64);
}

#[tokio::test]
async fn hands_the_tree_to_its_owner() {
    let fixture = Fixture::new();
    let index = fixture
        .package(&[("a/b", Mode::file(0o644), b"x"), ("l", Mode::LINK, b"a")])
        .await;
    let mut options = fixture.options("tree");
    let own = fs::metadata(&options.dir).unwrap();
    let wanted = if own.uid() == 0 {
        (2000, 2000)
    } else {
        (own.uid(), own.gid())
    };
    options.owner = Some(wanted);
    let app = options.dir.join("home/vcap/app");
    materialise(&fixture.store, &index, options).await.unwrap();
    for path in ["", "a", "a/b", "l"] {
        let metadata = fs::symlink_metadata(app.join(path)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), wanted, "{path}");
    }
}

#[tokio::test]
async fn reads_packs_of_a_store_elsewhere() {
    let mut fixture = Fixture::new();
    fixture.store = Blobstore::remote(&fixture.folder.path().join("store/tmp"), crate::Limits::default());
    let index = fixture
        .package(&[("a", Mode::file(0o644), b"far away"), ("l", Mode::LINK, b"a")])
        .await;
    let options = fixture.options("tree");
    let app = options.dir.join("home/vcap/app");
    materialise(&fixture.store, &index, options).await.unwrap();
    assert_eq!(fs::read(app.join("l")).unwrap(), b"far away");
    assert_eq!(
        fs::read_dir(fixture.folder.path().join("store/tmp")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn one_package_from_several_packs() {
    let fixture = Fixture::new();
    let first = fixture
        .package(&[("a", Mode::file(0o644), b"first"), ("b", Mode::file(0o644), b"old")])
        .await;
    let second = fixture.package(&[("b", Mode::file(0o644), b"new")]).await;
    let entries = vec![first.find("a").unwrap().clone(), second.find("b").unwrap().clone()];
    let merged = PackageIndex::build(entries, &TreeLimits::default()).unwrap();
    assert_eq!(merged.packs().len(), 2);
    let options = fixture.options("tree");
    let app = options.dir.join("home/vcap/app");
    materialise(&fixture.store, &merged, options).await.unwrap();
    assert_eq!(fs::read(app.join("a")).unwrap(), b"first");
    assert_eq!(fs::read(app.join("b")).unwrap(), b"new");
}

#[tokio::test]
async fn refuses_damage_and_occupied_folders() {
    let fixture = Fixture::new();
    let contents = b"some words, some words, some words, ".repeat(20);
    let index = fixture
        .package(&[("a", Mode::file(0o644), &contents), ("b", Mode::file(0o644), b"raw")])
        .await;
    let occupied = fixture.options("occupied");
    fs::write(occupied.dir.join("x"), "").unwrap();
    let refused = materialise(&fixture.store, &index, occupied).await;
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");

    let pack = (*index.packs().first().unwrap()).clone();
    let path = fixture.store.local_path(Kind::Pack, &pack).unwrap();
    let good = fs::read(&path).unwrap();
    for at in [0, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let refused = materialise(&fixture.store, &index, fixture.options(&format!("bad-{at}"))).await;
        assert!(matches!(refused, Err(Error::Contents { .. })), "byte {at}: {refused:?}");
    }
    fs::write(&path, &good[..4]).unwrap();
    assert!(matches!(
        read_file(&fixture.store, index.find("a").unwrap()).await,
        Err(Error::Contents { .. })
    ));
    fs::remove_file(&path).unwrap();
    let missing = materialise(&fixture.store, &index, fixture.options("missing")).await;
    assert!(
        matches!(&missing, Err(Error::Store(error)) if error.is_missing()),
        "{missing:?}"
    );
}

#[tokio::test]
async fn refuses_links_that_leave() {
    let fixture = Fixture::new();
    for (at, target) in ["/etc/passwd", "../../../../etc", "", "x\0"].iter().enumerate() {
        let index = fixture.package(&[("l", Mode::LINK, target.as_bytes())]).await;
        let refused = materialise(&fixture.store, &index, fixture.options(&format!("link-{at}"))).await;
        assert!(matches!(refused, Err(Error::Link { .. })), "{target:?}: {refused:?}");
    }
}
