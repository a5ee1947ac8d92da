//! Apps that are images: their lifecycle, their packages with credentials, their builds, and droplets as images.

use crate::client::*;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use model::image::ImageSource;
use model::staging::LayerKind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read as _;
use store::testing::TestStore;
use tower::ServiceExt as _;

store::on_both_engines!(
    the_flag_decides_for_everybody,
    a_package_is_an_image_whose_password_nobody_is_shown,
    what_does_not_go_together_is_refused,
    a_build_gets_the_image_and_its_droplet_says_how_it_is_run,
    a_manifest_makes_an_app_that_is_an_image,
    a_droplet_is_exported_as_the_same_image_each_time,
);

const IMAGE: &str = "registry.example.com/team/shop:1";

async fn allow(admin: &Client<'_>) {
    let path = "/v3/feature_flags/diego_docker";
    admin.patch(path, json!({"enabled": true})).await.expect(200);
}

async fn docker_app(admin: &Client<'_>, name: &str) -> Answer {
    let space = admin.space().await;
    let body = json!({"name": name, "lifecycle": {"type": "docker", "data": {}},
        "relationships": {"space": {"data": {"guid": space}}}});
    admin.post("/v3/apps", body).await
}

fn package_of(app: &str, data: &Value) -> Value {
    json!({"type": "docker", "data": data, "relationships": {"app": {"data": {"guid": app}}}})
}

async fn the_flag_decides_for_everybody(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let refused = docker_app(&admin, "shop").await.expect(403);
    assert_eq!(refused.detail(), "Feature Disabled: diego_docker");
    assert_eq!(refused.body["errors"][0]["code"], 330_002);
    allow(&admin).await;
    let app = docker_app(&admin, "shop").await.expect(201);
    assert_eq!(app.body["lifecycle"], json!({"type": "docker", "data": {}}));
    let package = admin
        .post("/v3/packages", package_of(&app.guid(), &json!({"image": IMAGE})))
        .await;
    let build = json!({"package": {"guid": package.expect(201).guid()}});
    let path = "/v3/feature_flags/diego_docker";
    admin.patch(path, json!({"enabled": false})).await.expect(200);
    let refused = admin.post("/v3/builds", build.clone()).await.expect(403);
    assert_eq!(refused.detail(), "Feature Disabled: diego_docker");
    let start = format!("/v3/apps/{}/actions/start", app.guid());
    admin.post(&start, Value::Null).await.expect(403);
    allow(&admin).await;
    let built = admin.post("/v3/builds", build).await.expect(201);
    assert_eq!(built.body["lifecycle"]["type"], "docker");
    for (kind, count) in [("docker", 1), ("buildpack", 0)] {
        let listed = admin.get(&format!("/v3/apps?lifecycle_type={kind}")).await.expect(200);
        assert_eq!(listed.body["pagination"]["total_results"], count, "{kind}");
    }
    let _ = store;
}

async fn a_package_is_an_image_whose_password_nobody_is_shown(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    allow(&admin).await;
    let app = docker_app(&admin, "shop").await.expect(201).guid();
    let data = json!({"image": IMAGE, "username": "me", "password": "hunter2"});
    let made = admin.post("/v3/packages", package_of(&app, &data)).await.expect(201);
    assert!(!made.text.contains("hunter2"), "{}", made.text);
    assert_eq!(
        (&made.body["type"], &made.body["state"]),
        (&json!("docker"), &json!("READY"))
    );
    assert_eq!(
        made.body["data"],
        json!({"error": null, "image": IMAGE, "username": "me", "password": "***"})
    );
    assert!(made.body["links"].get("upload").is_none());
    let path = format!("/v3/packages/{}", made.guid());
    let changed = json!({"username": "you", "password": "hunter3", "metadata": {"labels": {"a": "b"}}});
    let changed = admin.patch(&path, changed).await.expect(200);
    assert_eq!(
        (
            &changed.body["data"]["username"],
            &changed.body["metadata"]["labels"]["a"]
        ),
        (&json!("you"), &json!("b"))
    );
    let kept = store
        .package_fetch(made.guid().parse().expect("a guid"))
        .await
        .expect("read")
        .expect("there");
    let image = kept.image.expect("an image");
    assert_eq!(image.password.expect("kept").expose(), "hunter3");
    for (kind, count) in [("docker", 1), ("bits", 0), ("docker,bits", 1)] {
        let listed = admin.get(&format!("/v3/packages?types={kind}")).await.expect(200);
        assert_eq!(listed.body["pagination"]["total_results"], count, "{kind}");
    }
    let events = admin.get("/v3/audit_events?per_page=100").await.expect(200);
    assert!(!events.text.contains("hunter"), "{}", events.text);
}

async fn what_does_not_go_together_is_refused(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    allow(&admin).await;
    let (image, source) = (
        docker_app(&admin, "image").await.expect(201).guid(),
        admin.app("source").await,
    );
    let refused = admin
        .post("/v3/packages", package_of(&source, &json!({"image": IMAGE})))
        .await
        .expect(422);
    assert_eq!(refused.detail(), "Cannot create Docker package for a buildpack app.");
    for data in [
        json!({}),
        json!({"image": "Not An Image"}),
        json!({"image": "https://registry.example.com/x"}),
        json!({"image": IMAGE, "username": "a:b"}),
        json!({"image": IMAGE, "password": "x".repeat(20_000)}),
        json!({"image": "x".repeat(600)}),
    ] {
        admin.post("/v3/packages", package_of(&image, &data)).await.expect(422);
    }
    let bits = admin.ready_package(&source, &[("a.js", "1")]).await;
    let path = format!("/v3/packages/{bits}");
    let refused = admin.patch(&path, json!({"username": "me"})).await.expect(422);
    assert_eq!(
        refused.detail(),
        "Cannot update Docker credentials for a buildpack app."
    );
    let wrong = json!({"package": {"guid": bits}, "lifecycle": {"type": "docker", "data": {}}});
    admin.post("/v3/builds", wrong).await.expect(422);
    let space = admin.space().await;
    let data = json!({"name": "x", "lifecycle": {"type": "docker", "data": {"buildpacks": ["nodejs_buildpack"]}},
        "relationships": {"space": {"data": {"guid": space}}}});
    admin.post("/v3/apps", data).await.expect(422);
    let app = format!("/v3/apps/{source}");
    admin
        .patch(&app, json!({"lifecycle": {"type": "docker", "data": {}}}))
        .await
        .expect(422);
    let _ = store;
}

async fn a_build_gets_the_image_and_its_droplet_says_how_it_is_run(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    allow(&admin).await;
    let app = docker_app(&admin, "shop").await.expect(201).guid();
    let data = json!({"image": IMAGE, "username": "me", "password": "hunter2"});
    let package = admin
        .post("/v3/packages", package_of(&app, &data))
        .await
        .expect(201)
        .guid();
    let body = json!({"package": {"guid": package}});
    let build = admin.post("/v3/builds", body.clone()).await.expect(201).guid();
    let pending = store.builds_pending().await.expect("read");
    assert_eq!(pending.len(), 1);
    let image = pending[0].image.clone().expect("an image");
    assert_eq!(
        (image.reference.as_str(), pending[0].package_digest.is_none()),
        (IMAGE, true)
    );
    assert!(!format!("{:?}", ImageSource::Registry(image)).contains("hunter2"));
    let made = finish_build(&platform.context, &build).await;
    let current = format!("/v3/apps/{app}/relationships/current_droplet");
    admin.patch(&current, json!({"data": {"guid": made}})).await.expect(200);
    let manifest = admin.get(&format!("/v3/apps/{app}/manifest")).await.expect(200).text;
    assert!(
        manifest.contains(&format!("image: {IMAGE}")) && manifest.contains("username: me"),
        "{manifest}"
    );
    assert!(
        !manifest.contains("hunter2") && !manifest.contains("stack:"),
        "{manifest}"
    );
    let space = admin.space().await;
    let path = format!("/v3/spaces/{space}/actions/apply_manifest");
    admin.yaml(&path, &manifest).await.expect(202);
    let again = admin.post("/v3/builds", body).await.expect(201);
    assert_eq!(again.body["state"], "STAGING", "what a tag means is asked each time");
    let droplet = image_droplet(&platform, &app).await;
    let shown = admin.get(&format!("/v3/droplets/{droplet}")).await.expect(200);
    assert_eq!(shown.body["lifecycle"], json!({"type": "docker", "data": {}}));
    assert_eq!(shown.body["image"], "registry.example.com/team/shop@sha256:1");
    assert_eq!(
        (&shown.body["stack"], shown.text.contains("s3cret")),
        (&Value::Null, false)
    );
    let metadata: Value =
        serde_json::from_str(shown.body["execution_metadata"].as_str().expect("a text")).expect("JSON");
    assert_eq!(metadata["ports"], json!([{"Port": 9000, "Protocol": "tcp"}]));
    assert_eq!(
        (&metadata["entrypoint"], &metadata["user"]),
        (&json!(["/server"]), &json!("app"))
    );
    let refused = admin.get(&format!("/v3/droplets/{droplet}/download")).await.expect(422);
    assert_eq!(refused.detail(), "Cannot download droplets with 'docker' lifecycle.");
}

/// A droplet as the staging of an image leaves it.
async fn image_droplet(platform: &Platform, app: &str) -> String {
    let mut image = model::image::ImageConfig {
        reference: "registry.example.com/team/shop@sha256:1".to_owned(),
        entrypoint: vec!["/server".to_owned()],
        user: "app".to_owned(),
        ports: vec![9000],
        ..model::image::ImageConfig::default()
    };
    image.env.set("TOKEN", "s3cret");
    let mut droplet = crate::bits::droplet(platform, app).await;
    let tx = platform.context.store.begin().await.expect("begins");
    tx.droplet_delete(droplet.id).await.expect("deleted");
    droplet.image = Some(image);
    droplet.layers.truncate(1);
    droplet.layers[0].kind = LayerKind::Image;
    tx.droplet_create(&droplet).await.expect("created");
    tx.commit().await.expect("commits");
    droplet.id.to_string()
}

async fn a_manifest_makes_an_app_that_is_an_image(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let space = admin.space().await;
    let path = format!("/v3/spaces/{space}/actions/apply_manifest");
    let text = format!("applications: [{{name: shop, docker: {{image: {IMAGE}}}, no-route: true}}]");
    let refused = admin.yaml(&path, &text).await.expect(403);
    assert_eq!(refused.detail(), "Feature Disabled: diego_docker");
    allow(&admin).await;
    admin.yaml(&path, &text).await.expect(202);
    admin.yaml(&path, &text).await.expect(202);
    let app = admin.get("/v3/apps?names=shop").await.expect(200);
    assert_eq!(app.body["resources"][0]["lifecycle"]["type"], "docker");
    let buildpacks = "applications: [{name: shop, buildpacks: [nodejs_buildpack]}]";
    admin.yaml(&path, buildpacks).await.expect(422);
    admin.app("source").await;
    let other = format!("applications: [{{name: source, docker: {{image: {IMAGE}}}}}]");
    let refused = admin.yaml(&path, &other).await.expect(422);
    assert!(
        refused.detail().contains("Lifecycle type cannot be changed"),
        "{}",
        refused.text
    );
    let _ = store;
}

/// The files of an exported droplet.
async fn exported(client: &Client<'_>, droplet: &str) -> BTreeMap<String, Vec<u8>> {
    let request = Request::builder()
        .uri(format!("/v3/droplets/{droplet}/image"))
        .header("authorization", format!("bearer {}", client.token));
    let request = request.body(Body::empty()).expect("valid");
    let response = client
        .platform
        .router
        .clone()
        .oneshot(request)
        .await
        .expect("infallible");
    assert_eq!(response.status().as_u16(), 200);
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    let mut archive = tar::Archive::new(&bytes[..]);
    let entries = archive.entries().expect("entries").map(|entry| {
        let mut entry = entry.expect("an entry");
        let mut text = Vec::new();
        entry.read_to_end(&mut text).expect("read");
        (entry.path().expect("a path").display().to_string(), text)
    });
    entries.collect()
}

async fn a_droplet_is_exported_as_the_same_image_each_time(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let droplet = crate::bits::droplet(&platform, &app).await;
    let first = exported(&admin, &droplet.id.to_string()).await;
    assert_eq!(first, exported(&admin, &droplet.id.to_string()).await);
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(dir.path().join("blobs/sha256")).expect("made");
    for (name, bytes) in &first {
        std::fs::write(dir.path().join(name), bytes).expect("written");
    }
    let (layout, image) = image::layout::Layout::open(dir.path()).expect("a layout");
    assert_eq!(
        image.config.config.entrypoint,
        ["/.paas/lifecycle", "launch", "--process"]
    );
    assert_eq!(
        (image.config.config.cmd, image.layers.len()),
        (vec!["web".to_owned()], 5)
    );
    assert_eq!(image.config.config.labels["org.opencontainers.image.title"], "shop");
    let lowest_last: Vec<_> = image.layers[1..]
        .iter()
        .rev()
        .map(|layer| layer.diff_id.clone())
        .collect();
    let layers: Vec<_> = droplet.layers.iter().map(|layer| layer.digest.clone()).collect();
    assert_eq!(lowest_last, layers);
    for layer in &image.layers {
        let plain = zstd::decode_all(layout.layer(layer).expect("there")).expect("verified");
        assert_eq!(image::digest(&plain), layer.diff_id);
    }
    let own = image_droplet(&platform, &app).await;
    let files = exported(&admin, &own).await;
    let config = files.values().find(|text| text.starts_with(b"{\"architecture\""));
    let config = image::Config::parse(config.expect("a configuration")).expect("reads");
    assert_eq!(
        (config.config.entrypoint, config.rootfs.diff_ids.len()),
        (vec!["/server".to_owned()], 1)
    );
    assert_eq!(config.config.env, ["TOKEN=s3cret"]);
    let _ = store;
}
