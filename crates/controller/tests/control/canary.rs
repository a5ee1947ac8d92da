//! Canaries, from the deployment to the routers' tables: they stop where they are to, and go on when they are told.

use crate::cell::FakeCell;
use crate::platform::{Controller, Folders, event};
use crate::rollout::routed;
use crate::router::FakeRouter;
use crate::seed;
use model::canary::Canary;
use model::resource::{Deployment, DeploymentState};
use store::on_both_engines;
use store::testing::TestStore;

on_both_engines!(
    a_canary_waits_beside_what_served_and_then_takes_over,
    a_canary_that_never_listens_is_taken_back,
    a_canary_that_waits_is_taken_back_on_request,
);

/// What the API does when a user says so.
async fn word(store: &TestStore, deployment: &Deployment, state: DeploymentState) {
    let mut deployment = store
        .deployment_fetch(deployment.id)
        .await
        .expect("read")
        .expect("there");
    assert_eq!(deployment.state, DeploymentState::Paused);
    deployment.state = state;
    if let (DeploymentState::Deploying, Some(canary)) = (state, deployment.canary.as_mut()) {
        canary.step += 1;
    }
    let tx = store.begin().await.expect("begins");
    assert!(
        tx.deployment_step(&deployment, DeploymentState::Paused)
            .await
            .expect("stepped")
    );
    tx.commit().await.expect("commits");
}

async fn a_canary_waits_beside_what_served_and_then_takes_over(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 2).await;
    seed.deploy(store, "good").await;
    let first = event(store, seed.app.id, "deployment.finished", 0).await;
    let old = routed(store, &router, 2).await;
    let canary = Canary::new(vec![50, 100]);
    let deployment = seed.deploy_with(store, "good", Some(canary)).await;
    let paused = event(store, seed.app.id, "deployment.paused", first.sequence).await;
    assert_eq!((&paused.data["step"], &paused.data["steps"]), (&1.into(), &2.into()));
    let three = routed(store, &router, 3).await;
    assert!(old.is_subset(&three), "all that served before goes on");
    word(store, &deployment, DeploymentState::Deploying).await;
    let whole = event(store, seed.app.id, "deployment.paused", paused.sequence).await;
    assert_eq!(whole.data["step"], 2);
    let new = routed(store, &router, 2).await;
    assert!(new.is_disjoint(&old), "nothing old is left at a hundred percent");
    word(store, &deployment, DeploymentState::Deploying).await;
    let finished = event(store, seed.app.id, "deployment.finished", first.sequence).await;
    assert_eq!(finished.data["state"], "DEPLOYED");
    assert_eq!(routed(store, &router, 2).await, new);
}

async fn a_canary_that_never_listens_is_taken_back(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 2).await;
    seed.deploy(store, "good").await;
    let first = event(store, seed.app.id, "deployment.finished", 0).await;
    let old = routed(store, &router, 2).await;
    seed.deploy_with(store, "hang", Some(Canary::new(Vec::new()))).await;
    let finished = event(store, seed.app.id, "deployment.finished", first.sequence).await;
    assert_eq!(finished.data["state"], "CANCELED", "{}", finished.data);
    assert_eq!(routed(store, &router, 2).await, old);
}

async fn a_canary_that_waits_is_taken_back_on_request(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 1).await;
    seed.deploy(store, "good").await;
    let first = event(store, seed.app.id, "deployment.finished", 0).await;
    let old = routed(store, &router, 1).await;
    let deployment = seed.deploy_with(store, "good", Some(Canary::new(Vec::new()))).await;
    event(store, seed.app.id, "deployment.paused", first.sequence).await;
    assert!(old.is_subset(&routed(store, &router, 2).await));
    word(store, &deployment, DeploymentState::Canceling).await;
    let finished = event(store, seed.app.id, "deployment.finished", first.sequence).await;
    assert_eq!(finished.data["state"], "CANCELED");
    assert_eq!(routed(store, &router, 1).await, old);
}
