//! Backups: all tables are in them, and what comes back on either engine is what was there.

mod common;

use common::*;
use store::testing::{Engine, TestStore, keys};
use store::{DumpError, Keys, Store, UserKind};

store::on_both_engines!(every_table_has_its_place, what_is_damaged_is_refused_whole);

async fn lines(store: &Store) -> Vec<String> {
    let mut lines = Vec::new();
    let rows = store.dump(|line| {
        lines.push(line.to_owned());
        Ok(())
    });
    rows.await.expect("written down");
    lines
}

async fn restored(store: &Store, lines: &[String]) -> Result<u64, DumpError> {
    store.restore(lines.iter().cloned().map(Ok)).await
}

/// The rows of every table, in no order; columns by name.
fn content(lines: &[String]) -> std::collections::BTreeSet<String> {
    let (mut table, mut columns) = (String::new(), Vec::new());
    let mut rows = std::collections::BTreeSet::new();
    for line in lines {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        if let Some(row) = value.as_array() {
            let mut named: Vec<String> = columns
                .iter()
                .zip(row)
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            named.sort();
            rows.insert(format!("{table} {named:?}"));
        } else if let Some(name) = value["table"].as_str() {
            name.clone_into(&mut table);
            columns = value["columns"].as_array().expect("columns").clone();
        }
    }
    rows
}

async fn filled(store: &TestStore) {
    let tx = store.begin().await.expect("begins");
    tx.user_create(&user("ann")).await.expect("made");
    tx.setting_set("secret", &"hush", now()).await.expect("set");
    tx.event(event("app", "audit.app.create"));
    tx.commit().await.expect("commits");
}

async fn every_table_has_its_place(store: &TestStore) {
    assert_eq!(store.dump_gaps().await.expect("asked"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_moves_between_engines() {
    let (sqlite, postgres, back) = (
        TestStore::open(Engine::Sqlite).await,
        TestStore::open(Engine::Postgres).await,
        TestStore::open(Engine::Sqlite).await,
    );
    filled(&sqlite).await;
    let first = lines(&sqlite).await;
    assert!(!first.iter().any(|line| line.contains("hush")), "encrypted as ever");
    let rows = restored(&postgres, &first).await.expect("restored");
    assert!(rows >= 3, "{rows}");
    let second = lines(&postgres).await;
    assert_eq!(content(&first), content(&second));
    restored(&back, &second).await.expect("restored");
    assert_eq!(content(&first), content(&lines(&back).await));
    let known = postgres.user_by_name(UserKind::User, "ann").await.expect("read");
    assert!(known.is_some());
    let secret: Option<String> = postgres.setting_fetch("secret").await.expect("opens");
    assert_eq!(secret.as_deref(), Some("hush"));
    let refused = restored(&postgres, &first).await.expect_err("in use");
    assert!(matches!(refused, DumpError::NotEmpty), "{refused}");
    let other = Store::open(postgres.location(), Keys::new(1, &[7; 32]))
        .await
        .expect("opens");
    assert!(other.setting_fetch::<String>("secret").await.is_err(), "another key");
    let _ = keys();
    other.close().await;
    for store in [sqlite, postgres, back] {
        store.remove().await;
    }
}

async fn what_is_damaged_is_refused_whole(store: &TestStore) {
    let source = TestStore::open(Engine::Sqlite).await;
    filled(&source).await;
    let whole = lines(&source).await;
    source.remove().await;
    let mut other_schema = whole.clone();
    other_schema[0] = r#"{"format":1,"schema":1}"#.to_owned();
    let mut wrong_count = whole.clone();
    *wrong_count.last_mut().expect("an end") = r#"{"rows":1}"#.to_owned();
    let mut nonsense = whole.clone();
    nonsense[1] = "nonsense".to_owned();
    let mut strange = whole.clone();
    strange[1] = r#"{"table":"pg_shadow","columns":[]}"#.to_owned();
    let mut more = whole.clone();
    more.push(whole[1].clone());
    for damaged in [
        &whole[..whole.len() - 1],
        &other_schema,
        &wrong_count,
        &nonsense,
        &strange,
        &more,
        &[],
    ] {
        assert!(restored(store, damaged).await.is_err());
    }
    assert!(store.user_by_name(UserKind::User, "ann").await.expect("read").is_none());
    restored(store, &whole).await.expect("the whole one is taken");
}
