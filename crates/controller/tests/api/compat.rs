//! How far CF's API is served, from evidence: each command of `cf` is replayed from `cf/commands.txt`, and each of
//! CF's routes in `cf/routes.txt` is looked up and, where it is not served, asked for.
//!
//! What comes of it is `docs/cf-compatibility.md`; the test fails where that is not what was found. `UPDATE=1` in the
//! environment writes it anew.

use crate::client::*;
use api::v3::ROUTES;
use http::Method;
use model::resource::DeploymentState;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use store::testing::TestStore;

store::on_both_engines!(
    every_command_of_cf_is_replayed_or_named_as_missing,
    what_of_cf_is_not_served_says_so,
);

const COMMANDS: &str = include_str!("cf/commands.txt");
const CF_ROUTES: &str = include_str!("cf/routes.txt");

/// How far a command goes.
enum Standing {
    Works(usize),
    Local,
    Refused(String),
    Planned(String),
}

struct Command {
    name: &'static str,
    lines: Vec<&'static str>,
}

fn commands() -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for line in COMMANDS.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("## ") {
            Some(name) => commands.push(Command {
                name,
                lines: Vec::new(),
            }),
            None if line.starts_with('#') => {}
            None => commands.last_mut().expect("a command is named first").lines.push(line),
        }
    }
    commands
}

/// A route with nothing in its braces, so that names of parameters don't matter.
fn shape(method: &str, path: &str) -> String {
    let mut shape = format!("{method} ");
    let mut within = false;
    for letter in path.trim_end_matches('/').chars() {
        if letter == '}' {
            within = false;
        }
        if !within {
            shape.push(letter);
        }
        if letter == '{' {
            within = true;
        }
    }
    shape
}

fn served() -> BTreeSet<String> {
    ROUTES.iter().map(|route| shape(route.method, route.path)).collect()
}

/// The path of the job that an answer names.
fn location(answer: &Answer) -> Option<String> {
    let location = answer.headers.get("location")?.to_str().ok()?;
    location.strip_prefix(URL).map(ToOwned::to_owned)
}

/// A session of the command line: what it knows by name, and where the last answer's job is.
struct Session<'p> {
    client: Client<'p>,
    store: &'p TestStore,
    vars: BTreeMap<String, String>,
    location: Option<String>,
}

impl Session<'_> {
    fn filled(&self, text: &str) -> String {
        // Longest names first: `$app2` is not `$app` with a 2.
        let mut names: Vec<&String> = self.vars.keys().collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        names.into_iter().fold(text.to_owned(), |text, name| {
            text.replace(&format!("${name}"), &self.vars[name])
        })
    }

    /// Runs one line; how many calls that were.
    async fn run(&mut self, command: &str, line: &str) -> usize {
        let filled = self.filled(line);
        assert!(!filled.contains('$'), "{command}: {filled} has an unknown name");
        let words: Vec<&str> = filled.split(' ').collect();
        match words.as_slice() {
            ["job"] => {
                let location = self.location.take().expect("the last answer named a job");
                let job = self.client.get(&location).await.expect(200);
                assert_eq!(job.body["state"], "COMPLETE", "{command}: {}", job.text);
            }
            ["upload", path, "->", status] => {
                let files = zip(&[
                    ("app.py", "print(1)"),
                    ("bin/detect", ""),
                    ("bin/compile", ""),
                    ("bin/release", ""),
                ]);
                let answer = self.client.upload_to(path, &json!([]), Some(files)).await;
                assert_eq!(
                    answer.status.as_u16().to_string(),
                    *status,
                    "{command}: {}",
                    answer.text
                );
                self.location = location(&answer);
            }
            ["staged", build, "as", var] => {
                let droplet = finish_build(&self.client.platform.context, build).await;
                self.vars.insert((*var).to_owned(), droplet);
                return 0;
            }
            ["reach", deployment, state] => {
                self.reach(deployment, state).await;
                return 0;
            }
            ["form", form, "->", "200"] => {
                self.client.platform.form(form).await.expect(200);
            }
            ["@show", app] => {
                let app = (*app).to_owned();
                return self.show(command, &app).await;
            }
            [method, path, ..] => self.call(command, method, path, &filled).await,
            _ => panic!("{command}: {line:?} is no line"),
        }
        1
    }

    async fn call(&mut self, command: &str, method: &str, path: &str, line: &str) {
        let rest = line[method.len() + path.len() + 1..].trim();
        let (body, expected) = rest.rsplit_once("-> ").expect("a status is expected");
        let (status, var) = match expected.split_once(" as ") {
            Some((status, var)) => (status, Some(var)),
            None => (expected, None),
        };
        let body = body.trim();
        let answer = match body.strip_prefix("yaml ") {
            Some(text) => self.client.yaml(path, &text.replace("\\n", "\n")).await,
            None => {
                let body = (!body.is_empty()).then(|| serde_json::from_str(body).expect("JSON"));
                let verb: Method = method.parse().expect("a method");
                self.client.call(verb, path, body).await
            }
        };
        let status: u16 = status.trim().parse().expect("a status");
        assert_eq!(answer.status.as_u16(), status, "{command}: {line}: {}", answer.text);
        self.location = location(&answer);
        if let Some(var) = var {
            let own = ["guid", "id"].iter().find_map(|key| answer.body[key].as_str());
            let listed = ["resources", "destinations"]
                .iter()
                .find_map(|list| answer.body[list][0]["guid"].as_str());
            let guid = own.or(listed);
            let guid = guid.unwrap_or_else(|| panic!("{command}: no guid in {}", answer.text));
            self.vars.insert(var.trim().to_owned(), guid.to_owned());
        }
    }

    /// What the scheduler would do.
    async fn reach(&self, deployment: &str, state: &str) {
        let state: DeploymentState = serde_json::from_value(Value::String(state.to_owned())).expect("a state");
        let id = deployment.parse().expect("a guid");
        let mut deployment = self.store.deployment_fetch(id).await.expect("read").expect("there");
        let from = deployment.state;
        deployment.state = state;
        let tx = self.store.begin().await.expect("begins");
        assert!(tx.deployment_step(&deployment, from).await.expect("stepped"));
        tx.commit().await.expect("commits");
    }

    /// How a command shows an app at its end.
    async fn show(&mut self, command: &str, app: &str) -> usize {
        let processes = self.client.get(&format!("/v3/apps/{app}/processes")).await.expect(200);
        let process = processes.body["resources"][0]["guid"].as_str().expect("web").to_owned();
        let paths = [
            format!("/v3/processes/{process}"),
            format!("/v3/processes/{process}/sidecars"),
            format!("/v3/processes/{process}/stats"),
            format!("/v3/apps/{app}/routes"),
            format!("/v3/apps/{app}/droplets/current"),
            format!("/v3/deployments?app_guids={app}&order_by=-created_at&page=1&per_page=1&status_values=ACTIVE"),
        ];
        for path in &paths {
            let answer = self.client.get(path).await;
            assert_eq!(answer.status.as_u16(), 200, "{command}: {path}: {}", answer.text);
        }
        paths.len() + 1
    }
}

async fn standing(session: &mut Session<'_>, command: &Command, served: &BTreeSet<String>) -> Standing {
    let first = command.lines.first().copied().unwrap_or_default();
    if first == "local" {
        return Standing::Local;
    }
    if let Some(reason) = first.strip_prefix("refused ") {
        return Standing::Refused(reason.to_owned());
    }
    if let Some(what) = first.strip_prefix("planned ") {
        let needs: Vec<&str> = command
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix("needs "))
            .collect();
        let missing = needs.iter().any(|need| {
            let (method, path) = need.split_once(' ').expect("a route");
            !served.contains(&shape(method, path))
        });
        assert!(
            missing,
            "`cf {}` is planned, but all that it needs is served: write down its calls instead",
            command.name
        );
        return Standing::Planned(what.to_owned());
    }
    let mut calls = 0;
    for line in &command.lines {
        calls += session.run(command.name, line).await;
    }
    assert!(calls > 0, "`cf {}` has no calls", command.name);
    Standing::Works(calls)
}

async fn every_command_of_cf_is_replayed_or_named_as_missing(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let me = admin.get("/userinfo").await.expect(200).body["user_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let mut session = Session {
        client: admin,
        store,
        vars: BTreeMap::from([("me".to_owned(), me)]),
        location: None,
    };
    let served = served();
    let mut standings = Vec::new();
    let all = commands();
    for command in &all {
        standings.push((command.name, standing(&mut session, command, &served).await));
    }
    let names: BTreeSet<&str> = all.iter().map(|command| command.name).collect();
    assert_eq!((all.len(), names.len()), (190, 190), "each command of cf once");
    compare(&document(&standings, &served));
}

fn cf_routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = CF_ROUTES.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' '))
}

/// What is not there is CF's `Unknown request`, also below paths that are there, and never anything else.
async fn what_of_cf_is_not_served_says_so(store: &TestStore) {
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let served = served();
    let mut asked = 0;
    for (method, path) in cf_routes().filter(|(method, path)| !served.contains(&shape(method, path))) {
        let mut path = path.to_owned();
        while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
            path.replace_range(from..=to, "6f3a1c5e-0000-4000-8000-000000000000");
        }
        let verb: Method = method.parse().expect("a method");
        let body = (method != "GET").then(|| json!({}));
        let answer = admin.call(verb, &path, body).await;
        // A word of a longer route may be read as an id of a shorter one.
        let unknown = (answer.body["errors"][0]["code"] == 10000 && answer.detail() == "Unknown request")
            || answer.body["errors"][0]["code"] == 10010;
        assert!(
            answer.status.as_u16() == 404 && unknown,
            "{method} {path}: {} {}",
            answer.status,
            answer.text
        );
        asked += 1;
    }
    assert!(asked > 0);
    let _ = store;
}

fn document(standings: &[(&str, Standing)], served: &BTreeSet<String>) -> String {
    let mut text = "\
# Compatibility with Cloud Foundry

Written by a test (`crates/controller/tests/api/compat.rs`), from evidence: the calls of each command of the `cf`
command line are replayed on both databases, and each of CF's routes is looked up in the table of what is served. What
is not served answers `404` with CF's error 10000, `Unknown request`; nothing is accepted and ignored.

"
    .to_owned();
    let count = |of: fn(&Standing) -> bool| standings.iter().filter(|(_, standing)| of(standing)).count();
    let works = count(|standing| matches!(standing, Standing::Works(_) | Standing::Local));
    let refused = count(|standing| matches!(standing, Standing::Refused(_)));
    let planned = count(|standing| matches!(standing, Standing::Planned(_)));
    let routes: Vec<_> = cf_routes()
        .map(|(method, path)| (method, path, served.contains(&shape(method, path))))
        .collect();
    let there = routes.iter().filter(|(.., there)| *there).count();
    writeln!(
        text,
        "Of {} commands {works} work, {refused} are refused with a reason, {planned} are planned. Of {} routes {there} \
         are served.\n\n## Commands\n\n| command | standing | evidence, or what is missing |\n|---|---|---|",
        standings.len(),
        routes.len()
    )
    .expect("written");
    for (name, standing) in standings {
        let (word, why) = match standing {
            Standing::Works(calls) => ("works", format!("{calls} calls replayed")),
            Standing::Local => ("works", "asks nothing of the platform".to_owned()),
            Standing::Refused(reason) => ("refused", reason.clone()),
            Standing::Planned(what) => ("planned", what.clone()),
        };
        writeln!(text, "| `cf {name}` | {word} | {why} |").expect("written");
    }
    text.push_str("\n## Routes\n\n| resource | served | not served yet |\n|---|---|---|\n");
    let mut resources: BTreeMap<&str, [Vec<String>; 2]> = BTreeMap::new();
    for (method, path, there) in routes {
        let resource = path.trim_start_matches("/v3").split('/').nth(1).unwrap_or("root");
        let short = path
            .trim_start_matches("/v3")
            .trim_start_matches('/')
            .trim_start_matches(resource);
        resources.entry(resource).or_default()[usize::from(!there)].push(format!("{method} `{short}`"));
    }
    for (resource, [served, missing]) in resources {
        writeln!(text, "| {resource} | {} | {} |", served.join(", "), missing.join(", ")).expect("written");
    }
    text
}

fn compare(text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/cf-compatibility.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().find(|line| !committed.lines().any(|other| other == *line));
    assert!(
        committed == text,
        "docs/cf-compatibility.md is not what was found (UPDATE=1 writes it), such as: {differs:?}"
    );
}
