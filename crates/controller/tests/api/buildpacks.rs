//! Buildpacks of the platform: order, bits, locks, stacks, and what apps may name.

use crate::client::*;
use axum::body::Body;
use http::{Method, Request};
use serde_json::json;
use std::io::Write as _;
use store::testing::TestStore;

store::on_both_engines!(
    built_in_ones_are_there_and_cannot_be_removed,
    an_uploaded_one_takes_its_place_in_the_order,
    bits_are_looked_at_and_locked,
    only_operators_change_them,
    names_are_unique_by_stack,
    apps_name_buildpacks_urls_and_folders,
);

async fn upload(client: &Client<'_>, guid: &str, bits: &[u8]) -> Answer {
    const BOUNDARY: &str = "boundary";
    let mut body = Vec::new();
    write!(
        body,
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"bits\"; filename=\"mine.zip\"\r\n\
         Content-Type: application/zip\r\n\r\n"
    )
    .expect("written");
    body.extend_from_slice(bits);
    write!(body, "\r\n--{BOUNDARY}--\r\n").expect("written");
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/v3/buildpacks/{guid}/upload"))
        .header("authorization", format!("bearer {}", client.token))
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(Body::from(body));
    client.platform.send(request.expect("valid")).await
}

async fn named(client: &Client<'_>, name: &str) -> serde_json::Value {
    let listed = client.get(&format!("/v3/buildpacks?names={name}")).await.expect(200);
    listed.body["resources"][0].clone()
}

async fn built_in_ones_are_there_and_cannot_be_removed(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let builtin = named(&admin, "nodejs_buildpack").await;
    assert_eq!((&builtin["position"], &builtin["state"]), (&json!(1), &json!("READY")));
    let path = format!("/v3/buildpacks/{}", builtin["guid"].as_str().expect("a guid"));
    assert_eq!(admin.get(&path).await.expect(200).body["locked"], true);
    let refused = admin.delete(&path).await.expect(422);
    assert!(refused.detail().contains("can't be removed"), "{}", refused.text);
    admin.patch(&path, json!({"name": "other"})).await.expect(422);
    let changed = admin.patch(&path, json!({"enabled": false})).await.expect(200);
    assert_eq!(
        (&changed.body["enabled"], changed.guid()),
        (&json!(false), builtin["guid"].as_str().expect("a guid").to_owned())
    );
    let app = admin.app("shop").await;
    let named = json!({"lifecycle": {"type": "buildpack", "data": {"buildpacks": ["nodejs_buildpack"]}}});
    admin.patch(&format!("/v3/apps/{app}"), named).await.expect(422);
}

async fn an_uploaded_one_takes_its_place_in_the_order(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let first = admin.post("/v3/buildpacks", json!({"name": "first"})).await.expect(201);
    assert_eq!(
        (&first.body["position"], &first.body["state"]),
        (&json!(1), &json!("AWAITING_UPLOAD"))
    );
    admin
        .post("/v3/buildpacks", json!({"name": "last", "position": 99}))
        .await
        .expect(201);
    let listed = admin.get("/v3/buildpacks").await.expect(200);
    assert_eq!(listed.names(), ["first", "nodejs_buildpack", "last"]);
    let path = format!("/v3/buildpacks/{}", first.guid());
    let moved = admin.patch(&path, json!({"position": 2})).await.expect(200);
    assert_eq!(moved.body["position"], 2);
    assert_eq!(
        admin.get("/v3/buildpacks").await.expect(200).names(),
        ["nodejs_buildpack", "first", "last"]
    );
    admin.patch(&path, json!({"position": 0})).await.expect(422);
    let removed = admin.delete(&path).await;
    admin.job(removed).await;
    assert_eq!(
        admin.get("/v3/buildpacks").await.expect(200).names(),
        ["nodejs_buildpack", "last"]
    );
    admin.get(&path).await.expect(404);
}

async fn bits_are_looked_at_and_locked(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let made = admin
        .post("/v3/buildpacks", json!({"name": "mine"}))
        .await
        .expect(201)
        .guid();
    let app = admin.app("shop").await;
    let named = json!({"lifecycle": {"type": "buildpack", "data": {"buildpacks": ["mine"]}}});
    let path = format!("/v3/apps/{app}");
    admin.patch(&path, named.clone()).await.expect(422);
    for bad in [&b"nonsense"[..], &zip(&[("readme", "x")]), b""] {
        let refused = upload(&admin, &made, bad).await.expect(422);
        assert!(
            refused.detail().contains("The buildpack upload is invalid"),
            "{}",
            refused.text
        );
    }
    let accepted = upload(&admin, &made, &zip(&[("top/bin/detect", "#!/bin/sh")])).await;
    let ready = accepted.body.clone();
    assert_eq!(
        (&ready["state"], &ready["filename"]),
        (&json!("READY"), &json!("mine.zip"))
    );
    admin.job(accepted).await;
    admin.patch(&path, named).await.expect(200);
    let own = format!("/v3/buildpacks/{made}");
    admin.patch(&own, json!({"locked": true})).await.expect(200);
    let refused = upload(&admin, &made, &zip(&[("bin/detect", "x")])).await.expect(422);
    assert_eq!(refused.detail(), "Buildpack is locked");
    admin.patch(&own, json!({"locked": false})).await.expect(200);
    upload(&admin, &made, &zip(&[("bin/detect", "x")])).await.expect(202);
}

async fn only_operators_change_them(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let made = admin
        .post("/v3/buildpacks", json!({"name": "mine"}))
        .await
        .expect(201)
        .guid();
    let user = platform.user("dev").await;
    assert_eq!(
        user.get("/v3/buildpacks").await.expect(200).names(),
        ["mine", "nodejs_buildpack"]
    );
    let path = format!("/v3/buildpacks/{made}");
    user.post("/v3/buildpacks", json!({"name": "theirs"})).await.expect(403);
    user.patch(&path, json!({"enabled": false})).await.expect(403);
    user.delete(&path).await.expect(403);
    upload(&user, &made, &zip(&[("bin/detect", "x")])).await.expect(403);
}

async fn names_are_unique_by_stack(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    admin.post("/v3/buildpacks", json!({"name": "mine"})).await.expect(201);
    let taken = admin.post("/v3/buildpacks", json!({"name": "mine"})).await.expect(422);
    assert!(taken.detail().contains("\"mine\" already exists"), "{}", taken.text);
    let other = json!({"name": "mine", "stack": "host"});
    let other = admin.post("/v3/buildpacks", other).await.expect(201);
    assert_eq!(other.body["stack"], "host");
    let any = json!({"name": "third", "stack": null});
    assert!(admin.post("/v3/buildpacks", any).await.expect(201).body["stack"].is_null());
    for bad in [
        json!({"name": "a b"}),
        json!({"name": ""}),
        json!({}),
        json!({"name": "x", "stack": "nowhere"}),
    ] {
        admin.post("/v3/buildpacks", bad).await.expect(422);
    }
    let listed = admin.get("/v3/buildpacks?stacks=host").await.expect(200);
    assert_eq!(listed.names(), ["mine"]);
}

async fn apps_name_buildpacks_urls_and_folders(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let path = format!("/v3/apps/{app}");
    let naming = |name: &str| json!({"lifecycle": {"type": "buildpack", "data": {"buildpacks": [name]}}});
    let digest = "0".repeat(64);
    for fine in [
        "nodejs_buildpack".to_owned(),
        "paas/nodejs".to_owned(),
        "https://example.com/buildpack.zip".to_owned(),
        format!("https://example.com/buildpack.tgz#sha256:{digest}"),
        "https://example.com/buildpack.git#main".to_owned(),
        "./tools/buildpack".to_owned(),
    ] {
        admin.patch(&path, naming(&fine)).await.expect(200);
    }
    for bad in [
        "nowhere",
        "ftp://example.com/x.zip",
        "./../x",
        "https://example.com/x.zip#md5:1",
    ] {
        let refused = admin.patch(&path, naming(bad)).await.expect(422);
        assert!(refused.detail().contains(bad), "{}", refused.text);
    }
    // What may be something else the next time is built each time.
    for (name, states) in [
        ("https://example.com/buildpack.zip", ["STAGING", "STAGING"]),
        ("nodejs_buildpack", ["STAGING", "STAGED"]),
    ] {
        admin.patch(&path, naming(name)).await.expect(200);
        let package = admin.ready_package(&app, &[("server.js", name)]).await;
        for state in states {
            let build = admin
                .post("/v3/builds", json!({"package": {"guid": package}}))
                .await
                .expect(201);
            assert_eq!(build.body["state"], state, "{name}");
            if state == "STAGING" {
                finish_build(&platform.context, &build.guid()).await;
            }
        }
    }
}
