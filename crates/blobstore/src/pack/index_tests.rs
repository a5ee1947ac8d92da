//! Tests of package indexes: validity, digest, stored form.

use super::*;

fn entry(path: &str, mode: Mode) -> Entry {
    let size = u64::from(!mode.is_folder()) * 3;
    let sha256 = Digest::from_sha256(Sha256::digest(path.as_bytes()).into());
    let place = (size > 0).then(|| Place {
        pack: Digest::from_sha256([9; 32]),
        offset: 5,
        length: 3,
        compression: Compression::Raw,
    });
    Entry {
        path: path.to_owned(),
        mode,
        size,
        sha1: [1; 20],
        sha256,
        place,
    }
}

fn file(path: &str) -> Entry {
    entry(path, Mode::file(0o644))
}

fn build(entries: Vec<Entry>) -> Result<PackageIndex, Error> {
    PackageIndex::build(
        entries,
        &TreeLimits {
            entries: 5,
            total_bytes: 12,
            file_bytes: 10,
            ..TreeLimits::default()
        },
    )
}

#[test]
fn the_digest_names_the_tree_not_its_places() {
    let one = build(vec![file("b"), file("a/c"), entry("a", Mode::FOLDER)]).unwrap();
    let mut moved = file("a/c");
    moved.place.as_mut().unwrap().pack = Digest::from_sha256([8; 32]);
    let two = build(vec![moved, file("b")]).unwrap();
    assert_eq!(
        one.digest(),
        two.digest(),
        "order, implied folders and packs do not matter"
    );
    assert_eq!(
        one.entries()
            .iter()
            .map(|entry| entry.path.as_str())
            .collect::<Vec<_>>(),
        ["a/c", "b"]
    );
    assert!(one.find("b").is_some() && one.find("a").is_none());
    for other in [
        vec![file("b"), entry("a/c", Mode::file(0o755))],
        vec![file("b"), file("a/d")],
        vec![file("b"), file("a/c"), entry("e", Mode::FOLDER)],
    ] {
        assert_ne!(one.digest(), build(other).unwrap().digest());
    }
}

#[test]
fn refuses_trees_that_are_none() {
    let refused = |entries| build(entries).unwrap_err();
    assert!(matches!(refused(vec![file("a"), file("a")]), Error::Duplicate { .. }));
    assert!(matches!(
        refused(vec![file("a"), file("a/b/c")]),
        Error::NotAFolder { .. }
    ));
    assert!(matches!(
        refused(vec![entry("a", Mode::LINK), file("a/b")]),
        Error::NotAFolder { .. }
    ));
    assert!(matches!(refused(vec![file("../a")]), Error::Path { .. }));
    assert!(matches!(refused(vec![file("a//b")]), Error::Path { .. }));
    assert!(matches!(
        refused((0..6).map(|at| file(&at.to_string())).collect()),
        Error::TooManyEntries { limit: 5 }
    ));
    assert!(matches!(
        refused((0..5).map(|at| file(&at.to_string())).collect()),
        Error::TotalTooLarge { .. }
    ));
    let mut large = file("a");
    large.size = 11;
    assert!(matches!(refused(vec![large]), Error::FileTooLarge { .. }));
    let mut nowhere = file("a");
    nowhere.place = None;
    assert!(matches!(refused(vec![nowhere]), Error::Path { .. }));
    let mut wraps = file("a");
    wraps.place.as_mut().unwrap().offset = u64::MAX;
    assert!(matches!(refused(vec![wraps]), Error::Path { .. }));
}

#[tokio::test]
async fn survives_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Blobstore::open_directory(folder.path(), crate::Limits::default()).unwrap();
    let index = build(vec![file("b"), entry("l", Mode::LINK), entry("e", Mode::FOLDER)]).unwrap();
    index.save(&store).await.unwrap();
    let limits = TreeLimits::default();
    assert_eq!(
        PackageIndex::load(&store, index.digest(), &limits).await.unwrap(),
        index
    );
    assert_eq!(index.packs().len(), 1);

    let other = Digest::from_sha256([3; 32]);
    store
        .put_bytes(Kind::Package, &other, Bytes::from(index.encode()), true)
        .await
        .unwrap();
    let wrong = PackageIndex::load(&store, &other, &limits).await;
    assert!(matches!(wrong, Err(Error::Index { .. })), "{wrong:?}");
}

#[test]
fn damaged_bytes_are_an_error() {
    let index = build(vec![file("b")]).unwrap();
    let bytes = index.encode();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        let decoded = PackageIndex::decode(&damaged, index.digest(), &TreeLimits::default());
        assert!(decoded.is_err() || decoded.unwrap() == index, "byte {at}");
        assert!(PackageIndex::decode(&bytes[..at], index.digest(), &TreeLimits::default()).is_err());
    }
}
