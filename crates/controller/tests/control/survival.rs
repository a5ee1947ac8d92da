//! What outlives a controller, a cell, a router.

use crate::cell::{FakeCell, built};
use crate::platform::{Controller, Folders, PATIENCE, TOKEN, event, events, until};
use crate::rollout::routed;
use crate::router::FakeRouter;
use crate::seed;
use model::resource::BuildState;
use model::staging::FailureClass;
use model::work::Cause;
use store::on_both_engines;
use store::testing::TestStore;
use tokio::io::AsyncReadExt as _;

async fn a_build_becomes_a_droplet(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let seed = seed::app(store, 1).await;
    let build = seed.build(store).await;
    let staged = event(store, seed.app.id, "build.staged", 0).await;
    assert_eq!(staged.data["reused"], false);
    let stored = store.build_fetch(build.id).await.expect("read").expect("there");
    assert_eq!(stored.state, BuildState::Staged);
    let droplet = store
        .droplet_fetch(stored.droplet.expect("a droplet"))
        .await
        .expect("read")
        .expect("there");
    assert_eq!(droplet.input_digest, build.input_digest);
    assert_eq!(droplet.layers[0].file, None);
    let phases: Vec<String> = events(store, seed.app.id)
        .await
        .into_iter()
        .filter(|event| event.kind == "build.phase")
        .map(|event| event.data["name"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(phases, ["unpack", "detect"]);
}

async fn a_build_out_of_memory_says_what_to_do(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.inside.lock().hold_builds = true;
    cell.join();
    let seed = seed::app(store, 1).await;
    let build = seed.build(store).await;
    let work = until(store, "the build", || async { cell.builds().first().copied() }).await;
    cell.end(
        work,
        Cause::OutOfMemory {
            limit_bytes: 1 << 30,
            peak_bytes: 1 << 30,
        },
        None,
    );
    event(store, seed.app.id, "build.failed", 0).await;
    let stored = store.build_fetch(build.id).await.expect("read").expect("there");
    let error = stored.error.expect("an error");
    assert_eq!(
        (stored.state, error.class),
        (BuildState::Failed, FailureClass::StagingOutOfMemory)
    );
    assert!(error.remedy.contains("-m"), "{error:?}");
}

async fn a_controller_killed_in_the_middle_goes_on(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.inside.lock().hold_builds = true;
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 2).await;
    seed.deploy(store, "good").await;
    event(store, seed.app.id, "deployment.finished", 0).await;
    let serving = routed(store, &router, 2).await;
    seed.build(store).await;
    let work = until(store, "the build", || async { cell.builds().first().copied() }).await;
    let address = controller.kill().await;
    // The build ends, and a rollout is asked for, while no controller is there to hear.
    cell.end(work, Cause::Exited { code: 0 }, Some(built()));
    let since = store.event_newest().await.expect("read");
    seed.deploy(store, "good").await;
    assert_eq!(router.endpoints(), serving);
    let again = Controller::start(store.again().await, &folders, Some(address)).await;
    event(store, seed.app.id, "build.staged", since).await;
    let finished = event(store, seed.app.id, "deployment.finished", since).await;
    assert_eq!(finished.data["state"], "DEPLOYED");
    let now = routed(store, &router, 2).await;
    assert!(now.is_disjoint(&serving));
    let past = router.seen.lock().past.clone();
    let begun = past
        .iter()
        .position(|endpoints| endpoints.len() == 2)
        .expect("was routed");
    assert!(past[begun..].iter().all(|endpoints| !endpoints.is_empty()), "{past:?}");
    assert!(
        !events(store, seed.app.id)
            .await
            .iter()
            .any(|event| event.kind == "app.crash")
    );
    drop(again);
}

async fn work_of_a_lost_cell_is_placed_elsewhere_and_its_double_stopped(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut one = FakeCell::new(&controller.url(), "one", 4096);
    let mut two = FakeCell::new(&controller.url(), "two", 4096);
    one.join();
    two.join();
    let router = FakeRouter::join(&controller.url());
    until(store, "both cells", || async {
        let cells = controller::feeds::list_cells(&controller.control).await.ok()?;
        let list = cells["cells"].as_array()?;
        (list.len() == 2 && list.iter().all(|cell| cell["synced"] == true)).then_some(())
    })
    .await;
    let mut seed = seed::app(store, 2).await;
    seed.deploy(store, "good").await;
    event(store, seed.app.id, "deployment.finished", 0).await;
    let before = routed(store, &router, 2).await;
    assert_eq!(
        (one.running().len(), two.running().len()),
        (1, 1),
        "spread over the zones"
    );
    let lost = one.running()[0];
    one.leave();
    let event_lost = event(store, seed.app.id, "instance.lost", 0).await;
    assert_eq!(event_lost.data["work"], serde_json::json!(lost));
    let after = until(store, "the replacement", || async {
        Some(router.endpoints()).filter(|now| now.len() == 2 && !now.contains(&lost))
    })
    .await;
    assert_eq!(
        after.intersection(&before).count(),
        1,
        "the other instance was left alone"
    );
    assert_eq!(one.running(), [lost], "the cut-off cell goes on with what it runs");
    one.join();
    until(store, "the double to stop", || async {
        one.running().is_empty().then_some(())
    })
    .await;
    assert_eq!(one.inside.lock().stopped, [lost]);
    assert_eq!(two.running().len(), 2);
}

async fn work_of_a_lost_cell_is_kept_where_no_other_takes_it(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "only", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 1).await;
    seed.deploy(store, "good").await;
    event(store, seed.app.id, "deployment.finished", 0).await;
    let before = routed(store, &router, 1).await;
    cell.leave();
    until(store, "the end of the lease", || async {
        let why = controller::events::why(&controller.control, seed.app.id)
            .await
            .ok()
            .flatten()?;
        let why = serde_json::to_value(why).expect("JSON");
        (why["processes"][0]["unplaced"].as_array()?.len() == 1).then_some(())
    })
    .await;
    assert_eq!(router.endpoints(), before, "unknown is not absent");
    cell.join();
    until(store, "the cell", || async {
        let cells = controller::feeds::list_cells(&controller.control).await.ok()?;
        (cells["cells"][0]["synced"] == true).then_some(())
    })
    .await;
    assert_eq!(
        cell.running().into_iter().collect::<std::collections::BTreeSet<_>>(),
        before
    );
    assert!(cell.inside.lock().stopped.is_empty());
}

async fn what_a_full_report_lacks_is_lost(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 1).await;
    seed.deploy(store, "good").await;
    event(store, seed.app.id, "deployment.finished", 0).await;
    let before = routed(store, &router, 1).await;
    // The host reboots: the cell comes back with nothing.
    cell.leave();
    cell.forget();
    let since = store.event_newest().await.expect("read");
    cell.join();
    event(store, seed.app.id, "instance.lost", since).await;
    event(store, seed.app.id, "instance.routed", since).await;
    assert!(routed(store, &router, 1).await.is_disjoint(&before));
    assert!(
        !events(store, seed.app.id)
            .await
            .iter()
            .any(|event| event.kind == "app.crash"),
        "a reboot is no crash"
    );
}

async fn a_router_that_is_gone_blocks_nothing(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&controller.url());
    let mut other = FakeRouter::join(&controller.url());
    let mut seed = seed::app(store, 1).await;
    seed.deploy(store, "good").await;
    let first = event(store, seed.app.id, "deployment.finished", 0).await;
    routed(store, &router, 1).await;
    // While it is there and says nothing, nothing goes on without it.
    other.seen.lock().mute = true;
    seed.deploy(store, "good").await;
    until(store, "the new instance", || async {
        (router.endpoints().len() == 2).then_some(())
    })
    .await;
    let kinds = events(store, seed.app.id).await;
    assert!(
        !kinds
            .iter()
            .any(|event| event.kind == "instance.draining" && event.sequence > first.sequence)
    );
    other.leave();
    event(store, seed.app.id, "deployment.finished", first.sequence).await;
}

async fn one_controller_schedules_and_another_takes_over(store: &TestStore) {
    let folders = || Folders {
        contested: true,
        ..Folders::new()
    };
    let (first_folders, second_folders) = (folders(), folders());
    let first = Controller::start(store.store.clone(), &first_folders, None).await;
    let mut seed = seed::app(store, 1).await;
    seed.deploy(store, "good").await;
    // It is elected once it has something to say about the app.
    event(store, seed.app.id, "instance.unplaced", 0).await;
    // Cell and router reach the other alone, which passes on what they say.
    let second = Controller::start(store.again().await, &second_folders, None).await;
    let mut cell = FakeCell::new(&second.url(), "a", 4096);
    cell.join();
    let router = FakeRouter::join(&second.url());
    event(store, seed.app.id, "deployment.finished", 0).await;
    let before = routed(store, &router, 1).await;
    let known = controller::feeds::list_cells(&first.control).await.expect("listed");
    assert_eq!(known["cells"][0]["synced"], true, "the first hears the cell");
    let unknown = controller::feeds::list_cells(&second.control).await.expect("listed");
    assert_eq!(unknown["cells"][0]["synced"], false, "the second does not");
    // The elected one dies. The other takes over, and what runs goes on.
    first.kill().await;
    let since = store.event_newest().await.expect("read");
    seed.deploy(store, "good").await;
    event(store, seed.app.id, "deployment.finished", since).await;
    assert!(routed(store, &router, 1).await.is_disjoint(&before));
    until(store, "the end of the one before", || async {
        (cell.running().len() == 1).then_some(())
    })
    .await;
    let lost = events(store, seed.app.id).await;
    assert!(!lost.iter().any(|event| event.kind == "instance.lost"), "{lost:?}");
}

async fn a_connection_by_ssh_reaches_the_elected_controller(store: &TestStore) {
    let folders = || Folders {
        contested: true,
        ..Folders::new()
    };
    let (first_folders, second_folders) = (folders(), folders());
    let first = Controller::start(store.store.clone(), &first_folders, None).await;
    let mut seed = seed::app(store, 1).await;
    seed.deploy(store, "good").await;
    event(store, seed.app.id, "instance.unplaced", 0).await;
    let second = Controller::start(store.again().await, &second_folders, None).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let ssh = controller::sessions::run(second.control.clone(), listener, second.shutdown.clone());
    let ssh = tokio::spawn(ssh);
    let mut client = tokio::net::TcpStream::connect(address).await.expect("connects");
    let mut said = [0; 12];
    let read = client.read_exact(&mut said);
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("in time")
        .expect("greeted");
    assert_eq!(&said, b"SSH-2.0-paas");
    // It ends with the one that serves it, and no stranger gets that far.
    let http = crate::platform::http();
    let url = format!("{}/controller/v1/ssh", first.url());
    for (token, status) in [("wrong", 401), (TOKEN, 400)] {
        let answer = http.get(&url).bearer_auth(token).send().await.expect("sent");
        assert_eq!(answer.status().as_u16(), status, "{token}");
    }
    first.kill().await;
    let mut rest = Vec::new();
    let rest = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest));
    // Whether it was closed or cut.
    let _ = rest.await.expect("in time");
    second.shutdown.cancel();
    ssh.await.expect("ends").expect("well");
}

async fn controllers_that_start_at_once_set_up_once(store: &TestStore) {
    let folders = Folders::new();
    let wanted = crate::platform::config(&folders, ([127, 0, 0, 1], 1).into()).bootstrap;
    let stores = [store.again().await, store.again().await, store.again().await];
    let now = crate::platform::now();
    let starts = stores.iter().map(|store| controller::bootstrap(store, &wanted, now));
    for outcome in futures_util::future::join_all(starts).await {
        outcome.expect("none stands in the other's way");
    }
}

async fn controllers_that_start_at_once_sign_with_one_key(store: &TestStore) {
    let stores = [
        store.again().await,
        store.again().await,
        store.again().await,
        store.again().await,
    ];
    let now = crate::platform::now();
    let loads = stores.iter().map(|store| controller::Keys::load(store, now));
    let loaded: Vec<_> = futures_util::future::join_all(loads).await;
    let loaded: Vec<_> = loaded.into_iter().map(|keys| keys.expect("loaded")).collect();
    assert_eq!(loaded[0].public().len(), 1);
    assert!(
        loaded.iter().all(|keys| keys.public() == loaded[0].public()),
        "tokens of one are good at all"
    );
    // What they replace at once stands beside each other.
    let rotations = loaded
        .iter()
        .zip(&stores)
        .map(|(keys, store)| keys.rotate(store, now, false));
    for rotated in futures_util::future::join_all(rotations).await {
        rotated.expect("rotated");
    }
    loaded[0].reload(&stores[0]).await.expect("read");
    assert_eq!(loaded[0].public().len(), 5);
}

async fn strangers_are_refused(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let http = crate::platform::http();
    let cell = uuid::Uuid::now_v7();
    let url = format!("{}/cell/v1/cells/{cell}/feed", controller.url());
    for (token, status) in [("wrong", 401), ("", 401), (TOKEN, 404)] {
        let answer = http.get(&url).bearer_auth(token).send().await.expect("sent");
        assert_eq!(answer.status().as_u16(), status, "{token}");
    }
    let answer = http.get(&url).send().await.expect("sent");
    assert_eq!(answer.status().as_u16(), 401);
    let report = format!("{}/cell/v1/cells/{cell}/report", controller.url());
    let body = serde_json::json!({"revision": 0, "full": true, "observations": []});
    let answer = http
        .post(&report)
        .bearer_auth(TOKEN)
        .json(&body)
        .send()
        .await
        .expect("sent");
    assert_eq!(
        answer.status().as_u16(),
        404,
        "a cell that is not known has to register"
    );
    let answer = http
        .post(&report)
        .bearer_auth(TOKEN)
        .body("{")
        .send()
        .await
        .expect("sent");
    assert!(answer.status().is_client_error());
}

on_both_engines!(
    a_build_becomes_a_droplet,
    a_build_out_of_memory_says_what_to_do,
    a_controller_killed_in_the_middle_goes_on,
    work_of_a_lost_cell_is_placed_elsewhere_and_its_double_stopped,
    work_of_a_lost_cell_is_kept_where_no_other_takes_it,
    what_a_full_report_lacks_is_lost,
    a_router_that_is_gone_blocks_nothing,
    one_controller_schedules_and_another_takes_over,
    controllers_that_start_at_once_set_up_once,
    controllers_that_start_at_once_sign_with_one_key,
    a_connection_by_ssh_reaches_the_elected_controller,
    strangers_are_refused,
);
