//! `FakeController`: a named stand-in for the controller, over real HTTP. It keeps just enough state for the flows that
//! the tests drive, and can be told to fail in the ways that a controller and a network do.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

pub const APP: &str = "00000000-0000-0000-0000-00000000000a";
const PROCESS: &str = "00000000-0000-0000-0000-0000000000b0";
const WORK: &str = "00000000-0000-0000-0000-0000000000c0";

/// How the fake misbehaves.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The build fails with this failure.
    pub build_failure: Option<Value>,
    /// The rollout is cancelled with this cause.
    pub deploy_failure: Option<String>,
    /// The rollout never ends.
    pub deploy_hangs: bool,
    /// The event stream is cut after this many events, once.
    pub cut_stream_after: Option<usize>,
    /// Events of this kind are never sent, as if the controller had died before it could.
    pub silent_about: Option<&'static str>,
    /// The first upload's connection breaks.
    pub break_upload: bool,
    /// Every request with a token is answered by this.
    pub refuse: Option<(u16, Value)>,
    /// Tokens given by password are already worn out at their first use.
    pub first_token_is_refused: bool,
}

#[derive(Default)]
struct World {
    plan: Plan,
    calls: Vec<String>,
    app: Option<Value>,
    env: serde_json::Map<String, Value>,
    manifest: String,
    known: HashSet<String>,
    instances: usize,
    packages: u64,
    uploads: Vec<Vec<u8>>,
    build: Option<Value>,
    deployment: Option<Value>,
    /// Events and log lines in order: (kind of message, sequence or time, data).
    feed: Vec<(&'static str, i64, Value)>,
    tokens: u64,
}

/// The running fake.
#[derive(Clone)]
pub struct FakeController {
    world: Arc<Mutex<World>>,
    grown: watch::Sender<usize>,
    pub api: String,
}

type Params = Query<BTreeMap<String, String>>;

impl FakeController {
    /// Starts one that behaves by `plan`.
    pub async fn start(plan: Plan) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let api = format!("http://{}", listener.local_addr().expect("bound"));
        let world = World {
            plan,
            ..World::default()
        };
        let fake = Self {
            world: Arc::new(Mutex::new(world)),
            grown: watch::Sender::new(0),
            api,
        };
        let router = router(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    fn world<T>(&self, with: impl FnOnce(&mut World) -> T) -> T {
        with(&mut self.world.lock().expect("no test panics in here"))
    }

    /// An app that is there already.
    pub fn with_app(self, name: &str, instances: usize) -> Self {
        self.world(|world| {
            world.app = Some(app(name, "STARTED"));
            world.instances = instances;
        });
        self
    }

    /// Requests so far, as `METHOD path`.
    pub fn calls(&self) -> Vec<String> {
        self.world(|world| world.calls.clone())
    }

    /// How often a request was made.
    pub fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|made| made.starts_with(call)).count()
    }

    /// The archives that were uploaded.
    pub fn uploads(&self) -> Vec<Vec<u8>> {
        self.world(|world| world.uploads.clone())
    }

    /// The manifest that was applied last.
    pub fn manifest(&self) -> String {
        self.world(|world| world.manifest.clone())
    }

    /// Changes its behaviour.
    pub fn plan(&self, change: impl FnOnce(&mut Plan)) {
        self.world(|world| change(&mut world.plan));
    }

    /// Adds an event.
    pub fn event(&self, kind: &'static str, data: Value) {
        self.world(|world| {
            let sequence = world.feed.len() as i64 + 1;
            if world.plan.silent_about == Some(kind) {
                world.feed.push(("none", sequence, Value::Null));
                return;
            }
            let at = time::OffsetDateTime::now_utc();
            let at = at
                .format(&time::format_description::well_known::Rfc3339)
                .expect("a time");
            world.feed.push((
                "event",
                sequence,
                json!({"sequence": sequence, "type": kind, "data": data, "created_at": at}),
            ));
        });
        self.grown.send_modify(|grown| *grown += 1);
    }

    /// Adds a log line.
    pub fn log(&self, source: &str, text: &str) {
        self.world(|world| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
            let ts = i64::try_from(now.as_nanos()).expect("before 2262");
            let line = json!({"work": WORK, "app": APP, "ts_ns": ts, "source_type": source, "instance": "0", "err": false, "text": text});
            world.feed.push(("log", ts, line));
        });
        self.grown.send_modify(|grown| *grown += 1);
    }

    /// Ends a rollout that hangs.
    pub fn finish(&self, reason: &str) {
        self.world(|world| world.deployment = Some(deployment("FINALIZED", reason, None)));
        self.event(
            "deployment.finished",
            json!({"deployment": "deployment", "state": reason}),
        );
    }

    fn stage(&self) {
        self.event("build.placed", json!({"build": "build", "cell": "cell-1"}));
        self.log("STG", "-----> Node 22 (package.json engines)");
        self.log("STG", "       npm ci");
        self.event("build.phase", json!({"name": "detect", "duration_ms": 5}));
        let failure = self.world(|world| {
            let failure = world.plan.build_failure.clone();
            let state = if failure.is_some() { "FAILED" } else { "STAGED" };
            let text = failure.as_ref().map(|failure| format!("{} - {}", failure["class"].as_str().unwrap_or(""), "it failed"));
            world.build = Some(json!({"guid": "build", "state": state, "droplet": {"guid": "droplet"}, "error": text, "failure": failure}));
            failure
        });
        match failure {
            Some(error) => {
                self.event("build.failed", json!({"build": "build", "error": error}));
                self.log("STG", " !     npm ci failed");
            }
            None => self.event(
                "build.staged",
                json!({"build": "build", "droplet": "droplet", "reused": false}),
            ),
        }
    }

    fn deploy(&self) {
        let (failure, hangs) = self.world(|world| (world.plan.deploy_failure.clone(), world.plan.deploy_hangs));
        self.event("deployment.created", json!({"deployment": "deployment"}));
        self.event("instance.placed", json!({"index": 0, "cell": "cell-1"}));
        self.event("instance.starting", json!({"index": 0}));
        if hangs {
            return;
        }
        let state = if let Some(cause) = &failure {
            self.log("APP/PROC/WEB", "Error: listen EACCES");
            self.event("app.crash", json!({"index": 0, "cause": cause, "crash_count": 3}));
            "CANCELED"
        } else {
            self.event("instance.running", json!({"index": 0}));
            self.event("instance.routed", json!({"index": 0}));
            "DEPLOYED"
        };
        self.world(|world| {
            world.deployment = Some(deployment("FINALIZED", state, failure.as_deref()));
            world.instances = world.instances.max(1);
        });
        self.event(
            "deployment.finished",
            json!({"deployment": "deployment", "state": state, "error": failure}),
        );
    }
}

fn app(name: &str, state: &str) -> Value {
    json!({"guid": APP, "name": name, "state": state, "lifecycle": {"type": "buildpack", "data": {"stack": "host"}},
        "created_at": "2026-03-01T12:00:00Z", "updated_at": "2026-03-01T12:00:00Z"})
}

fn deployment(value: &str, reason: &str, error: Option<&str>) -> Value {
    json!({"guid": "deployment", "status": {"value": value, "reason": reason, "details": {"error": error}},
        "droplet": {"guid": "droplet"}, "previous_droplet": null, "created_at": "2026-03-01T12:00:00Z"})
}

fn list(items: impl IntoIterator<Item = Value>) -> Response {
    let resources: Vec<Value> = items.into_iter().collect();
    axum::Json(json!({"pagination": {"next": null}, "resources": resources})).into_response()
}

fn document(value: Value) -> Response {
    axum::Json(value).into_response()
}

fn not_found(detail: &str) -> Response {
    let body = json!({"errors": [{"code": 10010, "title": "CF-ResourceNotFound", "detail": detail}]});
    (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
}

fn router(fake: FakeController) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/oauth/token", post(token))
        .route(
            "/v3/organizations",
            get(async || list([json!({"guid": "org", "name": "dev"})])),
        )
        .route("/v3/spaces", get(spaces))
        .route("/v3/apps", get(apps))
        .route("/v3/apps/{guid}", get(app_by_guid).delete(delete_app))
        .route("/v3/apps/{guid}/processes", get(processes))
        .route("/v3/apps/{guid}/processes/web/actions/scale", post(scale))
        .route("/v3/apps/{guid}/routes", get(async || list([route()])))
        .route(
            "/v3/apps/{guid}/droplets/current",
            get(async || not_found("Droplet not found")),
        )
        .route("/v3/apps/{guid}/actions/stop", post(stop))
        .route(
            "/v3/apps/{guid}/relationships/current_droplet",
            patch(async || document(json!({"data": {"guid": "droplet"}}))),
        )
        .route("/v3/apps/{guid}/env", get(env))
        .route("/v3/apps/{guid}/environment_variables", patch(set_env))
        .route("/v3/processes", get(processes))
        .route("/v3/processes/{guid}/stats", get(stats))
        .route("/v3/routes", get(async || list([route()])))
        .route("/v3/audit_events", get(async || list([])))
        .route("/v3/spaces/{guid}/actions/apply_manifest", post(apply_manifest))
        .route(
            "/v3/jobs/{guid}",
            get(async || document(json!({"guid": "job", "state": "COMPLETE", "errors": [], "warnings": []}))),
        )
        .route("/v3/resource_matches", post(match_resources))
        .route("/v3/packages", post(create_package))
        .route("/v3/packages/{guid}", get(package))
        .route("/v3/packages/{guid}/upload", post(upload))
        .route("/v3/builds", post(create_build).get(builds))
        .route("/v3/builds/{guid}", get(build))
        .route("/v3/deployments", post(create_deployment).get(deployments))
        .route("/v3/deployments/{guid}", get(current_deployment))
        .route("/v3/routes/{guid}", delete(async || StatusCode::NO_CONTENT))
        .route("/paas/v1/apps/{guid}/stream", get(stream))
        .route(
            "/paas/v1/apps/{guid}/why",
            get(async || document(json!({"findings": [], "processes": [], "deployment": null}))),
        )
        .route("/api/v1/read/{guid}", get(read_log))
        .fallback(async || not_found("Unknown request"))
        .layer(middleware::from_fn_with_state(fake.clone(), guard))
        .with_state(fake)
}

/// Notes the request, and answers it as the plan says.
async fn guard(State(fake): State<FakeController>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let call = format!("{} {path}", request.method());
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let refusal = fake.world(|world| {
        world.calls.push(call);
        if path == "/" || path == "/oauth/token" {
            return None;
        }
        if let Some((status, body)) = world.plan.refuse.clone() {
            return Some((status, body));
        }
        let worn = world.plan.first_token_is_refused && given.as_deref() == Some("Bearer token-1");
        (worn || !given.is_some_and(|given| given.starts_with("Bearer token-"))).then(|| {
            (
                401,
                json!({"errors": [{"code": 1000, "title": "CF-InvalidAuthToken", "detail": "Invalid Auth Token"}]}),
            )
        })
    });
    match refusal {
        Some((status, body)) => {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, [("x-vcap-request-id", "request-7")], axum::Json(body)).into_response()
        }
        None => next.run(request).await,
    }
}

async fn root(State(fake): State<FakeController>) -> Response {
    document(json!({"links": {
        "self": {"href": fake.api},
        "cloud_controller_v3": {"href": format!("{}/v3", fake.api), "meta": {"version": "3.228.0"}},
        "uaa": {"href": fake.api}, "login": {"href": fake.api}, "log_cache": {"href": fake.api}, "network_policy_v1": null,
        "router": {"href": "http://localhost:8080"}, "paas": {"href": fake.api, "meta": {"version": env!("CARGO_PKG_VERSION")}},
    }}))
}

async fn token(State(fake): State<FakeController>, body: String) -> Response {
    if !body.contains("password=right") && !body.contains("grant_type=refresh_token") {
        let body = json!({"error": "unauthorized", "error_description": "Bad credentials"});
        return (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response();
    }
    let number = fake.world(|world| {
        world.tokens += 1;
        world.tokens
    });
    document(json!({"access_token": format!("token-{number}"), "refresh_token": "refresh", "token_type": "bearer"}))
}

async fn spaces(Query(query): Params) -> Response {
    let named = query.get("names").is_none_or(|name| name == "dev");
    list(named.then(|| json!({"guid": "space", "name": "dev"})))
}

async fn apps(State(fake): State<FakeController>, Query(query): Params) -> Response {
    let app = fake.world(|world| world.app.clone());
    list(app.filter(|app| query.get("names").is_none_or(|name| app["name"] == *name)))
}

async fn app_by_guid(State(fake): State<FakeController>) -> Response {
    fake.world(|world| world.app.clone())
        .map_or_else(|| not_found("App not found"), document)
}

async fn delete_app(State(fake): State<FakeController>) -> Response {
    fake.world(|world| world.app = None);
    (
        StatusCode::ACCEPTED,
        [(header::LOCATION, format!("{}/v3/jobs/job", fake.api))],
    )
        .into_response()
}

async fn stop(State(fake): State<FakeController>) -> Response {
    let app = fake.world(|world| {
        if let Some(app) = &mut world.app {
            app["state"] = json!("STOPPED");
        }
        world.app.clone()
    });
    app.map_or_else(|| not_found("App not found"), document)
}

fn process(world: &World) -> Value {
    let instances: Vec<Value> = (0..world.instances)
        .map(|index| json!({"index": index, "state": "RUNNING"}))
        .collect();
    json!({"guid": PROCESS, "type": "web", "instances": world.instances, "memory_in_mb": 256, "disk_in_mb": 1024,
        "process_instances": instances, "relationships": {"app": {"data": {"guid": APP}}}})
}

fn route() -> Value {
    json!({"guid": "route", "url": "shop.localhost", "host": "shop",
        "destinations": [{"guid": "destination", "app": {"guid": APP, "process": {"type": "web"}}}]})
}

async fn processes(State(fake): State<FakeController>) -> Response {
    list([fake.world(|world| process(world))])
}

async fn stats(State(fake): State<FakeController>) -> Response {
    let count = fake.world(|world| world.instances);
    list((0..count).map(|index| {
        json!({"index": index, "state": "RUNNING", "uptime": 60, "usage": {"cpu": 0.01, "mem": 1_048_576, "disk": 4096},
            "mem_quota": 268_435_456, "disk_quota": 1_073_741_824})
    }))
}

async fn scale(State(fake): State<FakeController>, axum::Json(body): axum::Json<Value>) -> Response {
    let wanted = body["instances"].as_u64().unwrap_or(1);
    let later = fake.clone();
    // The instance comes up after the answer, as it does at a real controller.
    tokio::spawn(async move {
        later.world(|world| world.instances = usize::try_from(wanted).expect("small"));
        later.event("instance.running", json!({"index": wanted.saturating_sub(1)}));
    });
    let mut process = fake.world(|world| process(world));
    process["instances"] = json!(wanted);
    (StatusCode::ACCEPTED, axum::Json(process)).into_response()
}

async fn env(State(fake): State<FakeController>) -> Response {
    let env = fake.world(|world| world.env.clone());
    document(json!({"environment_variables": env, "system_env_json": {}, "application_env_json": {}}))
}

async fn set_env(State(fake): State<FakeController>, axum::Json(body): axum::Json<Value>) -> Response {
    fake.world(|world| {
        for (name, value) in body["var"].as_object().cloned().unwrap_or_default() {
            world.env.insert(name, value);
        }
    });
    document(json!({"var": body["var"]}))
}

async fn apply_manifest(State(fake): State<FakeController>, body: String) -> Response {
    let name = body
        .lines()
        .find_map(|line| line.split_once("name: "))
        .map_or("shop", |(_, name)| name)
        .to_owned();
    fake.world(|world| {
        world.manifest = body;
        let state = if world.app.is_some() { "STARTED" } else { "STOPPED" };
        world.app = Some(app(&name, state));
    });
    (
        StatusCode::ACCEPTED,
        [(header::LOCATION, format!("{}/v3/jobs/job", fake.api))],
    )
        .into_response()
}

async fn match_resources(State(fake): State<FakeController>, axum::Json(body): axum::Json<Value>) -> Response {
    let resources = body["resources"].as_array().cloned().unwrap_or_default();
    let sha1 = |resource: &Value| resource["checksum"]["value"].as_str().unwrap_or_default().to_owned();
    let matched: Vec<Value> = fake.world(|world| {
        let matched = resources
            .iter()
            .filter(|resource| world.known.contains(&sha1(resource)))
            .cloned()
            .collect();
        world.known.extend(resources.iter().map(sha1));
        matched
    });
    document(json!({"resources": matched}))
}

async fn create_package(State(fake): State<FakeController>) -> Response {
    let number = fake.world(|world| {
        world.packages += 1;
        world.packages
    });
    (
        StatusCode::CREATED,
        axum::Json(json!({"guid": format!("package-{number}"), "state": "AWAITING_UPLOAD", "data": {}})),
    )
        .into_response()
}

async fn package(Path(guid): Path<String>) -> Response {
    document(json!({"guid": guid, "state": "AWAITING_UPLOAD", "data": {}}))
}

async fn upload(State(fake): State<FakeController>, Path(guid): Path<String>, request: Request) -> Response {
    let broken = fake.world(|world| std::mem::take(&mut world.plan.break_upload));
    if broken {
        // An answer whose body ends too early is what a dying server leaves.
        let cut = futures_util::stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("cut"))]);
        return Response::new(Body::from_stream(cut));
    }
    let body = axum::body::to_bytes(request.into_body(), 64 << 20)
        .await
        .expect("a body");
    fake.world(|world| world.uploads.push(body.to_vec()));
    fake.event("package.ready", json!({"package": guid}));
    document(json!({"guid": guid, "state": "READY", "data": {}}))
}

async fn create_build(State(fake): State<FakeController>) -> Response {
    let build = json!({"guid": "build", "state": "STAGING", "droplet": null});
    fake.world(|world| world.build = Some(build.clone()));
    let later = fake.clone();
    tokio::spawn(async move { later.stage() });
    (StatusCode::CREATED, axum::Json(build)).into_response()
}

async fn builds(State(fake): State<FakeController>) -> Response {
    list(fake.world(|world| world.build.clone()))
}

async fn build(State(fake): State<FakeController>) -> Response {
    fake.world(|world| world.build.clone())
        .map_or_else(|| not_found("Build not found"), document)
}

async fn create_deployment(State(fake): State<FakeController>) -> Response {
    let begun = deployment("ACTIVE", "DEPLOYING", None);
    fake.world(|world| {
        world.deployment = Some(begun.clone());
        if let Some(app) = &mut world.app {
            app["state"] = json!("STARTED");
        }
    });
    let later = fake.clone();
    tokio::spawn(async move { later.deploy() });
    (StatusCode::CREATED, axum::Json(begun)).into_response()
}

async fn deployments(State(fake): State<FakeController>) -> Response {
    list(fake.world(|world| world.deployment.clone()))
}

async fn current_deployment(State(fake): State<FakeController>) -> Response {
    fake.world(|world| world.deployment.clone())
        .map_or_else(|| not_found("Deployment not found"), document)
}

async fn read_log(State(fake): State<FakeController>) -> Response {
    use base64::Engine as _;
    let batch: Vec<Value> = fake.world(|world| {
        let lines = world.feed.iter().rev().filter(|(kind, ..)| *kind == "log");
        lines
            .map(|(_, ts, line)| {
                let payload =
                    base64::engine::general_purpose::STANDARD.encode(line["text"].as_str().unwrap_or_default());
                json!({"timestamp": ts.to_string(), "source_id": APP, "instance_id": "0",
                    "tags": {"source_type": line["source_type"]}, "log": {"payload": payload, "type": "OUT"}})
            })
            .collect()
    });
    document(json!({"envelopes": {"batch": batch}}))
}

/// Where a reader of the stream is.
struct Reader {
    fake: FakeController,
    grown: watch::Receiver<usize>,
    next: usize,
    since: i64,
    log_since: Option<i64>,
    from_start: usize,
    left: Option<usize>,
}

async fn stream(State(fake): State<FakeController>, Query(query): Params, _headers: HeaderMap) -> Response {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<i64>().ok());
    let (newest, length, cut) = fake.world(|world| {
        let newest = world
            .feed
            .iter()
            .filter(|(kind, ..)| *kind == "event")
            .map(|(_, sequence, _)| *sequence)
            .max();
        (
            newest.unwrap_or(0),
            world.feed.len(),
            world.plan.cut_stream_after.take(),
        )
    });
    let reader = Reader {
        grown: fake.grown.subscribe(),
        since: number("since").unwrap_or(newest),
        log_since: number("log_since_ns"),
        next: 0,
        from_start: length,
        left: cut,
        fake,
    };
    let hello = format!("event: hello\ndata: {{\"sequence\":{newest}}}\n\n");
    let rest = futures_util::stream::unfold(reader, |mut reader| async move {
        reader.read().await.map(|text| (text, reader))
    });
    let all = futures_util::StreamExt::chain(futures_util::stream::iter([hello]), rest);
    let all = futures_util::StreamExt::map(all, Ok::<_, std::io::Error>);
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(all)).into_response()
}

impl Reader {
    async fn read(&mut self) -> Option<String> {
        loop {
            if self.left == Some(0) {
                return None;
            }
            let item = self.fake.world(|world| world.feed.get(self.next).cloned());
            let Some((kind, number, data)) = item else {
                self.grown.changed().await.ok()?;
                continue;
            };
            self.next += 1;
            let wanted = match kind {
                "event" => number > self.since,
                "log" => self
                    .log_since
                    .map_or(self.next > self.from_start, |since| number > since),
                _ => false,
            };
            if !wanted {
                continue;
            }
            if let Some(left) = &mut self.left {
                *left -= 1;
            }
            return Some(format!("event: {kind}\ndata: {data}\n\n"));
        }
    }
}
