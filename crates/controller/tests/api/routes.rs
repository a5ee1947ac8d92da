//! Domains, routes and destinations, and logs.

use crate::client::*;
use base64::Engine as _;
use serde_json::{Value, json};
use store::testing::TestStore;

store::on_both_engines!(
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
    let stranger = platform.user("stranger").await;
    stranger.get(&format!("/api/v1/read/{app}")).await.expect(404);
    let _ = store;
}
