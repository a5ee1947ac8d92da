//! A platform's database and blobs, written down while it runs, come back on the other engine: what a move from one
//! machine to many is, too.

use crate::platform::{Folders, config};
use blobstore::Kind;
use bytes::Bytes;
use controller::{Blobs, Config, Context, Database};
use model::Digest;
use std::path::Path;
use std::sync::Arc;
use store::testing::{Engine, TestStore};
use store::{Location, UserKind};

fn embedded(folders: &Folders, name: &str) -> Config {
    let folder = folders.root.path().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    Config {
        database: Database::Sqlite(folder.join("paas.db")),
        blobs: Blobs::Directory(folder.join("blobs")),
        ..config(folders, ([127, 0, 0, 1], 1).into())
    }
}

async fn opened(config: &Config) -> Context {
    let opened = controller::open(Arc::new(config.clone()), Context::system_clock()).await;
    opened.expect("it opens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_comes_back_on_the_other_engine() {
    let folders = Folders::new();
    let first = embedded(&folders, "first");
    let running = opened(&first).await;
    let layer = Digest::from_sha256([5; 32]);
    let put = running
        .blobs
        .put_bytes(Kind::Layer, &layer, Bytes::from_static(b"layer"), true);
    put.await.expect("stored");
    let folder = folders.root.path().join("backup");
    let kept = controller::backup(&first, &folder).await.expect("backed up");
    assert!(kept.rows > 5 && kept.blobs == 1 && kept.bytes == 5, "{kept:?}");
    assert!(controller::backup(&first, &folder).await.is_err(), "never written over");

    let postgres = TestStore::open(Engine::Postgres).await;
    let Location::Postgres { url, .. } = postgres.location() else {
        panic!("it is PostgreSQL");
    };
    let second = Config {
        database: Database::Postgres(url),
        ..embedded(&folders, "second")
    };
    let restored = controller::restore(&second, &folder).await.expect("restored");
    assert_eq!((restored.rows, restored.blobs), (kept.rows, 1));
    let again = controller::restore(&second, &folder).await.expect_err("in use");
    assert!(telemetry::chain(&again).contains("not empty"), "{again}");
    let moved = opened(&second).await;
    let (here, there) = (
        running.store.user_by_name(UserKind::User, "admin").await.expect("read"),
        moved.store.user_by_name(UserKind::User, "admin").await.expect("read"),
    );
    assert_eq!(here.expect("made").user.id, there.expect("moved").user.id);
    let blob = moved.blobs.read(Kind::Layer, &layer, 100).await.expect("read");
    assert_eq!(blob.as_ref(), b"layer");

    cut_off(&folder);
    let third = embedded(&folders, "third");
    assert!(controller::restore(&third, &folder).await.is_err(), "a part is none");
    assert!(
        opened(&third)
            .await
            .store
            .user_by_name(UserKind::User, "admin")
            .await
            .is_ok()
    );
    moved.store.close().await;
    running.store.close().await;
    postgres.remove().await;
}

/// Takes the end of the database's file away.
fn cut_off(folder: &Path) {
    let path = folder.join("database.jsonl");
    let text = std::fs::read_to_string(&path).expect("there");
    let lines: Vec<&str> = text.lines().collect();
    std::fs::write(&path, lines[..lines.len() - 1].join("\n")).expect("written");
}
