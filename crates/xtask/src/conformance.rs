//! `cargo xtask conformance`: the OCI conformance suite on our runtime, runc and crun, and the table of it, printed and
//! kept as `docs/oci-conformance.md`. The suite itself is `tests/oci`; this reads what its cases wrote down.

use crate::needs::{self, Purpose};
use crate::shell;
use crate::workspace::{cargo, root};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Tells the suite where its cases write what came of them.
const ROWS: &str = "OCI_CONFORMANCE_ROWS";
const DOCUMENT: &str = "docs/oci-conformance.md";
/// Longest remark in the document, characters.
const REMARK: usize = 180;
/// Suites in the order of the document, and what they are.
const SUITES: [(&str, &str); 3] = [
    (
        "runtime-tools",
        "The validation programs of the runtime-tools, by their names, every one of them.",
    ),
    (
        "contest",
        "Cases of youki's contest, by their names, as far as they ask for something else.",
    ),
    (
        "further",
        "Cases of our own, of what the specification says and no public case asks for.",
    ),
];

/// Public cases that are not run, and why.
const NOT_TAKEN: [(&str, &str); 6] = [
    (
        "checkpoint_restore",
        "no runtime here is built with it; paas-init has no such command",
    ),
    (
        "exec_cpu_affinity, memory_policy, net_devices",
        "newer than the runtimes compared; paas-init refuses them",
    ),
    ("intel_rdt", "this machine has no resctrl; paas-init refuses it"),
    ("exec: cgroup_test", "asks for control groups v2 alone"),
    (
        "those with the names of the runtime-tools",
        "they ask for the same, see above",
    ),
    (
        "cgroups: v2, systemd",
        "ask for a machine with v2 alone, or with systemd",
    ),
];

/// One case, as the suite writes it down.
#[derive(Debug, Deserialize)]
struct Row {
    suite: String,
    name: String,
    /// Why ours fails on purpose, where it does.
    reason: Option<String>,
    verdicts: Vec<Verdict>,
}

/// What came of it on one runtime.
#[derive(Debug, Deserialize)]
struct Verdict {
    runtime: String,
    word: String,
    why: String,
}

/// Runs the suite, prints the table, writes the document; fails if a case failed that must not.
pub fn run() -> Result<()> {
    if !shell::is_root() {
        bail!("containers are made by root: run `sudo env \"PATH=$PATH\" cargo xtask conformance`");
    }
    needs::ensure(Purpose::Bench)?;
    needs::ensure_nextest()?;
    let folder = root().join("target/oci-conformance");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let mut command = cargo(&root());
    command.args([
        "nextest",
        "run",
        "--package",
        "sandbox",
        "--test",
        "conformance",
        "--no-fail-fast",
    ]);
    command
        .args(["--status-level", "fail", "--final-status-level", "fail"])
        .env(ROWS, &folder);
    let ran = shell::run(&mut command);
    let rows = read(&folder)?;
    println!("{}", text(&rows));
    let document = root().join(DOCUMENT);
    std::fs::write(&document, markdown(&rows, &versions())).with_context(|| format!("failed to write {DOCUMENT}"))?;
    println!("written to {DOCUMENT}");
    ran
}

fn read(folder: &Path) -> Result<Vec<Row>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    let mut rows = Vec::new();
    for entry in entries.flatten() {
        let text = std::fs::read(entry.path()).with_context(|| format!("failed to read {}", entry.path().display()))?;
        let row: Row = serde_json::from_slice(&text).with_context(|| format!("{}", entry.path().display()))?;
        rows.push(row);
    }
    let place = |row: &Row| SUITES.iter().position(|(suite, _)| *suite == row.suite);
    rows.sort_by(|a, b| (place(a), &a.name).cmp(&(place(b), &b.name)));
    if rows.is_empty() {
        bail!("no case was run");
    }
    Ok(rows)
}

/// What was compared, and on which kernel.
fn versions() -> String {
    let line = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.unwrap_or_default();
        text.lines().next().unwrap_or("not there").trim().to_owned()
    };
    let (runc, crun) = (line("runc", "--version"), line("crun", "--version"));
    let kernel = line("uname", "-sr");
    format!(
        "paas-init {} of this tree, {runc}, {crun}; {kernel}",
        env!("CARGO_PKG_VERSION")
    )
}

/// For a terminal, with every reason.
fn text(rows: &[Row]) -> String {
    let mut text = format!("{:<14} {:<42}", "", "");
    for verdict in rows.first().map(|row| row.verdicts.as_slice()).unwrap_or_default() {
        let _ = write!(text, " {:<9}", verdict.runtime);
    }
    for row in rows {
        let _ = write!(text, "\n{:<14} {:<42}", row.suite, row.name);
        for verdict in &row.verdicts {
            let _ = write!(text, " {:<9}", verdict.word);
        }
        for verdict in row.verdicts.iter().filter(|verdict| verdict.word == "fail") {
            let _ = write!(text, "\n{:<16}{}: {}", "", verdict.runtime, verdict.why);
        }
    }
    for sum in sums(rows) {
        let _ = write!(text, "\n{}: {} pass, {} fail, {} not here", sum.0, sum.1, sum.2, sum.3);
    }
    text
}

/// By runtime: cases that pass, fail, and cannot be tried.
fn sums(rows: &[Row]) -> Vec<(&str, usize, usize, usize)> {
    let first = rows.first().map(|row| row.verdicts.as_slice()).unwrap_or_default();
    let count = |at: usize, word: &str| {
        let all = rows.iter().filter_map(|row| row.verdicts.get(at));
        all.filter(|verdict| verdict.word == word).count()
    };
    let sum = |(at, verdict)| {
        let runtime: &Verdict = verdict;
        (
            runtime.runtime.as_str(),
            count(at, "pass"),
            count(at, "fail"),
            count(at, "not here"),
        )
    };
    first.iter().enumerate().map(sum).collect()
}

/// The document.
fn markdown(rows: &[Row], versions: &str) -> String {
    let mut text = format!(
        "# Conformance with the OCI runtime specification\n\n\
         Made by `cargo xtask conformance`; not to be edited. Every case runs in the same way on `paas-init`, runc and\n\
         crun: a bundle is made, the container is taken through its life, and a probe inside and the state, exit codes\n\
         and control groups outside are judged. `tests/oci` has the cases; the suite fails where ours fails, unless the\n\
         case is one that ours fails on purpose, and always where both others pass.\n\n\
         Compared: {versions}.\n\n| | pass | fail | not here |\n|---|---|---|---|\n"
    );
    for (name, passed, failed, not) in sums(rows) {
        let _ = writeln!(text, "| {name} | {passed} | {failed} | {not} |");
    }
    for (suite, says) in SUITES {
        let own: Vec<&Row> = rows.iter().filter(|row| row.suite == suite).collect();
        let Some(first) = own.first() else { continue };
        let names: Vec<&str> = first.verdicts.iter().map(|verdict| verdict.runtime.as_str()).collect();
        let _ = write!(
            text,
            "\n## {suite}\n\n{says}\n\n| case | {} | remarks |\n",
            names.join(" | ")
        );
        let _ = writeln!(text, "|---|{}---|", "---|".repeat(names.len()));
        for row in own {
            let words: Vec<&str> = row.verdicts.iter().map(|verdict| verdict.word.as_str()).collect();
            let _ = writeln!(text, "| {} | {} | {} |", row.name, words.join(" | "), remarks(row));
        }
    }
    text += "\n## Not run\n\nCases of the contest that are not taken over.\n\n| case | why |\n|---|---|\n";
    for (name, why) in NOT_TAKEN {
        let _ = writeln!(text, "| {name} | {why} |");
    }
    text
}

/// Reasons, each once, without what differs from run to run.
fn remarks(row: &Row) -> String {
    let mut all: Vec<String> = row.reason.iter().cloned().collect();
    for verdict in row.verdicts.iter().filter(|verdict| !verdict.why.is_empty()) {
        let why = steady(&verdict.why);
        let remark = if verdict.word == "fail" {
            format!("{}: {why}", verdict.runtime)
        } else {
            why
        };
        if !all.contains(&remark) {
            all.push(remark);
        }
    }
    all.join("; ")
}

/// A reason without names, times and paths of one run.
fn steady(why: &str) -> String {
    let why = match why.split_once("msg=") {
        Some((before, said)) => format!("{} {said}", before.split("time=").next().unwrap_or("")),
        None => why.to_owned(),
    };
    let words = why
        .split_whitespace()
        .filter(|word| !word.contains("T") || !word.ends_with('Z'));
    let words = words.map(|word| {
        let of_this_run = word.contains("paas-conf-") || word.contains("/tmp/") || word.contains("/proc/");
        if of_this_run {
            "…".to_owned()
        } else {
            word.replace(['|', '`', '"', '\\'], "")
        }
    });
    let words = words.filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(REMARK).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(suite: &str, name: &str, words: [(&str, &str); 3]) -> Row {
        let verdicts = ["paas-init", "runc", "crun"]
            .iter()
            .zip(words)
            .map(|(runtime, (word, why))| Verdict {
                runtime: (*runtime).to_owned(),
                word: word.to_owned(),
                why: why.to_owned(),
            });
        Row {
            suite: suite.to_owned(),
            name: name.to_owned(),
            reason: None,
            verdicts: verdicts.collect(),
        }
    }

    #[test]
    fn the_table_has_every_case_and_every_reason_once() {
        let rows = [
            row(
                "runtime-tools",
                "a",
                [("pass", ""), ("fail", "no | reason"), ("pass", "")],
            ),
            row(
                "further",
                "b",
                [("not here", "no lid"), ("not here", "no lid"), ("not here", "no lid")],
            ),
        ];
        let text = markdown(&rows, "these");
        assert!(
            text.contains("| paas-init | 1 | 0 | 1 |\n| runc | 0 | 1 | 1 |\n"),
            "{text}"
        );
        assert!(
            text.contains("| a | pass | fail | pass | runc: no reason |\n"),
            "{text}"
        );
        assert!(
            text.contains("| b | not here | not here | not here | no lid |\n"),
            "{text}"
        );
        assert!(!text.contains("## contest"));
    }

    #[test]
    fn remarks_are_the_same_in_every_run() {
        let said =
            "create: time=\"2026-01-02T03:04:05Z\" level=error msg=\"cannot open /tmp/paas-conf-1-2/x: refused\"";
        assert_eq!(steady(said), "create: cannot open … refused");
    }
}
