//! Apps pushed with a real Go, started from their layers, and pushed again.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use lifecycle::testing::{Running, Stage, free_port};
use model::staging::BuildResult;
use std::path::Path;

fn stage() -> Stage {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut stage = Stage::new();
    stage.add_program(
        "go_buildpack",
        &here.join("buildpack.toml"),
        env!("CARGO_BIN_EXE_buildpack-go").as_ref(),
    );
    stage
}

fn sample(stage: &Stage, name: &str) {
    stage.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/apps").join(name));
}

fn start(stage: &Stage, result: &BuildResult) -> Running {
    let port = free_port();
    let port_text = port.to_string();
    let env = [("PORT", port_text.as_str()), ("MEMORY_LIMIT", "256m")];
    Running::start(stage.launch(result, "web", &env).unwrap(), port)
}

fn written(result: &BuildResult) -> Vec<&str> {
    let all = result.layers.iter().chain(&result.cache_files);
    let mut names: Vec<&str> = all
        .filter(|layer| layer.file.is_some())
        .map(|layer| layer.name.as_str())
        .collect();
    names.sort_unstable();
    names
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

    stage.platform.push(("UV_DEFAULT_INDEX".to_owned(), "http://127.0.0.1:9/simple".to_owned()));
    let digest = |result: &BuildResult, name: &str| {
        let layer = result.layers.iter().find(|layer| layer.name == name);
        layer.map(|layer| layer.digest.hex())
    };
    stage.platform.clear();
    let again = stage.push().unwrap();
    assert_eq!(written(&again), ["app", "config", "paas/go:programs"], "an unchanged push");
    assert_eq!(digest(&first, "paas/go:programs"), digest(&again, "paas/go:programs"));
    let source = std::fs::read_to_string(stage.source().join("main.go")).unwrap();
    stage.write("main.go", source.replace("Hello from", "Greetings from"));
    let changed = stage.push().unwrap();
    assert!(!written(&changed).contains(&"paas/go:go"), "one file changed");
    assert!(start(&stage, &changed).get("/").contains("Greetings from Go"));

    failures(&mut stage, &source);

    sample(&stage, "go-chi");
    let vendored = stage.push().unwrap();
    assert!(!written(&vendored).contains(&"paas/go:go"), "the same Go");
    assert!(start(&stage, &vendored).get("/hello/chi").contains("Hello chi from a router"));
}

/// Each is made from the app of [`stage`], which is whole again afterwards.
fn failures(stage: &mut Stage, source: &str) {
    let module = std::fs::read_to_string(stage.source().join("go.mod")).unwrap();
    let broken = [
        ("go.mod", module.replace("go 1.25", "go 1.99")),
        ("go.mod", module.replace("go 1.25", "go banana")),
        ("main.go", source.replace("func main", "func mein")),
        ("main.go", source.replace("\"net/http\"", "\"net/http\"\n\t_ \"example.org/gone\"")),
        ("go.mod", format!("{module}\nrequire example.org/gone v1.0.0\n")),
        ("vendor/modules.txt", "# example.org/other v1.0.0\n".to_owned()),
    ];
    let mut told = String::new();
    for (file, text) in broken {
        let before = std::fs::read(stage.source().join(file)).ok();
        stage.write(file, text);
        stage.platform = vec![("GOPROXY".to_owned(), "off".to_owned())];
        stage.env.set("GOPROXY", "off");
        let failure = stage.push().unwrap_err().explain();
        told.push_str(&format!("{}\n  {}\n  -> {}\n\n", failure.title, failure.cause, failure.remedy));
        match before {
            Some(before) => stage.write(file, before),
            None => std::fs::remove_dir_all(stage.source().join("vendor")).unwrap(),
        }
    }
    insta::with_settings!({ filters => vec![(r"there is [0-9., ]+", "there is [lines]")] }, {
        insta::assert_snapshot!("failures", told);
    });
}
