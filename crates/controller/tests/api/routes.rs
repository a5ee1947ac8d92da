//! Domains, routes and destinations, and logs.

use crate::client::*;
use base64::Engine as _;
use serde_json::{Value, json};
use store::testing::TestStore;

store::on_both_engines!(
    options_of_routes_are_set_changed_and_told_to_routers,
    manifests_say_how_requests_are_spread,
    routes_lead_to_apps,
    routes_are_unique_and_checked,
    domains_are_made_and_removed,
    logs_are_read_as_log_cache_does
);

async fn domain(client: &Client<'_>) -> String {
    let domains = client.get("/v3/domains?names=apps.example.com").await.expect(200);
    domains.body["resources"][0]["guid"].as_str().expect("there").to_owned()
}

async fn route(client: &Client<'_>, host: &str, path: &str) -> Answer {
    let (space, domain) = (client.space().await, domain(client).await);
    let relationships = json!({"space": {"data": {"guid": space}}, "domain": {"data": {"guid": domain}}});
    client
        .post(
            "/v3/routes",
            json!({"host": host, "path": path, "relationships": relationships}),
        )
        .await
}

async fn routes_lead_to_apps(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let made = route(&admin, "shop", "/cart").await.expect(201);
    assert_eq!(made.body["url"], "shop.apps.example.com/cart");
    let destinations = format!("/v3/routes/{}/destinations", made.guid());
    let mapped = admin
        .post(&destinations, json!({"destinations": [{"app": {"guid": app}}]}))
        .await
        .expect(200);
    let first = mapped.body["destinations"][0]["guid"]
        .as_str()
        .expect("made")
        .to_owned();
    assert_eq!(mapped.body["destinations"][0]["app"]["process"]["type"], "web");
    let again = admin
        .post(&destinations, json!({"destinations": [{"app": {"guid": app}}]}))
        .await
        .expect(200);
    assert_eq!(again.body["destinations"].as_array().map(Vec::len), Some(1));
    assert_eq!(store.route_table().await.expect("read").len(), 1);
    let listed = admin.get(&format!("/v3/routes?app_guids={app}")).await.expect(200);
    assert_eq!(listed.body["resources"][0]["destinations"][0]["guid"], first);
    admin.delete(&format!("{destinations}/{first}")).await.expect(204);
    admin.delete(&format!("{destinations}/{first}")).await.expect(422);
    let unknown = json!({"destinations": [{"app": {"guid": uuid::Uuid::new_v4()}}]});
    admin.post(&destinations, unknown).await.expect(422);
    let replaced = json!({"destinations": [{"app": {"guid": app, "process": {"type": "worker"}}, "port": 9000}]});
    let replaced = admin.patch(&destinations, replaced).await.expect(200);
    assert_eq!(replaced.body["destinations"][0]["port"], 9000);
    let deleted = admin.delete(&format!("/v3/routes/{}", made.guid())).await;
    admin.job(deleted).await;
    assert!(store.route_table().await.expect("read").is_empty());
}

async fn routes_are_unique_and_checked(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    route(&admin, "shop", "").await.expect(201);
    let taken = route(&admin, "SHOP", "").await.expect(422);
    assert!(taken.detail().starts_with("Route already exists"), "{}", taken.text);
    let domain = domain(&admin).await;
    let reserved = admin
        .get(&format!("/v3/domains/{domain}/route_reservations?host=shop"))
        .await
        .expect(200);
    assert_eq!(reserved.body["matching_route"], true);
    for (host, path) in [("", ""), ("a.b", ""), ("a", "nope"), ("a", "/"), ("a", "/a?b")] {
        route(&admin, host, path).await.expect(422);
    }
    let _ = store;
}

async fn domains_are_made_and_removed(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let made = admin
        .post("/v3/domains", json!({"name": "Other.example.com"}))
        .await
        .expect(201);
    assert_eq!(made.body["name"], "other.example.com");
    admin
        .post("/v3/domains", json!({"name": "other.example.com"}))
        .await
        .expect(422);
    admin.post("/v3/domains", json!({"name": "-no-"})).await.expect(422);
    let deleted = admin.delete(&format!("/v3/domains/{}", made.guid())).await;
    admin.job(deleted).await;
    route(&admin, "a", "").await.expect(201);
    admin
        .delete(&format!("/v3/domains/{}", domain(&admin).await))
        .await
        .expect(422);
    let _ = store;
}

async fn logs_are_read_as_log_cache_does(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let line = |n: i64| telemetry::Envelope {
        ts_ns: n,
        source_id: app.clone(),
        instance_id: "0".into(),
        source_type: "APP/PROC/WEB".into(),
        stream: telemetry::Stream::Err,
        payload: format!("line {n}").into_bytes(),
    };
    platform
        .context
        .logs
        .append(&[line(1), line(2), line(3)])
        .expect("stored");
    let texts = |body: &Value| {
        let batch = body["envelopes"]["batch"].as_array().expect("a list");
        let decode = |line: &Value| {
            let payload = line["log"]["payload"].as_str().expect("text");
            String::from_utf8(
                base64::engine::general_purpose::STANDARD
                    .decode(payload)
                    .expect("base64"),
            )
            .expect("text")
        };
        batch.iter().map(decode).collect::<Vec<_>>()
    };
    let read = admin
        .get(&format!("/api/v1/read/{app}?envelope_types=LOG&start_time=2"))
        .await
        .expect(200);
    assert_eq!(texts(&read.body), ["line 2", "line 3"]);
    assert_eq!(read.body["envelopes"]["batch"][0]["log"]["type"], "ERR");
    assert_eq!(
        read.body["envelopes"]["batch"][0]["tags"]["source_type"],
        "APP/PROC/WEB"
    );
    let read = admin
        .get(&format!(
            "/api/v1/read/{app}?descending=true&limit=1&start_time=-6795364578871345152"
        ))
        .await
        .expect(200);
    assert_eq!(texts(&read.body), ["line 3"]);
    let read = admin
        .get(&format!("/api/v1/read/{app}?envelope_types=GAUGE"))
        .await
        .expect(200);
    assert!(texts(&read.body).is_empty());
    let read = admin
        .get(&format!(
            "/api/v1/read/{app}?start_time=2&end_time=3&envelope_types=LOG,GAUGE"
        ))
        .await;
    assert_eq!(texts(&read.expect(200).body), ["line 2"]);
    let stranger = platform.user("stranger").await;
    stranger.get(&format!("/api/v1/read/{app}")).await.expect(404);
    what_makes_no_sense_is_refused_and_what_there_is_summed_up(&admin, &stranger, &app).await;
    let _ = store;
}

async fn what_makes_no_sense_is_refused_and_what_there_is_summed_up(
    admin: &Client<'_>,
    stranger: &Client<'_>,
    app: &str,
) {
    for wrong in [
        "envelope_types=LOUD",
        "limit=1001",
        "limit=-1",
        "start_time=3&end_time=2",
        "start_time=soon",
        "descending=perhaps",
        "colour=red",
    ] {
        admin.get(&format!("/api/v1/read/{app}?{wrong}")).await.expect(400);
    }
    let meta = admin.get("/api/v1/meta").await.expect(200);
    let expected = json!({"count": "3", "expired": "0", "oldest_timestamp": "1", "newest_timestamp": "3"});
    assert_eq!(meta.body["meta"], json!({app: expected}));
    admin.get("/api/v1/meta?source_scope=nonsense").await.expect(400);
    let now = admin
        .get(&format!("/api/v1/query?query=memory%7Bsource_id%3D%22{app}%22%7D"))
        .await
        .expect(200);
    assert_eq!(
        now.body,
        json!({"status": "success", "data": {"resultType": "vector", "result": []}})
    );
    let wrong = admin.get("/api/v1/query?query=memory").await.expect(400);
    assert_eq!(
        (&wrong.body["status"], &wrong.body["errorType"]),
        (&json!("error"), &json!("bad_data"))
    );
    stranger
        .get(&format!("/api/v1/query?query=memory%7Bsource_id%3D%22{app}%22%7D"))
        .await
        .expect(404);
    assert_eq!(stranger.get("/api/v1/meta").await.expect(200).body["meta"], json!({}));
}

async fn options_of_routes_are_set_changed_and_told_to_routers(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let (space, domain) = (admin.space().await, domain(&admin).await);
    let relationships = json!({"space": {"data": {"guid": space}}, "domain": {"data": {"guid": domain}}});
    let body = |options: Value| json!({"host": "shop", "options": options, "relationships": relationships});
    for (options, part) in [
        (json!({"loadbalancing": "random"}), "Loadbalancing must be one of"),
        (json!({"gorilla": "1"}), "Unknown field(s): 'gorilla'"),
        (json!({"loadbalancing": "hash"}), "Hash header must be present"),
        (json!({"loadbalancing": ["hash"]}), "must be a string"),
    ] {
        let refused = admin.post("/v3/routes", body(options)).await.expect(422);
        assert!(refused.detail().contains(part), "{}", refused.text);
    }
    let made = admin
        .post("/v3/routes", body(json!({"loadbalancing": "round-robin"})))
        .await
        .expect(201);
    assert_eq!(made.body["options"], json!({"loadbalancing": "round-robin"}));
    let path = format!("/v3/routes/{}", made.guid());
    let hash = json!({"options": {"loadbalancing": "hash", "hash_header": "X-User", "hash_balance": 1.25}});
    assert_eq!(
        admin.patch(&path, hash.clone()).await.expect(403).body["errors"][0]["code"],
        330002
    );
    let flag = json!({"enabled": true});
    admin
        .patch("/v3/feature_flags/hash_based_routing", flag)
        .await
        .expect(200);
    let hashed = admin.patch(&path, hash).await.expect(200);
    let told = json!({"loadbalancing": "hash", "hash_header": "X-User", "hash_balance": "1.25"});
    assert_eq!(hashed.body["options"], told);
    // What is not said stays, and a change of labels is none of options.
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(admin.patch(&path, labelled).await.expect(200).body["options"], told);

    let destinations = format!("{path}/destinations");
    let wanted = |protocol: &str| json!({"destinations": [{"app": {"guid": app}, "protocol": protocol}]});
    admin.post(&destinations, wanted("tcp")).await.expect(422);
    let mapped = admin.post(&destinations, wanted("http2")).await.expect(200);
    assert_eq!(mapped.body["destinations"][0]["protocol"], "http2");
    let table = store.route_table().await.expect("read");
    assert_eq!(table[0].options.hash_header.as_deref(), Some("X-User"));
    assert_eq!(table[0].options.hash_balance(), Some(1.25));
    let one = mapped.body["destinations"][0]["guid"].as_str().expect("a guid");
    let one = format!("{destinations}/{one}");
    admin.patch(&one, json!({"protocol": "spdy"})).await.expect(422);
    let plain = admin.patch(&one, json!({"protocol": null})).await.expect(200);
    assert_eq!(plain.body["protocol"], "http1");
    let other = format!("{destinations}/{}", uuid::Uuid::new_v4());
    admin.patch(&other, json!({"protocol": "http1"})).await.expect(404);

    let none = json!({"options": {"loadbalancing": null}});
    assert_eq!(admin.patch(&path, none).await.expect(200).body["options"], json!({}));
    let events = admin.get("/v3/audit_events?types=audit.route.update").await.expect(200);
    assert_eq!(events.body["pagination"]["total_results"], 2, "{}", events.text);
}

async fn manifests_say_how_requests_are_spread(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let path = format!("/v3/spaces/{}/actions/apply_manifest", admin.space().await);
    let manifest = "applications:\n- name: shop\n  routes:\n  - route: shop.apps.example.com\n    protocol: http2\n    \
                    options:\n      loadbalancing: least-connection\n";
    admin.job(admin.yaml(&path, manifest).await).await;
    let route = admin.get("/v3/routes?hosts=shop").await.expect(200);
    let route = &route.body["resources"][0];
    assert_eq!(route["options"], json!({"loadbalancing": "least-connection"}));
    assert_eq!(route["destinations"][0]["protocol"], "http2");
    let app = route["destinations"][0]["app"]["guid"].as_str().expect("a guid");
    let generated = admin.get(&format!("/v3/apps/{app}/manifest")).await.expect(200).text;
    assert!(
        generated.contains("loadbalancing: least-connection") && generated.contains("protocol: http2"),
        "{generated}"
    );
    // It means the same when it comes back, and what it does not say stays.
    admin.job(admin.yaml(&path, &generated).await).await;
    let plain = "applications:\n- name: shop\n  routes:\n  - route: shop.apps.example.com\n";
    admin.job(admin.yaml(&path, plain).await).await;
    let again = admin.get("/v3/routes?hosts=shop").await.expect(200);
    assert_eq!(&again.body["resources"][0]["options"], &route["options"]);
    assert_eq!(again.body["resources"][0]["destinations"][0]["protocol"], "http2");
    let wrong = manifest.replace("least-connection", "random");
    let refused = admin.yaml(&path, &wrong).await.expect(422);
    assert!(refused.detail().contains("options"), "{}", refused.text);
    let _ = store;
}
