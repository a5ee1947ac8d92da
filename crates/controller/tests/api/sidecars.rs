//! Sidecars: made and changed by users, brought along by droplets, kept by versions and revisions.

use crate::client::*;
use model::sidecar::Origin;
use model::staging::SidecarTemplate;
use serde_json::{Value, json};
use store::testing::TestStore;

store::on_both_engines!(
    a_sidecar_is_made_changed_and_removed,
    what_cf_refuses_is_refused_in_its_words,
    beside_a_process_is_room_for_eight,
    manifests_make_and_change_them,
    they_are_part_of_versions_and_revisions,
    those_of_buildpacks_come_and_go_with_the_droplet,
);

async fn app(admin: &Client<'_>, name: &str) -> String {
    let space = admin.space().await;
    let body = json!({"name": name, "relationships": {"space": {"data": {"guid": space}}}});
    admin.post("/v3/apps", body).await.expect(201).guid()
}

fn agent() -> Value {
    json!({"name": "agent", "command": "./agent", "process_types": ["worker", "web"], "memory_in_mb": 30})
}

async fn a_sidecar_is_made_changed_and_removed(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = app(&admin, "shop").await;
    let of_app = format!("/v3/apps/{app}/sidecars");
    let made = admin.post(&of_app, agent()).await.expect(201);
    assert_eq!(
        made.body["process_types"],
        json!(["web", "worker"]),
        "in order, as CF has them"
    );
    assert_eq!(
        (&made.body["origin"], &made.body["memory_in_mb"]),
        (&json!("user"), &json!(30))
    );
    assert_eq!(made.body["relationships"]["app"]["data"]["guid"], app);
    let own = format!("/v3/sidecars/{}", made.guid());
    assert_eq!(admin.get(&own).await.expect(200).body, made.body);
    let two = json!({"name": "two", "command": "./two", "process_types": ["other"]});
    let two = admin.post(&of_app, two).await.expect(201);
    assert_eq!(two.body["memory_in_mb"], json!(null));
    let listed = admin.get(&format!("{of_app}?per_page=1&page=2")).await.expect(200);
    assert_eq!(
        (listed.names(), &listed.body["pagination"]["total_results"]),
        (vec!["two"], &json!(2))
    );
    let newest = admin.get(&format!("{of_app}?order_by=-created_at")).await.expect(200);
    assert_eq!(newest.names(), ["two", "agent"]);
    let process = admin
        .get(&format!("/v3/apps/{app}/processes/web"))
        .await
        .expect(200)
        .guid();
    let beside = admin
        .get(&format!("/v3/processes/{process}/sidecars"))
        .await
        .expect(200);
    assert_eq!(beside.names(), ["agent"]);
    let change = json!({"command": "./other", "memory_in_mb": null});
    let changed = admin.patch(&own, change).await.expect(200);
    assert_eq!(
        (&changed.body["command"], &changed.body["memory_in_mb"]),
        (&json!("./other"), &json!(null))
    );
    assert_eq!(changed.body["name"], "agent", "what is not said stays");
    admin.delete(&own).await.expect(204);
    admin.get(&own).await.expect(404);
    let events = format!(
        "/v3/audit_events?target_guids={app}&types=audit.app.sidecar.create,audit.app.sidecar.update,audit.app.sidecar.delete"
    );
    let events = admin.get(&events).await.expect(200);
    let kinds: Vec<_> = events.body["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["type"])
        .collect();
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    assert!(!events.text.contains("./other"), "commands are no business of events");
}

async fn what_cf_refuses_is_refused_in_its_words(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = app(&admin, "shop").await;
    let path = format!("/v3/apps/{app}/sidecars");
    let made = admin.post(&path, agent()).await.expect(201);
    let own = format!("/v3/sidecars/{}", made.guid());
    let with = |key: &str, value: Value| {
        let mut body = agent();
        body["name"] = json!("another");
        body[key] = value;
        body
    };
    let process = format!("/v3/apps/{app}/processes/web/actions/scale");
    for (body, detail) in [
        (
            with("name", json!("agent")),
            "Sidecar with name 'agent' already exists for given app",
        ),
        (
            with("name", json!("n".repeat(256))),
            "Name is too long (maximum is 255 characters)",
        ),
        (
            with("command", json!("c".repeat(4097))),
            "Command is too long (maximum is 4096 characters)",
        ),
        (
            with("process_types", json!(["t".repeat(256)])),
            "Process type is too long (maximum is 255 characters)",
        ),
        (
            with("process_types", json!([])),
            "Process types must have at least 1 process_type",
        ),
        (with("x", json!(1)), "Unknown field(s): 'x'"),
        // Of 256 MiB another has 30.
        (
            with("memory_in_mb", json!(226)),
            "The memory allocation defined is too large to run with the dependent \"web\" process",
        ),
    ] {
        let refused = admin.post(&path, body).await.expect(422);
        assert_eq!(
            (refused.detail(), &refused.body["errors"][0]["code"]),
            (detail, &json!(10008))
        );
    }
    admin.post(&path, with("memory_in_mb", json!(225))).await.expect(201);
    let refused = admin.patch(&own, json!({"memory_in_mb": 31})).await.expect(422);
    assert!(
        refused
            .detail()
            .starts_with("The memory allocation defined is too large"),
        "{}",
        refused.text
    );
    admin.patch(&own, json!({"memory_in_mb": 29})).await.expect(200);
    let refused = admin.post(&process, json!({"memory_in_mb": 254})).await.expect(422);
    assert_eq!(
        refused.detail(),
        "The requested memory allocation is not large enough to run all of your sidecar processes"
    );
    admin.post(&process, json!({"memory_in_mb": 255})).await.expect(202);
    let refused = admin.get(&format!("{path}?names=a")).await.expect(400);
    assert_eq!(refused.body["errors"][0]["code"], 10005);
}

async fn beside_a_process_is_room_for_eight(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let path = format!("/v3/apps/{}/sidecars", app(&admin, "shop").await);
    for n in 0..8 {
        let body = json!({"name": format!("more-{n}"), "command": "x", "process_types": ["web"]});
        admin.post(&path, body).await.expect(201);
    }
    let body = json!({"name": "ninth", "command": "x", "process_types": ["web"]});
    let refused = admin.post(&path, body).await.expect(422);
    assert!(refused.detail().starts_with("At most 8 sidecars"), "{}", refused.text);
}

const SHOP: &str = "applications:\n- name: shop\n  memory: 64M\n  sidecars:\n  - name: agent\n    process_types: [web]\n    \
                    command: ./agent\n    memory: 16M\n";

async fn manifests_make_and_change_them(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let space = admin.space().await;
    let (apply, diff) = (
        format!("/v3/spaces/{space}/actions/apply_manifest"),
        format!("/v3/spaces/{space}/manifest_diff"),
    );
    admin.job(admin.yaml(&apply, SHOP).await).await;
    let same = admin.yaml(&diff, SHOP).await.expect(201);
    assert_eq!(same.body, json!({"diff": []}));
    let more = SHOP.replace("16M", "32M");
    let changed = admin.yaml(&diff, &more).await.expect(201);
    assert_eq!(
        changed.body["diff"],
        json!([{"op": "replace", "path": "/applications/0/sidecars/0/memory", "was": "16M", "value": "32M"}])
    );
    admin.job(admin.yaml(&apply, &more).await).await;
    let apps = admin.get("/v3/apps?names=shop").await.expect(200);
    let app = apps.body["resources"][0]["guid"].as_str().expect("made").to_owned();
    let listed = admin.get(&format!("/v3/apps/{app}/sidecars")).await.expect(200);
    let listed = &listed.body["resources"][0];
    assert_eq!(
        (&listed["name"], &listed["memory_in_mb"]),
        (&json!("agent"), &json!(32))
    );
    let manifest = admin.get(&format!("/v3/apps/{app}/manifest")).await.expect(200);
    for line in ["sidecars:", "name: agent", "memory: 32M"] {
        assert!(manifest.text.contains(line), "{line} is not in {}", manifest.text);
    }
    let refused = admin.yaml(&apply, &SHOP.replace("16M", "64M")).await.expect(422);
    assert_eq!(
        refused.detail(),
        "For application 'shop': The memory allocation defined is too large to run with the dependent \"web\" process"
    );
    let refused = admin
        .yaml(&apply, &SHOP.replace("memory: 64M", "memory: 32M"))
        .await
        .expect(422);
    assert!(
        refused
            .detail()
            .contains("is not large enough to run all of your sidecar"),
        "{}",
        refused.text
    );
}

async fn deploy(admin: &Client<'_>, app: &str, what: Value) {
    let mut body = json!({"relationships": {"app": {"data": {"guid": app}}}});
    for (key, value) in what.as_object().expect("an object") {
        body[key] = value.clone();
    }
    admin.post("/v3/deployments", body).await.expect(201);
}

/// Names of what runs beside the newest version of the web process.
async fn beside(store: &TestStore, app: &str) -> Vec<String> {
    let process = store
        .process_by_type(app.parse().expect("a guid"), "web")
        .await
        .expect("read");
    let version = process.expect("there").version.expect("a version");
    let version = store.version_fetch(version).await.expect("read").expect("there");
    version.sidecars.into_iter().map(|one| one.name).collect()
}

async fn they_are_part_of_versions_and_revisions(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    deploy(&admin, &app, json!({"droplet": {"guid": droplet}})).await;
    assert_eq!(beside(store, &app).await, Vec::<String>::new());
    let made = admin
        .post(&format!("/v3/apps/{app}/sidecars"), agent())
        .await
        .expect(201);
    let own = format!("/v3/sidecars/{}", made.guid());
    assert_eq!(
        beside(store, &app).await,
        Vec::<String>::new(),
        "what runs stays as it is"
    );
    deploy(&admin, &app, json!({})).await;
    assert_eq!(beside(store, &app).await, ["agent"]);
    // Memory alone is a new version, and no new revision.
    admin.patch(&own, json!({"memory_in_mb": 31})).await.expect(200);
    deploy(&admin, &app, json!({})).await;
    admin.delete(&own).await.expect(204);
    deploy(&admin, &app, json!({})).await;
    assert_eq!(beside(store, &app).await, Vec::<String>::new());
    let revisions = format!("/v3/apps/{app}/revisions");
    let all = admin.get(&revisions).await.expect(200);
    let told = |n: usize| all.body["resources"][n]["description"].as_str().unwrap_or_default();
    assert_eq!(
        [told(0), told(1), told(2)],
        ["Initial revision.", "Sidecars updated.", "Sidecars updated."]
    );
    let second = &all.body["resources"][1];
    assert_eq!(
        second["sidecars"],
        json!([{"name": "agent", "command": "./agent", "process_types": ["web", "worker"], "memory_in_mb": 30}])
    );
    deploy(&admin, &app, json!({"revision": {"guid": second["guid"]}})).await;
    assert_eq!(beside(store, &app).await, ["agent"], "a rollback brings them back");
    let last = admin
        .get(&format!("{revisions}?order_by=-created_at"))
        .await
        .expect(200);
    assert_eq!(
        last.body["resources"][0]["description"],
        "Rolled back to revision 2. Sidecars updated."
    );
}

async fn those_of_buildpacks_come_and_go_with_the_droplet(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, first) = admin.staged("shop").await;
    let id = |guid: &str| guid.parse().expect("a guid");
    let mut droplet = store.droplet_fetch(id(&first)).await.expect("read").expect("there");
    droplet.id = uuid::Uuid::now_v7().into();
    droplet.sidecars = vec![SidecarTemplate {
        name: "agent".to_owned(),
        command: "./brought".to_owned(),
        process_types: vec!["web".to_owned()],
        memory_mb: Some(64),
    }];
    let tx = store.begin().await.expect("begins");
    tx.droplet_create(&droplet).await.expect("made");
    tx.commit().await.expect("commits");
    let assign = format!("/v3/apps/{app}/relationships/current_droplet");
    let to = |guid: &str| json!({"data": {"guid": guid}});
    let path = format!("/v3/apps/{app}/sidecars");
    let own = admin.post(&path, agent()).await.expect(201).guid();
    let refused = admin.patch(&assign, to(&droplet.id.to_string())).await.expect(422);
    assert_eq!(
        refused.detail(),
        "Buildpack defined sidecar 'agent' conflicts with an existing user-defined sidecar. Consider renaming 'agent'."
    );
    admin.delete(&format!("/v3/sidecars/{own}")).await.expect(204);
    admin.patch(&assign, to(&droplet.id.to_string())).await.expect(200);
    let there = admin.get(&path).await.expect(200);
    let there = &there.body["resources"][0];
    assert_eq!(
        (&there["command"], &there["origin"]),
        (&json!("./brought"), &json!("buildpack"))
    );
    let known = store.sidecars_of_app(app.parse().expect("a guid")).await.expect("read");
    assert_eq!(known[0].origin, Origin::Buildpack);
    admin.patch(&assign, to(&first)).await.expect(200);
    assert_eq!(admin.get(&path).await.expect(200).body["resources"], json!([]));
}
