//! Apps pushed with a real Go, started from their layers, and pushed again.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use lifecycle::testing::{Running, Stage, written};
use model::staging::BuildResult;
use std::path::Path;

fn stage() -> Stage {
    Stage::of(
        "go_buildpack",
        env!("CARGO_MANIFEST_DIR"),
        env!("CARGO_BIN_EXE_buildpack-go"),
    )
}

fn sample(stage: &Stage, name: &str) {
    stage.copy(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/apps")
            .join(name),
    );
}

fn start(stage: &Stage, result: &BuildResult) -> Running {
    stage.web(result, "256m")
}

/// One test, since each toolchain is 75 MB: a plain app, changes of it, the failures, and an app with vendored modules.
#[test]
fn plain_changed_broken_and_vendored() {
    let mut stage = stage();
    sample(&stage, "go-http");
    let first = stage.push().unwrap();
    assert_eq!(first.buildpacks[0].detected, "Go 1.25 (go.mod go)");
    assert_eq!(first.processes[0].command, "go-http");
    assert_eq!(first.processes[0].source, "package main in example.com/go-http");
    let mut running = start(&stage, &first);
    assert!(running.get("/").contains("Hello from Go go1.25"));
    assert!(running.get("/env").contains("GOMEMLIMIT=230MiB"));
    assert!(running.stop().success(), "SIGTERM reaches the app itself");

    let again = stage.push().unwrap();
    assert_eq!(written(&again), ["app", "config"], "an unchanged push");
    let source = std::fs::read_to_string(stage.source().join("main.go")).unwrap();
    stage.write("main.go", source.replace("Hello from", "Greetings from"));
    let changed = stage.push().unwrap();
    assert!(!written(&changed).contains(&"paas/go:go"), "one file changed");
    assert!(start(&stage, &changed).get("/").contains("Greetings from Go"));

    failures(&mut stage, &source);

    sample(&stage, "go-vendored");
    let vendored = stage.push().unwrap();
    assert!(!written(&vendored).contains(&"paas/go:go"), "the same Go");
    assert!(
        start(&stage, &vendored)
            .get("/hello/you")
            .contains("Hello you from a router")
    );
}

/// Each is made from the app of `stage`, which is empty afterwards.
fn failures(stage: &mut Stage, source: &str) {
    let module = std::fs::read_to_string(stage.source().join("go.mod")).unwrap();
    let gone = source.replace("\"net/http\"", "\"net/http\"\n\t_ \"example.org/gone\"");
    let requiring = format!("{module}\nrequire example.org/gone v1.0.0\n");
    let broken: [&[(&str, String)]; 6] = [
        &[("go.mod", module.replace("go 1.25", "go 1.99"))],
        &[("go.mod", module.replace("go 1.25", "go banana"))],
        &[("main.go", source.replace("func main", "func mein"))],
        &[("main.go", gone.clone())],
        &[("main.go", gone.clone()), ("go.mod", requiring.clone())],
        &[
            ("main.go", gone),
            ("go.mod", requiring),
            ("vendor/modules.txt", "# example.org/other v1.0.0\n".to_owned()),
        ],
    ];
    let mut told = String::new();
    for files in broken {
        stage.write("main.go", source);
        stage.write("go.mod", &module);
        for (file, text) in files {
            stage.write(file, text);
        }
        stage.env.set("GOPROXY", "off");
        let failure = stage.push().unwrap_err().explain();
        // What can be had changes from day to day.
        let cause = failure.cause.split("; there is").next().unwrap_or_default();
        told.push_str(&format!("{}\n  {cause}\n  -> {}\n\n", failure.title, failure.remedy));
    }
    std::fs::remove_dir_all(stage.source()).unwrap();
    std::fs::create_dir(stage.source()).unwrap();
    insta::assert_snapshot!("failures", told);
}
