//! `cargo xtask fuzz`: feeds every parser of what tenants and sandboxes can send with inputs that an engine makes up,
//! guided by which code they reach. The targets lie in `tests/fuzz`.
//!
//! It works with the stable compiler: LLVM's own coverage instrumentation, no sanitizer, and libFuzzer as the engine.
//! Inputs that reached something new are kept in `target/fuzz-corpus`, so that every run goes on where the last ended.

use crate::shell;
use crate::workspace::{cargo, root};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The one target platform; named, so that build scripts and macros are not instrumented.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// What makes the compiler count which code is reached and tell what is compared.
const FLAGS: &str = "--cfg fuzzing -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares";
/// Longest turn of one target, seconds.
const TURN: u64 = 60;
/// Longest input in bytes.
const MAX_INPUT: u32 = 16 << 10;
/// An input that takes longer is a finding, seconds.
const SLOW: u32 = 10;
/// An input that takes more memory is a finding, MiB.
const MEMORY: u32 = 1500;
/// Where targets keep their files while they run.
const SCRATCH: &str = "/dev/shm";

/// What became of one target.
#[derive(Default)]
struct Outcome {
    executions: u64,
    /// Code and data flow reached, in the engine's counts.
    coverage: String,
    seconds: u64,
    findings: Vec<PathBuf>,
}

/// Feeds one target, or all in turn, each for so many seconds in all.
pub fn run(target: Option<&str>, seconds: u64) -> Result<()> {
    let program = build()?;
    let names = names(&program)?;
    let wanted: Vec<&String> = names
        .iter()
        .filter(|name| target.is_none_or(|target| target == *name))
        .collect();
    if wanted.is_empty() {
        bail!("there is no such target; there are {}", names.join(" "));
    }
    let mut outcomes: BTreeMap<&String, Outcome> = BTreeMap::new();
    let mut left = seconds;
    while left > 0 {
        let turn = left.min(TURN);
        for name in &wanted {
            let outcome = outcomes.entry(name).or_default();
            // One finding is enough: the next turn would begin with it.
            if outcome.findings.is_empty() {
                feed(&program, name, turn, outcome)?;
            }
        }
        left -= turn;
        report(&outcomes);
    }
    let findings: Vec<String> = outcomes
        .values()
        .flat_map(|outcome| &outcome.findings)
        .map(|path| path.display().to_string())
        .collect();
    if !findings.is_empty() {
        bail!(
            "inputs that a parser does not take: {}\nafter the repair they belong into tests/fuzz/found/<target>/",
            findings.join(" ")
        );
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    let folder = root().join("target/fuzz");
    let mut command = cargo(&root());
    command.args([
        "build",
        "--quiet",
        "--profile",
        "fuzz",
        "--package",
        "fuzz",
        "--target",
        PLATFORM,
        "--target-dir",
    ]);
    command
        .arg(&folder)
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", FLAGS)
        .env_remove("RUSTFLAGS");
    shell::run(&mut command)?;
    Ok(folder.join(PLATFORM).join("fuzz/fuzz"))
}

fn names(program: &Path) -> Result<Vec<String>> {
    let output = Command::new(program)
        .env("FUZZ_LIST", "1")
        .output()
        .context("failed to run the fuzz targets")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect())
}

/// One turn of one target.
fn feed(program: &Path, name: &str, seconds: u64, outcome: &mut Outcome) -> Result<()> {
    let target = root().join("target");
    let (corpus, found) = (
        target.join("fuzz-corpus").join(name),
        target.join("fuzz-found").join(name),
    );
    let seeds = target.join("fuzz-seeds").join(name);
    for folder in [&corpus, &found, &seeds] {
        fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    let log = found.join("log");
    let file = fs::File::create(&log).with_context(|| format!("failed to write {}", log.display()))?;
    let mut command = Command::new(program);
    command.env("FUZZ_TARGET", name).env("FUZZ_SEEDS", &seeds);
    command
        .arg(&corpus)
        .arg(&seeds)
        .arg(format!("-artifact_prefix={}/", found.display()));
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_INPUT}"));
    command
        .arg(format!("-timeout={SLOW}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg("-print_final_stats=1");
    let before = findings(&found);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .context("failed to start")?;
    let process = child.id();
    let status = child.wait().context("failed to wait")?;
    clear(process);
    let text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    outcome.executions += statistic(&text);
    outcome.coverage = coverage(&text);
    outcome.seconds += seconds;
    outcome
        .findings
        .extend(findings(&found).into_iter().filter(|path| !before.contains(path)));
    if !status.success() && outcome.findings.is_empty() {
        bail!("{name}: {status}; {} has what it said", log.display());
    }
    Ok(())
}

/// Inputs that the engine kept because they failed.
fn findings(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| !path.ends_with("log"))
        .collect();
    all.sort();
    all
}

/// Removes what a target that was killed in the middle of an input has left.
fn clear(process: u32) {
    for entry in fs::read_dir(SCRATCH).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(&format!("paas-fuzz-{process}-")) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The number in `stat::number_of_executed_units: 123`, else of the last `#123` of a run that was cut short.
fn statistic(text: &str) -> u64 {
    let last = |line: &str| line.split_whitespace().last().and_then(|number| number.parse().ok());
    let stated = text
        .lines()
        .find(|line| line.starts_with("stat::number_of_executed_units"))
        .and_then(last);
    let counted = || {
        text.lines()
            .rev()
            .find_map(|line| line.strip_prefix('#')?.split_whitespace().next()?.parse().ok())
    };
    stated.or_else(counted).unwrap_or_default()
}

/// `cov: 12 ft: 34` of the last line that has it.
fn coverage(text: &str) -> String {
    let line = text
        .lines()
        .rev()
        .find(|line| line.contains(" cov: "))
        .unwrap_or_default();
    let words: Vec<&str> = line
        .split_whitespace()
        .skip_while(|word| *word != "cov:")
        .take(4)
        .collect();
    words.join(" ")
}

fn report(outcomes: &BTreeMap<&String, Outcome>) {
    println!("| target | executions | seconds | reached | findings |\n|---|---|---|---|---|");
    for (name, outcome) in outcomes {
        let Outcome {
            executions,
            coverage,
            seconds,
            findings,
        } = outcome;
        println!(
            "| {name} | {executions} | {seconds} | {coverage} | {} |",
            findings.len()
        );
    }
    let all: u64 = outcomes.values().map(|outcome| outcome.executions).sum();
    println!("{all} executions\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_understood() {
        let text = "#1024\tpulse  cov: 10 ft: 11 corp: 3/9b\n#2048\tDONE   cov: 12 ft: 34 corp: 5/12b exec/s: 7\n\
                    stat::number_of_executed_units: 2050\n";
        assert_eq!(statistic(text), 2050);
        assert_eq!(coverage(text), "cov: 12 ft: 34");
        assert_eq!(statistic("#77\tNEW cov: 1 ft: 1\n==1== ERROR"), 77);
        assert_eq!(statistic(""), 0);
    }
}
