//! The store on a real S3-compatible server, as `cargo xtask test` starts one. What holds for a directory is in
//! `store_tests`; here is what a server does in another way.

use super::*;
use crate::pack::{Materialise, Mode, PackWriter, PackageIndex, TreeLimits, materialise};
use futures_util::stream;
use model::Secret;
use sha2::{Digest as _, Sha256};

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// The server's settings, with a prefix of this test's own.
fn settings(prefix: &str) -> S3 {
    let url = std::env::var("PAAS_TEST_S3_URL")
        .expect("this test needs an S3-compatible server: `cargo xtask test -- -p blobstore` starts one");
    let parts = url.strip_prefix("http://").and_then(|rest| {
        let (key, place) = rest.split_once('@')?;
        let (id, key) = key.split_once(':')?;
        let (address, bucket) = place.split_once('/')?;
        Some((id, key, address, bucket))
    });
    let (id, key, address, bucket) = parts.expect("http://<key id>:<key>@<address>/<bucket>");
    let nonce = std::process::id();
    S3 {
        endpoint: format!("http://{address}"),
        region: "us-east-1".to_owned(),
        bucket: bucket.to_owned(),
        prefix: format!("{prefix}-{nonce}"),
        access_key: id.to_owned(),
        secret_key: Secret::new(key),
    }
}

async fn open(prefix: &str) -> (tempfile::TempDir, Blobstore) {
    let folder = tempfile::tempdir().unwrap();
    let store = Blobstore::open_s3(&settings(prefix), folder.path(), Limits::default()).await;
    (folder, store.unwrap())
}

fn body(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + use<> {
    let chunks: Vec<_> = bytes
        .chunks(1 << 20)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    stream::iter(chunks)
}

#[tokio::test]
async fn keeps_blobs_of_one_part_and_of_many() {
    let (_folder, store) = open("keeps").await;
    for size in [0, 1, 8 << 20, (17 << 20) + 3] {
        let bytes: Vec<u8> = (0..size).map(|at: usize| (at * 31 % 251) as u8).collect();
        let digest = digest_of(&bytes);
        assert!(!store.put(Kind::Pack, &digest, body(&bytes)).await.unwrap().existed);
        assert!(store.put(Kind::Pack, &digest, body(&bytes)).await.unwrap().existed);
        let blob = store.get(Kind::Pack, &digest).await.unwrap();
        assert_eq!(blob.size_bytes, size as u64);
        let read: Vec<Bytes> = blob.stream.try_collect().await.unwrap();
        assert!(read.concat() == bytes, "{size} bytes come back as they went in");
        let end = size as u64;
        let tail = store.get_range(Kind::Pack, &digest, end.saturating_sub(5)..end).await;
        assert_eq!(tail.unwrap(), bytes[size.saturating_sub(5)..]);
        assert_eq!(store.local_path(Kind::Pack, &digest), None);
    }
}

#[tokio::test]
async fn what_is_not_what_it_says_is_never_there() {
    let (_folder, store) = open("wrong").await;
    let bytes = vec![7; (9 << 20) + 1];
    let digest = digest_of(&bytes);
    let wrong = store.put(Kind::Pack, &digest, body(&bytes[1..])).await;
    assert!(matches!(wrong, Err(Error::Mismatch { .. })), "{wrong:?}");
    let broken = body(&bytes)
        .take(3)
        .chain(stream::iter([Err(std::io::Error::other("gone"))]));
    let broken = store.put(Kind::Pack, &digest, broken).await;
    assert!(matches!(broken, Err(Error::Receive { .. })), "{broken:?}");
    assert_eq!(store.head(Kind::Pack, &digest).await.unwrap(), None);
    assert!(store.get(Kind::Pack, &digest).await.err().unwrap().is_missing());
}

#[tokio::test]
async fn what_was_asked_to_stay_stays_for_its_time() {
    let (_folder, store) = open("sweep").await;
    let [kept, marked, old] = [&b"kept"[..], b"marked", b"old"].map(|bytes| (digest_of(bytes), bytes));
    for (digest, bytes) in [&kept, &marked, &old] {
        let bytes = Bytes::from_static(bytes);
        store.put_bytes(Kind::Layer, digest, bytes, true).await.unwrap();
    }
    let reachable = HashSet::from([kept.0.clone()]);
    let first = store.head(Kind::Layer, &marked.0).await.unwrap().unwrap().written;
    // Servers count in seconds.
    let second = Duration::from_secs(1);
    while SystemTime::now() < first + second * 2 {
        tokio::task::yield_now().await;
    }
    assert!(store.touch(Kind::Layer, &marked.0).await.unwrap());
    assert!(!store.touch(Kind::Stack, &marked.0).await.unwrap());
    // The blobs are as old as it takes, the mark is a second younger.
    let now = first + FRESH * 2 + second;
    let swept = store.retain_at(Kind::Layer, &reachable, FRESH * 2, now).await.unwrap();
    assert_eq!(swept, Swept { blobs: 1, bytes: 3 });
    assert_eq!(store.head(Kind::Layer, &old.0).await.unwrap(), None);
    assert!(store.head(Kind::Layer, &marked.0).await.unwrap().is_some());
    let later = now + FRESH;
    let swept = store
        .retain_at(Kind::Layer, &reachable, FRESH * 2, later)
        .await
        .unwrap();
    assert_eq!(swept.blobs, 1, "its time is over");
    assert!(store.head(Kind::Layer, &kept.0).await.unwrap().is_some());
    let marks = store.engine.store.list(Some(&engine::marks(Kind::Layer)));
    assert_eq!(marks.count().await, 0, "nothing is left of marks");
}

#[tokio::test]
async fn a_package_comes_back_from_a_server() {
    let (folder, store) = open("package").await;
    let mut writer = PackWriter::new(store.temporary().unwrap());
    let mode = Mode::file(0o644);
    let contents = |n: usize| vec![n as u8; n * 997];
    for n in 0..50 {
        writer.add(format!("file{n}"), mode, &contents(n)[..]).unwrap();
    }
    let (pack, entries) = writer.finish().unwrap();
    let pack = pack.unwrap();
    store.put_temporary(Kind::Pack, &pack.digest, pack.file).await.unwrap();
    let index = PackageIndex::build(entries, &TreeLimits::default()).unwrap();
    index.save(&store).await.unwrap();
    let loaded = PackageIndex::load(&store, index.digest(), &TreeLimits::default())
        .await
        .unwrap();
    let dir = folder.path().join("tree");
    std::fs::create_dir(&dir).unwrap();
    let options = Materialise {
        dir: dir.clone(),
        prefix: String::new(),
        owner: None,
        limits: TreeLimits::default(),
    };
    materialise(&store, &loaded, options).await.unwrap();
    for n in 0..50 {
        assert_eq!(std::fs::read(dir.join(format!("file{n}"))).unwrap(), contents(n));
    }
}

#[tokio::test]
async fn a_store_that_refuses_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = settings("refused");
    wrong.secret_key = Secret::new("wrong");
    let refused = Blobstore::open_s3(&wrong, folder.path(), Limits::default()).await;
    let error = refused.err().unwrap();
    let text = error.to_string();
    assert!(text.contains("failed to open the blob store at http://"), "{text}");
    assert!(!format!("{error:?}").contains("not-a-secret") && !format!("{wrong:?}").contains("wrong\""));
}
