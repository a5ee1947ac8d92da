//! What users provide: service instances, bindings, and how they reach an app.

use crate::client::*;
use serde_json::json;
use store::testing::TestStore;

store::on_both_engines!(
    what_is_provided_reaches_the_app,
    instances_are_made_changed_and_removed,
    bindings_are_made_once,
    credentials_are_for_developers_only,
    a_manifest_binds,
);

async fn provide(admin: &Client<'_>, name: &str, credentials: serde_json::Value) -> String {
    let space = admin.space().await;
    let body = json!({"type": "user-provided", "name": name, "credentials": credentials,
        "relationships": {"space": {"data": {"guid": space}}}});
    admin.post("/v3/service_instances", body).await.expect(201).guid()
}

fn binding(app: &str, instance: &str) -> serde_json::Value {
    json!({"type": "app", "relationships": {
        "app": {"data": {"guid": app}}, "service_instance": {"data": {"guid": instance}}}})
}

async fn what_is_provided_reaches_the_app(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let database = provide(&admin, "db", json!({"uri": "postgres://u:hunter2@db/shop"})).await;
    let bound = admin
        .post("/v3/service_credential_bindings", binding(&app, &database))
        .await
        .expect(201);
    assert_eq!(bound.body["last_operation"]["state"], "succeeded");
    let env = admin.get(&format!("/v3/apps/{app}/env")).await.expect(200);
    let shown = &env.body["system_env_json"]["VCAP_SERVICES"]["user-provided"][0];
    assert_eq!(
        (&shown["name"], &shown["credentials"]["uri"]),
        (&json!("db"), &json!("postgres://u:hunter2@db/shop"))
    );
    let create = json!({"droplet": {"guid": droplet}, "relationships": {"app": {"data": {"guid": app}}}});
    admin.post("/v3/deployments", create).await.expect(201);
    let desired = store.processes_desired().await.expect("read");
    let env = &desired[0].versions[0].version.env.0;
    assert!(env["VCAP_SERVICES"].expose().contains("hunter2"));
    assert_eq!(env["DATABASE_URL"].expose(), "postgres://u:hunter2@db/shop");
    // Another input, so another droplet.
    let package = admin.ready_package(&app, &[("server.js", "console.log(1)")]).await;
    let build = admin
        .post("/v3/builds", json!({"package": {"guid": package}}))
        .await
        .expect(201);
    assert_eq!(build.body["state"], "STAGING");
    // What was a version stays one.
    let guid = bound.guid();
    admin
        .delete(&format!("/v3/service_credential_bindings/{guid}"))
        .await
        .expect(204);
    let desired = store.processes_desired().await.expect("read");
    assert!(desired[0].versions[0].version.env.0.contains_key("VCAP_SERVICES"));
    admin
        .post(&format!("/v3/apps/{app}/actions/restart"), json!({}))
        .await
        .expect(200);
    let desired = store.processes_desired().await.expect("read");
    let newest = desired[0].process.version.expect("one");
    let version = desired[0]
        .versions
        .iter()
        .find(|of| of.version.id == newest)
        .expect("there");
    assert!(!version.version.env.0.contains_key("VCAP_SERVICES"));
}

async fn instances_are_made_changed_and_removed(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let guid = provide(&admin, "db", json!({"a": 1})).await;
    let path = format!("/v3/service_instances/{guid}");
    let taken = json!({"type": "user-provided", "name": "DB",
        "relationships": {"space": {"data": {"guid": admin.space().await}}}});
    let refused = admin.post("/v3/service_instances", taken).await.expect(422);
    assert!(
        refused.detail().starts_with("The service instance name is taken"),
        "{}",
        refused.text
    );
    let change = json!({"tags": ["sql"], "syslog_drain_url": "syslog-tls://logs:6514", "credentials": {"b": 2}});
    let changed = admin.patch(&path, change).await.expect(200);
    assert_eq!(changed.body["tags"], json!(["sql"]));
    assert_eq!(changed.body["last_operation"]["type"], "update");
    let credentials = admin.get(&format!("{path}/credentials")).await.expect(200);
    assert_eq!(credentials.body, json!({"b": 2}));
    let changed = admin.patch(&path, json!({"syslog_drain_url": null})).await.expect(200);
    assert_eq!(changed.body["syslog_drain_url"], json!(null));
    for (bad, part) in [
        (json!({"name": " "}), "blank"),
        (json!({"syslog_drain_url": "ftp://x"}), "syslog://"),
        (json!({"route_service_url": "http://x"}), "https://"),
        (json!({"credentials": {"x": "y".repeat(70_000)}}), "65536 bytes"),
    ] {
        let refused = admin.patch(&path, bad).await.expect(422);
        assert!(refused.detail().contains(part), "{}", refused.text);
    }
    let space = admin.space().await;
    let list = format!("/v3/service_instances?names=db&space_guids={space}&fields[space]=guid,name");
    let listed = admin.get(&list).await.expect(200);
    assert_eq!(listed.names(), ["db"]);
    assert_eq!(listed.body["included"]["spaces"][0]["name"], "dev");
    assert!(
        admin
            .get("/v3/service_instances?type=managed")
            .await
            .expect(200)
            .names()
            .is_empty()
    );
    admin.delete(&path).await.expect(204);
    admin.get(&path).await.expect(404);
    let managed = json!({"type": "managed", "name": "x", "relationships": {"space": {"data": {"guid": space}}}});
    admin.post("/v3/service_instances", managed).await.expect(501);
    let _ = store;
}

async fn bindings_are_made_once(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let (one, two) = (
        provide(&admin, "one", json!({})).await,
        provide(&admin, "two", json!({})).await,
    );
    let path = "/v3/service_credential_bindings";
    let mut named = binding(&app, &one);
    named["name"] = json!("main");
    let guid = admin.post(path, named.clone()).await.expect(201).guid();
    let again = admin.post(path, binding(&app, &one)).await.expect(422);
    assert_eq!(again.detail(), "The app is already bound to the service instance");
    named["relationships"]["service_instance"]["data"]["guid"] = json!(two);
    let clash = admin.post(path, named).await.expect(422);
    assert!(
        clash.detail().contains("binding names must be unique"),
        "{}",
        clash.text
    );
    let listed = admin
        .get(&format!("{path}?service_instance_guids={one}&include=app"))
        .await
        .expect(200);
    assert_eq!(listed.body["included"]["apps"][0]["name"], "shop");
    let details = admin.get(&format!("{path}/{guid}/details")).await.expect(200);
    assert_eq!(details.body["credentials"], json!({}));
    let labelled = json!({"metadata": {"labels": {"team": "a"}}});
    let changed = admin.patch(&format!("{path}/{guid}"), labelled).await.expect(200);
    assert_eq!(changed.body["metadata"]["labels"]["team"], "a");
    let mut key = binding(&app, &two);
    key["type"] = json!("key");
    admin.post(path, key).await.expect(422);
    let unknown = uuid::Uuid::new_v4().to_string();
    admin.post(path, binding(&app, &unknown)).await.expect(422);
    // With the instance go its bindings, with the app too.
    admin.delete(&format!("/v3/service_instances/{one}")).await.expect(204);
    admin.get(&format!("{path}/{guid}")).await.expect(404);
    admin.post(path, binding(&app, &two)).await.expect(201);
    let deleted = admin.delete(&format!("/v3/apps/{app}")).await;
    admin.job(deleted).await;
    assert!(
        admin.get(path).await.expect(200).body["resources"]
            .as_array()
            .is_some_and(Vec::is_empty)
    );
    let _ = store;
}

async fn credentials_are_for_developers_only(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let space = admin.space().await;
    let guid = provide(&admin, "db", json!({"p": "hunter2"})).await;
    let stranger = platform.user("stranger").await;
    let path = format!("/v3/service_instances/{guid}");
    for path in [path.clone(), format!("{path}/credentials")] {
        stranger.get(&path).await.expect(404);
    }
    let auditor = platform.user("auditor").await;
    let org = admin.get(&format!("/v3/spaces/{space}")).await.expect(200).body["relationships"]["organization"]["data"]
        ["guid"]
        .clone();
    for (role, kind, of) in [
        ("organization_user", "organization", &org),
        ("space_auditor", "space", &json!(space)),
    ] {
        let body = json!({"type": role, "relationships": {
            "user": {"data": {"username": "auditor"}}, kind: {"data": {"guid": of}}}});
        admin.post("/v3/roles", body).await.expect(201);
    }
    let seen = auditor.get(&path).await.expect(200);
    assert!(!seen.text.contains("hunter2"));
    auditor.get(&format!("{path}/credentials")).await.expect(403);
    auditor.patch(&path, json!({"name": "mine"})).await.expect(403);
    auditor.delete(&path).await.expect(403);
    let _ = store;
}

async fn a_manifest_binds(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let space = admin.space().await;
    let path = format!("/v3/spaces/{space}/actions/apply_manifest");
    let manifest = "applications:\n- name: shop\n  services: [db, {name: mail, binding_name: out}]\n";
    let refused = admin.yaml(&path, manifest).await.expect(422);
    assert_eq!(
        refused.detail(),
        "For application 'shop': Service instance 'db' not found"
    );
    provide(&admin, "db", json!({})).await;
    provide(&admin, "mail", json!({})).await;
    for _ in 0..2 {
        let applied = admin.yaml(&path, manifest).await;
        admin.job(applied).await;
    }
    let bound = admin
        .get("/v3/service_credential_bindings?order_by=name")
        .await
        .expect(200);
    assert_eq!(bound.body["pagination"]["total_results"], 2);
    assert_eq!(
        admin
            .get("/v3/service_credential_bindings?names=out")
            .await
            .expect(200)
            .names(),
        ["out"]
    );
    let _ = store;
}
