//! Manifests through the API.

use crate::client::*;
use serde_json::json;
use store::testing::TestStore;

store::on_both_engines!(
    a_manifest_makes_apps_processes_and_routes,
    applying_again_changes_nothing,
    all_problems_are_answered_at_once,
    all_or_nothing,
    routes_by_manifest,
    an_app_becomes_a_manifest_again,
);

async fn apply(client: &Client<'_>, text: &str) -> Answer {
    let space = client.space().await;
    client
        .yaml(&format!("/v3/spaces/{space}/actions/apply_manifest"), text)
        .await
}

const SHOP: &str = "applications:\n- name: shop\n  path: /home/dev/shop\n  memory: 64M\n  instances: 2\n  \
                    default-route: true\n  env: {A: one}\n  buildpacks: [nodejs_buildpack]\n  processes:\n  \
                    - type: worker\n    instances: 1\n    memory: 32M\n";

async fn a_manifest_makes_apps_processes_and_routes(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let space = admin.space().await;
    let diff = admin
        .yaml(&format!("/v3/spaces/{space}/manifest_diff"), SHOP)
        .await
        .expect(201);
    let first = &diff.body["diff"].as_array().expect("a list")[0];
    assert_eq!(first["op"], "add", "all of it is new: {}", diff.text);
    let applied = apply(&admin, SHOP).await;
    admin.job(applied).await;
    let path = format!("/v3/spaces/{space}/manifest_diff");
    let again = admin.yaml(&path, SHOP).await.expect(201);
    assert_eq!(again.body, json!({"diff": []}), "what was applied is no difference");
    let changed = SHOP.replace("instances: 2", "instances: 3").replace("A: one", "A: two");
    let changed = admin.yaml(&path, &changed).await.expect(201);
    assert_eq!(
        changed.body["diff"],
        json!([
            {"op": "replace", "path": "/applications/0/env/A", "was": "one", "value": "two"},
            {"op": "replace", "path": "/applications/0/instances", "was": 2, "value": 3},
        ])
    );
    let apps = admin.get("/v3/apps?names=shop").await.expect(200);
    let app = apps.body["resources"][0]["guid"].as_str().expect("made").to_owned();
    assert_eq!(
        apps.body["resources"][0]["lifecycle"]["data"]["buildpacks"],
        json!(["nodejs_buildpack"])
    );
    let processes = admin.get(&format!("/v3/apps/{app}/processes")).await.expect(200);
    assert_eq!(processes.body["resources"][0]["memory_in_mb"], 64);
    assert_eq!(processes.body["resources"][1]["type"], "worker");
    let routes = admin.get(&format!("/v3/apps/{app}/routes")).await.expect(200);
    assert_eq!(routes.body["resources"][0]["url"], "shop.apps.example.com");
    assert_eq!(routes.body["resources"][0]["destinations"][0]["app"]["guid"], app);
    let _ = store;
}

async fn applying_again_changes_nothing(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let first = apply(&admin, SHOP).await;
    admin.job(first).await;
    let events = store.event_newest().await.expect("read");
    let again = apply(&admin, SHOP).await;
    admin.job(again).await;
    assert_eq!(store.event_newest().await.expect("read"), events);
    let less = apply(&admin, "applications:\n- name: shop\n  env: {B: two}\n").await;
    admin.job(less).await;
    let apps = admin.get("/v3/apps?names=shop").await.expect(200);
    let app = apps.body["resources"][0]["guid"].as_str().expect("there").to_owned();
    let env = admin
        .get(&format!("/v3/apps/{app}/environment_variables"))
        .await
        .expect(200);
    assert_eq!(
        env.body["var"],
        json!({"A": "one", "B": "two"}),
        "what is not mentioned stays"
    );
}

async fn all_problems_are_answered_at_once(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let refused = apply(&admin, "applications:\n- name: a\n  memroy: 1G\n  instances: many\n")
        .await
        .expect(422);
    let errors = refused.body["errors"].as_array().expect("a list");
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0]["hint"], "did you mean \"memory\"?");
    apply(&admin, "applications: [").await.expect(422);
    apply(&admin, "applications:\n- name: a\n  buildpacks: [nope]\n")
        .await
        .expect(422);
    apply(&admin, "applications:\n- name: a\n  stack: nope\n")
        .await
        .expect(422);
    let _ = store;
}

async fn all_or_nothing(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let text = "applications:\n- name: good\n- name: bad\n  routes:\n  - route: bad.elsewhere.org\n";
    let refused = apply(&admin, text).await.expect(422);
    assert_eq!(
        refused.detail(),
        "For application 'bad': The route 'bad.elsewhere.org' did not match any existing domains."
    );
    let apps = admin.get("/v3/apps").await.expect(200);
    assert_eq!(apps.body["pagination"]["total_results"], 0);
    assert_eq!(store.event_newest().await.expect("read"), 0);
}

async fn routes_by_manifest(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let urls = async |name: &str| {
        let apps = admin.get(&format!("/v3/apps?names={name}")).await.expect(200);
        let app = apps.body["resources"][0]["guid"].as_str().expect("there").to_owned();
        let routes = admin.get(&format!("/v3/apps/{app}/routes")).await.expect(200);
        let routes = routes.body["resources"].as_array().expect("a list").clone();
        routes
            .iter()
            .map(|route| route["url"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    };
    let named = "applications:\n- name: a\n  default-route: true\n  routes:\n  - route: A.apps.example.com/cart\n  \
                 - route: b.apps.example.com\n";
    let applied = apply(&admin, named).await;
    admin.job(applied).await;
    assert_eq!(urls("a").await, ["a.apps.example.com/cart", "b.apps.example.com"]);
    let applied = apply(&admin, "applications:\n- name: a\n  no-route: true\n").await;
    admin.job(applied).await;
    assert!(urls("a").await.is_empty());
    let applied = apply(&admin, "applications:\n- name: Some App\n  random-route: true\n").await;
    admin.job(applied).await;
    let random = urls("Some%20App").await;
    assert!(
        random[0].starts_with("some-app-") && random[0].ends_with(".apps.example.com"),
        "{random:?}"
    );
    for bad in ["apps.example.com", "a.b.apps.example.com", "x.apps.example.com/a?b"] {
        let text = format!("applications:\n- name: x\n  routes:\n  - route: {bad}\n");
        apply(&admin, &text).await.expect(422);
    }
    let _ = store;
}

async fn an_app_becomes_a_manifest_again(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let applied = apply(&admin, SHOP).await;
    admin.job(applied).await;
    let apps = admin.get("/v3/apps?names=shop").await.expect(200);
    let app = apps.body["resources"][0]["guid"].as_str().expect("there").to_owned();
    let text = admin.get(&format!("/v3/apps/{app}/manifest")).await.expect(200).text;
    let manifest = model::manifest::parse(&text).expect("valid");
    assert_eq!(manifest.apps[0].processes[0].memory_mb, Some(64));
    assert_eq!(manifest.apps[0].routes.named[0].address, "shop.apps.example.com");
    let events = store.event_newest().await.expect("read");
    let again = apply(&admin, &text).await;
    admin.job(again).await;
    assert_eq!(
        store.event_newest().await.expect("read"),
        events,
        "it describes what is there"
    );
}
