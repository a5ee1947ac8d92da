//! Apps pushed against the real index, started from their layers, and pushed again.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use lifecycle::testing::{Running, Stage, told, written};
use model::staging::BuildResult;
use std::path::{Path, PathBuf};

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/apps")
        .join(name)
}

fn stage() -> Stage {
    Stage::of(
        "python_buildpack",
        env!("CARGO_MANIFEST_DIR"),
        env!("CARGO_BIN_EXE_buildpack-python"),
    )
}

fn start(stage: &Stage, result: &BuildResult) -> Running {
    stage.web(result, "512m")
}

/// No test may wait for an index that an unchanged push must not ask.
fn cut_off(stage: &mut Stage) {
    stage
        .platform
        .push(("UV_DEFAULT_INDEX".to_owned(), "http://127.0.0.1:9/simple".to_owned()));
}

#[test]
fn flask_by_requirements() {
    let mut stage = stage();
    stage.copy(&sample("python-flask"));
    let first = stage.push().unwrap();
    assert_eq!(first.buildpacks[0].detected, "Python (requirements.txt)");
    assert_eq!(first.processes[0].command, "gunicorn --bind 0.0.0.0:$PORT app:app");
    assert_eq!(first.processes[0].source, "Flask in app.py");
    assert_eq!(written(&first), ["app", "config", "paas/python:deps", "paas/python:uv"]);
    let mut running = start(&stage, &first);
    assert!(running.get("/").contains("Hello from Flask on Python 3"));
    assert!(running.get("/env").contains(r#""WEB_CONCURRENCY":"2""#));
    assert!(running.stop().success());
    let cached = stage.paths().layers.join("paas_python/deps/venv/lib");
    let stale = walkdir::WalkDir::new(cached).into_iter().filter_map(|entry| entry.ok());
    let mut compiled = stale.filter(|entry| entry.path().extension().is_some_and(|end| end == "pyc"));
    let bytes = std::fs::read(compiled.next().unwrap().path()).unwrap();
    assert_eq!(bytes[4..8], [1, 0, 0, 0], "compiled code is matched by content");

    cut_off(&mut stage);
    assert_eq!(written(&stage.push().unwrap()), ["app", "config"], "an unchanged push");
    let source = std::fs::read_to_string(stage.source().join("app.py")).unwrap();
    stage.write("app.py", source.replace("Hello from", "Greetings from"));
    let changed = stage.push().unwrap();
    assert_eq!(written(&changed), ["app", "config"], "one file changed");
    assert!(start(&stage, &changed).get("/").contains("Greetings from Flask"));
    stage.write("requirements.txt", "flask==0.0.0.1\n");
    assert!(stage.push().is_err(), "changed dependencies are installed anew");
}

#[test]
fn fastapi_by_uv_lock() {
    let mut stage = stage();
    stage.copy(&sample("python-uv"));
    let first = stage.push().unwrap();
    assert_eq!(first.processes[0].source, "FastAPI in main.py");
    assert!(
        start(&stage, &first)
            .get("/")
            .contains("Hello from FastAPI on Python 3")
    );
    let venv = stage.paths().layers.join("paas_python/deps/venv/bin");
    assert!(
        venv.join("uvicorn").exists() && !venv.join("ruff").exists(),
        "what is for development stays behind"
    );
    cut_off(&mut stage);
    assert_eq!(written(&stage.push().unwrap()), ["app", "config"]);
}

#[test]
fn django_with_its_static_files_collected() {
    let mut stage = stage();
    stage.copy(&sample("python-django"));
    let first = stage.push().unwrap();
    assert_eq!(first.processes[0].source, "Django in website/wsgi.py");
    assert_eq!(first.processes[0].command, "gunicorn --bind 0.0.0.0:$PORT website.wsgi");
    let mut running = start(&stage, &first);
    assert!(running.get("/").contains("Hello from Django 5.2"));
    assert!(running.get("/collected").contains("font-family"));
    assert!(running.stop().success());
    cut_off(&mut stage);
    assert_eq!(written(&stage.push().unwrap()), ["app", "config"], "an unchanged push");
}

#[test]
fn a_lock_file_holds_for_a_mirror_too() {
    let mut stage = stage();
    stage.copy(&sample("python-uv"));
    // The same index by another spelling: to uv it is another one.
    stage
        .platform
        .push(("UV_DEFAULT_INDEX".to_owned(), "https://pypi.org:443/simple".to_owned()));
    let first = stage.push().unwrap();
    assert!(start(&stage, &first).get("/").contains("Hello from FastAPI"));
}

#[test]
fn a_script_of_the_standard_library_needs_nothing() {
    let mut stage = stage();
    cut_off(&mut stage);
    stage.copy(&sample("python-http"));
    let result = stage.push().unwrap();
    assert_eq!(result.processes[0].command, "python3 main.py");
    assert!(start(&stage, &result).get("/").contains("Hello from Python 3"));
}

/// A package of the app's own whose build does `what`.
fn local_package(stage: &Stage, what: &str) {
    stage.write("requirements.txt", "./own\n");
    stage.write(
        "own/pyproject.toml",
        "[project]\nname = 'own'\nversion = '1'\n[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
    );
    stage.write(
        "own/backend.py",
        format!("def build_wheel(*given, **named):\n    {what}\n"),
    );
}

#[test]
fn failures_say_what_to_do() {
    let mut all = String::new();
    for (what, sample_name, file, text) in [
        ("missing runtime version", "python-flask", ".python-version", "3.7\n"),
        ("no version", "python-flask", ".python-version", "snake\n"),
        (
            "no such package",
            "python-flask",
            "requirements.txt",
            "flask==0.0.0.1\n",
        ),
        ("not valid", "python-flask", "pyproject.toml", "[project\n"),
        ("wrong lock file", "python-uv", "pyproject.toml", ""),
        ("no lock file", "python-http", "Pipfile", "[packages]\nflask = '*'\n"),
        ("failing build script", "python-http", "", ""),
    ] {
        let mut stage = stage();
        stage.copy(&sample(sample_name));
        match file {
            "" => local_package(&stage, "raise SystemExit('the build says no')"),
            _ if text.is_empty() => {
                let manifest = std::fs::read_to_string(stage.source().join(file)).unwrap();
                stage.write(
                    file,
                    manifest.replace("dependencies = [", "dependencies = [\n    \"six\","),
                );
            }
            _ => stage.write(file, text),
        }
        let failure = stage.push().unwrap_err().explain();
        all.push_str(&format!("{what}: {}", told(&failure, &[", and the stack"])));
    }
    insta::assert_snapshot!("failures", all);
}

const APP: &str = "import http.server, os, itsdangerous\nclass Handler(http.server.BaseHTTPRequestHandler):\n    def do_GET(self):\n        \
    self.send_response(200)\n        self.end_headers()\n        self.wfile.write(itsdangerous.Signer('key').sign('signed'))\n\
http.server.HTTPServer(('', int(os.environ['PORT'])), Handler).serve_forever()\n";
const HASH: &str = "sha256:c6242fc49e35958c8b15141343aa660db5fc54d4f13a1db01a3f5891b98700ef";

/// The lock of each tool with its manifest, both naming one package and one for development that does not exist.
fn locks() -> [(&'static str, String, &'static str, &'static str); 3] {
    let poetry = format!(
        "[[package]]\nname = 'itsdangerous'\nversion = '2.2.0'\nfiles = [{{file = 'x.whl', hash = '{HASH}'}}]\n\
        [[package]]\nname = 'only-development'\nversion = '1'\nfiles = [{{file = 'y.whl', hash = '{HASH}'}}]\n"
    );
    let pipenv = format!(
        r#"{{"_meta": {{}}, "default": {{"itsdangerous": {{"version": "==2.2.0", "hashes": ["{HASH}"]}}}}, "develop": {{"only-development": {{}}}}}}"#
    );
    let pdm = poetry.replace("version = '2.2.0'", "version = '2.2.0'\ngroups = ['default']");
    let pdm = pdm.replace("version = '1'", "version = '1'\ngroups = ['dev']");
    [
        (
            "poetry.lock",
            poetry,
            "pyproject.toml",
            "[tool.poetry.dependencies]\npython = '^3.9'\nitsdangerous = '^2.2'\n",
        ),
        ("Pipfile.lock", pipenv, "Pipfile", "[packages]\nitsdangerous = '*'\n"),
        (
            "pdm.lock",
            pdm,
            "pyproject.toml",
            "[project]\ndependencies = ['itsdangerous']\n",
        ),
    ]
}

#[test]
fn locks_of_other_tools_are_installed_as_they_are() {
    let mut told = String::new();
    for (file, lock, manifest, text) in locks() {
        let mut stage = stage();
        stage.write("main.py", APP);
        stage.write(manifest, text);
        stage.write(file, &lock);
        let first = stage.push().unwrap();
        assert!(start(&stage, &first).get("/").contains("signed."), "{file}");
        stage.write(manifest, text.replace("itsdangerous", "flask"));
        stage.write(file, lock.replace("2.2.0", "2.1.0"));
        let stale = stage.push().unwrap_err().explain();
        stage.write(manifest, text);
        let other = stage.push().unwrap_err().explain();
        stage.write(file, "not a lock");
        let broken = stage.push().unwrap_err().explain();
        for failure in [stale, other, broken] {
            let cause = failure.cause.split(": expected").next().unwrap_or_default();
            told.push_str(&format!("{file}: {cause}\n  -> {}\n", failure.remedy));
        }
    }
    insta::assert_snapshot!("failures_of_locks", told);
}
