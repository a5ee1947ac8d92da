//! The keys that sign access tokens: replaced without anybody noticing, shared by controllers, and by age.

use crate::client::*;
use http::Method;
use serde_json::json;
use std::time::Duration;
use store::testing::TestStore;

store::on_both_engines!(
    tokens_by_the_key_before_stay_valid,
    controllers_share_keys,
    revoked_keys_end_their_tokens,
    keys_are_replaced_by_age_and_forgotten_when_their_tokens_are_over,
);

/// The ids of the keys that are published, the one that signs first.
async fn published(platform: &Platform) -> Vec<String> {
    let keys = platform.plain(Method::GET, "/token_keys").await.expect(200);
    let keys = keys.body["keys"].as_array().expect("a list");
    keys.iter()
        .map(|key| key["kid"].as_str().expect("an id").to_owned())
        .collect()
}

/// The id of the key that a token names.
fn key_of(token: &str) -> String {
    let header = jsonwebtoken::decode_header(token).expect("a token");
    header.kid.expect("a key")
}

async fn tokens_by_the_key_before_stay_valid(store: &TestStore) {
    let platform = platform(store).await;
    let before = platform.admin().await;
    let stranger = platform.user("ann").await;
    let rotate = json!({});
    stranger
        .post("/admin/v1/token_keys/rotate", rotate.clone())
        .await
        .expect(403);
    assert_eq!(published(&platform).await, [key_of(&before.token)]);
    before.post("/admin/v1/token_keys/rotate", rotate).await.expect(204);
    before.get("/v3/apps").await.expect(200);
    let after = platform.admin().await;
    assert_eq!(
        published(&platform).await,
        [key_of(&after.token), key_of(&before.token)]
    );
    after.get("/v3/apps").await.expect(200);
    let events = after
        .get("/v3/audit_events?types=audit.token_keys.rotate")
        .await
        .expect(200);
    assert_eq!(events.body["resources"][0]["actor"]["name"], "admin");
    // A start of the controller finds both.
    let again = crate::client::platform(store).await;
    assert_eq!(published(&again).await, published(&platform).await);
    again.with_token(&before.token).get("/v3/apps").await.expect(200);
}

async fn controllers_share_keys(store: &TestStore) {
    let (one, other) = (platform(store).await, platform(store).await);
    let admin = one.admin().await;
    admin.post("/admin/v1/token_keys/rotate", json!({})).await.expect(204);
    let new = one.admin().await.token;
    assert_ne!(key_of(&new), key_of(&admin.token));
    // The other one has not heard of the new key: it looks.
    other.with_token(&new).get("/v3/apps").await.expect(200);
    assert_eq!(published(&other).await, published(&one).await);
}

async fn revoked_keys_end_their_tokens(store: &TestStore) {
    let platform = platform(store).await;
    let form = "grant_type=password&username=admin&password=secret";
    let tokens = platform.form(form).await.expect(200).body;
    let before = platform.with_token(tokens["access_token"].as_str().expect("a token"));
    before
        .post("/admin/v1/token_keys/rotate", json!({"revoke": true}))
        .await
        .expect(204);
    assert_eq!(before.get("/v3/apps").await.expect(401).body["errors"][0]["code"], 1000);
    assert_eq!(published(&platform).await.len(), 1);
    // Clients get another one by themselves.
    let refresh = format!(
        "grant_type=refresh_token&refresh_token={}",
        tokens["refresh_token"].as_str().expect("one")
    );
    let fresh = platform.form(&refresh).await.expect(200).body;
    let after = platform.with_token(fresh["access_token"].as_str().expect("a token"));
    after.get("/v3/apps").await.expect(200);
    let _ = store;
}

async fn keys_are_replaced_by_age_and_forgotten_when_their_tokens_are_over(store: &TestStore) {
    let platform = platform(store).await;
    let (keys, now) = (&platform.context.tokens, platform.context.now());
    let (day, hour) = (Duration::from_secs(24 * 3600), Duration::from_secs(3600));
    let first = published(&platform).await;
    assert!(!keys.age(store, now + day, 2 * day).await.expect("aged"));
    assert!(keys.age(store, now + 3 * day, 2 * day).await.expect("aged"));
    let second = published(&platform).await;
    assert_eq!((second.len(), &second[1]), (2, &first[0]));
    assert!(!keys.age(store, now + 3 * day + hour / 2, 2 * day).await.expect("aged"));
    assert_eq!(published(&platform).await, second, "its tokens may be under way");
    assert!(!keys.age(store, now + 3 * day + 2 * hour, 2 * day).await.expect("aged"));
    assert_eq!(published(&platform).await, second[..1]);
    for _ in 0..20 {
        keys.rotate(store, now, false).await.expect("rotated");
    }
    assert!(published(&platform).await.len() <= 16);
}
