//! A tester that makes calls up from the OpenAPI document, against a controller on a socket: no fault of ours, and no
//! answer that the document does not describe.
//!
//! What it sends is bounded, and the same in each run.

use crate::client::*;
use crate::world::world;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use store::testing::{Engine, TestStore};
use tokio::process::Command;

/// Longest that the tester may take, and longest that its installation may take.
const DEADLINE: Duration = Duration::from_secs(300);
/// Calls by operation that it makes up at random, beside those that cover each bound.
const EXAMPLES: &str = "4";
const SEED: &str = "20240501";

async fn run(command: &mut Command) -> (bool, String) {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output()).await;
    let output = output.expect("ends in time").expect("starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

/// Installs the tester below the build's folder, where it stays for the next run.
async fn tester(clients: &Path) -> PathBuf {
    let requirements = clients.join("requirements-schemathesis.txt");
    let wanted = std::fs::read_to_string(&requirements).expect("readable");
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    let done = environment.join("installed");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return environment.join("bin/st");
    }
    let made = run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&environment))
    .await;
    assert!(made.0, "{}", made.1);
    let pip = environment.join("bin/pip");
    let mut install = Command::new(pip);
    install.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    let installed = run(install.arg(&requirements)).await;
    assert!(installed.0, "{}", installed.1);
    std::fs::write(done, wanted).expect("written");
    environment.join("bin/st")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_made_up_from_the_document_find_no_fault() {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients");
    let tester = tester(&clients).await;
    let store = TestStore::open(Engine::Sqlite).await;
    let platform = platform(&store).await;
    let admin = platform.admin().await;
    let world = world(&admin, "known").await;
    let folder = tempfile::tempdir().expect("a folder");
    let known = folder.path().join("known.json");
    std::fs::write(&known, serde_json::to_string(&world).expect("JSON")).expect("written");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(axum::serve(listener, platform.router.clone()).into_future());
    let checks = "no_fault,status_code_conformance,content_type_conformance,\
                  response_headers_conformance,response_schema_conformance";
    let mut command = Command::new(tester);
    command
        .args(["run", &format!("http://{address}/v3/openapi.json")])
        .args(["--header", &format!("Authorization: bearer {}", admin.token)])
        .args([
            "--checks",
            checks,
            "--phases",
            "coverage,fuzzing",
            "--max-examples",
            EXAMPLES,
        ])
        .args([
            "--seed",
            SEED,
            "--workers",
            "2",
            "--request-timeout",
            "30",
            "--no-color",
        ])
        .args([
            "--continue-on-failure",
            "--no-shrink",
            "--generation-database",
            "none",
            "--warnings",
            "off",
        ])
        .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
        .env("PYTHONPATH", &clients)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PAAS_KNOWN_IDS", &known)
        .current_dir(folder.path());
    let (well, text) = run(&mut command).await;
    server.abort();
    let from = text.len().saturating_sub(20_000);
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(from);
    assert!(well, "{}", &text[from..]);
    store.remove().await;
}
