//! The switches that sessions in instances depend on, and where they are had.

use crate::client::*;
use serde_json::{Value, json};
use store::testing::TestStore;

store::on_both_engines!(
    the_root_says_where_sessions_are_had,
    sessions_are_switched_by_app_and_space,
);

async fn the_root_says_where_sessions_are_had(store: &TestStore) {
    let platform = platform(store).await;
    let link = async || platform.plain(http::Method::GET, "/").await.expect(200).body["links"]["app_ssh"].clone();
    let first = link().await;
    assert_eq!(first["href"], "ssh.example.com:2222");
    assert_eq!(first["meta"]["oauth_client"], "ssh-proxy");
    assert_eq!(first["meta"]["host_key_fingerprint"].as_str().map(str::len), Some(43));
    let restarted = crate::client::platform(store).await;
    let root = restarted.plain(http::Method::GET, "/").await.expect(200);
    assert_eq!(root.body["links"]["app_ssh"], first, "the key is kept");
}

async fn app(admin: &Client<'_>) -> (String, String) {
    let space = admin.get("/v3/spaces").await.expect(200).body["resources"][0]["guid"].clone();
    let body = json!({"name": "shop", "relationships": {"space": {"data": {"guid": space}}}});
    let app = admin.post("/v3/apps", body).await.expect(201).guid();
    (app, space.as_str().expect("a guid").to_owned())
}

async fn sessions_are_switched_by_app_and_space(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (app, space) = app(&admin).await;
    let standing = async || admin.get(&format!("/v3/apps/{app}/ssh_enabled")).await.expect(200).body;
    assert_eq!(standing().await, json!({"enabled": true, "reason": ""}));
    let (of_app, of_space) = (
        format!("/v3/apps/{app}/features/ssh"),
        format!("/v3/spaces/{space}/features/ssh"),
    );
    let set = async |path: &str, enabled: Value| admin.patch(path, json!({"enabled": enabled})).await;
    let off = set(&of_app, json!(false)).await.expect(200);
    assert_eq!(
        off.body,
        json!({"name": "ssh", "description": "Enable SSHing into the app.", "enabled": false})
    );
    assert_eq!(
        standing().await,
        json!({"enabled": false, "reason": "ssh is disabled for app"})
    );
    let off = set(&of_space, json!(false)).await.expect(200);
    assert_eq!(off.body["description"], "Enable SSHing into apps in the space.");
    assert_eq!(standing().await["reason"], "ssh is disabled for space 'dev'");
    set(&of_app, json!(true)).await.expect(200);
    assert_eq!(standing().await["enabled"], false);
    set(&of_space, json!(true)).await.expect(200);
    assert_eq!(standing().await["enabled"], true);
    for path in [&of_app, &of_space] {
        assert_eq!(admin.get(path).await.expect(200).body["enabled"], true);
        set(path, json!("yes")).await.expect(422);
        admin.patch(path, json!({})).await.expect(422);
        set(&format!("{path}x"), json!(true)).await.expect(404);
    }
    let listed = admin.get(&format!("/v3/spaces/{space}/features")).await.expect(200);
    assert_eq!(listed.body["resources"][0]["name"], "ssh");
    let features = format!("/v3/apps/{app}/features");
    set(&format!("{features}/revisions"), json!(true)).await.expect(200);
    set(&format!("{features}/revisions"), json!(false)).await.expect(422);
    set(&format!("{features}/service-binding-k8s"), json!(true))
        .await
        .expect(422);
}
