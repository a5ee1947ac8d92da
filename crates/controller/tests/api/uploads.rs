//! Packages: what is known is not uploaded again, and what is hostile is refused.

use crate::client::*;
use serde_json::json;
use store::testing::TestStore;

store::on_both_engines!(
    only_unknown_files_are_uploaded,
    known_files_are_those_the_caller_may_read,
    bits_are_uploaded_once,
    hostile_archives_are_refused,
    nonsense_is_refused,
);

async fn only_unknown_files_are_uploaded(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    admin
        .ready_package(&app, &[("a.js", "small"), ("lib/b.js", "other"), ("empty", "")])
        .await;
    let asked = json!({"resources": [
        resource("a.js", "small"), resource("moved.js", "other"), resource("new.js", "new"), resource("none", ""),
    ]});
    let matched = admin.post("/v3/resource_matches", asked).await.expect(201);
    let paths: Vec<_> = matched.body["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|r| r["path"].clone())
        .collect();
    assert_eq!(paths, ["a.js", "moved.js", "none"], "however small");

    let package = admin.package(&app).await;
    let uploaded = admin
        .upload(&package, &matched.body["resources"], Some(zip(&[("new.js", "new")])))
        .await
        .expect(200);
    assert_eq!(uploaded.body["state"], "READY");
    let digest = uploaded.body["data"]["checksum"]["value"]
        .as_str()
        .expect("ready")
        .to_owned();
    let files = store
        .package_files(package.parse().expect("a guid"))
        .await
        .expect("read");
    assert_eq!(
        files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
        ["a.js", "moved.js", "new.js"]
    );

    // All of it is known now: no archive at all, and the same tree is the same package.
    let whole = json!([
        resource("a.js", "small"),
        resource("moved.js", "other"),
        resource("new.js", "new"),
        resource("none", "")
    ]);
    let again = admin.package(&app).await;
    let mut listed = whole.as_array().expect("a list").clone();
    listed[2]["mode"] = json!("744");
    let uploaded = admin.upload(&again, &json!(listed), None).await.expect(200);
    assert_eq!(uploaded.body["state"], "READY");
    let other = uploaded.body["data"]["checksum"]["value"]
        .as_str()
        .expect("ready")
        .to_owned();
    let index = blobstore::pack::PackageIndex::load(
        &platform.context.blobs,
        &format!("sha256:{other}").parse().expect("a digest"),
        &blobstore::pack::TreeLimits::default(),
    )
    .await
    .expect("stored");
    let entry = index.find("moved.js").expect("there");
    let bytes = blobstore::pack::read_file(&platform.context.blobs, entry)
        .await
        .expect("read");
    assert_eq!(bytes, b"other");
    assert!(!digest.is_empty());
}

async fn known_files_are_those_the_caller_may_read(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    admin.ready_package(&app, &[("secret.txt", "secret")]).await;
    let stranger = platform.user("stranger").await;
    let asked = json!({"resources": [resource("secret.txt", "secret")]});
    let matched = stranger.post("/v3/resource_matches", asked.clone()).await.expect(201);
    assert_eq!(
        matched.body["resources"],
        json!([]),
        "whether a file exists is a secret too"
    );
    assert_eq!(admin.post("/v3/resource_matches", asked.clone()).await.body, asked);
    let _ = store;
}

async fn bits_are_uploaded_once(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let package = admin.ready_package(&app, &[("a", "1")]).await;
    let refused = admin
        .upload(&package, &json!([]), Some(zip(&[("a", "2")])))
        .await
        .expect(422);
    assert!(
        refused.detail().starts_with("Bits may be uploaded only once"),
        "{}",
        refused.text
    );
    let _ = store;
}

async fn hostile_archives_are_refused(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    for name in ["../escape", "/etc/passwd", "a/../../b"] {
        let package = admin.package(&app).await;
        let refused = admin
            .upload(&package, &json!([]), Some(zip(&[(name, "x")])))
            .await
            .expect(422);
        assert_eq!(refused.body["errors"][0]["code"], 160_001, "{}", refused.text);
        let shown = admin.get(&format!("/v3/packages/{package}")).await.expect(200);
        assert_eq!(shown.body["state"], "AWAITING_UPLOAD", "nothing happened");
    }
    let package = admin.package(&app).await;
    for path in ["../x", "/x", ""] {
        admin
            .upload(&package, &json!([resource(path, "")]), None)
            .await
            .expect(422);
    }
    let _ = store;
}

async fn nonsense_is_refused(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let package = admin.package(&app).await;
    let unknown = json!([resource("a", "never seen")]);
    let refused = admin.upload(&package, &unknown, None).await.expect(422);
    assert!(refused.detail().contains("has to be uploaded"), "{}", refused.text);
    admin.upload(&package, &json!([]), None).await.expect(422);
    admin
        .upload(&package, &json!([]), Some(b"no archive".to_vec()))
        .await
        .expect(422);
    admin.upload(&package, &json!("text"), None).await.expect(422);
    admin
        .upload(
            &package,
            &json!([{"checksum": {"value": "xyz"}, "size_in_bytes": 1}]),
            None,
        )
        .await
        .expect(422);
    admin
        .upload(&package, &json!([]), Some(zip(&[("a", "1")])))
        .await
        .expect(200);
    let docker = json!({"type": "docker", "data": {"image": "x"}, "relationships": {"app": {"data": {"guid": app}}}});
    // The app is built by buildpacks.
    admin.post("/v3/packages", docker).await.expect(422);
    let _ = store;
}
