//! The two buildpack contracts, rule by rule. Each test is named after its rule; each buildpack is made for one rule.
//!
//! `tests/build.rs`, `tests/classic.rs` and `tests/launch.rs` have the rules that belong to whole builds and launches.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod classic;
mod cnb_build;
mod cnb_detect;
mod cnb_launch;
mod heroku;
mod hostile;

use lifecycle::testing::Stage;
use model::staging::BuildResult;
use std::process::Command;

/// `detect` that says yes.
const PASS: Option<&str> = Some("exit 0");

/// An app of one file.
fn app() -> Stage {
    let stage = Stage::new();
    stage.write("file", "content");
    stage
}

/// The same with buildpacks that were chosen.
fn chosen() -> Stage {
    let mut stage = app();
    stage.detect = false;
    stage
}

/// A file of the droplet's app.
fn seen(stage: &Stage, result: &BuildResult, file: &str) -> String {
    stage.unpack_droplet(result);
    std::fs::read_to_string(stage.paths().app.join(file)).unwrap()
}

fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a process of the droplet says.
fn says(stage: &Stage, result: &BuildResult, process: &str) -> String {
    output(stage.launch(result, process, &[]).unwrap())
}
