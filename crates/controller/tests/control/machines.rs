//! Hosts that join with tokens and speak with certificates of their own; and those that lie.

use crate::cell::FakeCell;
use crate::platform::{Folders, PATIENCE, config, policy, timing};
use crate::seed::app;
use api::cell::{LogBatch, LogLine, Report, WorkStats};
use controller::{Context, Control, Keys, Timing, machines, scheduling};
use identity::{Credentials, Held, JoinToken, Proof, Request};
use model::Timestamp;
use model::id::{AppId, WorkId};
use model::machine::{Machine, Role};
use model::work::{Observation, WorkState};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::testing::{Engine, TestStore};
use telemetry::applog::LogStore;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// A controller that machines reach by TLS, and people by tests alone.
struct Secure {
    store: TestStore,
    control: Control,
    address: String,
    _folders: Folders,
    _running: DropGuard,
}

async fn secure() -> Secure {
    let store = TestStore::open(Engine::Sqlite).await;
    let folders = Folders::new();
    let clock = Context::system_clock();
    let tokens = Keys::load(&store, clock()).await.expect("keys");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free");
    let bound = listener.local_addr().expect("bound");
    let address = format!("https://{bound}");
    let mut config = config(&folders, bound);
    config.machine_token = None;
    let blobs = folders.root.path().join("blobs");
    let blobs = blobstore::Blobstore::open_directory(&blobs, blobstore::Limits::default()).expect("blobs");
    let logs = LogStore::open(&config.log_dir, telemetry::applog::Limits::default()).expect("logs");
    let settings = machines::Settings {
        address: address.clone(),
        host: "127.0.0.1".to_owned(),
        life: Duration::from_secs(3600),
    };
    let known = machines::Machines::open(&store, settings, clock())
        .await
        .expect("an authority");
    let context = Context::new(store.again().await, blobs, logs, tokens, Arc::new(config), clock);
    let context = context.with_machines(known.clone());
    let shutdown = CancellationToken::new();
    let timing = Timing {
        cell_lease: PATIENCE * 2,
        ..timing()
    };
    let control = Control::new(context, policy(), timing, shutdown.clone());
    let (surface, stop) = (controller::surface(control.clone()), shutdown.clone());
    tokio::spawn(async move { machines::serve(listener, &known, surface, stop).await });
    tokio::spawn(machines::run(control.clone(), shutdown.clone()));
    tokio::spawn(scheduling::run(control.clone(), shutdown.clone()));
    let since = Timestamp::now_utc() - PATIENCE;
    crate::platform::until(&store, "the controller is known to be there", || async {
        let seen = store.controllers_seen(since).await.expect("read");
        (!seen.is_empty()).then_some(())
    })
    .await;
    Secure {
        store,
        control,
        address,
        _folders: folders,
        _running: shutdown.drop_guard(),
    }
}

fn machine(role: Role, id: u128) -> Machine {
    Machine {
        role,
        id: Uuid::from_u128(id),
    }
}

impl Secure {
    /// A token as an operator makes it.
    async fn token(&self, role: Role, expires: Duration, max_memory_mb: Option<u64>) -> JoinToken {
        let fingerprint = machines::fingerprint(&self.control).expect("certificates");
        let token = JoinToken::create(Uuid::now_v7(), fingerprint, vec![self.address.clone()]);
        let now = self.control.context.now();
        let stored = store::JoinToken {
            id: token.id,
            digest: JoinToken::digest(&token.secret).to_vec(),
            role,
            label: String::new(),
            max_memory_mb,
            created_at: now - Duration::from_secs(60),
            valid_until: now - Duration::from_secs(1) + expires,
            used: None,
        };
        let tx = self.store.begin().await.expect("begins");
        tx.join_token_create(&stored).await.expect("made");
        tx.commit().await.expect("commits");
        // What a host reads is the text.
        token.text().expose().parse().expect("whole")
    }

    async fn joined(&self, role: Role, id: u128) -> Credentials {
        let token = self.token(role, PATIENCE, None).await;
        identity::join(&token, machine(role, id), "host", None)
            .await
            .expect("joined")
    }

    /// What the controller answers a machine.
    async fn ask(&self, who: &Credentials, path: &str, body: Option<Value>) -> (u16, Value) {
        let proof = Proof::from(Held::new(who).expect("sound"));
        let client = proof
            .client(reqwest::Client::builder().timeout(PATIENCE))
            .expect("sound");
        let client = client.build().expect("a client");
        let url = format!("{}{path}", self.address);
        let request = match body {
            Some(body) => client.post(url).json(&body),
            None => client.get(url),
        };
        let answer = request.send().await.expect("answered");
        let status = answer.status().as_u16();
        if path.ends_with("/feed") && status == 200 {
            return (status, Value::Null);
        }
        (status, answer.json().await.unwrap_or(Value::Null))
    }
}

fn path(kind: &str, of: &Credentials, what: &str) -> String {
    format!("/{kind}/{}/{what}", of.machine.id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_for_one_host_once() {
    let secure = secure().await;
    let token = secure.token(Role::Cell, PATIENCE, None).await;
    let fingerprint = machines::fingerprint(&secure.control).expect("certificates");
    let forged = JoinToken::create(token.id, fingerprint, token.controllers.clone());
    let cell = machine(Role::Cell, 1);
    let join = |token: JoinToken, machine| async move { identity::join(&token, machine, "host", None).await };
    let refused = join(forged, cell).await.expect_err("forged").to_string();
    assert!(refused.contains("401") && refused.contains("not known"), "{refused}");
    let refused = join(token.clone(), machine(Role::Router, 1))
        .await
        .expect_err("another role");
    assert!(refused.to_string().contains("The token is a cell's"), "{refused}");
    let refused = join(token.clone(), machine(Role::Controller, 1)).await;
    assert!(
        refused
            .expect_err("no machine")
            .to_string()
            .contains("Controllers do not join")
    );
    let expired = secure.token(Role::Cell, Duration::ZERO, None).await;
    let refused = join(expired, cell).await.expect_err("expired").to_string();
    assert!(refused.contains("time is over"), "{refused}");
    assert_eq!(
        secure.store.machine_list().await.expect("listed"),
        [],
        "none of them had an effect"
    );

    let joined = join(token.clone(), cell).await.expect("joined");
    assert_eq!(
        (joined.machine, joined.controllers.clone()),
        (cell, vec![secure.address.clone()])
    );
    let refused = join(token, machine(Role::Cell, 2)).await.expect_err("used").to_string();
    assert!(refused.contains("used already"), "{refused}");

    // The id is taken, but by the host itself, which has its key.
    let again = secure.token(Role::Cell, PATIENCE, None).await;
    let refused = join(again.clone(), cell).await.expect_err("another host").to_string();
    assert!(refused.contains("403"), "{refused}");
    let back = identity::join(&again, cell, "host", Some(&joined)).await;
    assert_eq!(back.expect("the refusal cost no token").machine, cell);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_speaks_for_its_machine_alone() {
    let secure = secure().await;
    let (first, second) = (secure.joined(Role::Cell, 1).await, secure.joined(Role::Cell, 2).await);
    let router = secure.joined(Role::Router, 3).await;
    let fake = |of: &Credentials| {
        let mut fake = FakeCell::new(&secure.address, "cell", 1024);
        fake.info.id = of.machine.id.into();
        json!(fake.info)
    };
    let register = |of: &Credentials| path("cell/v1/cells", of, "register");
    for of in [&first, &second] {
        assert_eq!(secure.ask(of, &register(of), Some(fake(of))).await.0, 200);
    }
    let feed = path("edge/v1/routers", &router, "feed");
    assert_eq!(secure.ask(&router, &feed, None).await.0, 200);
    for (who, path, body) in [
        (&first, register(&second), Some(fake(&second))),
        (&first, path("cell/v1/cells", &second, "feed"), None),
        (&first, feed, None),
        (&router, path("cell/v1/cells", &first, "feed"), None),
        (&router, register(&router), Some(fake(&router))),
        (&router, path("edge/v1/routers", &first, "feed"), None),
    ] {
        assert_eq!(secure.ask(who, &path, body).await.0, 403, "{path}");
    }
    // Nobody is anybody without a certificate, whatever a header says.
    let token = secure.token(Role::Cell, PATIENCE, None).await;
    let client = reqwest::Client::builder().tls_backend_preconfigured(token.client().expect("sound"));
    let client = client.timeout(PATIENCE).build().expect("a client");
    let anonymous = client
        .get(format!("{}{}", secure.address, path("cell/v1/cells", &first, "feed")))
        .header("x-paas-machine", first.machine.to_string())
        .bearer_auth("machine-token");
    assert_eq!(anonymous.send().await.expect("answered").status(), 401);

    let tx = secure.store.begin().await.expect("begins");
    assert!(
        tx.machine_revoke(first.machine, Timestamp::now_utc())
            .await
            .expect("revoked")
    );
    tx.commit().await.expect("commits");
    assert_eq!(secure.ask(&first, &register(&first), Some(fake(&first))).await.0, 403);
    let renew = json!({"request": Request::new(None).expect("a key").pem});
    assert_eq!(
        secure.ask(&first, "/machine/v1/renew", Some(renew.clone())).await.0,
        403
    );
    let (status, renewed) = secure.ask(&second, "/machine/v1/renew", Some(renew)).await;
    assert_eq!((status, &renewed["machine"]["id"]), (200, &json!(second.machine.id)));
}

/// What the cell says it offers.
fn offer(secure: &Secure, of: &Credentials, memory_mb: u64) -> Option<Value> {
    let mut fake = FakeCell::new(&secure.address, "cell", memory_mb);
    fake.info.id = of.machine.id.into();
    Some(json!(fake.info))
}

/// A report of all that it holds.
fn holding(observations: Vec<Observation>, stats: Vec<WorkStats>) -> Option<Value> {
    Some(json!(Report {
        revision: 1,
        full: true,
        observations,
        stats,
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_offers_no_more_than_it_may() {
    let secure = secure().await;
    let token = secure.token(Role::Cell, PATIENCE, Some(2048)).await;
    let liar = identity::join(&token, machine(Role::Cell, 1), "liar", None).await;
    let liar = liar.expect("joined");
    let honest = secure.joined(Role::Cell, 2).await;
    let register = |of: &Credentials| path("cell/v1/cells", of, "register");
    let (status, told) = secure.ask(&liar, &register(&liar), offer(&secure, &liar, 4096)).await;
    assert_eq!(status, 422, "more than its token allows: {told}");
    let absurd = offer(&secure, &honest, u64::MAX / 2);
    assert_eq!(secure.ask(&honest, &register(&honest), absurd).await.0, 422);
    assert_eq!(secure.store.cell_list().await.expect("listed").len(), 0, "no effect");
    let allowed = offer(&secure, &liar, 2048);
    assert_eq!(secure.ask(&liar, &register(&liar), allowed).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_lies_about_work_has_no_effect() {
    let secure = secure().await;
    let (liar, honest) = (secure.joined(Role::Cell, 1).await, secure.joined(Role::Cell, 2).await);
    let to = |of: &Credentials, what| path("cell/v1/cells", of, what);
    for of in [&liar, &honest] {
        let registered = secure.ask(of, &to(of, "register"), offer(&secure, of, 2048)).await;
        assert_eq!(registered.0, 200);
    }
    // Work is placed on the honest one alone: the liar has said nothing of what it holds.
    let said = secure
        .ask(&honest, &to(&honest, "report"), holding(Vec::new(), Vec::new()))
        .await;
    assert_eq!(said.0, 200);
    let mut seeded = app(&secure.store, 1).await;
    seeded.deploy(&secure.store, "good").await;
    secure.control.context.wake.scheduler();
    let work = crate::platform::until(&secure.store, "the placement", || async {
        let works = secure.store.works_live().await.expect("works");
        works.into_iter().find(|work| work.spec.owner.app == seeded.app.id)
    })
    .await;
    assert_eq!(work.cell.0, honest.machine.id);

    let running = Observation {
        work: work.id,
        epoch: work.epoch,
        state: WorkState::Running,
        routable: true,
        address: Some("10.180.0.9".parse().expect("an address")),
        since: Timestamp::now_utc(),
        phases: Vec::new(),
    };
    let used = WorkStats {
        work: work.id,
        cpu: 9.0,
        memory_bytes: 9,
        disk_bytes: 9,
        log_rate: 9,
    };
    let lie = holding(vec![running], vec![used]);
    assert_eq!(secure.ask(&liar, &to(&liar, "report"), lie).await.0, 200);
    let after = secure.store.work_fetch(work.id).await.expect("read").expect("there");
    let seen = (after.state, after.routable, after.address);
    assert_eq!(seen, (work.state, work.routable, work.address));
    assert_eq!(secure.control.context.usage.of(work.cell, work.id), None);
    log_lines_are_taken_of_own_work(&secure, [&liar, &honest], work.id, seeded.app.id).await;
}

/// The second of the two has the work.
async fn log_lines_are_taken_of_own_work(secure: &Secure, cells: [&Credentials; 2], work: WorkId, app: AppId) {
    let line = LogLine {
        work,
        app,
        ts_ns: 1,
        source_type: "APP/PROC/WEB".to_owned(),
        instance: "0".to_owned(),
        err: false,
        text: "a line".to_owned(),
    };
    let batch = json!(LogBatch { lines: vec![line] });
    for (cell, lines) in cells.into_iter().zip(0..) {
        let logs = path("cell/v1/cells", cell, "logs");
        assert_eq!(secure.ask(cell, &logs, Some(batch.clone())).await.0, 204);
        let query = telemetry::applog::Query {
            start_ns: 0,
            end_ns: 10,
            limit: 10,
            descending: false,
            types: Vec::new(),
        };
        let page = secure.control.context.logs.read(&app.to_string(), &query);
        assert_eq!(page.expect("read").envelopes.len(), lines);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_by_itself() {
    let secure = secure().await;
    let mut joined = secure.joined(Role::Router, 3).await;
    // As if a third of its life were over.
    joined.from -= Duration::from_secs(3600);
    joined.until -= Duration::from_secs(1800);
    let held = Held::new(&joined).expect("sound");
    let controllers = api::Controllers::new([secure.address.as_str()]).expect("sound");
    let (kept, was_kept) = std::sync::mpsc::sync_channel(1);
    let store = move |next: &Credentials| kept.send(next.clone()).map_err(Into::into);
    let shutdown = CancellationToken::new();
    let keeping = tokio::spawn(identity::keep(
        held,
        joined.clone(),
        controllers,
        store,
        shutdown.clone(),
    ));
    let next = tokio::task::spawn_blocking(move || was_kept.recv_timeout(PATIENCE))
        .await
        .expect("no panic");
    let next = next.expect("renewed");
    shutdown.cancel();
    keeping.await.expect("no panic").expect("ends well");
    assert!(next.until > joined.until && next.machine == joined.machine);
    assert_ne!(next.key.expose(), joined.key.expose(), "with a key of its own");
    let known = secure
        .store
        .machine_fetch(joined.machine)
        .await
        .expect("read")
        .expect("known");
    assert!((known.certificate_until - next.until).abs() < Duration::from_secs(1));
}
