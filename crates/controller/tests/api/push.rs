//! The way of a push: app, package, build, droplet, deployment, and what can be done to it afterwards.

use crate::client::*;
use model::resource::DeploymentState;
use serde_json::json;
use store::testing::TestStore;

store::on_both_engines!(
    a_push_from_app_to_deployment,
    equal_input_is_not_staged_again,
    starts_and_stops_as_cf_does,
    a_restart_is_a_rollout,
    newer_deployments_take_over,
    deployments_are_cancelled_where_there_is_a_way_back,
    scaling,
    environment_is_kept_and_hidden,
    health_checks_and_commands_change,
    stats_tell_of_each_instance,
    deleting_an_app,
    staging_needs_a_ready_package,
);

async fn a_push_from_app_to_deployment(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let body =
        json!({"droplet": {"guid": droplet}, "strategy": "rolling", "relationships": {"app": {"data": {"guid": app}}}});
    let deployment = admin.post("/v3/deployments", body).await.expect(201);
    assert_eq!(deployment.body["status"]["value"], "ACTIVE");
    assert_eq!(deployment.body["status"]["reason"], "DEPLOYING");
    let fetched = admin
        .get(&format!("/v3/deployments/{}", deployment.guid()))
        .await
        .expect(200);
    assert_eq!(fetched.body["droplet"]["guid"], droplet);
    let shown = admin.get(&format!("/v3/apps/{app}")).await.expect(200);
    assert_eq!(shown.body["state"], "STARTED");
    assert_eq!(shown.body["relationships"]["current_droplet"]["data"]["guid"], droplet);
    let processes = admin.get(&format!("/v3/apps/{app}/processes")).await.expect(200);
    let types: Vec<_> = processes.body["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|p| &p["type"])
        .collect();
    assert_eq!(types, ["web", "worker"]);
    assert_eq!(processes.body["resources"][0]["instances"], 1);
    assert_eq!(processes.body["resources"][1]["instances"], 0);
    let desired = store.processes_desired().await.expect("read");
    assert_eq!(desired.len(), 2, "a first deployment starts the worker's version too");
    let active = admin
        .get(&format!("/v3/deployments?app_guids={app}&status_values=ACTIVE"))
        .await
        .expect(200);
    assert_eq!(active.body["pagination"]["total_results"], 1);
    let current = admin.get(&format!("/v3/apps/{app}/droplets/current")).await.expect(200);
    assert_eq!(current.body["process_types"]["web"], "node server.js");
    let kinds: Vec<_> = store
        .events_since(Some(&app), 0, 100)
        .await
        .expect("read")
        .into_iter()
        .map(|e| e.kind)
        .collect();
    for kind in [
        "audit.app.create",
        "package.ready",
        "audit.app.build.create",
        "deployment.created",
    ] {
        assert!(kinds.iter().any(|there| there == kind), "{kind} in {kinds:?}");
    }
    let audit = admin
        .get(&format!("/v3/audit_events?target_guids={app}"))
        .await
        .expect(200);
    let audit = audit.body["resources"].as_array().expect("a list").clone();
    assert!(
        audit
            .iter()
            .all(|event| event["type"].as_str().is_some_and(|kind| kind.starts_with("audit.")))
    );
    assert_eq!(audit[0]["actor"]["name"], "admin");
}

async fn equal_input_is_not_staged_again(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let build = async |files: &[(&str, &str)]| {
        let package = admin.ready_package(&app, files).await;
        admin
            .post("/v3/builds", json!({"package": {"guid": package}}))
            .await
            .expect(201)
    };
    let same = build(&[("server.js", "console.log(1)")]).await;
    assert_eq!(
        (&same.body["state"], &same.body["reused"]),
        (&json!("STAGED"), &json!(true))
    );
    assert_eq!(same.body["droplet"]["guid"], droplet);
    let staged = store.events_since(Some(&app), 0, 100).await.expect("read");
    let staged = staged.iter().find(|event| event.kind == "build.staged").expect("said");
    assert_eq!(staged.data["reused"], true);
    let other = build(&[("server.js", "console.log(2)")]).await;
    assert_eq!(other.body["state"], "STAGING");
    let path = format!("/v3/apps/{app}/environment_variables");
    admin.patch(&path, json!({"var": {"A": "1"}})).await.expect(200);
    let other = build(&[("server.js", "console.log(1)")]).await;
    assert_eq!(other.body["state"], "STAGING", "builds see the environment");
    assert_eq!(store.builds_pending().await.expect("read").len(), 2);
    let twin = admin.app("twin").await;
    let package = admin.ready_package(&twin, &[("server.js", "console.log(1)")]).await;
    let other = admin
        .post("/v3/builds", json!({"package": {"guid": package}}))
        .await
        .expect(201);
    assert_eq!(other.body["state"], "STAGING", "another app's droplet is not taken");
}

async fn starts_and_stops_as_cf_does(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let action = async |name: &str| admin.post(&format!("/v3/apps/{app}/actions/{name}"), json!({})).await;
    assert_eq!(
        action("start").await.expect(422).detail(),
        "Assign a droplet before starting this app."
    );
    let droplet = admin.stage(&app, "1").await;
    let path = format!("/v3/apps/{app}/relationships/current_droplet");
    admin.patch(&path, json!({"data": {"guid": droplet}})).await.expect(200);
    assert_eq!(action("start").await.expect(200).body["state"], "STARTED");
    let version = async || {
        let processes = store
            .processes_of_app(app.parse().expect("a guid"))
            .await
            .expect("read");
        processes[0].version.expect("started once")
    };
    let first = version().await;
    action("start").await.expect(200);
    assert_eq!(version().await, first, "starting twice is starting once");
    assert_eq!(action("stop").await.expect(200).body["state"], "STOPPED");
    assert!(store.processes_desired().await.expect("read").is_empty());
    action("start").await.expect(200);
    assert_eq!(version().await, first, "nothing changed");
    action("stop").await.expect(200);
    let env = format!("/v3/apps/{app}/environment_variables");
    admin.patch(&env, json!({"var": {"A": "1"}})).await.expect(200);
    action("start").await.expect(200);
    assert_ne!(version().await, first, "the environment changed");
    let other = admin.app("other").await;
    let foreign = format!("/v3/apps/{other}/relationships/current_droplet");
    admin
        .patch(&foreign, json!({"data": {"guid": droplet}}))
        .await
        .expect(422);
}

/// Ends the active deployment as the scheduler would.
async fn deployed(store: &TestStore, app: &str) {
    let app: model::id::AppId = app.parse().expect("a guid");
    for mut deployment in store.deployments_active().await.expect("read") {
        if deployment.app == app {
            deployment.state = DeploymentState::Deployed;
            let tx = store.begin().await.expect("begins");
            assert!(
                tx.deployment_step(&deployment, DeploymentState::Deploying)
                    .await
                    .expect("stepped")
            );
            tx.commit().await.expect("commits");
        }
    }
}

async fn a_restart_is_a_rollout(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let create = json!({"droplet": {"guid": droplet}, "relationships": {"app": {"data": {"guid": app}}}});
    admin.post("/v3/deployments", create).await.expect(201);
    deployed(store, &app).await;
    let restarted = admin
        .post(&format!("/v3/apps/{app}/actions/restart"), json!({}))
        .await
        .expect(200);
    assert_eq!(restarted.body["state"], "STARTED");
    let active = store.deployments_active().await.expect("read");
    assert_eq!(active.len(), 1);
    assert!(active[0].previous_version.is_some());
    let desired = store.processes_desired().await.expect("read");
    let web = desired
        .iter()
        .find(|process| process.process.process_type.as_str() == "web")
        .expect("there");
    assert_eq!(
        web.versions.len(),
        2,
        "the version before goes on until the new one serves"
    );
    admin
        .post(&format!("/v3/apps/{app}/actions/stop"), json!({}))
        .await
        .expect(200);
    let ended = store
        .deployment_fetch(active[0].id)
        .await
        .expect("read")
        .expect("there");
    assert_eq!(ended.state, DeploymentState::Canceled);
}

async fn newer_deployments_take_over(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let create = json!({"droplet": {"guid": droplet}, "relationships": {"app": {"data": {"guid": app}}}});
    admin.post("/v3/deployments", create.clone()).await.expect(201);
    deployed(store, &app).await;
    let filter = store::DeploymentFilter::default();
    let newest = store
        .deployment_list(&filter, store::Scope::All, store::Order::NEWEST, store::Page::ONE)
        .await;
    let serving = newest.expect("listed").items[0].version;
    let second = admin.post("/v3/deployments", create.clone()).await.expect(201).guid();
    let third = admin.post("/v3/deployments", create).await.expect(201).guid();
    let second = admin.get(&format!("/v3/deployments/{second}")).await.expect(200);
    assert_eq!(second.body["status"]["reason"], "SUPERSEDED");
    let third = store
        .deployment_fetch(third.parse().expect("a guid"))
        .await
        .expect("read")
        .expect("there");
    assert_eq!(
        third.previous_version,
        Some(serving),
        "what serves, not what was only tried"
    );
}

async fn deployments_are_cancelled_where_there_is_a_way_back(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let create = json!({"droplet": {"guid": droplet}, "relationships": {"app": {"data": {"guid": app}}}});
    let first = admin.post("/v3/deployments", create.clone()).await.expect(201).guid();
    admin
        .post(&format!("/v3/deployments/{first}/actions/cancel"), json!({}))
        .await
        .expect(422);
    deployed(store, &app).await;
    let refused = admin
        .post(&format!("/v3/deployments/{first}/actions/cancel"), json!({}))
        .await
        .expect(422);
    assert_eq!(refused.detail(), "Cannot cancel a FINALIZED deployment");
    let second = admin.post("/v3/deployments", create).await.expect(201).guid();
    let cancelled = admin
        .post(&format!("/v3/deployments/{second}/actions/cancel"), json!({}))
        .await
        .expect(200);
    assert_eq!(cancelled.body["status"]["reason"], "CANCELING");
    admin
        .post(&format!("/v3/deployments/{second}/actions/cancel"), json!({}))
        .await
        .expect(200);
    for (strategy, status) in [("canary", 201), ("magic", 422)] {
        let body = json!({"strategy": strategy, "relationships": {"app": {"data": {"guid": app}}}});
        admin.post("/v3/deployments", body).await.expect(status);
    }
}

async fn scaling(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let path = format!("/v3/apps/{app}/processes/web/actions/scale");
    let scaled = admin.post(&path, json!({"instances": 3})).await.expect(202);
    assert_eq!(scaled.body["instances"], 3);
    let create = json!({"droplet": {"guid": droplet}, "relationships": {"app": {"data": {"guid": app}}}});
    admin.post("/v3/deployments", create).await.expect(201);
    deployed(store, &app).await;
    admin.post(&path, json!({"instances": 2})).await.expect(202);
    assert!(
        store.deployments_active().await.expect("read").is_empty(),
        "instances alone need no new version"
    );
    let scaled = admin
        .post(
            &path,
            json!({"memory_in_mb": 128, "log_rate_limit_in_bytes_per_second": 1024}),
        )
        .await
        .expect(202);
    assert_eq!(scaled.body["memory_in_mb"], 128);
    assert_eq!(scaled.body["log_rate_limit_in_bytes_per_second"], 1024);
    assert_eq!(store.deployments_active().await.expect("read").len(), 1, "limits do");
    for bad in [
        json!({"memory_in_mb": 0}),
        json!({"instances": 100_000}),
        json!({"instances": -1}),
        json!({"disk_in_mb": "x"}),
    ] {
        admin.post(&path, bad).await.expect(422);
    }
    admin
        .post(&format!("/v3/apps/{app}/processes/nope/actions/scale"), json!({}))
        .await
        .expect(404);
}

async fn environment_is_kept_and_hidden(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let path = format!("/v3/apps/{app}/environment_variables");
    let set = admin
        .patch(&path, json!({"var": {"A": "x", "N": 1, "T": true}}))
        .await
        .expect(200);
    assert_eq!(set.body["var"], json!({"A": "x", "N": "1", "T": "true"}));
    let set = admin.patch(&path, json!({"var": {"A": null}})).await.expect(200);
    assert_eq!(set.body["var"], json!({"N": "1", "T": "true"}));
    for bad in [
        json!({"PORT": "1"}),
        json!({"VCAP_X": "1"}),
        json!({"A": {"b": 1}}),
        json!({"A=": "1"}),
    ] {
        admin.patch(&path, json!({"var": bad})).await.expect(422);
    }
    admin
        .patch(&path, json!({"var": {"BIG": "x".repeat(200_000)}}))
        .await
        .expect(422);
    let env = admin.get(&format!("/v3/apps/{app}/env")).await.expect(200);
    assert_eq!(env.body["environment_variables"]["N"], "1");
    assert_eq!(
        env.body["application_env_json"]["VCAP_APPLICATION"]["application_name"],
        "shop"
    );
    let events = store.events_since(Some(&app), 0, 100).await.expect("read");
    assert!(
        events.iter().all(|event| !event.data.to_string().contains("xxxx")),
        "values are not in events"
    );
}

async fn health_checks_and_commands_change(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let path = format!("/v3/apps/{app}/processes/web");
    let check = json!({"type": "http", "data": {"endpoint": "/health", "timeout": 30}});
    let changed = admin
        .patch(&path, json!({"command": "run", "health_check": check}))
        .await
        .expect(200);
    assert_eq!(changed.body["command"], "run");
    assert_eq!(changed.body["health_check"]["data"]["endpoint"], "/health");
    let changed = admin.patch(&path, json!({"command": null})).await.expect(200);
    assert_eq!(changed.body["command"], serde_json::Value::Null);
    assert_eq!(changed.body["health_check"]["type"], "http");
    for bad in [
        json!({"health_check": {"type": "ping"}}),
        json!({"health_check": {"data": {"endpoint": "nope"}}}),
        json!({"health_check": {"data": {"timeout": 0}}}),
        json!({"command": "x".repeat(5000)}),
    ] {
        admin.patch(&path, bad).await.expect(422);
    }
    let _ = store;
}

async fn stats_tell_of_each_instance(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let create = json!({"droplet": {"guid": droplet}, "relationships": {"app": {"data": {"guid": app}}}});
    admin
        .post(
            &format!("/v3/apps/{app}/processes/web/actions/scale"),
            json!({"instances": 3}),
        )
        .await
        .expect(202);
    admin.post("/v3/deployments", create).await.expect(201);
    let works = place(&platform, store, 2).await;
    observe(store, &works[0], model::work::WorkState::Running).await;
    let crash = model::work::WorkState::Exited(model::work::Outcome {
        cause: model::work::Cause::Exited { code: 3 },
        at: platform.context.now(),
        build: None,
    });
    observe(store, &works[1], crash).await;
    let stats = admin
        .get(&format!("/v3/apps/{app}/processes/web/stats"))
        .await
        .expect(200);
    let of = |index: usize| &stats.body["resources"][index];
    assert_eq!((&of(0)["state"], &of(0)["routable"]), (&json!("RUNNING"), &json!(true)));
    assert_eq!(of(0)["mem_quota"], 256 * 1024 * 1024);
    assert_eq!(
        (&of(1)["state"], &of(1)["details"]),
        (&json!("CRASHED"), &json!("Exited with status 3"))
    );
    assert_eq!(of(2)["state"], "DOWN");
    let list = admin
        .get(&format!(
            "/v3/processes?embed=process_instances&app_guids={app}&types=web"
        ))
        .await
        .expect(200);
    let instances = list.body["resources"][0]["process_instances"]
        .as_array()
        .expect("embedded")
        .len();
    assert_eq!(instances, 3);
}

/// Places the first instances of the desired web process, as the scheduler would.
pub async fn place(platform: &Platform, store: &TestStore, count: u32) -> Vec<store::Placement> {
    use model::work::{InstanceSpec, WorkKind, WorkSpec};
    let desired = store.processes_desired().await.expect("read");
    let web = desired
        .iter()
        .find(|process| process.process.process_type.as_str() == "web")
        .expect("desired");
    let version = &web.versions[0];
    let cell: model::id::CellId = uuid::Uuid::new_v4().into();
    let placements: Vec<_> = (0..count)
        .map(|index| store::Placement {
            id: uuid::Uuid::new_v4().into(),
            cell,
            epoch: 1,
            spec: WorkSpec {
                owner: web.owner.clone(),
                limits: version.version.limits,
                stack: version.droplet.stack.clone(),
                env: version.version.env.clone(),
                kind: WorkKind::Instance(InstanceSpec {
                    process: web.process.id,
                    process_type: web.process.process_type.clone(),
                    version: version.version.id,
                    index,
                    droplet: version.droplet.id,
                    layers: Vec::new(),
                    command: None,
                    health: version.version.health.clone(),
                    port: Some(8080),
                    grace_seconds: 10,
                    uris: web.uris.clone(),
                    sidecars: Vec::new(),
                    image: None,
                }),
            },
        })
        .collect();
    let tx = store.begin().await.expect("begins");
    tx.work_insert_batch(&placements, platform.context.now())
        .await
        .expect("inserted");
    tx.commit().await.expect("commits");
    placements
}

pub async fn observe(store: &TestStore, placement: &store::Placement, state: model::work::WorkState) {
    let observation = model::work::Observation {
        work: placement.id,
        epoch: 1,
        routable: true,
        address: Some("10.1.2.3".parse().expect("valid")),
        since: time::OffsetDateTime::now_utc(),
        state,
        phases: Vec::new(),
    };
    let tx = store.begin().await.expect("begins");
    let changed = tx
        .work_observe_batch(placement.cell, &[observation])
        .await
        .expect("taken");
    assert_eq!(changed.len(), 1);
    tx.commit().await.expect("commits");
}

async fn deleting_an_app(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, _) = admin.staged("shop").await;
    let deleted = admin.delete(&format!("/v3/apps/{app}")).await;
    let job = admin.job(deleted).await;
    assert_eq!(job.body["operation"], "app.delete");
    assert_eq!(
        admin.get(&format!("/v3/apps/{app}")).await.expect(404).detail(),
        "App not found"
    );
    admin.app("shop").await;
    let _ = store;
}

async fn staging_needs_a_ready_package(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let package = admin.package(&app).await;
    let refused = admin
        .post("/v3/builds", json!({"package": {"guid": package}}))
        .await
        .expect(400);
    assert_eq!(
        refused.detail(),
        "Bad request: Cannot stage package whose state is not ready."
    );
    let package = admin.ready_package(&app, &[("a", "1")]).await;
    let body =
        json!({"package": {"guid": package}, "lifecycle": {"type": "buildpack", "data": {"buildpacks": ["nope"]}}});
    let refused = admin.post("/v3/builds", body).await.expect(422);
    assert!(
        refused
            .detail()
            .contains("must be an existing admin buildpack or a valid git URI"),
        "{}",
        refused.text
    );
    let body = json!({"package": {"guid": package}, "lifecycle": {"data": {"stack": "windows"}}});
    admin.post("/v3/builds", body).await.expect(422);
    let unknown = uuid::Uuid::new_v4();
    admin
        .post("/v3/builds", json!({"package": {"guid": unknown}}))
        .await
        .expect(422);
    let _ = store;
}
