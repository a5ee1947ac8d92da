//! Clients that were written for Cloud Foundry, as their users get them, against a live platform.

use std::io::{Cursor, Write as _};
use std::path::Path;
use std::process::Command;
use tests::{Platform, app};

/// Runs a command and fails the test with all that it wrote, unless it ends well; its standard output.
fn run(command: &mut Command) -> String {
    let output = command.output().expect("starts");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}\n{stderr}",
        output.status
    );
    stdout
}

/// A folder as an archive, as clients of CF upload it.
fn zipped(folder: &Path) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.expect("readable");
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(folder).expect("below");
            let name = name.to_str().expect("UTF-8");
            zip.start_file(name, zip::write::SimpleFileOptions::default())
                .expect("begun");
            zip.write_all(&std::fs::read(entry.path()).expect("readable"))
                .expect("written");
        }
    }
    zip.finish().expect("finished").into_inner()
}

/// `cloudfoundry-client` from the Python package index: log in, push, scale, tasks, rollouts, delete.
#[test]
fn the_python_package_cloudfoundry_client() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = folder.path().join("python");
    let clients = tests::root().join("tests/clients");
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
    run(Command::new(environment.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(clients.join("requirements.txt")));
    let source = app("procfile-shell");
    let archive = folder.path().join("app.zip");
    std::fs::write(&archive, zipped(source.path())).expect("written");
    let platform = Platform::start();
    let login = std::fs::read(platform.path("login.json")).expect("a login is ready");
    let login: serde_json::Value = serde_json::from_slice(&login).expect("JSON");
    let password = tests::text(&login["password"]).to_owned();
    let output = run(Command::new(environment.join("bin/python"))
        .arg(clients.join("cloudfoundry_client_suite.py"))
        .args([platform.api.as_str(), password.as_str()])
        .arg(&archive)
        .arg(&platform.router));
    for step in ["log in", "build", "scale", "task", "delete"] {
        assert!(output.contains(&format!("\"{step}\"")), "{output}");
    }
}
