//! Placements, observations, assignments and the route table, on both engines.

mod common;

use common::*;
use model::work::{Wanted, WorkState};
use std::collections::HashMap;
use std::sync::Arc;
use store::Topic;
use store::testing::TestStore;

store::on_both_engines!(
    placed_work_is_assigned,
    what_was_seen_is_not_read_again,
    observations_only_move_forward,
    stale_epochs_and_other_cells_are_ignored,
    wanted_never_goes_back,
    a_change_of_the_set_moves_its_revision,
    the_route_table_holds_what_serves,
    history_and_pruning,
    subscribers_hear_of_commits,
);

async fn placed_work_is_assigned(store: &TestStore) {
    let of = running(store).await;
    let cell = cell(store).await;
    let placements: Vec<_> = (0..3).map(|n| placement(&of, cell.id, n)).collect();
    let tx = store.begin().await.expect("begins");
    tx.work_insert_batch(&placements, now()).await.expect("inserted");
    tx.commit().await.expect("commits");

    let (revision, set) = store.cell_assignments(cell.id).await.expect("read").expect("known");
    assert_eq!(revision, 2);
    assert_eq!(set.len(), 3);
    assert!(set.iter().all(|a| a.wanted == Wanted::Run && a.epoch == 1));
    let env: Vec<_> = set[0].spec.env.expose().collect();
    assert_eq!(env, [("TOKEN", "hunter2")]);
    assert_eq!(store.works_live().await.expect("read").len(), 3);
    assert_eq!(store.works_of_apps(&[of.app.id]).await.expect("read").len(), 3);
}

async fn what_was_seen_is_not_read_again(store: &TestStore) {
    let of = running(store).await;
    let cell = cell(store).await;
    let placements: Vec<_> = (0..3).map(|n| placement(&of, cell.id, n)).collect();
    let place = async |placements: &[store::Placement]| {
        let tx = store.begin().await.expect("begins");
        tx.work_insert_batch(placements, now()).await.expect("inserted");
        tx.commit().await.expect("commits");
    };
    place(&placements[..2]).await;
    let seen: HashMap<_, _> = store
        .works_live()
        .await
        .expect("read")
        .into_iter()
        .map(|work| (work.id, work))
        .collect();
    place(&placements[2..]).await;
    let tx = store.begin().await.expect("begins");
    let over = [
        observed(placements[0].id, exited(1)),
        observed(placements[1].id, WorkState::Running),
    ];
    tx.work_observe_batch(cell.id, &over).await.expect("taken");
    tx.commit().await.expect("commits");

    let whole = store.works_live().await.expect("read");
    let beside = store.works_live_beside(&seen).await.expect("read");
    let told = |works: &[model::work::Work]| -> Vec<String> { works.iter().map(|work| format!("{work:?}")).collect() };
    assert_eq!(told(&beside), told(&whole));
    assert_eq!(beside.len(), 2, "one ended, one is new");
    let shared = |work: &&model::work::Work| {
        seen.get(&work.id)
            .is_some_and(|before| Arc::ptr_eq(&before.spec, &work.spec))
    };
    assert_eq!(beside.iter().filter(shared).count(), 1);
}

async fn observations_only_move_forward(store: &TestStore) {
    let of = running(store).await;
    let cell = cell(store).await;
    let placement = placement(&of, cell.id, 0);
    let tx = store.begin().await.expect("begins");
    tx.work_insert_batch(std::slice::from_ref(&placement), now())
        .await
        .expect("inserted");
    let seen = |state| [observed(placement.id, state)];
    let changed = tx
        .work_observe_batch(cell.id, &seen(WorkState::Running))
        .await
        .expect("taken");
    assert_eq!(changed.len(), 1);
    assert!(matches!(changed[0].before, WorkState::Placed));
    assert!(changed[0].work.routable);
    let changed = tx
        .work_observe_batch(cell.id, &seen(WorkState::Starting))
        .await
        .expect("taken");
    assert!(changed.is_empty(), "a lower rank is old news");
    let changed = tx.work_observe_batch(cell.id, &seen(exited(1))).await.expect("taken");
    assert!(!changed[0].work.routable);
    let changed = tx.work_observe_batch(cell.id, &seen(exited(2))).await.expect("taken");
    assert!(changed.is_empty(), "it has ended once");
    tx.commit().await.expect("commits");
    let work = store.work_fetch(placement.id).await.expect("read").expect("there");
    assert_eq!(work.state, exited(1));
    assert_eq!(work.since, later(5));
    assert!(store.works_live().await.expect("read").is_empty());
}

async fn stale_epochs_and_other_cells_are_ignored(store: &TestStore) {
    let of = running(store).await;
    let (cell, other) = (cell(store).await, cell(store).await);
    let mut placement = placement(&of, cell.id, 0);
    placement.epoch = 7;
    let tx = store.begin().await.expect("begins");
    tx.work_insert_batch(std::slice::from_ref(&placement), now())
        .await
        .expect("inserted");
    let mut seen = observed(placement.id, WorkState::Running);
    assert!(
        tx.work_observe_batch(cell.id, &[seen.clone()])
            .await
            .expect("taken")
            .is_empty()
    );
    seen.epoch = 7;
    assert!(
        tx.work_observe_batch(other.id, &[seen.clone()])
            .await
            .expect("taken")
            .is_empty()
    );
    assert_eq!(tx.work_observe_batch(cell.id, &[seen]).await.expect("taken").len(), 1);
    tx.commit().await.expect("commits");
}

async fn wanted_never_goes_back(store: &TestStore) {
    let of = running(store).await;
    let cell = cell(store).await;
    let placement = placement(&of, cell.id, 0);
    let ids = [placement.id];
    let tx = store.begin().await.expect("begins");
    tx.work_insert_batch(&[placement], now()).await.expect("inserted");
    assert_eq!(tx.work_want(&ids, Wanted::Drain).await.expect("set"), ids);
    assert!(tx.work_want(&ids, Wanted::Run).await.expect("set").is_empty());
    assert_eq!(tx.work_want(&ids, Wanted::Stop).await.expect("set"), ids);
    assert!(tx.work_want(&ids, Wanted::Drain).await.expect("set").is_empty());
    tx.commit().await.expect("commits");
    assert_eq!(store.works_live().await.expect("read")[0].wanted, Wanted::Stop);
}

async fn a_change_of_the_set_moves_its_revision(store: &TestStore) {
    let of = running(store).await;
    let cell = cell(store).await;
    let revision = || async { store.cell_fetch(cell.id).await.expect("read").expect("known").revision };
    let placement = placement(&of, cell.id, 0);
    let tx = store.begin().await.expect("begins");
    tx.work_insert_batch(std::slice::from_ref(&placement), now())
        .await
        .expect("inserted");
    drop(tx);
    assert_eq!(revision().await, 1, "rolled back");
    let tx = store.begin().await.expect("begins");
    tx.work_insert_batch(std::slice::from_ref(&placement), now())
        .await
        .expect("inserted");
    tx.work_want(&[placement.id], Wanted::Stop).await.expect("set");
    tx.commit().await.expect("commits");
    assert_eq!(revision().await, 2, "once a commit");
    let tx = store.begin().await.expect("begins");
    tx.work_observe_batch(cell.id, &[observed(placement.id, WorkState::Stopping)])
        .await
        .expect("taken");
    tx.commit().await.expect("commits");
    assert_eq!(revision().await, 2, "an observation does not change the set");
    let tx = store.begin().await.expect("begins");
    tx.work_observe_batch(cell.id, &[observed(placement.id, exited(0))])
        .await
        .expect("taken");
    assert_eq!(tx.cell_renew(cell.id, later(20)).await.expect("renewed"), Some(2));
    assert_eq!(tx.cell_renew(id(), later(20)).await.expect("renewed"), None);
    tx.commit().await.expect("commits");
    assert_eq!(revision().await, 3, "what ended leaves the set");
    let tx = store.begin().await.expect("begins");
    let again = tx.cell_register(&cell, later(30), later(40)).await.expect("registers");
    tx.commit().await.expect("commits");
    assert_eq!((again.revision, again.lease_until), (3, later(40)));
}

async fn the_route_table_holds_what_serves(store: &TestStore) {
    let of = running(store).await;
    let cell = cell(store).await;
    let route = route(store, &of.home, "Shop").await;
    let unused = common::route(store, &of.home, "unused").await;
    let placements = [placement(&of, cell.id, 0), placement(&of, cell.id, 1)];
    let tx = store.begin().await.expect("begins");
    tx.destination_create(&destination(route.id, of.app.id))
        .await
        .expect("created");
    tx.destination_create(&destination(route.id, of.app.id))
        .await
        .expect("twice is once");
    tx.work_insert_batch(&placements, now()).await.expect("inserted");
    tx.commit().await.expect("commits");
    let table = store.route_table().await.expect("read");
    assert_eq!(table.len(), 1, "no route without a destination: {}", unused.id);
    assert_eq!(table[0].host, route.url().to_lowercase());
    assert!(table[0].endpoints.is_empty());

    let tx = store.begin().await.expect("begins");
    let running: Vec<_> = placements.iter().map(|p| observed(p.id, WorkState::Running)).collect();
    tx.work_observe_batch(cell.id, &running).await.expect("taken");
    tx.commit().await.expect("commits");
    let table = store.route_table().await.expect("read");
    assert_eq!(table[0].endpoints.len(), 2);
    assert_eq!((table[0].endpoints[1].index, table[0].endpoints[1].port), (1, 8080));
    assert_eq!(table[0].endpoints[1].process, Some(of.process.id));

    let tx = store.begin().await.expect("begins");
    tx.work_want(&[placements[0].id], Wanted::Drain).await.expect("set");
    tx.commit().await.expect("commits");
    let table = store.route_table().await.expect("read");
    assert_eq!(
        table[0].endpoints.iter().map(|e| e.work).collect::<Vec<_>>(),
        [placements[1].id]
    );
}

async fn history_and_pruning(store: &TestStore) {
    let of = running(store).await;
    let cell = cell(store).await;
    let placements = [placement(&of, cell.id, 0), placement(&of, cell.id, 1)];
    let tx = store.begin().await.expect("begins");
    tx.work_insert_batch(&placements, now()).await.expect("inserted");
    tx.work_observe_batch(cell.id, &[observed(placements[0].id, exited(1))])
        .await
        .expect("taken");
    tx.commit().await.expect("commits");
    let history = store.work_history(of.process.id.0, now()).await.expect("read");
    assert_eq!(history.iter().map(|w| w.id).collect::<Vec<_>>(), [placements[0].id]);
    assert!(
        store
            .work_history(of.process.id.0, later(5))
            .await
            .expect("read")
            .is_empty()
    );
    assert_eq!(store.works_ended(now()).await.expect("read").len(), 1);
    let tx = store.begin().await.expect("begins");
    assert_eq!(tx.works_prune(later(60)).await.expect("pruned"), 1);
    tx.commit().await.expect("commits");
    assert_eq!(store.works_live().await.expect("read").len(), 1, "what lives stays");
}

async fn subscribers_hear_of_commits(store: &TestStore) {
    let of = running(store).await;
    let cell = cell(store).await;
    // Another process on PostgreSQL; the same one on SQLite.
    let other = match store.location() {
        store::Location::Postgres { .. } => store.again().await,
        store::Location::Sqlite(_) => store.store.clone(),
    };
    let mut here = store.subscribe();
    let mut there = other.subscribe();
    if matches!(store.location(), store::Location::Postgres { .. }) {
        assert_eq!(there.next().await, Some(Topic::Resync), "said once it listens");
    }
    let tx = store.begin().await.expect("begins");
    tx.work_insert_batch(&[placement(&of, cell.id, 0)], now())
        .await
        .expect("inserted");
    tx.event(event("x", "instance.placed"));
    tx.commit().await.expect("commits");
    for subscription in [&mut here, &mut there] {
        let mut wanted = vec![Topic::Work(cell.id), Topic::Events];
        while !wanted.is_empty() {
            let topic = tokio::time::timeout(std::time::Duration::from_secs(10), subscription.next())
                .await
                .expect("heard in time")
                .expect("open");
            wanted.retain(|wanted| *wanted != topic);
        }
    }
}
