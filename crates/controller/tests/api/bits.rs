//! Packages and droplets as archives: what went in comes out, what is hostile stays out, and what is in a droplet is told.

use crate::client::*;
use axum::body::Body;
use blobstore::Kind;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use model::Digest;
use model::resource::Droplet;
use model::staging::{DropletLayer, LayerKind, ProcessTemplate, UsedBuildpack};
use serde_json::json;
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use store::testing::TestStore;
use tower::ServiceExt as _;
use uuid::Uuid;

store::on_both_engines!(
    a_package_comes_back_as_it_went_in,
    a_droplet_is_downloaded_in_the_shape_of_cloud_foundry,
    a_downloaded_droplet_can_be_uploaded,
    a_droplet_of_cloud_foundry_can_be_uploaded,
    hostile_droplets_are_refused,
    droplets_say_what_is_in_them_and_where_they_came_from,
    others_get_nothing,
);

async fn fetch(client: &Client<'_>, path: &str) -> (u16, Vec<u8>) {
    let request = Request::builder()
        .uri(path)
        .header("authorization", format!("bearer {}", client.token))
        .body(Body::empty())
        .expect("valid");
    let response = client
        .platform
        .router
        .clone()
        .oneshot(request)
        .await
        .expect("infallible");
    let status = response.status().as_u16();
    (
        status,
        response
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes()
            .to_vec(),
    )
}

async fn upload(client: &Client<'_>, path: &str, bits: &[u8]) -> Answer {
    const BOUNDARY: &str = "boundary";
    let mut body = Vec::new();
    write!(
        body,
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"bits\"; filename=\"droplet.tgz\"\r\n\
         Content-Type: application/gzip\r\n\r\n"
    )
    .expect("written");
    body.extend_from_slice(bits);
    write!(body, "\r\n--{BOUNDARY}--\r\n").expect("written");
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("authorization", format!("bearer {}", client.token))
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(Body::from(body));
    client.platform.send(request.expect("valid")).await
}

/// Name, content (a link's target), mode.
type Files<'a> = &'a [(&'a str, &'a str, u32)];

fn tar(files: Files<'_>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        // Names that the safe setter would refuse.
        header.as_gnu_mut().expect("gnu").name[..name.len()].copy_from_slice(name.as_bytes());
        match content.strip_prefix("-> ") {
            Some(target) => {
                header.set_entry_type(if *mode == 0 {
                    tar::EntryType::Link
                } else {
                    tar::EntryType::Symlink
                });
                header.as_gnu_mut().expect("gnu").linkname[..target.len()].copy_from_slice(target.as_bytes());
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, std::io::empty()).expect("added");
            }
            None => {
                header.set_entry_type(if name.ends_with('/') {
                    tar::EntryType::Directory
                } else {
                    tar::EntryType::Regular
                });
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).expect("added");
            }
        }
    }
    builder.into_inner().expect("finished")
}

fn tgz(files: Files<'_>) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar(files)).expect("written");
    gzip.finish().expect("finished")
}

/// Names and contents of a tgz, in order.
fn listed(tgz: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(tgz));
    let entries = archive.entries().expect("entries").map(|entry| {
        let mut entry = entry.expect("an entry");
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        if let Some(target) = entry.link_name().expect("valid") {
            text = format!("-> {}", target.display());
        }
        (entry.path().expect("a path").display().to_string(), text)
    });
    entries.collect()
}

async fn layer(platform: &Platform, name: &str, kind: LayerKind, files: Files<'_>) -> DropletLayer {
    let bytes = tar(files);
    let digest = Digest::from_sha256(sha2::Sha256::digest(&bytes).into());
    let mut file = platform.context.blobs.temporary().expect("scratch");
    file.write_all(&zstd::encode_all(&bytes[..], 1).expect("compressed"))
        .expect("written");
    let stored = platform.context.blobs.put_temporary(Kind::Layer, &digest, file).await;
    DropletLayer {
        digest,
        size_bytes: stored.expect("stored").size_bytes,
        kind,
        name: name.to_owned(),
        file: None,
    }
}

/// Its layers: the app over an older one, its processes, and bills of materials that are good and bad.
async fn layers(platform: &Platform) -> Vec<DropletLayer> {
    let sbom = r#"{"bomFormat": "CycloneDX", "components": [{"type": "library", "name": "express", "version": "4.1.0",
        "purl": "pkg:npm/express@4.1.0"}, {"type": "library", "name": "express", "purl": "pkg:npm/express@4.1.0"}, 3]}"#;
    vec![
        layer(
            platform,
            "app",
            LayerKind::App,
            &[
                ("home/", "", 0o755),
                ("home/vcap/", "", 0o755),
                ("home/vcap/app/", "", 0o755),
                ("home/vcap/app/run.sh", "echo hi", 0o755),
                ("home/vcap/app/link", "-> run.sh", 0o777),
            ],
        )
        .await,
        layer(
            platform,
            "config",
            LayerKind::Config,
            &[(
                "layers/config/metadata.toml",
                "[[processes]]\ntype = \"web\"\ncommand = [\"./run.sh\"]\ndirect = true\ndefault = true\nsource = \"x\"\n",
                0o644,
            )],
        )
        .await,
        layer(platform, "old", LayerKind::App, &[("home/vcap/app/run.sh", "older", 0o644)]).await,
        layer(
            platform,
            "sbom:files",
            LayerKind::Config,
            &[
                ("layers/sbom/files/launch/b/sbom.cdx.json", sbom, 0o644),
                ("layers/sbom/files/launch/c/sbom.cdx.json", "nonsense", 0o644),
            ],
        )
        .await,
    ]
}

/// A droplet of an app, as staging would leave it.
pub async fn droplet(platform: &Platform, app: &str) -> Droplet {
    let layers = layers(platform).await;
    let droplet = Droplet {
        id: Uuid::new_v4().into(),
        app: app.parse().expect("a guid"),
        package: None,
        build: None,
        digest: Digest::from_sha256([5; 32]),
        layers,
        processes: vec![ProcessTemplate {
            process_type: "web".to_owned(),
            command: "./run.sh".to_owned(),
            source: "x".to_owned(),
            default: true,
            memory_mb: None,
        }],
        buildpacks: vec![UsedBuildpack {
            id: "paas/nodejs".to_owned(),
            name: "nodejs_buildpack".to_owned(),
            version: "1.0.0".to_owned(),
            detected: "Node 22".to_owned(),
        }],
        sidecars: Vec::new(),
        image: None,
        stack: "host".parse().expect("valid"),
        input_digest: None,
        metadata: model::resource::Metadata::default(),
        created_at: platform.context.now(),
    };
    let tx = platform.context.store.begin().await.expect("begins");
    tx.droplet_create(&droplet).await.expect("created");
    tx.commit().await.expect("commits");
    droplet
}

async fn awaiting(client: &Client<'_>, app: &str, process_types: serde_json::Value) -> String {
    let body = json!({"relationships": {"app": {"data": {"guid": app}}}, "process_types": process_types});
    let made = client.post("/v3/droplets", body).await.expect(201);
    assert_eq!(made.body["state"], "AWAITING_UPLOAD");
    made.guid()
}

async fn a_package_comes_back_as_it_went_in(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let package = admin.ready_package(&app, &[("a.js", "one"), ("lib/b.js", "two")]).await;
    let (status, first) = fetch(&admin, &format!("/v3/packages/{package}/download")).await;
    assert_eq!(status, 200);
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(first.clone())).expect("a zip");
    for (name, content) in [("a.js", "one"), ("lib/b.js", "two")] {
        let mut text = String::new();
        archive
            .by_name(name)
            .expect(name)
            .read_to_string(&mut text)
            .expect("text");
        assert_eq!(text, content);
    }
    let (_, second) = fetch(&admin, &format!("/v3/packages/{package}/download")).await;
    assert_eq!(first, second, "the same package gives the same bytes");
    let empty = admin.package(&app).await;
    assert_eq!(fetch(&admin, &format!("/v3/packages/{empty}/download")).await.0, 422);
}

async fn a_droplet_is_downloaded_in_the_shape_of_cloud_foundry(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let droplet = droplet(&platform, &app).await;
    let path = format!("/v3/droplets/{}/download", droplet.id);
    let (status, first) = fetch(&admin, &path).await;
    assert_eq!(status, 200);
    let files: BTreeMap<String, String> = listed(&first).into_iter().collect();
    assert_eq!(files["app/run.sh"], "echo hi", "the upper layer's");
    assert_eq!(files["app/link"], "-> run.sh");
    assert!(files.contains_key("layers/config/metadata.toml") && files.contains_key("logs/"));
    let info: serde_json::Value = serde_json::from_str(&files["staging_info.yml"]).expect("JSON");
    assert_eq!(
        (&info["start_command"], &info["detected_buildpack"]),
        (&json!("./run.sh"), &json!("Node 22"))
    );
    assert_eq!(
        fetch(&admin, &path).await.1,
        first,
        "the same droplet gives the same bytes"
    );
    let events = admin
        .get("/v3/audit_events?types=audit.app.droplet.download")
        .await
        .expect(200);
    assert_eq!(events.body["pagination"]["total_results"], 2);
}

async fn a_downloaded_droplet_can_be_uploaded(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let (from, to) = (admin.app("from").await, admin.app("to").await);
    let original = droplet(&platform, &from).await;
    let (_, bytes) = fetch(&admin, &format!("/v3/droplets/{}/download", original.id)).await;
    let mut digests = Vec::new();
    for _ in 0..2 {
        let made = awaiting(&admin, &to, json!(null)).await;
        let path = format!("/v3/droplets/{made}");
        let current = format!("/v3/apps/{to}/relationships/current_droplet");
        let assign = json!({"data": {"guid": made}});
        admin.patch(&current, assign.clone()).await.expect(422);
        assert_eq!(fetch(&admin, &format!("{path}/download")).await.0, 422);
        let accepted = upload(&admin, &format!("{path}/upload"), &bytes).await;
        admin.job(accepted).await;
        let staged = admin.get(&path).await.expect(200);
        assert_eq!(
            (&staged.body["state"], &staged.body["process_types"]["web"]),
            (&json!("STAGED"), &json!("./run.sh"))
        );
        digests.push(staged.body["checksum"]["value"].clone());
        upload(&admin, &format!("{path}/upload"), &bytes).await.expect(422);
        admin.patch(&current, assign).await.expect(200);
        let (_, again) = fetch(&admin, &format!("{path}/download")).await;
        let names = |bytes: &[u8]| -> BTreeMap<String, String> { listed(bytes).into_iter().collect() };
        let (mut before, mut after) = (names(&bytes), names(&again));
        for files in [&mut before, &mut after] {
            files.remove("staging_info.yml");
            files.retain(|name, _| !name.ends_with('/'));
        }
        assert_eq!(before, after);
    }
    assert_eq!(digests[0], digests[1], "the same bits are the same droplet");
}

async fn a_droplet_of_cloud_foundry_can_be_uploaded(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let bits = tgz(&[
        ("./", "", 0o755),
        ("./app/", "", 0o755),
        ("./app/server.js", "1", 0o644),
        ("./app/same.js", "-> ./app/server.js", 0),
        ("./deps/0/bin/node", "node", 0o755),
        ("./profile.d/x.sh", "export A=1", 0o644),
        ("./tmp/", "", 0o755),
        ("./logs/", "", 0o755),
        (
            "./staging_info.yml",
            r#"{"detected_buildpack":"node","start_command":"node server.js"}"#,
            0o644,
        ),
    ]);
    for (types, expected) in [
        (json!(null), json!({"web": "node server.js"})),
        (
            json!({"web": "node other.js", "worker": "work"}),
            json!({"web": "node other.js", "worker": "work"}),
        ),
    ] {
        let made = awaiting(&admin, &app, types).await;
        let accepted = upload(&admin, &format!("/v3/droplets/{made}/upload"), &bits).await;
        admin.job(accepted).await;
        let staged = admin.get(&format!("/v3/droplets/{made}")).await.expect(200);
        assert_eq!(staged.body["process_types"], expected);
        let names: Vec<_> = staged.body["layers"]
            .as_array()
            .expect("layers")
            .iter()
            .map(|layer| layer["name"].clone())
            .collect();
        assert_eq!(names, ["config", "app", "deps", "profile"]);
        let (_, bytes) = fetch(&admin, &format!("/v3/droplets/{made}/download")).await;
        let files: BTreeMap<String, String> = listed(&bytes).into_iter().collect();
        assert_eq!(files["deps/0/bin/node"], "node");
        assert_eq!(files["app/same.js"], "-> ./app/server.js");
        assert!(files["layers/config/metadata.toml"].contains("web"), "launches read it");
    }
}

async fn hostile_droplets_are_refused(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let made = awaiting(&admin, &app, json!(null)).await;
    let path = format!("/v3/droplets/{made}/upload");
    let long = tar(&[("./app/x", "y", 0o644)]);
    let mut endless = tar::Header::new_gnu();
    endless.set_entry_type(tar::EntryType::GNULongName);
    endless.set_size(1 << 40);
    endless.set_cksum();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    bomb.write_all(endless.as_bytes()).expect("written");
    for _ in 0..64 {
        bomb.write_all(&[b'x'; 1 << 16]).expect("written");
    }
    for (what, bits, part) in [
        ("nothing", Vec::new(), "damaged"),
        ("no archive", b"nonsense".to_vec(), "damaged"),
        ("not compressed", long, "damaged"),
        ("no app", tgz(&[("./deps/x", "y", 0o644)]), "./app"),
        ("a way out", tgz(&[("./app/../../x", "y", 0o644)]), "leads out"),
        (
            "a way out by a hard link",
            tgz(&[("./app/x", "-> ../../etc/shadow", 0)]),
            "leads out",
        ),
        (
            "a name without end",
            bomb.finish().expect("finished"),
            "header without end",
        ),
        (
            "a description that is none",
            tgz(&[("./app/x", "y", 0o644), ("./layers/config/metadata.toml", "[", 0o644)]),
            "metadata.toml",
        ),
    ] {
        let refused = upload(&admin, &path, &bits).await.expect(422);
        assert!(refused.detail().contains(part), "{what}: {}", refused.text);
    }
    assert_eq!(
        admin.get(&format!("/v3/droplets/{made}")).await.body["state"],
        "AWAITING_UPLOAD"
    );
}

async fn droplets_say_what_is_in_them_and_where_they_came_from(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let droplet = droplet(&platform, &app).await;
    let sbom = admin
        .get(&format!("/v3/droplets/{}/sbom", droplet.id))
        .await
        .expect(200);
    assert_eq!(
        (&sbom.body["bomFormat"], &sbom.body["specVersion"]),
        (&json!("CycloneDX"), &json!("1.5"))
    );
    let names: Vec<_> = sbom.body["components"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(names, ["paas/nodejs", "express"], "each once");
    assert_eq!(
        sbom.body["metadata"]["component"]["hashes"][0]["content"],
        droplet.digest.hex()
    );
    let built = admin.stage(&app, "console.log(1)").await;
    for (id, material) in [
        (droplet.id.to_string(), "buildpack paas/nodejs"),
        (built, "\"package\""),
    ] {
        let path = format!("/v3/droplets/{id}/provenance");
        let Some(layers) = platform
            .context
            .store
            .droplet_fetch(id.parse().expect("a guid"))
            .await
            .expect("read")
            .filter(Droplet::is_staged)
        else {
            admin.get(&path).await.expect(422);
            continue;
        };
        let statement = admin.get(&path).await.expect(200);
        assert_eq!(statement.body["_type"], "https://in-toto.io/Statement/v1");
        let subjects = statement.body["subject"].as_array().expect("a list");
        assert_eq!(subjects.len(), 1 + layers.layers.len());
        let materials = statement.body["predicate"]["buildDefinition"]["resolvedDependencies"].to_string();
        assert!(materials.contains(material), "{materials}");
    }
}

async fn others_get_nothing(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let app = admin.app("shop").await;
    let droplet = droplet(&platform, &app).await;
    let package = admin.ready_package(&app, &[("a.js", "one")]).await;
    let stranger = platform.user("stranger").await;
    for path in [
        format!("/v3/droplets/{}/download", droplet.id),
        format!("/v3/droplets/{}/sbom", droplet.id),
        format!("/v3/droplets/{}/provenance", droplet.id),
        format!("/v3/packages/{package}/download"),
    ] {
        assert_eq!(fetch(&stranger, &path).await.0, 404, "{path}");
    }
    let body = json!({"relationships": {"app": {"data": {"guid": app}}}});
    stranger.post("/v3/droplets", body).await.expect(422);
}
