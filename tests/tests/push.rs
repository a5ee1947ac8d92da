//! Real apps pushed to a real platform: they answer, a push without a change does nothing twice, a change is live.

use std::path::Path;
use tests::{Platform, app};

/// Pushes `name` from `folder`, and what it answers at `/`.
fn push(platform: &Platform, name: &str, folder: &Path) -> String {
    let ended = platform
        .paas(["push", folder.to_str().expect("UTF-8"), "-n", name])
        .ok();
    let (status, body) = platform.get(&format!("{name}.localhost"), "/");
    assert_eq!(status, 200, "{body}\n{}", ended.stderr);
    body
}

/// Pushes, pushes again unchanged, changes one file, and pushes that.
fn three_times(name: &str, file: &str, from: &str, to: &str) {
    let platform = &Platform::start();
    let folder = app(name);
    let first = push(platform, name, folder.path());
    assert!(first.contains(from), "{first}");
    assert_eq!(push(platform, name, folder.path()), first);
    let path = folder.path().join(file);
    let text = std::fs::read_to_string(&path).expect("readable");
    assert!(text.contains(from), "{file} has no {from:?}");
    std::fs::write(&path, text.replace(from, to)).expect("written");
    let changed = push(platform, name, folder.path());
    assert!(changed.contains(to), "{changed}");
}

#[test]
fn an_express_app() {
    three_times("node-express", "server.js", "Hello from Express", "Hello again");
}

#[test]
fn a_flask_app() {
    three_times("python-flask", "app.py", "Hello from Flask", "Hello again");
}

#[test]
fn a_static_site() {
    three_times("static-site", "public/index.html", "It works", "It still works");
}

#[test]
fn a_compiled_binary() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = std::fs::read_to_string(tests::root().join("tests/apps/binary/server.rs")).expect("readable");
    let build = |greeting: &str| {
        let scratch = tempfile::tempdir().expect("a folder");
        let file = scratch.path().join("server.rs");
        std::fs::write(&file, source.replace("Hello from a compiled program", greeting)).expect("written");
        let mut rustc = std::process::Command::new("rustc");
        let status = rustc
            .arg("-O")
            .arg("-o")
            .arg(folder.path().join("server"))
            .arg(&file)
            .status();
        assert!(status.expect("rustc starts").success());
    };
    let platform = Platform::start();
    build("Hello from the first build");
    assert!(push(&platform, "binary", folder.path()).contains("Hello from the first build"));
    assert!(push(&platform, "binary", folder.path()).contains("Hello from the first build"));
    build("Hello again");
    assert!(push(&platform, "binary", folder.path()).contains("Hello again"));
}
