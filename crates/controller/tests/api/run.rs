//! A whole controller on a socket: it starts on nothing, stops when told to, and goes on where it was.

use controller::{Bootstrap, Config, Database, EncryptionKey, Error, Sockets};
use model::Secret;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn config(folder: &Path, key: u8) -> Config {
    Config {
        public_url: "http://127.0.0.1".to_owned(),
        router_port: 8080,
        ssh_address: None,
        database: Database::Sqlite(folder.join("paas.db")),
        blobs: controller::Blobs::Directory(folder.join("blobs")),
        advertise: String::new(),
        log_dir: folder.join("logs"),
        encryption_key: EncryptionKey { id: 1, key: [key; 32] },
        machine_token: Some(Secret::new("machine")),
        machines: None,
        bootstrap: Bootstrap {
            admin_name: "admin".to_owned(),
            admin_password: Secret::new("secret"),
            org: Some("dev".to_owned()),
            space: Some("dev".to_owned()),
            domain: "localhost".parse().expect("valid"),
            stacks: vec!["host".parse().expect("valid")],
        },
        buildpacks: Vec::new(),
        lifecycle_version: "1".to_owned(),
        limits: controller::Limits::default(),
        lifecycle_path: "/bin/true".into(),
        oidc: None,
    }
}

fn sockets(listener: TcpListener) -> Sockets {
    Sockets {
        api: vec![listener],
        ssh: None,
        machines: None,
    }
}

struct Running {
    url: String,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

async fn start(config: Config) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let (stop, (ready, is_ready)) = (CancellationToken::new(), oneshot::channel());
    let task = tokio::spawn(controller::run(config, sockets(listener), stop.clone(), ready));
    let address = tokio::time::timeout(Duration::from_secs(30), is_ready)
        .await
        .expect("in time")
        .expect("serves");
    let url = format!("http://{address}");
    Running { url, stop, task }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client");
    let first = start(config(folder.path(), 1)).await;
    let form = [
        ("grant_type", "password"),
        ("username", "admin"),
        ("password", "secret"),
    ];
    let login = client
        .post(format!("{}/oauth/token", first.url))
        .form(&form)
        .send()
        .await
        .expect("sent");
    let token: Value = login.json().await.expect("json");
    let token = token["access_token"].as_str().expect("a token").to_owned();
    first.stop.cancel();
    first.task.await.expect("ends").expect("well");

    let second = start(config(folder.path(), 1)).await;
    let spaces = client
        .get(format!("{}/v3/spaces", second.url))
        .bearer_auth(&token)
        .send()
        .await
        .expect("sent");
    let spaces: Value = spaces.json().await.expect("json");
    assert_eq!(spaces["resources"][0]["name"], "dev", "{spaces}");
    assert_eq!(
        spaces["pagination"]["total_results"], 1,
        "a second start makes no second one"
    );
    // A stream that is open does not keep it from stopping.
    let missing = client
        .get(format!("{}/cell/v1/cells/x/feed", second.url))
        .send()
        .await
        .expect("sent");
    assert_eq!(missing.status(), 401);
    second.stop.cancel();
    second.task.await.expect("ends").expect("well");
}

#[tokio::test]
async fn another_encryption_key_is_noticed_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = start(config(folder.path(), 1)).await;
    first.stop.cancel();
    first.task.await.expect("ends").expect("well");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let (ready, _is_ready) = oneshot::channel();
    let failed = controller::run(
        config(folder.path(), 2),
        sockets(listener),
        CancellationToken::new(),
        ready,
    )
    .await;
    assert!(matches!(failed, Err(Error::SigningKey { .. })), "{failed:?}");
}
