//! A controller that does nothing but speak `api::cell`: hands out what a test assigns, keeps what a cell tells.

use api::cell::{Down, Exec, LogBatch, LogLine, Purpose, Registered, Report, Reported, SessionMessage};
use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::id::WorkId;
use model::resource::CellInfo;
use model::security::Policies;
use model::work::{Assignment, Observation};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use uuid::Uuid;

/// What cells prove themselves by here.
pub const TOKEN: &str = "machine-token";
/// How long a cell counts as alive after a report.
pub const LEASE: Duration = Duration::from_secs(2);
/// Longest wait of a test for something to be seen.
const DEADLINE: Duration = Duration::from_secs(40);

/// What is known.
#[derive(Default)]
pub struct Seen {
    /// As it registered last.
    pub info: Option<CellInfo>,
    /// How often it registered.
    pub registrations: usize,
    /// Last of each.
    pub work: BTreeMap<WorkId, Observation>,
    /// Each in the order of its states.
    pub states: HashMap<WorkId, Vec<String>>,
    /// All, in order of arrival.
    pub lines: Vec<LogLine>,
    /// Time of the last line of each.
    last_ns: HashMap<WorkId, i64>,
    /// Revision of the last report.
    pub revision: u64,
    /// Work that reported figures.
    pub measured: Vec<WorkId>,
}

/// The controller of one test.
#[derive(Clone)]
pub struct Controller {
    pub address: std::net::SocketAddr,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    assigned: watch::Sender<(u64, Vec<Assignment>)>,
    policies: watch::Sender<Option<Policies>>,
    execs: Arc<Mutex<Vec<mpsc::Sender<Exec>>>>,
    sessions: Arc<Mutex<HashMap<Uuid, mpsc::Sender<WebSocket>>>>,
    refusing: Arc<AtomicBool>,
}

impl Controller {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let controller = Self {
            address: listener.local_addr().expect("address"),
            seen: Arc::default(),
            changed: Arc::default(),
            assigned: watch::Sender::new((1, Vec::new())),
            policies: watch::Sender::new(None),
            execs: Arc::default(),
            sessions: Arc::default(),
            refusing: Arc::default(),
        };
        let router = Router::new()
            .route(api::cell::REGISTER.path, post(register))
            .route(api::cell::FEED.path, get(feed))
            .route(api::cell::REPORT.path, post(report))
            .route(api::cell::LOGS.path, post(logs))
            .route(api::cell::SESSION.path, get(session))
            .layer(axum::extract::DefaultBodyLimit::max(16 << 20))
            .with_state(controller.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        controller
    }

    /// Assigns all of `assignments` and nothing else.
    pub fn assign(&self, assignments: &[Assignment]) {
        self.assigned.send_modify(|(revision, all)| {
            *revision += 1;
            *all = assignments.to_vec();
        });
    }

    /// Tells where work may connect to, from now on.
    pub fn tell_policies(&self, policies: Policies) {
        self.policies.send_replace(Some(policies));
    }

    /// Answers reports with an error from now on, or no longer.
    pub fn refuse_reports(&self, refuse: bool) {
        self.refusing.store(refuse, Ordering::SeqCst);
    }

    /// Ends all feeds.
    pub fn break_feeds(&self) {
        self.execs.lock().expect("lock").clear();
    }

    /// The revision that was assigned last.
    pub fn revision(&self) -> u64 {
        self.assigned.borrow().0
    }

    /// Asks for a command to be run, and waits for the cell's end of the session.
    pub async fn exec(&self, work: WorkId, command: &[&str], terminal: Option<(u16, u16)>) -> WebSocket {
        self.session(Exec {
            session: Uuid::new_v4(),
            work,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            terminal,
            variables: Vec::new(),
            purpose: Purpose::Command,
        })
        .await
    }

    /// The same for any session.
    pub async fn session(&self, request: Exec) -> WebSocket {
        let (sender, mut sockets) = mpsc::channel(1);
        self.sessions.lock().expect("lock").insert(request.session, sender);
        let feed = self.execs.lock().expect("lock").last().cloned().expect("a feed");
        feed.send(request).await.expect("sent");
        let dialled = tokio::time::timeout(DEADLINE, sockets.recv()).await;
        dialled.expect("the cell dials in time").expect("a socket")
    }

    /// Reads `get` of what is known.
    pub fn seen<T>(&self, get: impl FnOnce(&Seen) -> T) -> T {
        get(&self.seen.lock().expect("lock"))
    }

    /// Waits until `get` finds something.
    pub async fn wait<T>(&self, what: &str, mut get: impl FnMut(&Seen) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = self.seen(&mut get) {
                    return found;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!(
                "{what}: not seen in time; work: {:?}; log: {:?}",
                self.seen(|seen| seen.work.clone()),
                self.seen(|seen| seen.lines.iter().map(|line| line.text.clone()).collect::<Vec<_>>())
            ),
        }
    }

    /// Lines of a piece of work that did not come from the platform.
    pub fn output(&self, work: WorkId) -> Vec<String> {
        self.seen(|seen| {
            let own = seen
                .lines
                .iter()
                .filter(|line| line.work == work && line.source_type != "CELL");
            own.map(|line| line.text.clone()).collect()
        })
    }
}

fn authorised(headers: &HeaderMap) -> Result<(), StatusCode> {
    let expected = format!("Bearer {TOKEN}");
    match headers.get("authorization") {
        Some(value) if *value == *expected => Ok(()),
        _ => Err(StatusCode::UNAUTHORIZED),
    }
}

async fn register(
    State(this): State<Controller>,
    headers: HeaderMap,
    Json(info): Json<CellInfo>,
) -> Result<Json<Registered>, StatusCode> {
    authorised(&headers)?;
    let mut seen = this.seen.lock().expect("lock");
    seen.info = Some(info);
    seen.registrations += 1;
    this.changed.notify_waiters();
    Ok(Json(Registered {
        lease_ms: u64::try_from(LEASE.as_millis()).expect("short"),
        heartbeat_ms: 500,
    }))
}

async fn feed(State(this): State<Controller>, headers: HeaderMap) -> Result<Response, StatusCode> {
    authorised(&headers)?;
    let (sender, execs) = mpsc::channel(8);
    this.execs.lock().expect("lock").push(sender);
    let mut assigned = this.assigned.subscribe();
    assigned.mark_changed();
    let mut policies = this.policies.subscribe();
    policies.mark_changed();
    let sources = (assigned, policies, execs);
    let stream = futures_util::stream::unfold(sources, |(mut assigned, mut policies, mut execs)| async move {
        let told = async |policies: &mut watch::Receiver<Option<Policies>>| loop {
            if policies.changed().await.is_err() {
                return None;
            }
            let now = policies.borrow_and_update().clone();
            if now.is_some() {
                return now;
            }
        };
        let down = tokio::select! {
            // As from the real one, policies come first.
            biased;
            now = told(&mut policies) => Down::Policies { policies: now? },
            changed = assigned.changed() => {
                changed.ok()?;
                let (revision, assignments) = assigned.borrow_and_update().clone();
                Down::Assignments { revision, assignments }
            }
            exec = execs.recv() => Down::Exec(exec?),
        };
        let line = serde_json::to_string(&down).expect("JSON") + "\n";
        Some((Ok::<_, std::convert::Infallible>(line), (assigned, policies, execs)))
    });
    Ok(Body::from_stream(stream).into_response())
}

async fn report(
    State(this): State<Controller>,
    headers: HeaderMap,
    Json(report): Json<Report>,
) -> Result<Json<Reported>, StatusCode> {
    authorised(&headers)?;
    if this.refusing.load(Ordering::SeqCst) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let mut seen = this.seen.lock().expect("lock");
    if report.full {
        seen.work
            .retain(|work, _| report.observations.iter().any(|seen| seen.work == *work));
    }
    for observation in report.observations {
        let state = serde_json::to_value(&observation.state).expect("JSON")["state"]
            .as_str()
            .expect("text")
            .to_owned();
        let states = seen.states.entry(observation.work).or_default();
        if states.last() != Some(&state) {
            states.push(state);
        }
        seen.work.insert(observation.work, observation);
    }
    seen.measured.extend(report.stats.iter().map(|stats| stats.work));
    seen.revision = report.revision;
    this.changed.notify_waiters();
    Ok(Json(Reported {
        revision: this.assigned.borrow().0,
    }))
}

async fn logs(State(this): State<Controller>, headers: HeaderMap, Json(batch): Json<LogBatch>) -> StatusCode {
    if let Err(status) = authorised(&headers) {
        return status;
    }
    let mut seen = this.seen.lock().expect("lock");
    // A line that is sent twice is known by its time: the answer to the first may not have arrived.
    for line in batch.lines {
        let last = seen.last_ns.entry(line.work).or_insert(i64::MIN);
        if line.ts_ns > *last {
            *last = line.ts_ns;
            seen.lines.push(line);
        }
    }
    this.changed.notify_waiters();
    StatusCode::NO_CONTENT
}

async fn session(
    State(this): State<Controller>,
    Path(session): Path<Uuid>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if let Err(status) = authorised(&headers) {
        return status.into_response();
    }
    let Some(sender) = this.sessions.lock().expect("lock").remove(&session) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    upgrade.on_upgrade(async move |socket| drop(sender.send(socket).await))
}

/// Reads a session to its end: standard output, standard error, last message.
pub async fn read_session(socket: &mut WebSocket) -> (String, String, Option<SessionMessage>) {
    let (mut out, mut err, mut last) = (Vec::new(), Vec::new(), None);
    let reading = async {
        while let Some(Ok(message)) = socket.recv().await {
            match message {
                Message::Binary(bytes) if bytes.first() == Some(&1) => out.extend_from_slice(&bytes[1..]),
                Message::Binary(bytes) => err.extend_from_slice(&bytes[1..]),
                Message::Text(text) => last = serde_json::from_str(&text).ok(),
                _ => {}
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading)
        .await
        .expect("the session ends in time");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(out), text(err), last)
}
