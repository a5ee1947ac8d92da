//! Pushes that can't work: each ends with a clear error that says what to do, an exit code by the contract, and no residue.

use std::path::Path;
use tests::{Ended, Platform};

fn push(platform: &Platform, folder: &Path, more: &[&str]) -> Ended {
    let path = folder.to_str().expect("UTF-8");
    platform.paas(["push", path, "-n", "bad"].iter().copied().chain(more.iter().copied()))
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("written");
    }
    folder
}

fn says(ended: &Ended, parts: &[&str]) {
    for part in parts {
        assert!(ended.stderr.contains(part), "no {part:?} in:\n{}", ended.stderr);
    }
}

#[test]
fn pushes_that_cannot_work() {
    let platform = Platform::start();

    let empty = folder(&[]);
    says(&push(&platform, empty.path(), &[]).code(2), &["empty"]);

    let unknown = folder(&[("notes.txt", "nothing to run")]);
    says(
        &push(&platform, unknown.path(), &[]).code(1),
        &["NoAppDetectedError", "Procfile"],
    );

    let failing = folder(&[(
        "package.json",
        r#"{"name":"x","scripts":{"build":"exit 3","start":"node ."}}"#,
    )]);
    says(
        &push(&platform, failing.path(), &[]).code(1),
        &["BuildpackCompileFailed"],
    );

    let deaf = folder(&[("Procfile", "web: sleep 1000\n")]);
    says(
        &push(&platform, deaf.path(), &["-t", "5"]).code(1),
        &["health check", "8080"],
    );

    let local = folder(&[("Procfile", "web: python3 -m http.server 3000 --bind 127.0.0.1\n")]);
    says(
        &push(&platform, local.path(), &["-t", "5"]).code(1),
        &["127.0.0.1:3000"],
    );

    let site = folder(&[
        ("index.html", "x"),
        ("manifest.yml", "applications:\n- name: bad\n  memroy: 64M\n"),
    ]);
    says(
        &platform.paas(["push", site.path().to_str().expect("UTF-8")]).code(2),
        &["memroy", "memory"],
    );
    std::fs::write(
        site.path().join("manifest.yml"),
        "applications:\n- name: bad\n  instances: many\n",
    )
    .expect("written");
    says(
        &platform.paas(["push", site.path().to_str().expect("UTF-8")]).code(2),
        &["instances"],
    );

    let _ = platform.paas(["delete", "bad", "--yes"]).ok();
    // What is left over fails the test when the platform goes.
}
