//! `cargo xtask test` and `ci`: everything that has to hold, on this machine, with what it needs set up and taken down.

use crate::leftovers::Snapshot;
use crate::needs::{self, Purpose};
use crate::postgres::{self, Postgres};
use crate::weed::{self, Weed};
use crate::workspace::{cargo, root};
use crate::{dist, shell, tidy, v2};
use anyhow::{Context as _, Result, anyhow, bail};
use std::io::{BufReader, IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Bytes of nextest's output that are kept to find its last line.
const TAIL: usize = 4096;
/// Seconds for each fuzz target: enough to run the kept findings and to notice what breaks at once; long runs are made
/// by hand with `cargo xtask fuzz`.
const FUZZ: &str = "8";

/// The whole suite. `arguments` go to nextest, to run a part of it.
pub fn test(profile: &str, arguments: &[String]) -> Result<()> {
    suite(profile, arguments, || v2::run(""))
}

/// Nextest, then `last` where the whole was asked for, and a look at what they left behind.
fn suite(profile: &str, arguments: &[String], last: impl FnOnce() -> Result<()>) -> Result<()> {
    if !shell::is_root() {
        bail!("the tests start real sandboxes, which only root may: run `sudo env \"PATH=$PATH\" cargo xtask test`");
    }
    needs::ensure(Purpose::Test)?;
    needs::ensure_nextest()?;
    tidy::run()?;
    dist::dist(profile)?;
    let weed = weed::install(&root().join("target/tools"))?;
    let before = Snapshot::take();
    let outcome = with_servers(&weed, arguments);
    // A part of the suite was asked for: that part alone.
    let outcome = match (outcome, arguments.is_empty()) {
        (outcome, false) => outcome,
        (Ok(()), true) => last(),
        (Err(error), true) => {
            // Worth knowing all the same.
            if let Err(also) = last() {
                eprintln!("error: {also:#}");
            }
            Err(error)
        }
    };
    // Both are worth knowing: a failed test may be why something was left.
    match (outcome, before.check()) {
        (Err(error), Err(left)) => Err(error.context(format!("{left}"))),
        (outcome, left) => outcome.and(left),
    }
}

/// What has to pass before a change is merged: format and lints, then the invariants, the whole suite, and some minutes
/// of made-up inputs.
pub fn ci(profile: &str) -> Result<()> {
    let root = root();
    shell::run(cargo(&root).args(["fmt", "--all", "--check"]))?;
    // `test` begins with the invariants.
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ];
    shell::run(cargo(&root).args(clippy))?;
    suite(profile, &[], v2_and_fuzz)
}

/// The emulated machine keeps one core busy and the fuzz targets have to be compiled: side by side. The targets have
/// what the machine leaves, since its tests have a time each.
fn v2_and_fuzz() -> Result<()> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let mut fuzz = Command::new("nice");
    fuzz.args(["-n", "19"]).arg(program).args(["fuzz", "--seconds", FUZZ]);
    let mut fuzz = fuzz.spawn().context("failed to run cargo xtask fuzz")?;
    let v2 = v2::run("");
    let status = fuzz.wait().context("failed to wait for cargo xtask fuzz")?;
    if !status.success() {
        let found = anyhow!("cargo xtask fuzz failed: {status}");
        return Err(v2
            .err()
            .map_or(found, |error| error.context("cargo xtask fuzz failed as well")));
    }
    v2
}

/// Runs the tests beside a database and an object store. A server that was given is used as it is.
fn with_servers(weed: &Path, arguments: &[String]) -> Result<()> {
    let (database, store) = (std::env::var(postgres::URL_VARIABLE), std::env::var(weed::URL_VARIABLE));
    let postgres = database.is_err().then(Postgres::start).transpose()?;
    let weed = store.is_err().then(|| Weed::start(weed)).transpose()?;
    let database = postgres
        .as_ref()
        .map(Postgres::url)
        .or(database.ok())
        .unwrap_or_default();
    let store = weed.as_ref().map(Weed::url).or(store.ok()).unwrap_or_default();
    nextest(
        &[(postgres::URL_VARIABLE, database), (weed::URL_VARIABLE, store)],
        arguments,
    )
}

/// Runs the tests, shows what nextest shows, and reads its last line: a skipped test is not a passed one.
fn nextest(servers: &[(&str, String)], arguments: &[String]) -> Result<()> {
    let color = if std::io::stderr().is_terminal() {
        "always"
    } else {
        "never"
    };
    let mut command = cargo(&root());
    command
        .args(["nextest", "run", "--workspace", "--no-fail-fast", "--color", color])
        .args(arguments);
    command
        .envs(servers.iter().map(|(name, url)| (name, url)))
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("failed to run cargo nextest")?;
    let mut reader = BufReader::new(child.stderr.take().context("its output is piped")?);
    let (mut buffer, mut tail) = (vec![0; TAIL], Vec::new());
    loop {
        let read = reader
            .read(&mut buffer)
            .context("failed to read the output of cargo nextest")?;
        if read == 0 {
            break;
        }
        std::io::stderr()
            .write_all(&buffer[..read])
            .context("failed to show the output of cargo nextest")?;
        tail.extend_from_slice(&buffer[..read]);
        tail.drain(..tail.len().saturating_sub(TAIL));
    }
    let status = child.wait().context("failed to wait for cargo nextest")?;
    if !status.success() {
        bail!("cargo nextest failed: {status}");
    }
    // A part of the suite was asked for: the rest is skipped on purpose.
    match skipped(&String::from_utf8_lossy(&tail)) {
        Some(0) => Ok(()),
        Some(count) if arguments.is_empty() => bail!("{count} tests were skipped: every test has to run"),
        Some(_) => Ok(()),
        None => bail!("cargo nextest did not say how many tests it skipped"),
    }
}

/// The number in nextest's `Summary [...] 34 tests run: 34 passed, 0 skipped`.
fn skipped(output: &str) -> Option<u32> {
    let summary = output.lines().rev().find(|line| line.contains("Summary"))?;
    let plain = without_color(summary);
    let words: Vec<&str> = plain.split_whitespace().collect();
    let at = words.iter().position(|word| word.starts_with("skipped"))?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

/// A line without terminal escapes.
fn without_color(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or("").to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, text)| text));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_summary() {
        let plain = "   PASS x\n     Summary [   5.900s] 34 tests run: 34 passed, 3 skipped\n";
        assert_eq!(skipped(plain), Some(3));
        let colored = "\u{1b}[32;1m     Summary\u{1b}[0m [ 1s] \u{1b}[1m2\u{1b}[0m tests run: \u{1b}[1m2\u{1b}[0m \
                       \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m0\u{1b}[0m \u{1b}[33;1mskipped\u{1b}[0m\n";
        assert_eq!(skipped(colored), Some(0));
        assert_eq!(skipped("nothing"), None);
    }
}
