//! What a cell hears of security groups: before its first work, at once when they change, and without anything being
//! started anew.

use crate::cell::FakeCell;
use crate::platform::{Controller, Folders, PATIENCE, event};
use crate::seed;
use model::id::SecurityGroupId;
use model::security::{Policies, SecurityGroup, SecurityProtocol, SecurityRule, Use, Uses};
use store::testing::TestStore;

store::on_both_engines!(a_change_reaches_the_cell_and_nothing_is_started_anew);

fn group(destination: &str) -> SecurityGroup {
    SecurityGroup {
        id: seed::id::<SecurityGroupId>(),
        name: store::testing::unique("group"),
        rules: vec![SecurityRule::new(SecurityProtocol::All, destination)],
        globally: Uses::default(),
        created_at: crate::platform::now(),
        updated_at: crate::platform::now(),
    }
}

/// Waits until the last word that the cell heard is as wanted.
async fn heard(cell: &FakeCell, what: &str, mut is_so: impl FnMut(&Policies) -> bool) {
    let waiting = async {
        loop {
            if cell.inside.lock().policies.last().is_some_and(&mut is_so) {
                return;
            }
            cell.heard.notified().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: {:?}", cell.inside.lock().policies));
}

async fn a_change_reaches_the_cell_and_nothing_is_started_anew(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let mut seed = seed::app(store, 2).await;
    seed.deploy(store, "good").await;
    event(store, seed.app.id, "deployment.finished", 0).await;
    let before = cell.running();
    let (space, mut one) = (seed.app.space, group("203.0.113.7"));
    let destinations = |policies: &Policies, use_| -> Vec<String> {
        let rules = policies.rules_of(space, use_);
        rules.map(|rule| rule.destination.clone()).collect()
    };
    let tx = store.begin().await.expect("begins");
    tx.security_group_create(&one).await.expect("created");
    tx.security_group_bind(one.id, &[space], Use::Running)
        .await
        .expect("bound");
    tx.commit().await.expect("commits");
    heard(&cell, "bound", |policies| {
        destinations(policies, Use::Running).contains(&"203.0.113.7".to_owned())
            && destinations(policies, Use::Staging).is_empty()
    })
    .await;
    one.rules = vec![SecurityRule::new(SecurityProtocol::All, "203.0.113.8")];
    let tx = store.begin().await.expect("begins");
    tx.security_group_update(&one).await.expect("updated");
    tx.commit().await.expect("commits");
    heard(&cell, "updated", |policies| {
        destinations(policies, Use::Running) == ["203.0.113.8"]
    })
    .await;
    // A cell that comes back hears all of it, before anything else.
    cell.leave();
    cell.inside.lock().policies.clear();
    cell.join();
    heard(&cell, "told again", |policies| {
        destinations(policies, Use::Running) == ["203.0.113.8"]
    })
    .await;
    let tx = store.begin().await.expect("begins");
    assert!(
        tx.security_group_unbind(one.id, space, Use::Running)
            .await
            .expect("unbound")
    );
    tx.commit().await.expect("commits");
    heard(&cell, "unbound", |policies| {
        destinations(policies, Use::Running).is_empty()
    })
    .await;
    assert_eq!(cell.running(), before, "the same work runs");
    assert!(cell.inside.lock().stopped.is_empty());
    controller.kill().await;
}
