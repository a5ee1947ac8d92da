//! Starts, rollouts, scaling, stops, crashes.

use crate::cell::FakeCell;
use crate::platform::{Controller, Folders, event, events, until};
use crate::router::FakeRouter;
use crate::seed;
use model::id::WorkId;
use model::resource::DeploymentState;
use model::work::{Cause, WorkKind};
use std::collections::BTreeSet;
use store::on_both_engines;
use store::testing::TestStore;

/// Waits until the router's table has `count` instances, and returns them.
pub async fn routed(store: &TestStore, router: &FakeRouter, count: usize) -> BTreeSet<WorkId> {
    until(store, &format!("{count} endpoints"), || async {
        Some(router.endpoints()).filter(|endpoints| endpoints.len() == count)
    })
    .await
}

async fn a_first_start_is_routed_and_told(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 3).await;
    let deployment = seed.deploy(store, "good").await;
    let finished = event(store, seed.app.id, "deployment.finished", 0).await;
    assert_eq!(finished.data["state"], "DEPLOYED");
    assert_eq!(routed(store, &router, 3).await.len(), 3);
    assert_eq!(cell.running().len(), 3);
    let stored = store
        .deployment_fetch(deployment.id)
        .await
        .expect("read")
        .expect("there");
    assert_eq!(stored.state, DeploymentState::Deployed);
    let kinds: Vec<String> = events(store, seed.app.id)
        .await
        .into_iter()
        .map(|event| event.kind)
        .collect();
    for kind in ["instance.placed", "instance.running", "instance.routed"] {
        assert_eq!(
            kinds.iter().filter(|other| *other == kind).count(),
            3,
            "{kind}: {kinds:?}"
        );
    }
    let work = store.works_live().await.expect("read").remove(0);
    let WorkKind::Instance(instance) = &work.spec.kind else {
        panic!("{work:?}")
    };
    assert_eq!(instance.uris, [seed.host.clone()]);
    let about = work.spec.env.0["VCAP_APPLICATION"].expose();
    assert!(about.contains(&seed.host), "{about}");
}

async fn a_rollout_never_leaves_a_router_without_an_instance(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 1).await;
    seed.deploy(store, "good").await;
    let first = event(store, seed.app.id, "deployment.finished", 0).await;
    let old = routed(store, &router, 1).await;
    seed.deploy(store, "good").await;
    let finished = event(store, seed.app.id, "deployment.finished", first.sequence).await;
    assert_eq!(finished.data["state"], "DEPLOYED", "{}", finished.data);
    let stopped = event(store, seed.app.id, "instance.stopped", first.sequence).await;
    assert_eq!(stopped.data["work"], serde_json::json!(old.first()));
    let new = routed(store, &router, 1).await;
    assert!(new.is_disjoint(&old));
    let past = router.seen.lock().past.clone();
    let begun = past
        .iter()
        .position(|endpoints| !endpoints.is_empty())
        .expect("was routed");
    assert!(past[begun..].iter().all(|endpoints| !endpoints.is_empty()), "{past:?}");
    let kinds: Vec<String> = events(store, seed.app.id)
        .await
        .into_iter()
        .map(|event| event.kind)
        .collect();
    let place = |kind: &str| kinds.iter().rposition(|other| other == kind).expect("there");
    assert!(place("instance.routed") < place("instance.draining"), "{kinds:?}");
    assert!(place("instance.draining") < place("instance.drained"), "{kinds:?}");
}

async fn a_draining_instance_waits_for_its_requests(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 2).await;
    seed.deploy(store, "good").await;
    let finished = event(store, seed.app.id, "deployment.finished", 0).await;
    let both = routed(store, &router, 2).await;
    router.seen.lock().in_flight.extend(&both);
    seed.scale(store, 1).await;
    event(store, seed.app.id, "instance.draining", finished.sequence).await;
    let left = routed(store, &router, 1).await;
    let leaving = *both.difference(&left).next().expect("one left");
    assert!(
        cell.inside.lock().stopped.is_empty(),
        "stopped with a request in flight"
    );
    router.finish(leaving);
    let stopped = event(store, seed.app.id, "instance.stopped", finished.sequence).await;
    assert_eq!(stopped.data["index"], 1);
    assert_eq!(cell.inside.lock().stopped, [leaving]);
}

async fn a_version_that_never_listens_is_taken_back(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 2).await;
    seed.deploy(store, "good").await;
    let first = event(store, seed.app.id, "deployment.finished", 0).await;
    let (good, droplet) = (seed.process.version, seed.app.droplet);
    let old = routed(store, &router, 2).await;
    for (behaviour, text) in [
        ("hang", "connection refused on port 8080"),
        ("crash", "crashed 3 times"),
    ] {
        let since = store.event_newest().await.expect("read");
        let deployment = seed.deploy(store, behaviour).await;
        let finished = event(store, seed.app.id, "deployment.finished", since).await;
        assert_eq!(finished.data["state"], "CANCELED");
        let error = finished.data["error"].as_str().expect("a text").to_owned();
        assert!(error.contains(text), "{error}");
        let stored = store
            .deployment_fetch(deployment.id)
            .await
            .expect("read")
            .expect("there");
        assert_eq!(stored.error, Some(error));
        let process = store
            .process_fetch(seed.process.id)
            .await
            .expect("read")
            .expect("there");
        let app = store.app_fetch(seed.app.id).await.expect("read").expect("there");
        assert_eq!((process.version, app.droplet), (good, droplet));
        assert_eq!(router.endpoints(), old, "the version before was touched");
        (seed.process.version, seed.app.droplet) = (good, droplet);
    }
    assert!(
        !events(store, seed.app.id)
            .await
            .iter()
            .any(|event| { event.kind == "instance.draining" && event.sequence > first.sequence })
    );
}

async fn a_crash_is_told_counted_and_restarted(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 1).await;
    seed.deploy(store, "good").await;
    event(store, seed.app.id, "deployment.finished", 0).await;
    let mut since = store.event_newest().await.expect("read");
    for count in 1..=3 {
        let work = *routed(store, &router, 1).await.first().expect("one");
        let cause = Cause::OutOfMemory {
            limit_bytes: 64 << 20,
            peak_bytes: 64 << 20,
        };
        cell.end(work, cause, None);
        let crash = event(store, seed.app.id, "app.crash", since).await;
        since = crash.sequence;
        assert_eq!(crash.data["crash_count"], count);
        assert_eq!(crash.data["exit_status"], 137);
        assert!(crash.data["cause"].as_str().expect("a text").contains("limit 64 MiB"));
        routed(store, &router, 0).await;
        if count < 3 {
            event(store, seed.app.id, "instance.routed", since).await;
        }
    }
    // The third in a row waits half a minute.
    let why = until(store, "a wait", || async {
        let why = controller::events::why(&controller.control, seed.app.id)
            .await
            .ok()
            .flatten()?;
        let why = serde_json::to_value(why).expect("JSON");
        (why["processes"][0]["instances"][0]["state"] == "CRASHED").then_some(why)
    })
    .await;
    assert_eq!(why["processes"][0]["instances"][0]["crashes"], 3);
    assert!(why["processes"][0]["instances"][0]["next_try_at"].is_string());
    assert_eq!(why["findings"][0]["severity"], "error");
    let logs = controller
        .control
        .context
        .logs
        .read(&seed.app.id.to_string(), &telemetry::applog::Query::newest(10));
    let texts: Vec<String> = logs
        .expect("read")
        .envelopes
        .into_iter()
        .map(|envelope| String::from_utf8_lossy(&envelope.payload).into_owned())
        .collect();
    assert!(
        texts[0].contains("3 times in a row") && texts[0].contains("starts again at"),
        "{texts:?}"
    );
}

async fn what_does_not_fit_is_explained(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "tiny", 100);
    cell.join();
    let mut seed = seed::app(store, 3).await;
    seed.deploy(store, "good").await;
    let why = until(store, "an explanation", || async {
        let why = controller::events::why(&controller.control, seed.app.id)
            .await
            .ok()
            .flatten()?;
        let why = serde_json::to_value(why).expect("JSON");
        (why["processes"][0]["unplaced"].as_array()?.len() == 2).then_some(why)
    })
    .await;
    let unplaced = &why["processes"][0]["unplaced"][0];
    assert!(
        unplaced["reason"]
            .as_str()
            .expect("a text")
            .contains("needs 64 MiB, most free 36 MiB"),
        "{unplaced}"
    );
    assert!(
        unplaced["smallest_change"]
            .as_str()
            .expect("a text")
            .contains("free 28 MiB"),
        "{unplaced}"
    );
    // What was said while the cell was still joining does not count.
    let told = until(store, "both are told", || async {
        let all = events(store, seed.app.id).await;
        let told = all.iter().filter(|event| event.kind == "instance.unplaced");
        let count = told.filter(|event| event.data["reason"] == unplaced["reason"]).count();
        (count >= 2).then_some(count)
    })
    .await;
    assert_eq!(told, 2, "each once");
    // Room is made by asking for less; nothing else has to happen.
    seed.scale(store, 1).await;
    event(store, seed.app.id, "deployment.finished", 0).await;
}

async fn twenty_instances_come_at_once(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 1).await;
    seed.deploy(store, "good").await;
    let since = event(store, seed.app.id, "deployment.finished", 0).await.sequence;
    let begun = std::time::Instant::now();
    seed.scale(store, 20).await;
    routed(store, &router, 20).await;
    // Generous: what is checked is that they do not come one after the other.
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let placed = events(store, seed.app.id).await;
    let placed: Vec<_> = placed
        .iter()
        .filter(|event| event.kind == "instance.placed" && event.sequence > since)
        .collect();
    assert_eq!(placed.len(), 19);
    assert!(
        placed.iter().all(|event| event.created_at == placed[0].created_at),
        "placed by one plan"
    );
}

async fn a_stop_drains_and_ends_all(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 2).await;
    seed.deploy(store, "good").await;
    event(store, seed.app.id, "deployment.finished", 0).await;
    seed.stop(store).await;
    until(store, "nothing to run", || async {
        store.works_live().await.expect("read").is_empty().then_some(())
    })
    .await;
    routed(store, &router, 0).await;
    let stopped = cell.inside.lock().stopped.len();
    assert_eq!(stopped, 2, "{:#?}", events(store, seed.app.id).await);
    let kinds: Vec<String> = events(store, seed.app.id)
        .await
        .into_iter()
        .map(|event| event.kind)
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "instance.drained").count(),
        2,
        "{kinds:?}"
    );
    assert!(!kinds.contains(&"app.crash".to_owned()));
}

on_both_engines!(
    a_first_start_is_routed_and_told,
    a_rollout_never_leaves_a_router_without_an_instance,
    a_draining_instance_waits_for_its_requests,
    a_version_that_never_listens_is_taken_back,
    a_crash_is_told_counted_and_restarted,
    what_does_not_fit_is_explained,
    twenty_instances_come_at_once,
    a_stop_drains_and_ends_all,
);
