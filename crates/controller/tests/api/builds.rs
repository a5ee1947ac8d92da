//! Builds while they wait and after they ended: what they may use, cancelling them, and their history.

use crate::client::*;
use serde_json::json;
use store::testing::TestStore;

store::on_both_engines!(a_build_says_what_it_may_use_and_can_be_cancelled);

async fn a_build_says_what_it_may_use_and_can_be_cancelled(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let package = admin.ready_package(&app, &[("server.js", "1")]).await;
    let body = json!({"package": {"guid": package}, "staging_memory_in_mb": 512, "staging_disk_in_mb": 2048});
    let build = admin.post("/v3/builds", body).await.expect(201);
    let limits = (&build.body["staging_memory_in_mb"], &build.body["staging_disk_in_mb"]);
    assert_eq!(limits, (&json!(512), &json!(2048)));
    for odd in [json!(0), json!(u32::MAX)] {
        let body = json!({"package": {"guid": package}, "staging_memory_in_mb": odd});
        admin.post("/v3/builds", body).await.expect(422);
    }
    let guid = build.guid();
    let history = format!("/paas/v1/builds/{guid}/history");
    let link = build.body["links"]["history"]["href"].as_str().unwrap_or_default();
    assert!(link.ends_with(&history), "{link}");
    let waiting = admin.get(&history).await.expect(200);
    assert_eq!(waiting.body["state"], "STAGING");
    let other = platform.user("stranger").await;
    other.get(&history).await.expect(404);
    let cancel = format!("/paas/v1/builds/{guid}/cancel");
    other.post(&cancel, json!({})).await.expect(404);
    admin.post(&cancel, json!({})).await.expect(204);
    let ended = admin.get(&format!("/v3/builds/{guid}")).await.expect(200);
    assert_eq!(ended.body["state"], "FAILED");
    assert_eq!(ended.body["error"], "StagingError - The build was cancelled");
    assert_eq!(ended.body["failure"]["cause"], "admin cancelled it");
    assert!(store.builds_pending().await.expect("read").is_empty());
    admin.post(&cancel, json!({})).await.expect(422);
    let events = store.events_since(Some(&app), 0, 100).await.expect("read");
    assert!(events.iter().any(|event| event.kind == "build.failed"));
}
