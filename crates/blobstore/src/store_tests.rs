//! Tests of the store on a real directory. Those of packages are beside [`crate::pack`].

use super::*;
use futures_util::stream;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io;

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

fn open(limits: Limits) -> (tempfile::TempDir, Blobstore) {
    let folder = tempfile::tempdir().unwrap();
    let store = Blobstore::open_directory(folder.path(), limits).unwrap();
    (folder, store)
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn chunks(bytes: &[u8], size: usize) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + use<> {
    stream::iter(
        bytes
            .chunks(size)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect::<Vec<_>>(),
    )
}

#[tokio::test]
async fn keeps_small_and_large_blobs() {
    let (_folder, store) = open(Limits::default());
    for size in [0, 1, 100, (8 << 20) - 1, 8 << 20, (9 << 20) + 17] {
        let bytes: Vec<u8> = (0..size).map(|at: usize| (at * 31 % 251) as u8).collect();
        let digest = digest_of(&bytes);
        let stored = store.put(Kind::Pack, &digest, chunks(&bytes, 70_001)).await.unwrap();
        assert_eq!(
            stored,
            Stored {
                size_bytes: size as u64,
                existed: false
            }
        );
        let blob = store.get(Kind::Pack, &digest).await.unwrap();
        assert_eq!(blob.size_bytes, size as u64);
        let read: Vec<Bytes> = blob.stream.try_collect().await.unwrap();
        assert!(read.concat() == bytes, "{size} bytes come back as they went in");
        assert_eq!(
            store.head(Kind::Pack, &digest).await.unwrap().unwrap().size_bytes,
            size as u64
        );
        assert_eq!(
            fs::read(store.local_path(Kind::Pack, &digest).unwrap()).unwrap().len(),
            size
        );
        let again = store.put(Kind::Pack, &digest, chunks(&bytes, 1000)).await.unwrap();
        assert!(again.existed);
    }
}

#[tokio::test]
async fn files_are_read_in_large_pieces() {
    let (_folder, store) = open(Limits::default());
    let bytes = vec![7; 4 << 20];
    let digest = digest_of(&bytes);
    store.put(Kind::Layer, &digest, chunks(&bytes, 1 << 20)).await.unwrap();
    let blob = store.get(Kind::Layer, &digest).await.unwrap();
    let pieces: Vec<Bytes> = blob.stream.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), bytes);
    assert!(pieces.len() <= 32, "{} pieces", pieces.len());
}

#[tokio::test]
async fn reads_ranges() {
    let (_folder, store) = open(Limits::default());
    let digest = digest_of(b"0123456789");
    store
        .put_bytes(Kind::Pack, &digest, Bytes::from_static(b"0123456789"), false)
        .await
        .unwrap();
    assert_eq!(store.get_range(Kind::Pack, &digest, 3..6).await.unwrap(), "345");
    assert_eq!(store.get_range(Kind::Pack, &digest, 3..3).await.unwrap(), "");
    assert!(store.get_range(Kind::Pack, &digest, 30..60).await.is_err());
    assert!(matches!(
        store.read(Kind::Pack, &digest, 9).await,
        Err(Error::TooLarge { limit_bytes: 9, .. })
    ));
}

#[tokio::test]
async fn what_fails_leaves_nothing() {
    let (folder, store) = open(Limits {
        pack_bytes: 10 << 20,
        stall: Duration::from_millis(20),
        ..Limits::default()
    });
    let bytes = vec![7; 9 << 20];
    let digest = digest_of(&bytes);

    let mismatch = store.put(Kind::Pack, &digest, chunks(&bytes[1..], 1 << 20)).await;
    assert!(matches!(mismatch, Err(Error::Mismatch { .. })), "{mismatch:?}");
    let small = store.put(Kind::Pack, &digest, chunks(b"x", 1)).await;
    assert!(matches!(small, Err(Error::Mismatch { .. })), "{small:?}");
    let large = store
        .put(Kind::Pack, &digest, chunks(&vec![7; 11 << 20], 1 << 20))
        .await;
    assert!(
        matches!(
            large,
            Err(Error::TooLarge {
                limit_bytes: 10_485_760,
                ..
            })
        ),
        "{large:?}"
    );
    let broken = chunks(&bytes, 1 << 20).chain(stream::iter([Err(io::Error::other("reset"))]));
    let broken = store.put(Kind::Pack, &digest, broken).await;
    assert!(matches!(broken, Err(Error::Receive { .. })), "{broken:?}");
    let silent = chunks(&bytes, 1 << 20).chain(stream::pending());
    let silent = store.put(Kind::Pack, &digest, silent).await;
    assert!(matches!(silent, Err(Error::Stalled { .. })), "{silent:?}");

    assert_eq!(store.head(Kind::Pack, &digest).await.unwrap(), None);
    assert!(
        store
            .get(Kind::Pack, &digest)
            .await
            .is_err_and(|error| error.is_missing())
    );
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn sweeps_what_a_crash_left() {
    let (folder, store) = open(Limits::default());
    let digest = digest_of(b"kept");
    store
        .put_bytes(Kind::Layer, &digest, Bytes::from_static(b"kept"), true)
        .await
        .unwrap();
    let path = store.local_path(Kind::Layer, &digest).unwrap();
    fs::write(path.with_file_name(format!("{}#1", digest.hex())), "half").unwrap();
    fs::write(folder.path().join("tmp/half"), "half").unwrap();
    fs::create_dir(folder.path().join("tmp/tree")).unwrap();

    let reopened = Blobstore::open_directory(folder.path(), Limits::default()).unwrap();
    assert_eq!(reopened.sweep_temporaries().await.unwrap(), 3);
    assert_eq!(files(folder.path()), [path]);
}

#[tokio::test]
async fn takes_over_temporary_files() {
    let (folder, store) = open(Limits {
        pack_bytes: 10,
        ..Limits::default()
    });
    let file = store.temporary().unwrap();
    fs::write(file.path(), "contents").unwrap();
    let digest = digest_of(b"contents");
    store.put_temporary(Kind::Pack, &digest, file).await.unwrap();
    assert_eq!(store.read(Kind::Pack, &digest, 100).await.unwrap(), "contents");

    let file = store.temporary().unwrap();
    fs::write(file.path(), "more than ten").unwrap();
    let refused = store
        .put_temporary(Kind::Pack, &digest_of(b"more than ten"), file)
        .await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test]
async fn collects_only_what_is_old_and_unreachable() {
    let (folder, store) = open(Limits::default());
    let names: [&[u8]; 3] = [b"kept", b"old", b"other kind"];
    let [kept, old, other] = names.map(digest_of);
    for (kind, digest, bytes) in [
        (Kind::Pack, &kept, names[0]),
        (Kind::Pack, &old, names[1]),
        (Kind::Layer, &other, names[2]),
    ] {
        store
            .put_bytes(kind, digest, Bytes::from_static(bytes), true)
            .await
            .unwrap();
    }
    let reachable = HashSet::from([kept.clone()]);
    let young = store.retain(Kind::Pack, &reachable, Duration::ZERO).await.unwrap();
    assert_eq!(young, Swept::default(), "what was just put is never collected");

    let later = SystemTime::now() + FRESH * 3;
    let swept = store.retain_at(Kind::Pack, &reachable, FRESH * 2, later).await.unwrap();
    assert_eq!(swept, Swept { blobs: 1, bytes: 3 });
    assert_eq!(files(folder.path()).len(), 2);
    assert!(!store.delete(Kind::Pack, &old).await.unwrap());
    assert!(store.delete(Kind::Layer, &other).await.unwrap());
}

#[tokio::test]
async fn putting_an_old_blob_again_makes_it_young() {
    let (_folder, store) = open(Limits::default());
    let digest = digest_of(b"again");
    let put = || store.put_bytes(Kind::Pack, &digest, Bytes::from_static(b"again"), false);
    put().await.unwrap();
    let path = store.local_path(Kind::Pack, &digest).unwrap();
    let old = SystemTime::now() - FRESH * 4;
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(old)
        .unwrap();
    assert!(!put().await.unwrap().existed);
    let info = store.head(Kind::Pack, &digest).await.unwrap().unwrap();
    assert!(info.written > old + FRESH, "its grace time starts again");

    fs::File::open(&path).unwrap().set_modified(old).unwrap();
    assert!(store.touch(Kind::Pack, &digest).await.unwrap());
    assert!(store.head(Kind::Pack, &digest).await.unwrap().unwrap().written > old + FRESH);
    assert!(!store.touch(Kind::Layer, &digest).await.unwrap());
}

#[tokio::test]
async fn a_store_elsewhere_does_the_same_without_paths() {
    let folder = tempfile::tempdir().unwrap();
    let store = Blobstore::remote(folder.path(), Limits::default());
    let bytes = vec![5; (8 << 20) + 3];
    let digest = digest_of(&bytes);
    let wrong = store.put(Kind::Pack, &digest, chunks(&bytes[1..], 1 << 20)).await;
    assert!(matches!(wrong, Err(Error::Mismatch { .. })), "{wrong:?}");
    assert_eq!(store.head(Kind::Pack, &digest).await.unwrap(), None);
    store.put(Kind::Pack, &digest, chunks(&bytes, 1 << 20)).await.unwrap();
    assert_eq!(
        store
            .get_range(Kind::Pack, &digest, 8 << 20..(8 << 20) + 3)
            .await
            .unwrap(),
        [5; 3][..]
    );
    assert_eq!(store.local_path(Kind::Pack, &digest), None);

    let file = store.temporary().unwrap();
    fs::write(file.path(), "contents").unwrap();
    let small = digest_of(b"contents");
    store.put_temporary(Kind::Layer, &small, file).await.unwrap();
    assert_eq!(store.read(Kind::Layer, &small, 100).await.unwrap(), "contents");
    assert!(files(folder.path()).is_empty(), "its temporary file is gone");

    assert!(store.touch(Kind::Layer, &small).await.unwrap() && !store.touch(Kind::Stack, &small).await.unwrap());
    let later = SystemTime::now() + FRESH * 3;
    let swept = store
        .retain_at(Kind::Layer, &HashSet::new(), FRESH * 2, later)
        .await
        .unwrap();
    assert_eq!(swept.blobs, 1);
    assert!(store.delete(Kind::Pack, &digest).await.unwrap());
}
