//! What all lists can be narrowed by, and labels that can be put on everything.

use crate::client::*;
use crate::roles;
use crate::world::world;
use api::v3::ROUTES;
use api::v3::lists::{ORDERS, Rules};
use serde_json::{Value, json};
use store::testing::TestStore;

store::on_both_engines!(
    labels_can_be_put_on_everything_and_select_it,
    every_form_of_a_selector_reaches_the_database,
    lists_are_narrowed_by_time,
    organisations_narrow_what_is_of_apps,
    labels_are_checked_and_guarded,
    every_list_refuses_what_it_does_not_know,
    what_resources_refer_to_comes_along,
    short_lists_are_narrowed_and_ordered_too,
);

/// An app with one of each thing that carries labels: where each is, and the list that it is in.
async fn one_of_each(admin: &Client<'_>) -> Vec<(String, String)> {
    let (app, droplet) = admin.staged("shop").await;
    let first = |answer: Answer| answer.body["resources"][0]["guid"].as_str().expect("a guid").to_owned();
    let package = first(admin.get("/v3/packages").await.expect(200));
    let build = first(admin.get("/v3/builds").await.expect(200));
    let create = json!({"droplet": {"guid": droplet}, "relationships": {"app": {"data": {"guid": app}}}});
    let deployment = admin.post("/v3/deployments", create).await.expect(201).guid();
    let revision = first(admin.get(&format!("/v3/apps/{app}/revisions")).await.expect(200));
    let task = admin
        .post(&format!("/v3/apps/{app}/tasks"), json!({"command": "true"}))
        .await
        .expect(202)
        .guid();
    let process = first(admin.get(&format!("/v3/apps/{app}/processes")).await.expect(200));
    let org = first(admin.get("/v3/organizations").await.expect(200));
    let domain = first(admin.get("/v3/domains").await.expect(200));
    let stack = first(admin.get("/v3/stacks").await.expect(200));
    let user = first(admin.get("/v3/users?usernames=admin").await.expect(200));
    let space = admin.space().await;
    let route = json!({"host": "shop", "relationships":
        {"space": {"data": {"guid": space}}, "domain": {"data": {"guid": domain}}}});
    let route = admin.post("/v3/routes", route).await.expect(201).guid();
    let list = |name: &str, guid: String| (format!("/v3/{name}/{guid}"), format!("/v3/{name}"));
    vec![
        list("packages", package),
        list("builds", build),
        list("droplets", droplet),
        list("deployments", deployment),
        (format!("/v3/revisions/{revision}"), format!("/v3/apps/{app}/revisions")),
        list("tasks", task),
        list("processes", process),
        list("organizations", org),
        list("domains", domain),
        list("stacks", stack),
        list("users", user),
        list("spaces", space),
        list("routes", route),
        list("apps", app),
    ]
}

async fn labels_can_be_put_on_everything_and_select_it(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    for (path, list) in one_of_each(&admin).await {
        let change =
            json!({"metadata": {"labels": {"example.com/tier": "web", "old": "x"}, "annotations": {"note": "a: b"}}});
        admin.patch(&path, change).await.expect(200);
        let change = json!({"metadata": {"labels": {"old": null}}});
        let changed = admin.patch(&path, change).await.expect(200);
        let expected = json!({"labels": {"example.com/tier": "web"}, "annotations": {"note": "a: b"}});
        assert_eq!(changed.body["metadata"], expected, "{path}");
        let shown = admin.get(&path).await.expect(200);
        assert_eq!(shown.body["metadata"], expected, "{path}");
        let count = |selector: &str| {
            let path = format!("{list}?label_selector={selector}");
            let admin = &admin;
            async move {
                let found = admin.get(&path).await.expect(200);
                found.body["pagination"]["total_results"].as_u64().expect("a number")
            }
        };
        assert_eq!(count("example.com/tier=web").await, 1, "{list}");
        assert_eq!(count("example.com/tier").await, 1, "{list}");
        assert_eq!(count("old").await, 0, "{list}");
        assert_eq!(count("example.com/tier%20in%20(api)").await, 0, "{list}");
    }
    let _ = store;
}

async fn every_form_of_a_selector_reaches_the_database(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    for (name, labels) in [
        ("a", json!({"env": "prod", "tier": "web"})),
        ("b", json!({"env": "dev"})),
        ("c", json!({})),
    ] {
        let app = admin.app(name).await;
        admin
            .patch(&format!("/v3/apps/{app}"), json!({"metadata": {"labels": labels}}))
            .await
            .expect(200);
    }
    for (selector, names) in [
        ("env", &["a", "b"][..]),
        ("!env", &["c"]),
        ("env=prod", &["a"]),
        ("env==prod,tier=web", &["a"]),
        ("env!=prod", &["b", "c"]),
        ("env in (prod,dev)", &["a", "b"]),
        ("env in (prod,dev),!tier", &["b"]),
        ("env notin (prod)", &["b", "c"]),
        ("other", &[]),
    ] {
        let encoded: String = url(selector);
        let found = admin
            .get(&format!("/v3/apps?order_by=name&label_selector={encoded}"))
            .await
            .expect(200);
        assert_eq!(found.names(), names, "{selector}");
    }
    for odd in ["env in (a", "a b", "", "a'b=c", "a\"=b"] {
        let refused = admin
            .get(&format!("/v3/apps?label_selector={}", url(odd)))
            .await
            .expect(400);
        assert_eq!(refused.body["errors"][0]["title"], "CF-BadQueryParameter", "{odd}");
    }
    let _ = store;
}

fn url(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

async fn lists_are_narrowed_by_time(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let made = admin.get(&format!("/v3/apps/{app}")).await.expect(200);
    let at = made.body["created_at"].as_str().expect("a time").to_owned();
    let second = format!("{}Z", &at[..19]);
    for (query, count) in [
        (format!("created_ats={second}"), 1),
        ("created_ats=2001-01-01T00:00:00Z,2002-01-01T00:00:00Z".to_owned(), 0),
        (format!("created_ats=2001-01-01T00:00:00Z,{second}"), 1),
        ("created_ats[gt]=2001-01-01T00:00:00Z".to_owned(), 1),
        ("created_ats[lt]=2001-01-01T00:00:00Z".to_owned(), 0),
        (format!("created_ats[gte]={at}&created_ats[lte]={at}"), 1),
        (
            "updated_ats[gt]=2001-01-01T00:00:00Z&updated_ats[lt]=2002-01-01T00:00:00Z".to_owned(),
            0,
        ),
    ] {
        let found = admin.get(&format!("/v3/apps?{query}")).await.expect(200);
        assert_eq!(found.body["pagination"]["total_results"], count, "{query}");
    }
    for odd in [
        "created_ats=yesterday",
        "created_ats[near]=2001-01-01T00:00:00Z",
        "updated_ats[gt]=1",
    ] {
        admin.get(&format!("/v3/apps?{odd}")).await.expect(400);
    }
    let events = admin
        .get("/v3/audit_events?created_ats[lt]=2001-01-01T00:00:00Z")
        .await
        .expect(200);
    assert_eq!(events.body["pagination"]["total_results"], 0);
    let _ = store;
}

async fn organisations_narrow_what_is_of_apps(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    admin.staged("shop").await;
    let here = admin.get("/v3/organizations?names=dev").await.expect(200);
    let here = here.body["resources"][0]["guid"].as_str().expect("a guid").to_owned();
    let other = admin
        .post("/v3/organizations", json!({"name": "other"}))
        .await
        .expect(201)
        .guid();
    for list in ["apps", "packages", "droplets", "processes", "tasks"] {
        let count = |org: &str| {
            let path = format!("/v3/{list}?organization_guids={org}");
            let admin = &admin;
            async move { admin.get(&path).await.expect(200).body["pagination"]["total_results"].clone() }
        };
        assert_eq!(count(&other).await, 0, "{list}");
        assert_eq!(count(&here).await == json!(0), list == "tasks", "{list}");
    }
    let _ = store;
}

async fn labels_are_checked_and_guarded(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let stranger = platform.user("stranger").await;
    let all = one_of_each(&admin).await;
    let change = |labels: Value| json!({"metadata": {"labels": labels}});
    for (path, _) in &all {
        let refused = admin.patch(path, change(json!({"a b": "x"}))).await.expect(422);
        assert_eq!(
            refused.detail(),
            "Metadata label key error: 'a b' contains invalid characters"
        );
        admin.patch(path, change(json!({"a": "x y"}))).await.expect(422);
        admin.patch(path, change(json!([1]))).await.expect(422);
        let status = stranger.patch(path, change(json!({"a": "1"}))).await.status.as_u16();
        // Shared domains and stacks are seen by everyone.
        let seen = path.contains("domains") || path.contains("stacks");
        assert_eq!(status, if seen { 403 } else { 404 }, "{path}");
        let shown = admin.get(path).await.expect(200);
        assert_eq!(shown.body["metadata"]["labels"], json!({}), "{path}");
    }
    let (package, _) = &all[0];
    let app = admin.get(package).await.expect(200).body["relationships"]["app"]["data"]["guid"].clone();
    let body =
        json!({"type": "bits", "relationships": {"app": {"data": {"guid": app}}}, "metadata": {"labels": {"a": "1"}}});
    let made = admin.post("/v3/packages", body).await.expect(201).guid();
    let shown = admin.get(&format!("/v3/packages/{made}")).await.expect(200);
    assert_eq!(shown.body["metadata"]["labels"]["a"], "1");
    let _ = store;
}

/// What no list takes, and what is said of it.
const WRONG: [(&str, &str); 9] = [
    (
        "colour=red",
        "Unknown query parameter(s): 'colour'. Valid parameters are: ",
    ),
    ("include=colour", "colour"),
    ("fields[colour]=red", "colour"),
    ("order_by=colour", "Order by can only be: 'created_at', 'updated_at'"),
    ("page=0", "page must be between"),
    ("per_page=5001", "per_page must be between"),
    ("created_ats[near]=2001-01-01T00:00:00Z", "relational operator"),
    ("updated_ats=yesterday", "timestamp"),
    ("label_selector=a%20b", "label_selector"),
];

async fn every_list_refuses_what_it_does_not_know(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let world = world(&admin, "asked").await;
    let mut lists = 0;
    for route in ROUTES.iter().filter(|route| route.method == "GET") {
        let path = roles::path(route.path, &world);
        let answer = admin.get(&path).await;
        let rules = Rules::of("GET", route.path).filter(|rules| rules.list);
        let is_list = answer.body.get("pagination").is_some();
        assert_eq!(is_list, rules.is_some(), "{path}: {}", answer.text);
        let Some(rules) = rules else { continue };
        lists += 1;
        for (query, part) in WRONG {
            let refused = admin.get(&format!("{path}?{query}")).await.expect(400);
            let has_none = query.starts_with("include") && rules.include.is_empty()
                || query.starts_with("fields") && rules.fields.is_empty();
            let part = if has_none { "Unknown query parameter(s)" } else { part };
            let text = &refused.text;
            assert_eq!(refused.body["errors"][0]["code"], 10005, "{path}?{query}: {text}");
            assert!(refused.detail().contains(part), "{path}?{query}: {text}");
        }
        takes_what_it_says(&admin, &path, rules).await;
    }
    assert!(lists > 40, "{lists}");
    let _ = store;
}

async fn takes_what_it_says(admin: &Client<'_>, path: &str, rules: &Rules) {
    for order in ORDERS.iter().chain(rules.orders) {
        for sign in ["", "-"] {
            let path = format!("{path}?order_by={sign}{order}&per_page=1");
            let listed = admin.get(&path).await.expect(200);
            let count = listed.body["resources"].as_array().map_or(0, Vec::len);
            assert!(count <= 1, "{path}: {}", listed.text);
        }
    }
    let include = rules.include.join(",");
    if !include.is_empty() {
        admin.get(&format!("{path}?include={include}")).await.expect(200);
    }
    let long_ago = "1960-01-01T00:00:00Z";
    for query in [
        format!("created_ats[lt]={long_ago}"),
        format!("updated_ats[lt]={long_ago}"),
        "label_selector=none".to_owned(),
    ] {
        let none = admin.get(&format!("{path}?{query}")).await.expect(200);
        let total = &none.body["pagination"]["total_results"];
        assert_eq!(total, 0, "{path}?{query}: {}", none.text);
    }
}

async fn what_resources_refer_to_comes_along(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let world = world(&admin, "along").await;
    for (kind, include, keys) in [
        ("apps", "space,space.organization", &["spaces", "organizations"][..]),
        (
            "routes",
            "domain,space.organization",
            &["domains", "spaces", "organizations"],
        ),
        ("routes", "domain", &["domains"]),
        ("spaces", "organization", &["organizations"]),
        (
            "roles",
            "user,organization,space",
            &["users", "organizations", "spaces"],
        ),
        (
            "service_credential_bindings",
            "app,service_instance",
            &["apps", "service_instances"],
        ),
    ] {
        let one = roles::path(&format!("/v3/{kind}/{{guid}}"), &world);
        for path in [one.clone(), format!("/v3/{kind}")] {
            let shown = admin.get(&format!("{path}?include={include}")).await.expect(200);
            let included = shown.body["included"].as_object().expect("it comes along");
            let found: std::collections::BTreeSet<&str> = included.keys().map(String::as_str).collect();
            assert_eq!(found, keys.iter().copied().collect(), "{path}: {}", shown.text);
            assert!(admin.get(&path).await.expect(200).body.get("included").is_none());
        }
        let refused = admin.get(&format!("{one}?include=colour")).await.expect(400);
        assert!(
            refused.detail().contains("Invalid included resource: 'colour'"),
            "{}",
            refused.text
        );
    }
    let shown = admin
        .get("/v3/apps?names=along-app&include=space.organization")
        .await
        .expect(200);
    assert_eq!(shown.body["included"]["spaces"][0]["guid"], world["space"].as_str());
    assert_eq!(shown.body["included"]["organizations"][0]["name"], "along");
    let path = "/v3/service_instances?fields[space]=name&fields[space.organization]=guid";
    let shown = admin.get(path).await.expect(200);
    assert_eq!(shown.body["included"]["spaces"][0], json!({"name": "along"}));
    assert_eq!(
        shown.body["included"]["organizations"][0],
        json!({"guid": world["org"]})
    );
    let refused = admin
        .get("/v3/service_instances?fields[space]=colour")
        .await
        .expect(400);
    assert!(
        refused.detail().contains("valid keys are: 'guid', 'name'"),
        "{}",
        refused.text
    );
    let _ = store;
}

async fn short_lists_are_narrowed_and_ordered_too(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let first = admin
        .get("/v3/feature_flags?order_by=name&per_page=2")
        .await
        .expect(200);
    assert_eq!(first.names(), ["app_bits_upload", "app_scaling"]);
    let last = admin
        .get("/v3/feature_flags?order_by=-name&per_page=1")
        .await
        .expect(200);
    assert_eq!(last.names(), ["user_org_creation"]);
    let buildpack = |name: &str| json!({"name": name});
    for name in ["zeta_buildpack", "alpha_buildpack"] {
        admin.post("/v3/buildpacks", buildpack(name)).await.expect(201);
    }
    let by_name = admin.get("/v3/buildpacks?order_by=name").await.expect(200);
    assert!(by_name.names().is_sorted(), "{:?}", by_name.names());
    let back = admin.get("/v3/buildpacks?order_by=-position").await.expect(200);
    let forth = admin.get("/v3/buildpacks?order_by=position").await.expect(200);
    assert_eq!(forth.names().into_iter().rev().collect::<Vec<_>>(), back.names());
    let second = admin.get("/v3/buildpacks?per_page=1&page=2").await.expect(200);
    assert_eq!(second.names(), forth.names()[1..2]);
    let none = admin.get("/v3/buildpacks?lifecycle=cnb").await.expect(200);
    assert!(none.names().is_empty());
    let _ = store;
}
