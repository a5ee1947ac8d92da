//! Rules about what may stand in a Rust file, by crate: purity, SQL, `unsafe`, environment, sleeps, documentation.

use super::Finding;
use super::source::Source;

/// What `model` and `scheduler` may not name: time, randomness and I/O are arguments to them.
const IMPURE: [&str; 18] = [
    "tokio",
    "sqlx",
    "axum",
    "std::fs",
    "std::io",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::env",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "now_utc",
    "new_v4",
    "now_v7",
    "rand",
];
/// Reading the environment and ending the process.
const AMBIENT: [&str; 7] = [
    "env::var",
    "env::var_os",
    "env::vars",
    "env::vars_os",
    "env::args",
    "env::args_os",
    "process::exit",
];
/// Files that may: a program's entry and the configuration it calls.
const ENTRIES: [&str; 2] = ["main.rs", "config.rs"];
/// Waiting for time instead of for an event.
const SLEEPS: [&str; 3] = ["thread::sleep", "time::sleep", "time::sleep_until"];
/// What a comment beside a sleep in a test has to say.
const SLEEP_REASON: &str = "sleeps:";

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let part = source.part();
    let mut ban = |words: &[&str], rule, with_tests: bool, message: &str| {
        for word in words {
            for at in source.find(word).filter(|at| with_tests || !source.is_test(*at)) {
                findings.push(Finding::new(
                    &source.path,
                    source.line(at),
                    rule,
                    format!("{word}: {message}"),
                ));
            }
        }
    };
    if matches!(part, "model" | "scheduler") {
        ban(
            &IMPURE,
            "purity",
            false,
            "model and scheduler are pure, take it as an argument",
        );
    }
    if part != "store" {
        ban(&["sqlx"], "sql", true, "only store speaks SQL");
    }
    if part != "sandbox" {
        ban(&["unsafe"], "unsafe", true, "only sandbox has unsafe code");
    }
    if part != "telemetry" {
        let words = [
            "tracing_subscriber",
            "set_global_default",
            "set_global_recorder",
            "install_recorder",
        ];
        ban(
            &words,
            "subscriber",
            true,
            "only telemetry installs a subscriber or recorder, through telemetry::install",
        );
    }
    let name = source.path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let in_config = source
        .path
        .iter()
        .any(|part| part == "config" || part == "bin" || part == "examples");
    if !matches!(part, "xtask" | "tests") && !ENTRIES.contains(&name) && !in_config {
        ban(
            &AMBIENT,
            "ambient",
            false,
            "only main.rs and the configuration it calls read the environment or exit",
        );
    }
    findings.extend(opening(source));
    findings.extend(todos(source));
    findings.extend(sleeps(source));
    findings
}

/// The first line says what the file is for.
fn opening(source: &Source) -> Option<Finding> {
    let first = source.text.lines().find(|line| !line.starts_with("#!/"));
    let says = first.is_some_and(|line| line.strip_prefix("//!").is_some_and(|text| text.trim().len() > 3));
    let message = "the file has to open with `//!` and say what it is for and what it is not";
    (!says).then(|| Finding::new(&source.path, 1, "opening", message))
}

/// Work left for later has an owner: `TODO(name): what`.
fn todos(source: &Source) -> Vec<Finding> {
    // Composed, so that this file passes.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let mut findings = Vec::new();
    for (number, line) in source.comments.lines().enumerate() {
        for word in words {
            let owned = |rest: &str| rest.starts_with('(') && rest.find(')').is_some_and(|end| end > 1);
            if line.split(word).skip(1).any(|rest| !owned(rest)) {
                let message = format!("{word} without an owner: write {word}(name): what");
                findings.push(Finding::new(&source.path, number + 1, "owner", message));
            }
        }
    }
    findings
}

/// A test waits for an event; where there is none to wait for, a comment on the line or above says why.
fn sleeps(source: &Source) -> Vec<Finding> {
    let comments: Vec<&str> = source.comments.lines().collect();
    let mut findings = Vec::new();
    for word in SLEEPS {
        for at in source.find(word).filter(|at| source.is_test(*at)) {
            let line = source.line(at);
            let mut near = comments[line.saturating_sub(3)..line.min(comments.len())].iter();
            if !near.any(|comment| comment.contains(SLEEP_REASON)) {
                let message =
                    format!("{word} in a test: await an event, or say why by a comment `// {SLEEP_REASON} ...`");
                findings.push(Finding::new(&source.path, line, "sleep", message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, code: &str) -> Vec<&'static str> {
        let text = format!("//! A file that is there to be checked.\n{code}");
        check(&Source::new(path.into(), text))
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    #[test]
    fn each_rule_holds_where_it_should() {
        let production = "crates/cell/src/agent.rs";
        let pure = "crates/model/src/work.rs";
        for (path, code, expected) in [
            (pure, "use std::fs;", vec!["purity"]),
            (pure, "let now = Instant::now();", vec!["purity"]),
            (pure, "fn now(now: Timestamp, operand: u8) {}", vec![]),
            (pure, "#[cfg(test)]\nmod tests { use std::fs; }", vec![]),
            (production, "use std::fs; Instant::now()", vec![]),
            (production, "sqlx::query(a)", vec!["sql"]),
            ("crates/store/src/app.rs", "sqlx::query(a)", vec![]),
            (production, "unsafe { f() }", vec!["unsafe"]),
            ("crates/sandbox/src/mount.rs", "unsafe { f() }", vec![]),
            (production, "tracing_subscriber::fmt()", vec!["subscriber"]),
            (production, "std::env::var(a)", vec!["ambient"]),
            ("crates/cell/src/config.rs", "std::env::var(a)", vec![]),
            ("crates/paasd/src/main.rs", "std::process::exit(1)", vec![]),
            (production, "let text = \"unsafe sqlx env::var\"; // unsafe", vec![]),
            (production, "// TODO: later", vec!["owner"]),
            (production, "// TODO(ann): later", vec![]),
            (production, "thread::sleep(a)", vec![]),
            ("tests/tests/push.rs", "thread::sleep(a)", vec!["sleep"]),
            (
                "tests/tests/push.rs",
                "// sleeps: the kernel gives no event for this\nthread::sleep(a)",
                vec![],
            ),
        ] {
            assert_eq!(rules(path, code), expected, "{path}: {code}");
        }
        let silent = Source::new(production.into(), "//! x\nfn f() {}".into());
        assert_eq!(check(&silent)[0].rule, "opening");
    }
}
