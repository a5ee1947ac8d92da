//! Organisations, spaces and roles: who sees and may do what.

use crate::client::*;
use http::Method;
use serde_json::{Value, json};
use store::testing::TestStore;

store::on_both_engines!(
    tenants_are_made_and_removed,
    roles_are_given_once,
    who_may_not_read_finds_nothing,
    what_each_role_may,
    lists_are_paged_with_links,
);

fn related(kind: &str, guid: &str) -> Value {
    json!({kind: {"data": {"guid": guid}}})
}

async fn org(client: &Client<'_>) -> String {
    let orgs = client.get("/v3/organizations?names=dev").await.expect(200);
    orgs.body["resources"][0]["guid"].as_str().expect("there").to_owned()
}

async fn give(admin: &Client<'_>, role: &str, user: &str, kind: &str, guid: &str) -> Answer {
    let mut relationships = related(kind, guid);
    relationships["user"] = json!({"data": {"username": user, "origin": "uaa"}});
    admin
        .post("/v3/roles", json!({"type": role, "relationships": relationships}))
        .await
}

async fn tenants_are_made_and_removed(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let org = admin
        .post("/v3/organizations", json!({"name": "o1", "suspended": false}))
        .await
        .expect(201)
        .guid();
    let taken = admin.post("/v3/organizations", json!({"name": "O1"})).await.expect(422);
    assert_eq!(taken.detail(), "Organization 'O1' already exists.");
    let create = json!({"name": "s1", "relationships": related("organization", &org)});
    let space = admin.post("/v3/spaces", create.clone()).await.expect(201).guid();
    let taken = admin.post("/v3/spaces", create).await.expect(422);
    assert_eq!(taken.detail(), "Name must be unique per organization");
    admin
        .patch(&format!("/v3/spaces/{space}"), json!({"name": "s2"}))
        .await
        .expect(200);
    let found = admin
        .get(&format!(
            "/v3/spaces?names=s2&organization_guids={org}&page=1&per_page=1"
        ))
        .await
        .expect(200);
    assert_eq!(found.names(), ["s2"]);
    let in_space = |space: &str| json!({"space": {"data": {"guid": space}}});
    let body = json!({"name": "gone", "relationships": in_space(&space)});
    let app = admin.post("/v3/apps", body).await.expect(201).guid();
    let body = json!({"type": "user-provided", "name": "db", "relationships": in_space(&space)});
    admin.post("/v3/service_instances", body).await.expect(201);
    let body = json!({"name": "gone.example.org", "relationships": {"organization": {"data": {"guid": org}}}});
    let domain = admin.post("/v3/domains", body).await.expect(201).guid();
    let body = json!({"host": "a", "relationships": {"space": {"data": {"guid": space}}, "domain": {"data": {"guid": domain}}}});
    admin.post("/v3/routes", body).await.expect(201);
    let deleted = admin.delete(&format!("/v3/organizations/{org}")).await;
    admin.job(deleted).await;
    for gone in [
        format!("/v3/spaces/{space}"),
        format!("/v3/apps/{app}"),
        format!("/v3/domains/{domain}"),
    ] {
        admin.get(&gone).await.expect(404);
    }
    let _ = store;
}

async fn roles_are_given_once(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (org, space) = (org(&admin).await, admin.space().await);
    platform.user("bob").await;
    give(&admin, "organization_user", "bob", "organization", &org)
        .await
        .expect(201);
    let again = give(&admin, "organization_user", "bob", "organization", &org)
        .await
        .expect(422);
    assert_eq!(
        again.detail(),
        "User 'bob' already has 'organization_user' role in this organization."
    );
    let role = give(&admin, "space_developer", "bob", "space", &space)
        .await
        .expect(201);
    give(&admin, "space_developer", "nobody", "space", &space)
        .await
        .expect(422);
    give(&admin, "space_developer", "bob", "organization", &org)
        .await
        .expect(422);
    give(&admin, "space_emperor", "bob", "space", &space).await.expect(422);
    let listed = admin
        .get(&format!("/v3/roles?space_guids={space}&include=user"))
        .await
        .expect(200);
    assert_eq!(
        listed.body["pagination"]["total_results"], 2,
        "the administrator's own, and bob's"
    );
    assert_eq!(listed.body["included"]["users"].as_array().map(Vec::len), Some(2));
    let deleted = admin.delete(&format!("/v3/roles/{}", role.guid())).await;
    admin.job(deleted).await;
    let _ = store;
}

async fn who_may_not_read_finds_nothing(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, droplet) = admin.staged("shop").await;
    let (org, space) = (org(&admin).await, admin.space().await);
    let stranger = platform.user("stranger").await;
    for path in [
        format!("/v3/apps/{app}"),
        format!("/v3/apps/{app}/env"),
        format!("/v3/apps/{app}/processes"),
        format!("/v3/apps/{app}/processes/web/stats"),
        format!("/v3/droplets/{droplet}"),
        format!("/v3/spaces/{space}"),
        format!("/v3/organizations/{org}"),
    ] {
        stranger.get(&path).await.expect(404);
    }
    for (method, path) in [
        (Method::POST, format!("/v3/apps/{app}/actions/stop")),
        (Method::DELETE, format!("/v3/apps/{app}")),
        (Method::POST, format!("/v3/spaces/{space}/actions/apply_manifest")),
    ] {
        stranger.call(method, &path, Some(json!({}))).await.expect(404);
    }
    for list in [
        "apps",
        "spaces",
        "organizations",
        "routes",
        "packages",
        "builds",
        "droplets",
        "deployments",
        "processes",
        "audit_events",
        "roles",
    ] {
        let listed = stranger.get(&format!("/v3/{list}")).await.expect(200);
        assert_eq!(listed.body["pagination"]["total_results"], 0, "{list}");
    }
    stranger
        .post("/v3/organizations", json!({"name": "mine"}))
        .await
        .expect(403);
    let create = json!({"name": "x", "relationships": related("space", &space)});
    stranger.post("/v3/apps", create).await.expect(422);
    let _ = store;
}

async fn what_each_role_may(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, _) = admin.staged("shop").await;
    let (org, space) = (org(&admin).await, admin.space().await);
    // For each role: reading, secrets, operating, writing, managing the space.
    let table = [
        ("space_auditor", "space", [200, 403, 403, 403, 403]),
        ("space_developer", "space", [200, 200, 200, 200, 403]),
        ("space_supporter", "space", [200, 200, 200, 403, 403]),
        ("space_manager", "space", [200, 403, 403, 403, 200]),
        ("organization_manager", "organization", [200, 403, 403, 403, 200]),
        ("organization_user", "organization", [404, 404, 404, 404, 404]),
        ("organization_auditor", "organization", [404, 404, 404, 404, 404]),
    ];
    for (role, kind, expected) in table {
        let client = platform.user(role).await;
        give(&admin, role, role, kind, if kind == "space" { &space } else { &org })
            .await
            .expect(201);
        let got = [
            client.get(&format!("/v3/apps/{app}")).await,
            client.get(&format!("/v3/apps/{app}/env")).await,
            client.post(&format!("/v3/apps/{app}/actions/stop"), json!({})).await,
            client.patch(&format!("/v3/apps/{app}"), json!({})).await,
            client.patch(&format!("/v3/spaces/{space}"), json!({})).await,
        ];
        let got: Vec<u16> = got.iter().map(|answer| answer.status.as_u16()).collect();
        assert_eq!(got, expected, "{role}");
    }
    let _ = store;
}

async fn lists_are_paged_with_links(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    for n in 0..5 {
        admin.app(&format!("app-{n}")).await;
    }
    let page = admin.get("/v3/apps?order_by=-name&per_page=2&page=2").await.expect(200);
    assert_eq!(page.names(), ["app-2", "app-1"]);
    let pagination = &page.body["pagination"];
    assert_eq!(
        (&pagination["total_results"], &pagination["total_pages"]),
        (&json!(5), &json!(3))
    );
    let next = pagination["next"]["href"]
        .as_str()
        .expect("a link")
        .strip_prefix(URL)
        .expect("absolute");
    let last = admin.get(next).await.expect(200);
    assert_eq!(last.names(), ["app-0"]);
    assert_eq!(last.body["pagination"]["next"], Value::Null);
    let included = admin
        .get("/v3/apps?include=space.organization&per_page=1")
        .await
        .expect(200);
    assert_eq!(included.body["included"]["spaces"][0]["name"], "dev");
    assert_eq!(included.body["included"]["organizations"][0]["name"], "dev");
    let _ = store;
}
