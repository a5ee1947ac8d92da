//! Feature flags switch what they name for everybody but administrators; environment groups reach every app.

use crate::client::*;
use serde_json::json;
use store::testing::TestStore;

store::on_both_engines!(
    flags_are_listed_set_and_kept,
    what_a_flag_switches_off_is_refused_with_its_message,
    groups_of_variables_reach_instances_and_builds,
);

async fn set(admin: &Client<'_>, flag: &str, enabled: bool) {
    let path = format!("/v3/feature_flags/{flag}");
    admin.patch(&path, json!({"enabled": enabled})).await.expect(200);
}

async fn flags_are_listed_set_and_kept(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let listed = admin.get("/v3/feature_flags?per_page=5000").await.expect(200);
    assert_eq!(listed.body["pagination"]["total_results"], 19);
    let page = admin
        .get("/v3/feature_flags?per_page=5&page=4&order_by=name")
        .await
        .expect(200);
    let last = [
        "space_scoped_private_broker_creation",
        "task_creation",
        "unset_roles_by_username",
        "user_org_creation",
    ];
    assert_eq!(page.names(), last);
    let path = "/v3/feature_flags/diego_docker";
    assert_eq!(admin.get(path).await.expect(200).body["enabled"], false);
    let body = json!({"enabled": true, "custom_error_message": "soon"});
    admin.patch(path, body).await.expect(200);
    let shown = admin.get(path).await.expect(200);
    assert_eq!(
        (&shown.body["enabled"], &shown.body["custom_error_message"]),
        (&json!(true), &json!("soon"))
    );
    assert!(shown.body["updated_at"].is_string());
    let missing = admin.get("/v3/feature_flags/nonsense").await.expect(404);
    assert_eq!(missing.detail(), "Feature flag not found");
    admin.patch(path, json!({"enabled": "yes"})).await.expect(422);
    let user = platform.user("user").await;
    user.get(path).await.expect(200);
    user.patch(path, json!({"enabled": false})).await.expect(403);
    let _ = store;
}

async fn what_a_flag_switches_off_is_refused_with_its_message(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let developer = platform.user("developer").await;
    let me = developer.get("/userinfo").await.expect(200).body["user_id"].clone();
    let org = admin.get("/v3/organizations?names=dev").await.expect(200).body["resources"][0]["guid"].clone();
    let space = admin.space().await;
    let user = json!({"data": {"guid": me}});
    for body in [
        json!({"type": "organization_user", "relationships": {"user": user, "organization": {"data": {"guid": org}}}}),
        json!({"type": "space_developer", "relationships": {"user": user, "space": {"data": {"guid": space}}}}),
    ] {
        admin.post("/v3/roles", body).await.expect(201);
    }
    let (app, droplet) = admin.staged("shop").await;
    let current = format!("/v3/apps/{app}/relationships/current_droplet");
    admin
        .patch(&current, json!({"data": {"guid": droplet}}))
        .await
        .expect(200);
    let domain = admin.get("/v3/domains").await.expect(200).body["resources"][0]["guid"].clone();
    let to_space = json!({"data": {"guid": space}});
    for (flag, path, body) in [
        (
            "app_scaling",
            format!("/v3/apps/{app}/processes/web/actions/scale"),
            json!({"instances": 2}),
        ),
        (
            "task_creation",
            format!("/v3/apps/{app}/tasks"),
            json!({"command": "true"}),
        ),
        (
            "route_creation",
            "/v3/routes".to_owned(),
            json!({"host": "x", "relationships": {"space": to_space, "domain": {"data": {"guid": domain}}}}),
        ),
        (
            "service_instance_creation",
            "/v3/service_instances".to_owned(),
            json!({"type": "user-provided", "name": "db", "relationships": {"space": to_space}}),
        ),
    ] {
        set(&admin, flag, false).await;
        let refused = developer.post(&path, body.clone()).await.expect(403);
        assert_eq!(refused.detail(), format!("Feature Disabled: {flag}"));
        assert_eq!(refused.body["errors"][0]["code"], 330_002);
        set(&admin, flag, true).await;
        assert!(developer.post(&path, body).await.status.is_success(), "{flag}");
    }
    environments_and_organisations(&admin, &developer, &app).await;
    let _ = store;
}

async fn environments_and_organisations(admin: &Client<'_>, developer: &Client<'_>, app: &str) {
    let env = format!("/v3/apps/{app}/env");
    developer.get(&env).await.expect(200);
    let body = json!({"enabled": false, "custom_error_message": "ask Alice"});
    admin
        .patch("/v3/feature_flags/env_var_visibility", body)
        .await
        .expect(200);
    assert_eq!(
        developer.get(&env).await.expect(403).detail(),
        "Feature Disabled: ask Alice"
    );
    admin.get(&env).await.expect(200);
    developer
        .post("/v3/organizations", json!({"name": "mine"}))
        .await
        .expect(403);
    set(admin, "user_org_creation", true).await;
    let mine = developer
        .post("/v3/organizations", json!({"name": "mine"}))
        .await
        .expect(201)
        .guid();
    developer
        .patch(&format!("/v3/organizations/{mine}"), json!({"name": "ours"}))
        .await
        .expect(200);
}

async fn groups_of_variables_reach_instances_and_builds(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let group = |name: &str| format!("/v3/environment_variable_groups/{name}");
    let body = json!({"var": {"PROXY": "http://proxy", "OWN": "group", "GONE": "x"}});
    admin.patch(&group("running"), body).await.expect(200);
    let changed = admin
        .patch(&group("running"), json!({"var": {"GONE": null}}))
        .await
        .expect(200);
    assert_eq!(changed.body["var"], json!({"PROXY": "http://proxy", "OWN": "group"}));
    admin
        .patch(&group("staging"), json!({"var": {"MIRROR": "http://mirror"}}))
        .await
        .expect(200);
    admin.get(&group("nonsense")).await.expect(404);
    admin
        .patch(&group("running"), json!({"var": {"A=B": "1"}}))
        .await
        .expect(422);
    let (app, droplet) = admin.staged("shop").await;
    let variables = format!("/v3/apps/{app}/environment_variables");
    admin
        .patch(&variables, json!({"var": {"OWN": "app"}}))
        .await
        .expect(200);
    let body = json!({"droplet": {"guid": droplet}, "relationships": {"app": {"data": {"guid": app}}}});
    admin.post("/v3/deployments", body).await.expect(201);
    let desired = store.processes_desired().await.expect("read");
    let env = &desired[0].versions[0].version.env;
    assert_eq!(
        (env.0["PROXY"].expose(), env.0["OWN"].expose()),
        ("http://proxy", "app")
    );
    assert!(!env.0.contains_key("MIRROR"));
    let shown = admin.get(&format!("/v3/apps/{app}/env")).await.expect(200);
    assert_eq!(shown.body["running_env_json"]["PROXY"], "http://proxy");
    assert_eq!(shown.body["staging_env_json"], json!({"MIRROR": "http://mirror"}));
    assert_eq!(shown.body["environment_variables"], json!({"OWN": "app"}));
    let user = platform.user("user").await;
    user.patch(&group("running"), json!({"var": {"A": "1"}}))
        .await
        .expect(403);
}
