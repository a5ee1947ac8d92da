//! `cargo xtask v2`: the sandbox suite on a kernel that has control groups v2 alone.
//!
//! The machine that runs the tests may have any layout of control groups, and a mounted hierarchy cannot be had twice.
//! So the suite runs once more inside user-mode Linux: a kernel as an ordinary program, whose root is this machine's,
//! read-only, so that programs are at the same paths. One boot for all tests; nothing of it is left afterwards.
//! Not for timing.

use crate::shell;
use crate::workspace::{cargo, root};
use anyhow::{Context as _, Result, bail};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The kernel as a program.
const KERNEL: &str = "linux.uml";
/// What it needs beyond what is built in.
const MODULES: &str = "fs/overlayfs/overlay,drivers/block/loop,drivers/net/veth";
/// From power-on to power-off.
const DEADLINE: Duration = Duration::from_secs(1200);
/// One test has this long, so that one that hangs does not take the others along.
const SECONDS_EACH: u32 = 60;
/// Room for images of private layers; the file is sparse.
const DISK_BYTES: u64 = 4 << 30;
/// Lines of a failed test that are shown.
const SHOWN: usize = 40;

/// Tests of the suite that cannot run there, by the beginning of their names, and why.
const NOT_THERE: [(&str, &str); 9] = [
    (
        "churn::killed_agents",
        "the emulated machine is too slow for agents that live half a second; crashes:: kills them there",
    ),
    (
        "escapes::own::",
        "their weakened twins are the other runtime's and other programs'; what apps do not to end is tried there too",
    ),
    (
        "escapes::shown::",
        "the same attempts run there all in one sandbox; their weakened twins are the other runtime's",
    ),
    (
        "churn::a_network_goes",
        "the kernel has no nf_tables for IPv4, which addresses need",
    ),
    (
        "network::an_address_outlives",
        "the kernel has no nf_tables for IPv4, which addresses need",
    ),
    (
        "network::the_host_reaches_in",
        "the kernel has no nf_tables for IPv4, which addresses need",
    ),
    ("timing::", "figures of an emulated machine say nothing"),
    (
        "limits::a_disk_much_larger",
        "the emulated disk takes longer for its bytes than a test may wait",
    ),
    (
        "parked::one_that_does_not_fit",
        "a layer of the machine's own root is on a file system there whose owners can't be shifted",
    ),
];
/// Tests that run others once more, each start made out of a kind of parked sandbox: what follows is the kind. There
/// the others are run one by one, each with its own time.
const AGAIN: [(&str, &str); 3] = [
    ("parked::all_that_is_promised_holds_when_the_root_was_known", "whole"),
    (
        "parked::all_that_is_promised_holds_when_the_root_was_not_known",
        "shape",
    ),
    ("parked::all_that_is_promised_holds_of_what_was_blank", "blank"),
];
/// Which others, by the beginning of their names.
const AGAIN_GROUPS: [&str; 7] = [
    "isolation::",
    "limits::",
    "resources::",
    "lifecycle::",
    "logs::",
    "network::",
    "sidecars::",
];
/// Unit tests that look at the kernel's control groups, beside the whole suite of `tests/sandbox`.
const UNIT: &str = "cgroup::";

/// A test: its program (a name in the folder of programs) and its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Test {
    program: &'static str,
    name: String,
    /// The kind of parked sandbox that it starts, if it is not to build all anew.
    starts: Option<&'static str>,
}

impl Test {
    /// What its result goes by.
    fn label(&self) -> String {
        match self.starts {
            None => self.name.clone(),
            Some(starts) => format!("{}@{starts}", self.name),
        }
    }

    /// As the machine's first process reads it.
    fn line(&self) -> String {
        let starts = self.starts.unwrap_or_default();
        format!("{} {} {} {starts}\n", self.program, self.label(), self.name)
    }
}

/// How one ended.
#[derive(Debug, Clone, PartialEq)]
struct Verdict {
    passed: bool,
    seconds: f64,
    name: String,
}

/// Builds the suite, boots, runs what `filter` matches (all if empty), prints the figures, fails if a test failed.
pub fn run(filter: &str) -> Result<()> {
    if !shell::is_root() {
        bail!("the tests start real sandboxes, which only root may");
    }
    let programs = build()?;
    // On this kernel first: it compiles the probe, for which the other one has no writable place.
    shell::run(quiet(Command::new(&programs.suite)).args(["--exact", "kit::the_probe_answers"]))?;
    let (there, not_there) = split(list(&programs)?)?;
    let tests: Vec<Test> = expand(there)?
        .into_iter()
        .filter(|test| test.label().contains(filter))
        .collect();
    if tests.is_empty() {
        bail!("no test's name contains {filter:?}");
    }
    let folder = Folder::new(&programs, &tests)?;
    let begun = Instant::now();
    let outcome = boot(&folder.0);
    let verdicts = folder.verdicts();
    for verdict in verdicts.iter().filter(|verdict| !verdict.passed) {
        println!(
            "--- {} failed after {:.1} s:\n{}",
            verdict.name,
            verdict.seconds,
            folder.tail(&verdict.name)
        );
    }
    let passed = verdicts.iter().filter(|verdict| verdict.passed).count();
    let failed = verdicts.len() - passed;
    println!(
        "control groups v2, in user-mode Linux: {passed} passed, {failed} failed, in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    for (name, reason) in not_there {
        println!("  not there: {name}: {reason}");
    }
    outcome?;
    match (failed, tests.len() - verdicts.len()) {
        (0, 0) => Ok(()),
        (0, unfinished) => bail!("{unfinished} tests had no turn{}", folder.trouble()),
        (failed, _) => bail!("{failed} tests failed with control groups v2"),
    }
}

/// The test programs of the crate `sandbox`.
struct Programs {
    suite: PathBuf,
    unit: PathBuf,
}

/// As nextest builds them, so that they are not built twice.
fn build() -> Result<Programs> {
    let output = cargo(&root())
        .args(["test", "--no-run", "--quiet", "--package", "sandbox"])
        .args(["--lib", "--test", "inside", "--message-format", "json"])
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run cargo test")?;
    if !output.status.success() {
        bail!("the sandbox suite does not compile");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let find = |name: &str| executable(&text, name).with_context(|| format!("cargo built no test program {name}"));
    Ok(Programs {
        suite: find("inside")?,
        unit: find("sandbox")?,
    })
}

/// Where cargo's messages say that the tests of target `name` are.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == name && message["profile"]["test"] == true;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    })
}

/// Every test that is of interest.
fn list(programs: &Programs) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for (program, path) in [("suite", &programs.suite), ("unit", &programs.unit)] {
        let output = Command::new(path).args(["--list", "--format", "terse"]).output();
        let output = output.with_context(|| format!("failed to list the tests of {}", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        tests.extend(
            names
                .filter(|name| program == "suite" || name.starts_with(UNIT))
                .map(|name| Test {
                    program,
                    name: name.to_owned(),
                    starts: None,
                }),
        );
    }
    Ok(tests)
}

/// A test that cannot run there, and why.
type NotThere = (String, &'static str);

/// Those that can run there, and those that cannot. A reason without a test is a mistake.
fn split(tests: Vec<Test>) -> Result<(Vec<Test>, Vec<NotThere>)> {
    for (prefix, _) in NOT_THERE {
        if !tests.iter().any(|test| test.name.starts_with(prefix)) {
            bail!("there is no test {prefix}… any more: correct the list in crates/xtask/src/v2.rs");
        }
    }
    let reason = |name: &str| NOT_THERE.iter().find(|(prefix, _)| name.starts_with(prefix));
    let (mut there, mut not_there) = (Vec::new(), Vec::new());
    for test in tests {
        match reason(&test.name) {
            Some((_, reason)) => not_there.push((test.name, *reason)),
            None => there.push(test),
        }
    }
    Ok((there, not_there))
}

/// With what is run again one by one. A name without a test is a mistake.
fn expand(mut tests: Vec<Test>) -> Result<Vec<Test>> {
    for (name, starts) in AGAIN {
        let Some(at) = tests.iter().position(|test| test.name == name) else {
            bail!("there is no test {name} any more: correct the list in crates/xtask/src/v2.rs");
        };
        tests.remove(at);
        let again: Vec<Test> = tests
            .iter()
            .filter(|test| test.starts.is_none() && AGAIN_GROUPS.iter().any(|group| test.name.starts_with(group)))
            .map(|test| Test {
                starts: Some(starts),
                ..test.clone()
            })
            .collect();
        tests.extend(again);
    }
    Ok(tests)
}

/// What both kernels see; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(programs: &Programs, tests: &[Test]) -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("paas-v2-{}", std::process::id()));
        let context = || format!("failed to prepare {}", path.display());
        std::fs::create_dir_all(path.join("log")).with_context(context)?;
        // From here on it is removed whatever happens.
        let folder = Folder(path.clone());
        std::fs::create_dir(path.join("program")).with_context(context)?;
        for (name, program) in [("suite", &programs.suite), ("unit", &programs.unit)] {
            std::os::unix::fs::symlink(program, path.join("program").join(name)).with_context(context)?;
        }
        let lines: Vec<String> = tests.iter().map(Test::line).collect();
        std::fs::write(path.join("tests"), lines.concat()).with_context(context)?;
        let disk = path.join("disk");
        let file = std::fs::File::create(&disk).with_context(context)?;
        file.set_len(DISK_BYTES).with_context(context)?;
        let mkfs = shell::find("mkfs.ext4").context("mkfs.ext4 is missing")?;
        let options = ["-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1"];
        shell::run(Command::new(mkfs).args(options).arg(&disk))?;
        Ok(folder)
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let text = std::fs::read_to_string(self.0.join("results")).unwrap_or_default();
        text.lines().filter_map(verdict).collect()
    }

    /// The last lines of what a test printed.
    fn tail(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.0.join("log").join(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }

    /// What the first process or the kernel said that went wrong.
    fn trouble(&self) -> String {
        let said = ["error", "console"].map(|name| std::fs::read_to_string(self.0.join(name)).unwrap_or_default());
        let said = said.join("\n");
        let lines: Vec<&str> = said.trim().lines().collect();
        let last = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
        if last.is_empty() { last } else { format!(":\n{last}") }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("warning: {} stays: {error}", self.0.display());
        }
    }
}

/// `ok 0.52 name` or `FAIL 3.1 name`.
fn verdict(line: &str) -> Option<Verdict> {
    let mut words = line.split(' ');
    Some(Verdict {
        passed: words.next()? == "ok",
        seconds: words.next()?.parse().ok()?,
        name: words.next()?.to_owned(),
    })
}

/// Runs the machine to its power-off.
fn boot(folder: &Path) -> Result<()> {
    let kernel = shell::find(KERNEL).with_context(|| format!("{KERNEL} is missing (package user-mode-linux)"))?;
    let guest = root().join("tests/sandbox/v2/guest.sh");
    let console = std::fs::File::create(folder.join("console")).context("failed to make the console's file")?;
    let shown = folder.display();
    let mut command = Command::new(kernel);
    command
        .args(["mem=1536M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"])
        .args(["con=null", "con0=null,fd:1", "con1=null,fd:1", "quiet", "umid=paas"])
        .arg(format!("init={}", guest.display()))
        .arg(format!("uml_dir={shown}/"))
        .arg(format!("ubd0={shown}/disk"))
        .arg(format!("W={shown}"))
        .arg(format!("MODULES={MODULES}"))
        .arg(format!("SECONDS_EACH={SECONDS_EACH}"))
        .env_clear()
        .stdin(Stdio::null())
        .stderr(console.try_clone().context("failed to share the console's file")?)
        .stdout(console)
        // Its processes are processes of this machine too: one group, to be ended together.
        .process_group(0);
    let child = command.spawn().with_context(|| format!("failed to run {KERNEL}"))?;
    let ended = wait(child)?;
    if !ended {
        bail!("the machine was not through after {} s", DEADLINE.as_secs());
    }
    Ok(())
}

/// Waits for the end; false if it had to be killed.
fn wait(mut child: Child) -> Result<bool> {
    let deadline = Instant::now() + DEADLINE;
    let mut ended = false;
    while !ended && Instant::now() < deadline {
        ended = child.try_wait().context("failed to wait for the machine")?.is_some();
        if !ended {
            // The standard library cannot wait with a deadline.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    if !ended {
        let group = format!("-{}", child.id());
        shell::run(Command::new("kill").args(["-KILL", "--", &group]))?;
        child.wait().context("failed to wait for the machine")?;
    }
    Ok(ended)
}

fn quiet(mut command: Command) -> Command {
    command.stdout(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_results_and_messages() {
        let wanted = Verdict {
            passed: true,
            seconds: 0.52,
            name: "a::b".into(),
        };
        assert_eq!(verdict("ok 0.52 a::b"), Some(wanted));
        assert!(!verdict("FAIL 60 a::b").unwrap().passed);
        assert_eq!(verdict("torn"), None);
        let messages = concat!(
            r#"{"target":{"name":"inside"},"profile":{"test":false},"executable":"/no"}"#,
            "\nnot json\n",
            r#"{"target":{"name":"inside"},"profile":{"test":true},"executable":"/yes"}"#
        );
        assert_eq!(executable(messages, "inside"), Some("/yes".into()));
        assert_eq!(executable(messages, "other"), None);
    }

    #[test]
    fn what_cannot_run_there_is_named_and_exists() {
        let test = |name: &str| Test {
            program: "suite",
            name: name.to_owned(),
            starts: None,
        };
        let all: Vec<Test> = NOT_THERE
            .iter()
            .map(|(prefix, _)| test(&format!("{prefix}x")))
            .chain([test("limits::a")])
            .collect();
        let (there, not_there) = split(all.clone()).unwrap();
        assert_eq!((there, not_there.len()), (vec![test("limits::a")], NOT_THERE.len()));
        assert!(split(all.into_iter().skip(1).collect()).is_err());
    }
    #[test]
    fn what_is_run_again_is_run_one_by_one() {
        let test = |name: &str, starts| Test {
            program: "suite",
            name: name.to_owned(),
            starts,
        };
        let given = [AGAIN[0].0, "logs::a", AGAIN[1].0, "crashes::b", AGAIN[2].0];
        let all = expand(given.map(|name| test(name, None)).to_vec()).unwrap();
        let logs = |starts| test("logs::a", starts);
        let wanted = [
            logs(None),
            test("crashes::b", None),
            logs(Some("whole")),
            logs(Some("shape")),
            logs(Some("blank")),
        ];
        assert_eq!(all, wanted);
        assert_eq!(all[2].line(), "suite logs::a@whole logs::a whole\n");
        assert!(expand(vec![logs(None)]).is_err());
    }
}
