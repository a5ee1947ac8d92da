//! Tokens, settings, leases, events, jobs, the schema and transactions, on both engines.

mod common;

use common::*;
use model::resource::*;
use store::testing::TestStore;
use store::*;

store::on_both_engines!(
    refresh_tokens_end,
    settings_and_leases,
    events_are_one_sequence,
    jobs_end_once,
    the_schema_goes_down_and_up,
    many_writers_all_get_through,
);

async fn refresh_tokens_end(store: &TestStore) {
    let user = user("u");
    let token = RefreshToken {
        digest: vec![1; 32],
        user: user.user.id,
        client: "cf".into(),
        created_at: now(),
        valid_until: later(60),
    };
    let tx = store.begin().await.expect("begins");
    tx.user_create(&user).await.expect("created");
    tx.refresh_token_create(&token).await.expect("created");
    tx.commit().await.expect("commits");
    assert_eq!(
        store.refresh_token_fetch(&[1; 32], later(59)).await.expect("read"),
        Some(token)
    );
    assert_eq!(
        store.refresh_token_fetch(&[1; 32], later(60)).await.expect("read"),
        None
    );
    let tx = store.begin().await.expect("begins");
    assert_eq!(tx.refresh_tokens_revoke(user.user.id).await.expect("revoked"), 1);
    tx.commit().await.expect("commits");
    let found = store
        .user_by_name(UserKind::User, "U")
        .await
        .expect("read")
        .expect("whatever its case");
    assert_eq!(found.user.id, user.user.id);
    assert!(store.user_by_name(UserKind::Client, "u").await.expect("read").is_none());
}

async fn settings_and_leases(store: &TestStore) {
    let tx = store.begin().await.expect("begins");
    tx.setting_set("a", &vec![1, 2], now()).await.expect("set");
    tx.setting_set("a", &vec![3], now()).await.expect("set");
    assert_eq!(
        tx.lease_take("scheduler", "one", now(), later(10))
            .await
            .expect("taken"),
        Some(1)
    );
    assert_eq!(
        tx.lease_take("scheduler", "two", later(9), later(20))
            .await
            .expect("held"),
        None
    );
    assert_eq!(
        tx.lease_take("scheduler", "one", later(9), later(20))
            .await
            .expect("renewed"),
        Some(1)
    );
    assert_eq!(
        tx.lease_take("scheduler", "two", later(20), later(30))
            .await
            .expect("taken"),
        Some(2)
    );
    tx.lease_drop("scheduler", "one").await.expect("not its own");
    assert_eq!(
        tx.lease_take("scheduler", "one", later(21), later(30))
            .await
            .expect("held"),
        None
    );
    tx.lease_drop("scheduler", "two").await.expect("dropped");
    assert_eq!(
        tx.lease_take("scheduler", "one", later(21), later(30))
            .await
            .expect("taken"),
        Some(3)
    );
    tx.commit().await.expect("commits");
    assert_eq!(store.setting_fetch::<Vec<u8>>("a").await.expect("read"), Some(vec![3]));
    assert_eq!(store.setting_fetch::<Vec<u8>>("b").await.expect("read"), None);
}

async fn events_are_one_sequence(store: &TestStore) {
    let writers = (0..20).map(|n| {
        let store = store.store.clone();
        tokio::spawn(async move {
            let tx = store.begin().await.expect("begins");
            tx.event(event("app", &format!("audit.{n}")));
            tx.event(event("other", "build.placed"));
            tx.commit().await.expect("commits");
        })
    });
    // A reader that follows the sequence must never see one appear behind it.
    let mut seen = 0;
    let mut writers: Vec<_> = writers.collect();
    while let Some(writer) = writers.pop() {
        for event in store.events_since(None, seen, 1000).await.expect("read") {
            assert_eq!(event.sequence, seen + 1);
            seen = event.sequence;
        }
        writer.await.expect("written");
    }
    assert_eq!(store.event_newest().await.expect("read"), 40);
    let of_app = store.events_since(Some("app"), 0, 1000).await.expect("read");
    assert_eq!(of_app.len(), 20);
    let audit = EventFilter {
        audit_only: true,
        ..EventFilter::default()
    };
    let listed = store
        .event_list(&audit, Scope::All, Order::NEWEST, Page::ONE)
        .await
        .expect("listed");
    assert_eq!(listed.total, 20);
    let tx = store.begin().await.expect("begins");
    assert_eq!(tx.events_prune(later(1)).await.expect("pruned"), 40);
    tx.commit().await.expect("commits");
    assert_eq!(store.event_newest().await.expect("read"), 40, "the sequence goes on");
}

async fn jobs_end_once(store: &TestStore) {
    let job = Job {
        id: id(),
        operation: "app.delete".into(),
        state: JobState::Processing,
        error: None,
        created_at: now(),
        updated_at: now(),
    };
    let error = JobError {
        code: 10008,
        title: "CF-UnprocessableEntity".into(),
        detail: "no".into(),
    };
    let tx = store.begin().await.expect("begins");
    tx.job_create(&job).await.expect("created");
    assert!(tx.job_finish(job.id, Some(&error), later(1)).await.expect("finished"));
    assert!(!tx.job_finish(job.id, None, later(2)).await.expect("once"));
    tx.commit().await.expect("commits");
    let read = store.job_fetch(job.id).await.expect("read").expect("there");
    assert_eq!((read.state, read.error), (JobState::Failed, Some(error)));
    let tx = store.begin().await.expect("begins");
    assert_eq!(tx.jobs_prune(later(2)).await.expect("pruned"), 1);
}

async fn the_schema_goes_down_and_up(store: &TestStore) {
    store.close().await;
    store::testing::schema_down(&store.location()).await;
    let again = store.again().await;
    assert_eq!(again.event_newest().await.expect("read"), 0);
    again.close().await;
}

async fn many_writers_all_get_through(store: &TestStore) {
    let home = home(store).await;
    let writers: Vec<_> = (0..100)
        .map(|n| {
            let (store, space) = (store.store.clone(), home.space.id);
            tokio::spawn(async move {
                let tx = store.begin().await.expect("begins");
                let app = app(space, &format!("app-{n}"));
                tx.app_create(&app).await.expect("created");
                match n % 4 {
                    0 => drop(tx),
                    1 => {
                        let twice = tx.app_create(&app).await;
                        assert!(twice.is_err());
                    }
                    _ => {
                        tx.commit().await.expect("commits");
                        let read = store.app_fetch(app.id).await.expect("read");
                        assert!(read.is_some(), "what is acknowledged is seen");
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("ends");
    }
    let all = AppFilter::default();
    let listed = store
        .app_list(&all, Scope::All, Order::default(), Page::ALL)
        .await
        .expect("listed");
    assert_eq!(listed.total, 50);
}

/// What a crash of the process would leave: the files as they are at the moment when a commit is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_on_disk() {
    let store = TestStore::open(store::testing::Engine::Sqlite).await;
    let home = home(&store).await;
    let Location::Sqlite(path) = store.location() else {
        panic!("asked for SQLite")
    };
    let acknowledged = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let writers: Vec<_> = (0..50)
        .map(|n| {
            let (store, space, acknowledged) = (store.store.clone(), home.space.id, acknowledged.clone());
            tokio::spawn(async move {
                let app = app(space, &format!("app-{n}"));
                let tx = store.begin().await.expect("begins");
                tx.app_create(&app).await.expect("created");
                tx.commit().await.expect("commits");
                acknowledged.lock().expect("not poisoned").push(app.id);
            })
        })
        .collect();
    for (n, writer) in writers.into_iter().enumerate() {
        writer.await.expect("written");
        if n % 10 != 0 {
            continue;
        }
        let sure = acknowledged.lock().expect("not poisoned").clone();
        let copy = tempfile::tempdir().expect("a folder");
        for end in ["db", "db-wal"] {
            std::fs::copy(path.with_extension(end), copy.path().join(format!("paas.{end}"))).expect("copied");
        }
        let location = Location::Sqlite(copy.path().join("paas.db"));
        let survivor = Store::open(location, store::testing::keys()).await.expect("recovers");
        for app in sure {
            assert!(survivor.app_fetch(app).await.expect("read").is_some(), "{app}");
        }
        survivor.close().await;
    }
    store.remove().await;
}
