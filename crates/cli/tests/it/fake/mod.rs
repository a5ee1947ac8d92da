//! `FakeController`: a named stand-in for the controller, over real HTTP. It keeps just enough state for the flows that
//! the tests drive, and can be told to fail in the ways that a controller and a network do.

mod handlers;
mod logins;
mod security;
mod staging;
mod stream;

use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
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
    no_ssh: bool,
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
    /// Sets the switch of sessions, where there is something to set; how it stands.
    fn ssh(&self, set: Option<bool>) -> bool {
        self.world(|world| {
            world.no_ssh = set.map_or(world.no_ssh, |enabled| !enabled);
            !world.no_ssh
        })
    }

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
        let router = handlers::router(fake.clone());
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

    /// A canary reaches its first step.
    fn pause(&self) {
        self.event("deployment.created", json!({"deployment": "deployment"}));
        let mut paused = deployment("ACTIVE", "PAUSED", None);
        paused["status"]["canary"] = json!({"steps": {"current": 1, "total": 2}});
        self.world(|world| {
            world.deployment = Some(paused);
            world.instances = world.instances.max(1);
        });
        let data = json!({"deployment": "deployment", "step": 1, "steps": 2});
        self.event("deployment.paused", data);
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
