//! The sample site pushed, served, and pushed again.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use lifecycle::testing::{Running, Stage, free_port, told};
use std::path::Path;

fn stage() -> Stage {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut stage = Stage::new();
    stage.add_program(
        "staticfile_buildpack",
        &here.join("buildpack.toml"),
        env!("CARGO_BIN_EXE_buildpack-static").as_ref(),
    );
    stage.copy(&here.join("../../tests/apps/static-site"));
    stage
}

#[test]
fn the_sample_site_is_served() {
    let mut stage = stage();
    stage.write("public/long.txt", "all work and no play\n".repeat(1000));
    let result = stage.push().unwrap();
    assert_eq!(result.buildpacks[0].detected, "static site (Staticfile)");
    assert_eq!(result.processes[0].source, "static site");
    let port = free_port();
    let command = stage.launch(&result, "web", &[("PORT", &port.to_string())]).unwrap();
    let mut running = Running::start(command, port);
    assert!(running.get("/").contains("<h1>It works</h1>"));
    assert!(running.get("/nowhere").starts_with("HTTP/1.1 404"));
    assert!(
        running.get("/Staticfile").starts_with("HTTP/1.1 404"),
        "only the root is served"
    );
    assert!(running.stop().success());
}

#[test]
fn an_unchanged_push_writes_only_what_is_small() {
    let mut stage = stage();
    stage.write("public/long.txt", "all work and no play\n".repeat(1000));
    stage.push().unwrap();
    let again = stage.push().unwrap();
    let mut written: Vec<_> = again
        .layers
        .iter()
        .filter(|layer| layer.file.is_some())
        .map(|layer| &layer.name)
        .collect();
    written.sort();
    assert_eq!(written, ["app", "config"]);
    assert_eq!(again.layers.len(), 5);
}

#[test]
fn every_path_of_an_app_of_one_page_is_that_page() {
    let mut stage = stage();
    std::fs::remove_dir_all(stage.source()).unwrap();
    std::fs::create_dir(stage.source()).unwrap();
    stage.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/apps/static-spa"));
    let result = stage.push().unwrap();
    let mut running = stage.web(&result, "64m");
    assert!(running.get("/orders/7").contains("<title>One page</title>"));
    assert!(running.get("/assets/app-4f2a1c.js").contains("location.pathname"));
}

#[test]
fn failures_say_what_to_do() {
    let mut all = String::new();
    for (file, text) in [
        ("Staticfile", "root: nowhere\n"),
        ("Staticfile", "root: ../..\n"),
        ("Staticfile", "root\n  - : [\n"),
        ("Staticfile.auth", "me:$apr1$x$y\n"),
    ] {
        let mut stage = stage();
        stage.write(file, text);
        all.push_str(&told(&stage.push().unwrap_err().explain(), &[]));
    }
    insta::assert_snapshot!("failures", all);
}
