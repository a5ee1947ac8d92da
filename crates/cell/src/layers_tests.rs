//! Layers from a real blob store in a folder.

use super::*;
use sha2::{Digest as _, Sha256};
use std::io::Write as _;

const LIMITS: unpack::Limits = unpack::Limits {
    bytes: 1 << 20,
    entries: 1000,
};

struct World {
    dir: tempfile::TempDir,
    blobs: Blobstore,
    layers: Layers,
}

fn world(budget: u64) -> World {
    // Not in memory: images are mounted from files of other file systems only.
    let dir = tempfile::tempdir_in("/var/tmp").expect("folder");
    let blobs = Blobstore::open_directory(&dir.path().join("blobs"), blobstore::Limits::default()).expect("blobs");
    let layers = Layers::open(&dir.path().join("layers"), blobs.clone(), budget, 1, LIMITS).expect("layers");
    World { dir, blobs, layers }
}

/// A layer with one file, as (digest, `tar.zst`).
fn packed(name: &str, contents: &str) -> (Digest, Vec<u8>) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(contents.len() as u64);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, name, contents.as_bytes()).expect("append");
    let tar = tar.into_inner().expect("finish");
    let digest = Digest::from_sha256(Sha256::digest(&tar).into());
    (digest, zstd::encode_all(tar.as_slice(), 1).expect("compress"))
}

async fn stored(world: &World, digest: &Digest, packed: Vec<u8>) {
    let put = world.blobs.put_bytes(Kind::Layer, digest, packed.into(), true);
    put.await.expect("stored");
}

fn written(world: &World, packed: &[u8]) -> File {
    let path = world.dir.path().join("1.tar.zst");
    File::create(&path).expect("create").write_all(packed).expect("write");
    File::open(&path).expect("open")
}

#[tokio::test(flavor = "multi_thread")]
async fn fetched_once_for_many_at_once() {
    let world = world(1 << 20);
    let (digest, bytes) = packed("home/vcap/app/index.html", "hello");
    stored(&world, &digest, bytes).await;
    let asked = (0..8).map(|_| world.layers.acquire(&digest, Form::Droplet));
    let got = futures_util::future::try_join_all(asked).await.expect("all");
    let made = got.iter().filter(|(_, spent)| *spent != Spent::default()).count();
    assert_eq!(made, 1, "one did the work");
    let text = std::fs::read_to_string(got[0].0.path().join("home/vcap/app/index.html"));
    assert_eq!(text.expect("file"), "hello");
    world.blobs.delete(Kind::Layer, &digest).await.expect("deleted");
    assert!(
        world.layers.acquire(&digest, Form::Droplet).await.is_ok(),
        "from the cache"
    );
}

#[tokio::test]
async fn a_layer_that_is_not_what_its_digest_says_leaves_nothing() {
    let world = world(1 << 20);
    let (digest, _) = packed("a", "right");
    let (other, bytes) = packed("a", "wrong");
    stored(&world, &digest, bytes).await;
    let error = world.layers.acquire(&digest, Form::Droplet).await.expect_err("refused");
    assert!(
        crate::error::chain(&error).contains(&format!("have the digest {other}")),
        "{error:?}"
    );
    assert!(world.layers.hold(&digest, Form::Droplet).is_none());
    let error = world.layers.acquire(&other, Form::Droplet).await.expect_err("missing");
    assert!(crate::error::chain(&error).contains("there is no layer"), "{error:?}");
}

#[tokio::test]
async fn what_a_build_wrote_is_verified_stored_and_unpacked_in_one_pass() {
    let world = world(1 << 20);
    let (digest, bytes) = packed("layers/x/y/z", "built");
    let file = written(&world, &bytes);
    let size = world
        .layers
        .adopt(&digest, Form::Droplet, file, 1 << 20)
        .await
        .expect("adopted");
    assert_eq!(size, bytes.len() as u64);
    let blob = world.blobs.read(Kind::Layer, &digest, 1 << 20).await.expect("stored");
    assert_eq!(blob, bytes);
    let again = written(&world, &bytes);
    assert_eq!(
        world
            .layers
            .adopt(&digest, Form::Droplet, again, 1 << 20)
            .await
            .expect("idempotent"),
        size
    );
    assert_eq!(
        world.layers.acquire(&digest, Form::Droplet).await.expect("cached").1,
        Spent::default()
    );
}

#[tokio::test]
async fn a_build_can_claim_no_layer_that_it_does_not_hold() {
    let world = world(1 << 20);
    let (secret, bytes) = packed("etc/secret", "of another tenant");
    let (_, own) = packed("a", "own");
    assert!(
        world
            .layers
            .adopt(&secret, Form::Droplet, written(&world, &own), 1 << 20)
            .await
            .is_err(),
        "unknown"
    );
    assert!(
        world.blobs.head(Kind::Layer, &secret).await.expect("head").is_none(),
        "nothing stored"
    );
    stored(&world, &secret, bytes.clone()).await;
    drop(world.layers.acquire(&secret, Form::Droplet).await.expect("cached"));
    assert!(
        world
            .layers
            .adopt(&secret, Form::Droplet, written(&world, &own), 1 << 20)
            .await
            .is_err(),
        "known"
    );
    let long = written(&world, &bytes);
    assert!(
        world.layers.adopt(&secret, Form::Droplet, long, 8).await.is_err(),
        "larger than allowed"
    );
}

/// What is in the cache, without what describes it.
fn cached(world: &World) -> Vec<String> {
    let listed = std::fs::read_dir(world.dir.path().join("layers")).expect("listed");
    let names = listed.map(|entry| entry.expect("entry").file_name().into_string().expect("name"));
    let mut names: Vec<String> = names
        .filter(|name| !name.ends_with(".json") && name != "tmp" && name != "boot")
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_one_mounted_image_for_all_who_use_it() {
    let world = world(1 << 20);
    let (digest, bytes) = packed("home/vcap/app/index.html", "hello");
    stored(&world, &digest, bytes).await;
    let (one, _) = world.layers.acquire(&digest, Form::Droplet).await.expect("one");
    let (two, _) = world.layers.acquire(&digest, Form::Droplet).await.expect("two");
    assert_eq!(one.path(), two.path(), "one mount");
    assert_eq!(cached(&world), [format!("{}.erofs", digest.hex())]);
    assert!(
        std::fs::write(one.path().join("home/vcap/app/index.html"), "x").is_err(),
        "read-only"
    );
    // The next agent mounts what it adopts anew, and what runs keeps its own.
    let next = Layers::open(&world.dir.path().join("layers"), world.blobs.clone(), 0, 1, LIMITS).expect("opened");
    let held = next.hold(&digest, Form::Droplet).expect("held");
    assert_ne!(held.path(), one.path());
    for tree in [&one, &held] {
        let text = std::fs::read_to_string(tree.path().join("home/vcap/app/index.html"));
        assert_eq!(text.expect("file"), "hello");
    }
    let path = one.path().to_owned();
    drop((one, two));
    assert!(!path.join("home").exists(), "nobody uses it, so it is mounted no more");
}

#[tokio::test]
async fn images_are_evicted_like_trees() {
    let world = world(100_000);
    let mut digests = Vec::new();
    for name in ["a", "b"] {
        let (digest, bytes) = packed(name, &"x".repeat(60_000));
        stored(&world, &digest, bytes).await;
        drop(world.layers.acquire(&digest, Form::Droplet).await.expect("acquired"));
        digests.push(digest);
    }
    assert_eq!(cached(&world), [format!("{}.erofs", digests[1].hex())]);
    assert!(world.layers.hold(&digests[0], Form::Droplet).is_none());
}

#[tokio::test]
async fn hosts_that_mount_no_images_have_trees_and_trees_that_are_there_stay_in_use() {
    let mut world = world(1 << 20);
    let images = world.layers.images.take();
    assert!(images.is_some(), "this host mounts images");
    let (digest, bytes) = packed("home/vcap/app/index.html", "hello");
    stored(&world, &digest, bytes).await;
    drop(world.layers.acquire(&digest, Form::Droplet).await.expect("acquired"));
    assert_eq!(cached(&world), [digest.hex()]);
    world.layers.images = images;
    let (tree, spent) = world.layers.acquire(&digest, Form::Droplet).await.expect("acquired");
    assert_eq!((cached(&world), spent), (vec![digest.hex()], Spent::default()));
    assert!(tree.path().join("home/vcap/app/index.html").exists());
    assert!(world.layers.hold(&digest, Form::Droplet).is_some());
}

#[tokio::test]
async fn an_image_that_the_kernel_refuses_is_unpacked() {
    let world = world(1 << 20);
    let (digest, bytes) = packed("home/vcap/app/index.html", "hello");
    stored(&world, &digest, bytes).await;
    drop(world.layers.acquire(&digest, Form::Droplet).await.expect("acquired"));
    let image = world.dir.path().join(format!("layers/{}.erofs/{IMAGE}", digest.hex()));
    std::fs::write(&image, "damaged").expect("written");
    let (tree, _) = world
        .layers
        .acquire(&digest, Form::Droplet)
        .await
        .expect("all the same");
    let text = std::fs::read_to_string(tree.path().join("home/vcap/app/index.html"));
    assert_eq!(text.expect("file"), "hello");
}
