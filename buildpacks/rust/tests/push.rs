//! Apps pushed with a real toolchain, started from their layers, and pushed again.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use lifecycle::testing::{Stage, written};
use std::path::Path;

fn sample(stage: &Stage, name: &str) {
    stage.copy(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/apps")
            .join(name),
    );
}

/// One test, since each toolchain is 200 MB: an app with crates, changes of it, the failures, and an app without any.
#[test]
fn with_crates_changed_broken_and_plain() {
    let mut stage = Stage::of(
        "rust_buildpack",
        env!("CARGO_MANIFEST_DIR"),
        env!("CARGO_BIN_EXE_buildpack-rust"),
    );
    sample(&stage, "rust-tiny-http");
    let first = stage.push().unwrap();
    assert_eq!(first.buildpacks[0].detected, "Rust stable (rust-toolchain.toml)");
    assert_eq!(first.processes[0].command, "rust-tiny-http");
    assert_eq!(first.processes[0].source, "the only program");
    let mut running = stage.web(&first, "64m");
    assert!(running.get("/").contains("Hello from tiny_http"));

    let again = stage.push().unwrap();
    assert_eq!(written(&again), ["app", "config"], "an unchanged push");
    let source = std::fs::read_to_string(stage.source().join("src/main.rs")).unwrap();
    stage.write("src/main.rs", source.replace("Hello from", "Greetings from"));
    let changed = stage.push().unwrap();
    assert!(!written(&changed).contains(&"paas/rust:rust"), "one file changed");
    assert!(!written(&changed).contains(&"paas/rust:crates"), "one file changed");
    assert!(stage.web(&changed, "64m").get("/").contains("Greetings from tiny_http"));

    failures(&mut stage, &source);

    sample(&stage, "rust-http");
    let plain = stage.push().unwrap();
    assert!(!written(&plain).contains(&"paas/rust:rust"), "the same Rust");
    assert!(stage.web(&plain, "64m").get("/").contains("Hello from Rust"));
}

/// Each is made from the app of `stage`, which is empty afterwards.
fn failures(stage: &mut Stage, source: &str) {
    let manifest = std::fs::read_to_string(stage.source().join("Cargo.toml")).unwrap();
    let broken: [(&str, String); 5] = [
        ("rust-toolchain.toml", "[toolchain]\nchannel = \"1.999\"\n".to_owned()),
        ("rust-toolchain.toml", "[toolchain]\nchannel = \"banana\"\n".to_owned()),
        ("src/main.rs", source.replace("fn main", "fn mein")),
        ("Cargo.toml", manifest.replace("\"0.12\"", "\"0.11\"")),
        ("Cargo.toml", manifest.replace("[package]", "[package")),
    ];
    let toolchain = std::fs::read_to_string(stage.source().join("rust-toolchain.toml")).unwrap();
    let mut told = String::new();
    for (file, text) in broken {
        stage.write("src/main.rs", source);
        stage.write("Cargo.toml", &manifest);
        stage.write("rust-toolchain.toml", &toolchain);
        stage.write(file, text);
        let failure = stage.push().unwrap_err().explain();
        // What can be had changes from day to day.
        let cause = failure.cause.split("; the newest").next().unwrap_or_default();
        told.push_str(&format!("{}\n  {cause}\n  -> {}\n\n", failure.title, failure.remedy));
    }
    std::fs::remove_dir_all(stage.source()).unwrap();
    std::fs::create_dir(stage.source()).unwrap();
    insta::assert_snapshot!("failures", told);
}
