//! Quotas of organisations and spaces: written, bound, and held against what would go beyond them.

use crate::client::*;
use serde_json::{Value, json};
use store::testing::TestStore;

store::on_both_engines!(
    quotas_are_made_changed_bound_and_removed,
    what_would_go_beyond_a_quota_is_refused_and_nothing_happens,
    tasks_routes_and_domains_have_their_bounds,
    quotas_are_for_those_whom_they_bind,
    without_a_bound_nothing_is_refused,
);

async fn org(admin: &Client<'_>) -> String {
    let found = admin.get("/v3/organizations?names=dev").await.expect(200);
    found.body["resources"][0]["guid"].as_str().expect("a guid").to_owned()
}

async fn org_quota(admin: &Client<'_>, name: &str, apps: Value) -> String {
    let org = org(admin).await;
    let body = json!({"name": name, "apps": apps, "relationships": {"organizations": {"data": [{"guid": org}]}}});
    admin.post("/v3/organization_quotas", body).await.expect(201).guid()
}

async fn quotas_are_made_changed_bound_and_removed(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let org = org(&admin).await;
    let default = admin.get("/v3/organization_quotas?names=default").await.expect(200);
    let default = default.body["resources"][0].clone();
    assert_eq!(default["apps"]["total_memory_in_mb"], Value::Null);
    let shown = || async { admin.get(&format!("/v3/organizations/{org}")).await.expect(200).body };
    assert_eq!(shown().await["relationships"]["quota"]["data"]["guid"], default["guid"]);
    let quota = org_quota(&admin, "small", json!({"total_memory_in_mb": 1024})).await;
    assert_eq!(shown().await["relationships"]["quota"]["data"]["guid"], quota.as_str());
    let path = format!("/v3/organization_quotas/{quota}");
    let change = json!({"name": "smaller", "apps": {"total_memory_in_mb": 512, "total_instances": 4}, "routes": {"total_routes": 2}});
    admin.patch(&path, change).await.expect(200);
    let change = json!({"apps": {"total_instances": null}});
    let changed = admin.patch(&path, change).await.expect(200);
    assert_eq!(
        changed.body["apps"],
        json!({"total_memory_in_mb": 512, "per_process_memory_in_mb": null, "total_instances": null,
            "log_rate_limit_in_bytes_per_second": null, "per_app_tasks": null})
    );
    assert_eq!(
        (&changed.body["name"], &changed.body["routes"]["total_routes"]),
        (&json!("smaller"), &json!(2))
    );
    assert_eq!(
        changed.body["relationships"]["organizations"]["data"],
        json!([{"guid": org}])
    );
    let again = admin
        .post("/v3/organization_quotas", json!({"name": "smaller"}))
        .await
        .expect(422);
    assert_eq!(again.detail(), "Organization Quota 'smaller' already exists.");
    for bad in [
        json!({}),
        json!({"name": " "}),
        json!({"name": "x", "apps": {"total_memory_in_mb": -1}}),
        json!({"name": "x", "apps": 1}),
    ] {
        admin.post("/v3/organization_quotas", bad).await.expect(422);
    }
    admin.delete(&path).await.expect(422);
    let default = default["guid"].as_str().expect("a guid");
    let bind = format!("/v3/organization_quotas/{default}/relationships/organizations");
    admin.post(&bind, json!({"data": [{"guid": org}]})).await.expect(201);
    admin.job(admin.delete(&path).await).await;
    admin.get(&path).await.expect(404);
    admin
        .delete(&format!("/v3/organization_quotas/{default}"))
        .await
        .expect(422);
    space_quotas_are_bound_and_taken_off(&admin, &org).await;
    let _ = store;
}

async fn space_quotas_are_bound_and_taken_off(admin: &Client<'_>, org: &str) {
    let space = admin.space().await;
    let body = json!({"name": "team", "relationships": {"organization": {"data": {"guid": org}}}});
    let team = admin.post("/v3/space_quotas", body.clone()).await.expect(201).guid();
    let again = admin.post("/v3/space_quotas", body).await.expect(422);
    assert_eq!(again.detail(), "Space Quota 'team' already exists.");
    let path = format!("/v3/space_quotas/{team}");
    let bound = admin
        .post(
            &format!("{path}/relationships/spaces"),
            json!({"data": [{"guid": space}]}),
        )
        .await
        .expect(201);
    assert_eq!(bound.body["data"], json!([{"guid": space}]));
    let shown = admin.get(&format!("/v3/spaces/{space}")).await.expect(200);
    assert_eq!(shown.body["relationships"]["quota"]["data"]["guid"], team.as_str());
    let listed = admin
        .get(&format!("/v3/space_quotas?space_guids={space}"))
        .await
        .expect(200);
    assert_eq!(listed.names(), ["team"]);
    admin
        .delete(&format!("{path}/relationships/spaces/{space}"))
        .await
        .expect(204);
    admin
        .delete(&format!("{path}/relationships/spaces/{space}"))
        .await
        .expect(422);
    admin.job(admin.delete(&path).await).await;
}

async fn what_would_go_beyond_a_quota_is_refused_and_nothing_happens(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let current = format!("/v3/apps/{app}/relationships/current_droplet");
    admin
        .patch(&current, json!({"data": {"guid": droplet}}))
        .await
        .expect(200);
    let quota = org_quota(
        &admin,
        "small",
        json!({"total_memory_in_mb": 600, "total_instances": 3}),
    )
    .await;
    let scale = format!("/v3/apps/{app}/processes/web/actions/scale");
    // Nothing runs, so nothing is used.
    admin.post(&scale, json!({"instances": 9})).await.expect(202);
    let action = |what: &str| {
        let path = format!("/v3/apps/{app}/actions/{what}");
        let admin = &admin;
        async move { admin.post(&path, json!({})).await }
    };
    let refused = action("start").await.expect(422);
    assert_eq!(refused.detail(), "memory quota_exceeded");
    let hint = refused.body["errors"][0]["hint"].as_str().expect("a hint").to_owned();
    assert!(hint.contains("2304 MiB") && hint.contains("600 MiB"), "{hint}");
    assert_eq!(
        admin.get(&format!("/v3/apps/{app}")).await.expect(200).body["state"],
        "STOPPED"
    );
    let create = json!({"relationships": {"app": {"data": {"guid": app}}}});
    assert_eq!(
        admin.post("/v3/deployments", create).await.expect(422).detail(),
        "memory quota_exceeded"
    );
    assert!(store.deployments_active().await.expect("read").is_empty());
    admin.post(&scale, json!({"instances": 2})).await.expect(202);
    action("start").await.expect(200);
    let refused = admin.post(&scale, json!({"instances": 3})).await.expect(422);
    assert_eq!(refused.detail(), "memory quota_exceeded");
    let refused = admin.post(&scale, json!({"memory_in_mb": 301})).await.expect(422);
    assert_eq!(refused.detail(), "memory quota_exceeded");
    admin.post(&scale, json!({"memory_in_mb": 100})).await.expect(202);
    let refused = admin.post(&scale, json!({"instances": 4})).await.expect(422);
    assert_eq!(refused.detail(), "app_instance_limit app_instance_limit_exceeded");
    above_a_quota(&admin, &app, &quota, &scale).await;
}

async fn above_a_quota(admin: &Client<'_>, app: &str, quota: &str, scale: &str) {
    let manifest = "applications:\n- name: shop\n  instances: 4\n";
    let space = admin.space().await;
    let refused = admin
        .yaml(&format!("/v3/spaces/{space}/actions/apply_manifest"), manifest)
        .await
        .expect(422);
    assert!(
        refused.detail().contains("app_instance_limit_exceeded"),
        "{}",
        refused.text
    );
    // Who is above a quota that shrank may still go down.
    let shrink = json!({"apps": {"total_memory_in_mb": 50, "per_process_memory_in_mb": 80}});
    admin
        .patch(&format!("/v3/organization_quotas/{quota}"), shrink)
        .await
        .expect(200);
    admin.post(scale, json!({"instances": 1})).await.expect(202);
    let refused = admin.post(scale, json!({"memory_in_mb": 101})).await.expect(422);
    assert_eq!(refused.detail(), "memory instance_memory_limit_exceeded");
    let web = admin.get(&format!("/v3/apps/{app}/processes/web")).await.expect(200);
    assert_eq!(
        (&web.body["instances"], &web.body["memory_in_mb"]),
        (&json!(1), &json!(100))
    );
    let org = org(admin).await;
    let used = admin
        .get(&format!("/v3/organizations/{org}/usage_summary"))
        .await
        .expect(200);
    assert_eq!(used.body["usage_summary"]["memory_in_mb"], 100);
    let all = admin.get("/v3/info/usage_summary").await.expect(200);
    assert_eq!(all.body["usage_summary"], used.body["usage_summary"]);
    let used = admin
        .get(&format!("/v3/spaces/{space}/usage_summary"))
        .await
        .expect(200);
    assert_eq!(used.body["usage_summary"]["started_instances"], 1);
}

async fn tasks_routes_and_domains_have_their_bounds(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let current = format!("/v3/apps/{app}/relationships/current_droplet");
    admin
        .patch(&current, json!({"data": {"guid": droplet}}))
        .await
        .expect(200);
    let (org, space) = (org(&admin).await, admin.space().await);
    let body = json!({"name": "team", "apps": {"total_memory_in_mb": 700, "per_process_memory_in_mb": 300, "per_app_tasks": 2},
        "routes": {"total_routes": 1}, "relationships":
        {"organization": {"data": {"guid": org}}, "spaces": {"data": [{"guid": space}]}}});
    admin.post("/v3/space_quotas", body).await.expect(201);
    let tasks = format!("/v3/apps/{app}/tasks");
    let task = |memory: u32| admin.post(&tasks, json!({"command": "true", "memory_in_mb": memory}));
    assert_eq!(
        task(301).await.expect(422).detail(),
        "memory_in_mb exceeds space instance memory limit"
    );
    task(300).await.expect(202);
    let second = admin
        .post(&tasks, json!({"command": "true", "memory_in_mb": 300}))
        .await
        .expect(202)
        .guid();
    assert_eq!(
        task(300).await.expect(422).detail(),
        "memory_in_mb exceeds space memory quota"
    );
    assert_eq!(
        task(100).await.expect(422).detail(),
        "app_task_limit exceeds space app task limit"
    );
    let _ = second;
    let domain = admin.get("/v3/domains").await.expect(200).body["resources"][0]["guid"].clone();
    let route = |host: &str| {
        let body = json!({"host": host, "relationships": {"space": {"data": {"guid": space}}, "domain": {"data": {"guid": domain}}}});
        let admin = &admin;
        async move { admin.post("/v3/routes", body).await }
    };
    route("one").await.expect(201);
    assert_eq!(
        route("two").await.expect(422).detail(),
        "Routes quota exceeded for space 'dev'."
    );
    let body = json!({"name": "few", "domains": {"total_domains": 1}, "relationships": {"organizations": {"data": [{"guid": org}]}}});
    admin.post("/v3/organization_quotas", body).await.expect(201);
    let domain = |name: &str| {
        let body = json!({"name": name, "relationships": {"organization": {"data": {"guid": org}}}});
        let admin = &admin;
        async move { admin.post("/v3/domains", body).await }
    };
    domain("one.example.org").await.expect(201);
    let refused = domain("two.example.org").await.expect(422);
    assert_eq!(
        refused.detail(),
        "The number of private domains exceeds the quota for organization \"dev\""
    );
    let left = admin.get("/v3/domains?names=two.example.org").await.expect(200);
    assert!(left.names().is_empty(), "nothing is left of what was refused");
    let _ = store;
}

async fn quotas_are_for_those_whom_they_bind(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let quota = org_quota(&admin, "small", json!({})).await;
    let stranger = platform.user("stranger").await;
    let path = format!("/v3/organization_quotas/{quota}");
    stranger.get(&path).await.expect(404);
    assert!(
        stranger
            .get("/v3/organization_quotas")
            .await
            .expect(200)
            .names()
            .is_empty()
    );
    stranger
        .post("/v3/organization_quotas", json!({"name": "x"}))
        .await
        .expect(403);
    let org = org(&admin).await;
    let me = stranger.get("/userinfo").await.expect(200).body["user_id"].clone();
    let role = json!({"type": "organization_manager", "relationships":
        {"user": {"data": {"guid": me}}, "organization": {"data": {"guid": org}}}});
    admin.post("/v3/roles", role).await.expect(201);
    stranger.get(&path).await.expect(200);
    stranger.patch(&path, json!({"name": "y"})).await.expect(403);
    let body = json!({"name": "team", "relationships": {"organization": {"data": {"guid": org}}}});
    let team = stranger.post("/v3/space_quotas", body).await.expect(201).guid();
    let other = platform.user("other").await;
    other.get(&format!("/v3/space_quotas/{team}")).await.expect(404);
    let foreign = admin
        .post("/v3/organizations", json!({"name": "foreign"}))
        .await
        .expect(201)
        .guid();
    let body = json!({"name": "team", "relationships": {"organization": {"data": {"guid": foreign}}}});
    stranger.post("/v3/space_quotas", body).await.expect(422);
    let space = json!({"name": "s", "relationships": {"organization": {"data": {"guid": foreign}}}});
    let space = admin.post("/v3/spaces", space).await.expect(201).guid();
    let bind = format!("/v3/space_quotas/{team}/relationships/spaces");
    stranger
        .post(&bind, json!({"data": [{"guid": space}]}))
        .await
        .expect(422);
    let _ = store;
}

async fn without_a_bound_nothing_is_refused(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let body = json!({"droplet": {"guid": droplet}, "relationships": {"app": {"data": {"guid": app}}}});
    admin.post("/v3/deployments", body).await.expect(201);
    let scale = format!("/v3/apps/{app}/processes/web/actions/scale");
    admin
        .post(&scale, json!({"instances": 500, "memory_in_mb": 4096}))
        .await
        .expect(202);
    let org = org(&admin).await;
    let used = admin
        .get(&format!("/v3/organizations/{org}/usage_summary"))
        .await
        .expect(200);
    assert_eq!(used.body["usage_summary"]["memory_in_mb"], 500 * 4096);
    let _ = store;
}
