//! Apps pushed with a real PHP and nginx, started from their layers, and pushed again.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use lifecycle::testing::{Running, Stage, free_port, written};
use model::staging::BuildResult;
use std::path::Path;

fn sample(stage: &Stage, name: &str) {
    stage.copy(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/apps")
            .join(name),
    );
}

/// The app with this much memory, which keeps its short-lived files where the test does.
fn start(stage: &Stage, result: &BuildResult, memory: &str) -> Served {
    let (port, tmp) = (free_port(), stage.beside("tmp"));
    let port_text = port.to_string();
    let env = [
        ("PORT", port_text.as_str()),
        ("MEMORY_LIMIT", memory),
        ("TMPDIR", tmp.to_str().unwrap()),
    ];
    Served(Running::start(stage.launch(result, "web", &env).unwrap(), port))
}

/// FPM leads a session of its own, so only the script can end it.
struct Served(Running);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.stop();
    }
}

/// One test, since each PHP is the same: plain pages, an app that Composer loads, changes of it, and the failures.
#[test]
fn plain_with_composer_changed_and_broken() {
    let mut stage = Stage::of(
        "php_buildpack",
        env!("CARGO_MANIFEST_DIR"),
        env!("CARGO_BIN_EXE_buildpack-php"),
    );
    sample(&stage, "php-plain");
    let first = stage.push().unwrap();
    assert_eq!(first.buildpacks[0].detected, "PHP * (default)");
    assert_eq!(first.processes[0].source, "nginx and FPM for the top of the app");
    let mut running = start(&stage, &first, "480m");
    let answer = running.0.get("/");
    assert!(
        answer.contains("200 OK") && answer.contains("Hello from PHP 8."),
        "{answer}"
    );
    assert!(running.0.get("/style.css").contains("text/css"));
    assert!(
        running.0.get("/some/page?a=b").contains("/some/page?a=b"),
        "pages without a file go to index.php"
    );
    assert!(running.0.get("/.hidden").contains("404"));
    assert!(running.0.get("/?env=PHP_FPM_CHILDREN").contains("PHP_FPM_CHILDREN=10"));
    assert!(running.0.stop().success(), "SIGTERM ends it well");
    let again = stage.push().unwrap();
    assert_eq!(written(&again), ["app", "config"], "an unchanged push");
    let page = std::fs::read_to_string(stage.source().join("index.php")).unwrap();
    stage.write("index.php", page.replace("Hello from", "Greetings from"));
    let changed = stage.push().unwrap();
    assert!(!written(&changed).contains(&"paas/php:php"), "one file changed");
    assert!(
        start(&stage, &changed, "480m")
            .0
            .get("/")
            .contains("Greetings from PHP")
    );

    std::fs::remove_dir_all(stage.source()).unwrap();
    sample(&stage, "php-composer");
    let composed = stage.push().unwrap();
    assert_eq!(composed.processes[0].source, "nginx and FPM for the folder public");
    assert!(
        start(&stage, &composed, "256m")
            .0
            .get("/")
            .contains("Hello from a class, with mb_strlen 5")
    );

    failures(&mut stage);
}

fn failures(stage: &mut Stage) {
    let manifest = std::fs::read_to_string(stage.source().join("composer.json")).unwrap();
    let broken: [(&str, String); 5] = [
        ("composer.json", manifest.replace("^8.1", "^5.6")),
        ("composer.json", manifest.replace("^8.1", "banana")),
        ("composer.json", manifest.replace("ext-mbstring", "ext-nonsense")),
        ("composer.json", manifest.replace('}', "")),
        (
            "composer.json",
            manifest.replace(
                "\"require\": {",
                "\"scripts\": {\"post-autoload-dump\": \"exit 3\"},\n    \"require\": {",
            ),
        ),
    ];
    let mut told = String::new();
    for (file, text) in broken {
        stage.write("composer.json", &manifest);
        stage.write(file, text);
        let failure = stage.push().unwrap_err().explain();
        // What can be had changes from day to day.
        let cause = failure.cause.split("; there is").next().unwrap_or_default();
        told.push_str(&format!("{}\n  {cause}\n  -> {}\n\n", failure.title, failure.remedy));
    }
    insta::assert_snapshot!("failures", told);
}
