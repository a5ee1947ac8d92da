//! A platform without cells, and a client of its API.

use crate::conform;
use axum::Router;
use axum::body::Body;
use controller::{Bootstrap, BuildpackInfo, Config, Context, Control, Database, EncryptionKey, Keys, Timing};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use model::Secret;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::testing::TestStore;
use telemetry::applog::LogStore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use uuid::Uuid;

pub const URL: &str = "http://api.example.com";

/// A platform that is gone when it is dropped.
pub struct Platform {
    pub router: Router,
    pub context: Context,
    _folder: tempfile::TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub fn guid(&self) -> String {
        self.body["guid"]
            .as_str()
            .unwrap_or_else(|| panic!("no guid: {}", self.text))
            .to_owned()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// The first error's detail.
    pub fn detail(&self) -> &str {
        self.body["errors"][0]["detail"].as_str().unwrap_or_default()
    }

    pub fn names(&self) -> Vec<&str> {
        let resources = self.body["resources"].as_array().expect("a list");
        resources
            .iter()
            .filter_map(|resource| resource["name"].as_str())
            .collect()
    }
}

pub async fn platform(store: &TestStore) -> Platform {
    platform_with(store, |_| {}).await
}

/// The same with other settings.
pub async fn platform_with(store: &TestStore, change: impl FnOnce(&mut Config)) -> Platform {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config {
        public_url: URL.to_owned(),
        router_port: 8080,
        ssh_address: Some("ssh.example.com:2222".to_owned()),
        database: Database::Sqlite(PathBuf::from("unused")),
        blobs: controller::Blobs::Directory(folder.path().join("blobs")),
        advertise: String::new(),
        log_dir: folder.path().join("logs"),
        encryption_key: EncryptionKey { id: 1, key: [42; 32] },
        machine_token: Some(Secret::new("machine")),
        machines: None,
        bootstrap: Bootstrap {
            admin_name: "admin".to_owned(),
            admin_password: Secret::new("secret"),
            org: Some("dev".to_owned()),
            space: Some("dev".to_owned()),
            domain: "apps.example.com".parse().expect("valid"),
            stacks: vec!["host".parse().expect("valid")],
        },
        buildpacks: vec![BuildpackInfo {
            name: "nodejs_buildpack".to_owned(),
            id: "paas/nodejs".to_owned(),
            version: "1.0.0".to_owned(),
            folder: "nodejs".to_owned(),
        }],
        lifecycle_version: "1".to_owned(),
        limits: controller::Limits {
            // Tests of what is late don't wait for a minute.
            body_wait: Duration::from_secs(2),
            ..controller::Limits::default()
        },
        lifecycle_path: "/bin/true".into(),
        oidc: None,
    };
    change(&mut config);
    let clock = Context::system_clock();
    controller::bootstrap(store, &config.bootstrap, clock())
        .await
        .expect("fills");
    // A second start finds everything there.
    controller::bootstrap(store, &config.bootstrap, clock())
        .await
        .expect("fills nothing");
    let blobs = blobstore::Blobstore::open_directory(&folder.path().join("blobs"), blobstore::Limits::default())
        .expect("opens");
    let logs = LogStore::open(&config.log_dir, telemetry::applog::Limits::default()).expect("opens");
    let tokens = Keys::load(store, clock()).await.expect("made");
    let context = Context::new(store.store.clone(), blobs, logs, tokens, Arc::new(config), clock);
    let shutdown = CancellationToken::new();
    let control = Control::new(
        context.clone(),
        scheduler::Policy::default(),
        Timing::default(),
        shutdown,
    );
    Platform {
        router: controller::surface(control),
        context,
        _folder: folder,
    }
}

impl Platform {
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let kind = parts.headers.get("content-type").and_then(|kind| kind.to_str().ok());
        conform::answer(&method, &path, parts.status.as_u16(), kind.unwrap_or_default(), &text);
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }

    /// A request of nobody in particular.
    pub async fn plain(&self, method: Method, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).body(Body::empty());
        self.send(request.expect("valid")).await
    }

    pub async fn form(&self, form: &str) -> Answer {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/oauth/token")
            .header("authorization", "Basic Y2Y6")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()));
        self.send(request.expect("valid")).await
    }

    /// Logged in as `admin`.
    pub async fn admin(&self) -> Client<'_> {
        let answer = self
            .form("grant_type=password&username=admin&password=secret")
            .await
            .expect(200);
        self.with_token(answer.body["access_token"].as_str().expect("a token"))
    }

    pub fn with_token(&self, token: &str) -> Client<'_> {
        Client {
            platform: self,
            token: token.to_owned(),
        }
    }

    /// A new user without any role, logged in.
    pub async fn user(&self, name: &str) -> Client<'_> {
        let user = store::StoredUser {
            user: model::resource::User {
                origin: model::resource::User::HERE.to_owned(),
                id: Uuid::new_v4().into(),
                name: name.to_owned(),
                admin: false,
                metadata: model::resource::Metadata::default(),
                created_at: self.context.now(),
            },
            kind: store::UserKind::User,
            // Of "secret", as the administrator's.
            password_hash: self
                .context
                .store
                .user_by_name(store::UserKind::User, "admin")
                .await
                .expect("read")
                .expect("there")
                .password_hash,
        };
        let tx = self.context.store.begin().await.expect("begins");
        tx.user_create(&user).await.expect("created");
        tx.commit().await.expect("commits");
        let form = format!("grant_type=password&username={name}&password=secret");
        let answer = self.form(&form).await.expect(200);
        self.with_token(answer.body["access_token"].as_str().expect("a token"))
    }
}

pub struct Client<'p> {
    pub platform: &'p Platform,
    pub token: String,
}

impl Client<'_> {
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("bearer {}", self.token))
            .header("content-type", "application/json")
            .body(
                body.as_ref()
                    .map_or_else(Body::empty, |body| Body::from(body.to_string())),
            );
        let request = request.expect("valid");
        let method = request.method().to_string();
        let answer = self.platform.send(request).await;
        if let Some(body) = body.filter(|_| answer.status.is_success()) {
            conform::request(&method, path, &body);
        }
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    /// Sends a manifest.
    pub async fn yaml(&self, path: &str, text: &str) -> Answer {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("authorization", format!("bearer {}", self.token))
            .header("content-type", "application/x-yaml")
            .body(Body::from(text.to_owned()));
        self.platform.send(request.expect("valid")).await
    }

    /// The job that an answer points to, which has to have succeeded.
    pub async fn job(&self, accepted: Answer) -> Answer {
        let accepted = accepted.expect(202);
        let location = accepted.headers["location"].to_str().expect("text");
        let path = location.strip_prefix(URL).expect("absolute");
        let job = self.get(path).await.expect(200);
        assert_eq!(job.body["state"], "COMPLETE", "{}", job.text);
        job
    }

    pub async fn space(&self) -> String {
        let spaces = self.get("/v3/spaces?names=dev").await.expect(200);
        spaces.body["resources"][0]["guid"]
            .as_str()
            .expect("a space")
            .to_owned()
    }

    pub async fn app(&self, name: &str) -> String {
        let space = self.space().await;
        let body = json!({"name": name, "relationships": {"space": {"data": {"guid": space}}}});
        self.post("/v3/apps", body).await.expect(201).guid()
    }

    pub async fn package(&self, app: &str) -> String {
        let body = json!({"type": "bits", "relationships": {"app": {"data": {"guid": app}}}});
        self.post("/v3/packages", body).await.expect(201).guid()
    }

    /// Uploads files, some of which the platform is said to know.
    pub async fn upload(&self, package: &str, resources: &Value, zip: Option<Vec<u8>>) -> Answer {
        self.upload_to(&format!("/v3/packages/{package}/upload"), resources, zip)
            .await
    }

    /// Uploads an archive to any path.
    pub async fn upload_to(&self, path: &str, resources: &Value, zip: Option<Vec<u8>>) -> Answer {
        const BOUNDARY: &str = "boundary";
        let mut body = Vec::new();
        write!(
            body,
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"resources\"\r\n\r\n{resources}\r\n"
        )
        .expect("written");
        if let Some(zip) = zip {
            write!(
                body,
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"bits\"; filename=\"package.zip\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n"
            )
            .expect("written");
            body.extend_from_slice(&zip);
            body.extend_from_slice(b"\r\n");
        }
        write!(body, "--{BOUNDARY}--\r\n").expect("written");
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("authorization", format!("bearer {}", self.token))
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(Body::from(body));
        self.platform.send(request.expect("valid")).await
    }

    /// A package of an app, ready.
    pub async fn ready_package(&self, app: &str, files: &[(&str, &str)]) -> String {
        let package = self.package(app).await;
        let answer = self.upload(&package, &json!([]), Some(zip(files))).await.expect(200);
        assert_eq!(answer.body["state"], "READY");
        package
    }

    /// An app with a staged droplet that offers `web` and `worker`; app and droplet.
    pub async fn staged(&self, name: &str) -> (String, String) {
        let app = self.app(name).await;
        let droplet = self.stage(&app, "console.log(1)").await;
        (app, droplet)
    }

    /// Builds `source` and lets the build succeed, as the control loop would.
    pub async fn stage(&self, app: &str, source: &str) -> String {
        let package = self.ready_package(app, &[("server.js", source)]).await;
        let body = json!({"package": {"guid": package}});
        let build = self.post("/v3/builds", body).await.expect(201).guid();
        finish_build(&self.platform.context, &build).await
    }
}

/// What the control loop does when a build succeeded.
pub async fn finish_build(context: &Context, build: &str) -> String {
    use model::resource::{BuildState, Droplet};
    use model::staging::{DropletLayer, LayerKind, ProcessTemplate};
    let store = &context.store;
    let mut build = store
        .build_fetch(build.parse().expect("a guid"))
        .await
        .expect("read")
        .expect("there");
    let template = |process_type: &str, command: &str| ProcessTemplate {
        process_type: process_type.to_owned(),
        command: command.to_owned(),
        source: "Procfile".to_owned(),
        default: process_type == "web",
        memory_mb: None,
    };
    let droplet = Droplet {
        id: Uuid::new_v4().into(),
        app: build.app,
        package: Some(build.package),
        build: Some(build.id),
        digest: model::Digest::from_sha256([7; 32]),
        layers: vec![DropletLayer {
            digest: empty_layer(context).await,
            size_bytes: 1024,
            kind: LayerKind::App,
            name: "app".to_owned(),
            file: None,
        }],
        processes: vec![template("web", "node server.js"), template("worker", "node worker.js")],
        buildpacks: Vec::new(),
        sidecars: Vec::new(),
        image: None,
        stack: build.stack.clone(),
        input_digest: build.input_digest.clone(),
        metadata: model::resource::Metadata::default(),
        created_at: context.now(),
    };
    build.state = BuildState::Staged;
    build.droplet = Some(droplet.id);
    let tx = store.begin().await.expect("begins");
    tx.droplet_create(&droplet).await.expect("created");
    assert!(tx.build_finish(&build).await.expect("finished"));
    tx.commit().await.expect("commits");
    droplet.id.to_string()
}

/// Stores a layer without files.
async fn empty_layer(context: &Context) -> model::Digest {
    use sha2::Digest as _;
    // The end of a tar archive, and nothing before it.
    let bytes = [0_u8; 1024];
    let digest = model::Digest::from_sha256(sha2::Sha256::digest(bytes).into());
    let mut file = context.blobs.temporary().expect("scratch");
    file.write_all(&zstd::encode_all(&bytes[..], 1).expect("compressed"))
        .expect("written");
    let stored = context.blobs.put_temporary(blobstore::Kind::Layer, &digest, file).await;
    stored.expect("stored");
    digest
}

/// An archive of files.
pub fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, contents) in files {
        writer
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .expect("started");
        writer.write_all(contents.as_bytes()).expect("written");
    }
    writer.finish().expect("finished").into_inner()
}

/// A file as clients name it by content.
pub fn resource(path: &str, contents: &str) -> Value {
    use sha1::Digest as _;
    let sha1 = hex::encode(sha1::Sha1::digest(contents.as_bytes()));
    json!({"path": path, "mode": "644", "checksum": {"value": sha1}, "size_in_bytes": contents.len()})
}
