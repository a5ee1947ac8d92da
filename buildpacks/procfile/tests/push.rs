//! The sample apps without a language, pushed and run.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use lifecycle::testing::{Running, Stage, free_port, told};
use std::path::{Path, PathBuf};
use std::process::Command;

fn stage() -> Stage {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut stage = Stage::new();
    stage.add_program(
        "binary_buildpack",
        &here.join("buildpack.toml"),
        env!("CARGO_BIN_EXE_buildpack-procfile").as_ref(),
    );
    stage
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/apps")
        .join(name)
}

fn start(stage: &Stage, result: &model::staging::BuildResult) -> Running {
    let port = free_port();
    let command = stage.launch(result, "web", &[("PORT", &port.to_string())]).unwrap();
    Running::start(command, port)
}

#[test]
fn a_procfile_is_all_it_takes() {
    let mut stage = stage();
    stage.copy(&sample("procfile-shell"));
    let result = stage.push().unwrap();
    let types: Vec<_> = result
        .processes
        .iter()
        .map(|process| process.process_type.as_str())
        .collect();
    assert_eq!(types, ["clock", "web"]);
    assert!(result.processes.iter().all(|process| process.source == "Procfile"));
    assert!(
        start(&stage, &result)
            .get("/hello.txt")
            .ends_with("Hello from a Procfile\n")
    );
}

#[test]
fn the_one_compiled_program_is_the_app() {
    let mut stage = stage();
    let program = stage.source().join("server");
    let rustc = Command::new("rustc")
        .args(["--edition", "2024", "-o"])
        .arg(&program)
        .arg(sample("binary/server.rs"))
        .status();
    assert!(rustc.unwrap().success());
    // Pushing from other systems loses the mode.
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let result = stage.push().unwrap();
    assert_eq!(result.buildpacks[0].detected, "compiled program server");
    assert!(
        start(&stage, &result)
            .get("/")
            .ends_with("Hello from a compiled program\n")
    );
}

#[test]
fn nothing_at_all_says_what_was_looked_for() {
    let mut stage = stage();
    stage.write("notes.txt", "hello");
    let failure = stage.push().unwrap_err().explain();
    assert!(
        failure
            .cause
            .contains("binary_buildpack: no Procfile and no compiled program"),
        "{failure:?}"
    );
    // Chosen by name it takes what there is: the start command comes with the push.
    stage.detect = false;
    let result = stage.push().unwrap();
    assert!(result.processes.is_empty());
}

#[test]
fn failures_say_what_to_do() {
    let mut all = String::new();
    for text in [
        "web\n",
        "web: [a, b]\n",
        "# nothing\n",
        ": python3 app.py\n",
        "we b: x\n",
    ] {
        let mut stage = stage();
        stage.write("Procfile", text);
        all.push_str(&told(&stage.push().unwrap_err().explain(), &[]));
    }
    insta::assert_snapshot!("failures", all);
}
