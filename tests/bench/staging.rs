//! `cargo xtask bench staging`: a first push, an unchanged one, one file changed and dependencies changed, of an app
//! with ten thousand files of dependencies and of a small one; what a cell takes to start them; beside the package
//! manager by hand and beside unpacking the droplet as one `.tgz`.
//!
//! Each scenario runs several times on one real platform of this machine; medians are told.
#![allow(clippy::print_stdout, reason = "a benchmark's result")]

use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use tests::{Api, Platform, app};

/// Rounds where the command line names no other number.
const ROUNDS: usize = 5;

/// An app, and how a person installs its dependencies.
struct Subject {
    name: &'static str,
    folder: tempfile::TempDir,
    /// A file of its own, and what a change adds to it.
    source: (&'static str, &'static str),
    /// Such as `package.json`, as it is and with other dependencies.
    manifest: (&'static str, String, String),
    install: fn(&Path),
}

/// Figures in milliseconds, or bytes, by scenario.
#[derive(Default)]
struct Figures(BTreeMap<String, Vec<u64>>);

impl Figures {
    fn add(&mut self, subject: &str, scenario: &str, value: u64) {
        self.0.entry(format!("{subject} · {scenario}")).or_default().push(value);
    }

    /// Takes over what an earlier run left.
    fn load(&mut self, path: &Path) {
        let document: Value = std::fs::read(path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        self.0 = serde_json::from_value(document["figures"].clone()).unwrap_or_default();
    }
}

fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An Express app with about ten thousand files in `node_modules`.
fn node() -> Subject {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = |more: &str| {
        format!(
            r#"{{"name":"bench","version":"1.0.0","private":true,"main":"server.js","engines":{{"node":"22.x"}},"dependencies":{{{more}"express":"4.21.2","lodash":"4.17.21","date-fns":"3.6.0","core-js":"3.38.1"}}}}"#
        )
    };
    let server = "const express = require('express'); require('lodash');\nexpress().get('/', (q, r) => r.send('ok')).listen(process.env.PORT);\n";
    std::fs::write(folder.path().join("server.js"), server).expect("written");
    Subject {
        name: "Node, 10,000 files",
        folder,
        source: ("server.js", "// changed\n"),
        manifest: ("package.json", manifest(""), manifest(r#""rxjs":"7.8.1","#)),
        install: |folder| {
            let cache = tempfile::tempdir().expect("a folder");
            let mut npm = Command::new("npm");
            npm.args(["ci", "--omit=dev", "--no-audit", "--no-fund", "--cache"])
                .arg(cache.path())
                .current_dir(folder);
            run(&mut npm);
        },
    }
}

/// Flask with gunicorn.
fn flask() -> Subject {
    let folder = app("python-flask");
    let requirements = std::fs::read_to_string(folder.path().join("requirements.txt")).expect("readable");
    Subject {
        name: "Flask, gunicorn",
        folder,
        source: ("app.py", "# changed\n"),
        manifest: (
            "requirements.txt",
            requirements.clone(),
            format!("{}\nhumanize==4.11.0\n", requirements.trim_end()),
        ),
        install: |folder| {
            let venv = tempfile::tempdir().expect("a folder");
            run(Command::new("python3").args(["-m", "venv"]).arg(venv.path()));
            let mut pip = Command::new(venv.path().join("bin/pip"));
            pip.args(["install", "--no-cache-dir", "-q", "-r", "requirements.txt"])
                .current_dir(folder);
            run(&mut pip);
        },
    }
}

impl Subject {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the manifest, and the lock file that belongs to it.
    fn depend(&self, text: &str) {
        std::fs::write(self.file(self.manifest.0), text).expect("written");
        if self.manifest.0 == "package.json" {
            let mut npm = Command::new("npm");
            npm.args(["install", "--package-lock-only", "--no-audit", "--no-fund"])
                .current_dir(self.folder.path());
            run(&mut npm);
        }
    }

    fn by_hand(&self) -> u64 {
        let copy = tempfile::tempdir().expect("a folder");
        run(Command::new("cp")
            .arg("-a")
            .arg(self.folder.path().join("."))
            .arg(copy.path()));
        let began = Instant::now();
        (self.install)(copy.path());
        millis(began)
    }
}

/// One app of one round, and which layers its droplets have had.
struct App<'a> {
    platform: &'a Platform,
    subject: &'a Subject,
    name: String,
    seen: HashSet<String>,
}

impl App<'_> {
    fn push(&mut self, scenario: &str, figures: &mut Figures) {
        let began = Instant::now();
        let path = self.subject.folder.path().to_str().expect("UTF-8");
        let ended = self.platform.paas(["push", path, "-n", &self.name, "--json"]).ok();
        figures.add(self.subject.name, scenario, millis(began));
        let report = ended.json();
        let phases = report["apps"][0]["phases"].as_array().cloned().unwrap_or_default();
        for phase in phases {
            let name = phase["name"].as_str().unwrap_or_default().trim().to_owned();
            if ["stage", "export", "healthy"].contains(&name.as_str()) || name.starts_with("build ") {
                let took = phase["duration_ms"].as_u64().unwrap_or_default();
                figures.add(self.subject.name, &format!("{scenario}, {name}"), took);
            }
        }
        figures.add(self.subject.name, &format!("{scenario}, bytes"), self.moved(&report));
    }

    /// Bytes of layers that no earlier droplet of the app had.
    fn moved(&mut self, report: &Value) -> u64 {
        let droplet = report["apps"][0]["droplet"].as_str().unwrap_or_default();
        let (_, droplet) = Api::of(self.platform).call("GET", &format!("/v3/droplets/{droplet}"), &Value::Null);
        let layers = droplet["layers"].as_array().cloned().unwrap_or_default();
        let new = layers.iter().filter(|layer| {
            self.seen
                .insert(layer["digest"].as_str().unwrap_or_default().to_owned())
        });
        new.filter_map(|layer| layer["size_bytes"].as_u64()).sum()
    }

    /// Digests of the layers of its droplet that hold what is the app's alone, without the algorithm.
    fn own_layers(&self) -> Vec<String> {
        let api = Api::of(self.platform);
        let (_, found) = api.call("GET", &format!("/v3/apps?names={}", self.name), &Value::Null);
        let guid = found["resources"][0]["guid"].as_str().unwrap_or_default();
        let (_, droplet) = api.call("GET", &format!("/v3/apps/{guid}/droplets/current"), &Value::Null);
        let layers = droplet["layers"].as_array().cloned().unwrap_or_default();
        let own = layers.iter().filter(|layer| {
            let name = layer["name"].as_str().unwrap_or_default();
            name == "app" || name == "config" || name.starts_with("app:")
        });
        let digest = |layer: &Value| {
            let digest = layer["digest"].as_str().unwrap_or_default();
            digest.trim_start_matches("sha256:").to_owned()
        };
        own.map(digest).collect()
    }

    /// Unpacks the whole droplet as other platforms do for each instance.
    fn unpack(&self, figures: &mut Figures) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("droplet.tgz");
        let path = file.to_str().expect("UTF-8");
        let _ = self
            .platform
            .paas(["download-droplet", &self.name, "--path", path])
            .ok();
        let into = folder.path().join("into");
        std::fs::create_dir(&into).expect("a folder");
        let began = Instant::now();
        run(Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(&into));
        figures.add(self.subject.name, "tar -xzf of the droplet", millis(began));
        let bytes = std::fs::metadata(&file).expect("there").len();
        figures.add(self.subject.name, "the droplet as .tgz, bytes", bytes);
    }
}

fn round(platform: &mut Platform, subject: &Subject, number: usize, figures: &mut Figures) {
    subject.depend(&subject.manifest.1);
    figures.add(subject.name, "installer by hand", subject.by_hand());
    let name = format!("bench{number}");
    {
        let mut app = App {
            platform,
            subject,
            name: name.clone(),
            seen: HashSet::new(),
        };
        app.push("cold", figures);
        app.push("unchanged", figures);
        let file = subject.file(subject.source.0);
        let text = std::fs::read_to_string(&file).expect("readable");
        std::fs::write(&file, format!("{text}{}", subject.source.1)).expect("written");
        app.push("one file changed", figures);
        std::fs::write(&file, text).expect("written");
        subject.depend(&subject.manifest.2);
        app.push("dependencies changed", figures);
        app.unpack(figures);
    }
    let own = App {
        platform,
        subject,
        name: name.clone(),
        seen: HashSet::new(),
    }
    .own_layers();
    assert!(!own.is_empty(), "the droplet has layers of the app's own");
    let _ = platform.paas(["stop", &name]).ok();
    // What the cell does not have, the blob store has.
    start_with(
        platform,
        &name,
        (subject.name, "start, all layers on the cell"),
        figures,
        |_| false,
    );
    start_with(
        platform,
        &name,
        (subject.name, "start, shared layers on the cell"),
        figures,
        |file| own.iter().any(|digest| file.starts_with(digest.as_str())),
    );
    start_with(
        platform,
        &name,
        (subject.name, "start, nothing on the cell"),
        figures,
        |_| true,
    );
    let _ = platform.paas(["delete", &name, "--yes"]).ok();
}

/// Starts the app on a platform that has just come up, on a cell whose cache has lost what `gone` names.
fn start_with(
    platform: &mut Platform,
    app: &str,
    (subject, scenario): (&str, &str),
    figures: &mut Figures,
    gone: impl Fn(&str) -> bool,
) {
    platform.stop();
    let layers = platform.path("cell/layers");
    for entry in std::fs::read_dir(&layers).expect("listed") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if ["boot", "tmp"].contains(&name) || !gone(name) {
            continue;
        }
        if path.is_dir() {
            std::fs::remove_dir_all(&path).expect("removed");
        } else {
            std::fs::remove_file(&path).expect("removed");
        }
    }
    platform.up();
    let began = Instant::now();
    let _ = platform.paas(["start", app]).ok();
    figures.add(subject, scenario, millis(began));
    let _ = platform.paas(["stop", app]).ok();
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments
        .next()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(ROUNDS);
    // What a name begins with; and what earlier runs measured stays where one is given.
    let only = arguments.next().unwrap_or_default();
    let path = tests::root().join("target/bench-staging.json");
    let mut figures = Figures::default();
    if !only.is_empty() {
        figures.load(&path);
    }
    let mut platform = Platform::start();
    let all: [fn() -> Subject; 2] = [node, flask];
    for subject in all
        .into_iter()
        .map(|make| make())
        .filter(|subject| subject.name.starts_with(&only))
    {
        for number in 0..rounds {
            round(&mut platform, &subject, number, &mut figures);
        }
    }
    println!("| scenario | median | min | max |\n|---|---|---|---|");
    for (name, values) in &figures.0 {
        let (min, max) = (values.iter().min().unwrap_or(&0), values.iter().max().unwrap_or(&0));
        println!("| {name} | {} | {min} | {max} |", median(values));
    }
    let document = json!({"rounds": rounds, "figures": figures.0});
    std::fs::create_dir_all(path.parent().expect("target")).expect("a folder");
    std::fs::write(&path, document.to_string()).expect("written");
    println!("\n{rounds} rounds; as JSON: target/bench-staging.json");
}
