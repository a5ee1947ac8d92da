//! A controller's loop and feeds on a real store and a real socket, with fakes only where a kernel would be needed.

use controller::{
    Bootstrap, BuildpackInfo, Config, Context, Control, Database, EncryptionKey, Keys, Timing, feeds, scheduling,
};
use model::Secret;
use model::Timestamp;
use model::resource::Event;
use scheduler::Policy;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use store::testing::TestStore;
use telemetry::applog::{Limits, LogStore};
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "machine-token";
/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One controller. Dropping it is its `kill -9`: nothing is told to anybody.
pub struct Controller {
    pub control: Control,
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// Folders that outlive a controller.
pub struct Folders {
    pub root: tempfile::TempDir,
    /// Other controllers may schedule on the same database.
    pub contested: bool,
}

impl Folders {
    pub fn new() -> Self {
        Self {
            root: tempfile::tempdir().expect("a temporary folder"),
            contested: false,
        }
    }
}

pub fn timing() -> Timing {
    Timing {
        cell_lease: Duration::from_millis(1200),
        cell_heartbeat: Duration::from_millis(200),
        router_lease: Duration::from_millis(150),
        ping: Duration::from_millis(300),
        exec_dial: Duration::from_millis(500),
        exec_idle: Duration::from_secs(5),
    }
}

pub fn policy() -> Policy {
    Policy {
        lease_grace: time::Duration::milliseconds(300),
        drain_timeout: time::Duration::seconds(2),
        ..Policy::default()
    }
}

pub fn config(folders: &Folders, address: SocketAddr) -> Config {
    Config {
        public_url: "http://127.0.0.1:8181".to_owned(),
        router_port: 8080,
        advertise: format!("http://{address}"),
        ssh_address: Some("127.0.0.1:2222".to_owned()),
        database: if folders.contested {
            Database::Postgres(Secret::new("unused"))
        } else {
            Database::Sqlite(PathBuf::from("unused"))
        },
        blobs: controller::Blobs::Directory(folders.root.path().join("blobs")),
        log_dir: folders.root.path().join("logs"),
        encryption_key: EncryptionKey { id: 1, key: [42; 32] },
        machine_token: Some(Secret::new(TOKEN)),
        machines: None,
        bootstrap: Bootstrap {
            admin_name: "admin".to_owned(),
            admin_password: Secret::new("admin"),
            org: None,
            space: None,
            domain: "localhost".parse().expect("valid"),
            stacks: vec!["host".parse().expect("valid")],
        },
        buildpacks: vec![BuildpackInfo {
            name: "nodejs_buildpack".to_owned(),
            id: "paas/nodejs".to_owned(),
            version: "1.0.0".to_owned(),
            folder: "nodejs".to_owned(),
        }],
        lifecycle_version: "1".to_owned(),
        limits: controller::Limits::default(),
        lifecycle_path: "/bin/true".into(),
        oidc: None,
    }
}

impl Controller {
    /// Starts one on the store; port 0 unless it takes the place of another.
    pub async fn start(store: Store, folders: &Folders, address: Option<SocketAddr>) -> Self {
        let clock = Context::system_clock();
        let tokens = Keys::load(&store, clock()).await.expect("keys");
        let listener = bind(address.unwrap_or_else(|| ([127, 0, 0, 1], 0).into())).await;
        let address = listener.local_addr().expect("bound");
        let config = Arc::new(config(folders, address));
        let blobs = folders.root.path().join("blobs");
        let blobs = blobstore::Blobstore::open_directory(&blobs, blobstore::Limits::default()).expect("blobs");
        let logs = LogStore::open(&config.log_dir, Limits::default()).expect("logs");
        let context = Context::new(store, blobs, logs, tokens, config, clock);
        let shutdown = CancellationToken::new();
        let control = Control::new(context, policy(), timing(), shutdown.clone());
        let routes = feeds::routes(control.clone());
        let serve = tokio::spawn(async move {
            axum::serve(listener, routes).await.expect("serves");
        });
        let scheduling = tokio::spawn(scheduling::run(control.clone(), shutdown.clone()));
        Self {
            control,
            address,
            shutdown,
            tasks: vec![serve, scheduling],
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it without a word; its address is free afterwards.
    pub async fn kill(self) -> SocketAddr {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            let _ = task.await;
        }
        // Connections are served by tasks of their own; they end with their streams.
        self.shutdown.cancel();
        self.address
    }
}

/// Takes the address as soon as it is free.
async fn bind(address: SocketAddr) -> tokio::net::TcpListener {
    let begun = std::time::Instant::now();
    loop {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        match socket.bind(address).and_then(|()| socket.listen(128)) {
            Ok(listener) => return listener,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{address}: {error}"),
        }
        tokio::task::yield_now().await;
    }
}

/// Waits until `look` finds something; it looks whenever the store says that something changed.
pub async fn until<T, F: Future<Output = Option<T>>>(store: &TestStore, what: &str, mut look: impl FnMut() -> F) -> T {
    let mut topics = store.subscribe();
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "gave up waiting for {what}");
        // The timeout is for what is not in the store: leases, acknowledgements.
        let _ = tokio::time::timeout(Duration::from_millis(200), topics.next()).await;
    }
}

/// All events of an app so far.
pub async fn events(store: &TestStore, app: model::id::AppId) -> Vec<Event> {
    store
        .events_since(Some(&app.to_string()), 0, 10_000)
        .await
        .expect("events")
}

/// The first event of this kind after number `since`.
pub async fn event(store: &TestStore, app: model::id::AppId, kind: &str, since: i64) -> Event {
    until(store, kind, || async {
        let events = store
            .events_since(Some(&app.to_string()), since, 10_000)
            .await
            .expect("events");
        events.into_iter().find(|event| event.kind == kind)
    })
    .await
}

/// A client whose every wait has an end.
pub fn http() -> reqwest::Client {
    let client = reqwest::Client::builder()
        .connect_timeout(PATIENCE)
        .read_timeout(PATIENCE);
    client.build().expect("a client")
}

pub fn now() -> Timestamp {
    let now = Timestamp::now_utc();
    now.replace_nanosecond(now.nanosecond() / 1000 * 1000).expect("valid")
}
