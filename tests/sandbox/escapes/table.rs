//! The table of attempts and results: each test leaves its row in `escapes` of the target's folder for tests, and the
//! document has to name every attempt, with its class and with what its weakened twin is.

use std::path::Path;

use super::ATTEMPTS;

/// Attempts with a test of their own below `escapes::`: name, class, what weakens the twin.
pub const OWN: &[(&str, &str, &str)] = &[
    (
        "working_folder",
        "working folder outside of the root (CVE-2024-21626)",
        "the folder is entered before the root is changed",
    ),
    (
        "program_of_init",
        "/proc/self/exe overwrite (CVE-2019-5736)",
        "a program of the host runs beside it, no user namespace, uid 0",
    ),
    (
        "keyring_of_others",
        "keyring of whoever starts it",
        "no system call filter, the keyring of whoever started it",
    ),
    (
        "console",
        "console swap (CVE-2025-52565)",
        "a terminal of the host bound to `/dev/console`",
    ),
    (
        "careless_agent",
        "descriptors of an agent that leaves some open, in app, exec, terminal and parked",
        "a folder of the host passed on as a descriptor",
    ),
    (
        "hook_descriptors",
        "descriptors left open for hooks",
        "a shell starts the hook",
    ),
    (
        "mounts_from_outside",
        "mount propagation from the host",
        "`/shown` a mount that follows its source",
    ),
    (
        "linked_target",
        "symlink as a mount's target (CVE-2021-30465)",
        "`mount --bind` by path",
    ),
    (
        "swapped_target",
        "symlink race on a mount's target (CVE-2021-30465)",
        "`mount --bind` by path",
    ),
    (
        "linked_kernel_folders",
        "/dev, /proc and /sys as symlinks (CVE-2026-41579)",
        "`mount` by path",
    ),
    (
        "false_proc",
        "procfs write redirection by a false /proc (CVE-2025-52881)",
        "a setting is written by path from within the root",
    ),
    (
        "false_null",
        "masked paths by a false /dev/null (CVE-2025-31133)",
        "`mount --bind` of the root's own /dev/null",
    ),
    (
        "fork_bomb",
        "fork bomb during teardown",
        "no pid namespace, no user namespace, only the first process is killed",
    ),
    (
        "stubborn",
        "unkillable teardown: stopped, traced, in vfork, deaf to signals",
        "no pid namespace, no user namespace, only the first process is killed",
    ),
    (
        "frozen",
        "unkillable teardown: frozen",
        "killed by a signal, not thawed",
    ),
    (
        "inotify_left",
        "what the kernel counts per user: inotify instances",
        "no user namespace, the same uid",
    ),
    (
        "pipe_left",
        "what the kernel counts per user: memory of pipes",
        "no user namespace, the same uid",
    ),
    (
        "pid_reuse",
        "pid reuse",
        "the record names the start of the process that has the number now",
    ),
];

/// Leaves a row. Not on a machine where the target folder cannot be written.
pub fn record(name: &str, real: &str, reached: &str) {
    let (_, class, weakened_by) = rows()
        .into_iter()
        .find(|(known, ..)| known == name)
        .expect("an attempt of the table");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("escapes");
    // Whoever corrects docs/isolation-tests.md takes it from there.
    let row = format!("| {class} | `{name}` | {real} | {weakened_by} | {reached} |\n");
    let _ = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(name), row));
}

/// Name, class, and what weakens the twin, of every attempt.
fn rows() -> Vec<(String, String, String)> {
    let by_lines = ATTEMPTS.iter().map(|(test, class, lines)| {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        (*test, *class, lines.join(", "))
    });
    let own = OWN
        .iter()
        .map(|(test, class, weakened_by)| (*test, *class, (*weakened_by).to_owned()));
    by_lines
        .chain(own)
        .map(|(test, class, weakened_by)| (test.replace('_', "-"), class.to_owned(), weakened_by))
        .collect()
}

/// A file of the checkout.
fn document(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// All Rust text below a folder of the checkout.
fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            all.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_is_said_to_show_a_promise_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    sources(&root.join("../../tests/sandbox"), &mut all);
    sources(&root.join("src"), &mut all);
    sources(&root.join("../cell/tests/real"), &mut all);
    let attempts = rows();
    let text = document("docs/isolation.md");
    let mut found = 0;
    for cell in text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(2))
    {
        // Every other piece stands in back ticks; what has a space or a slash is no test.
        let named = cell
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| !word.contains([' ', '/']));
        for word in named {
            let (module, name) = word.rsplit_once("::").unwrap_or(("", word));
            let module = module.rsplit("::").next().unwrap_or_default();
            let is_there = attempts.iter().any(|(attempt, ..)| attempt == name)
                || all.contains(&format!("fn {name}("))
                || (name == "*" && all.contains(&format!("mod {module};")));
            assert!(is_there, "there is no test {word}");
            found += 1;
        }
    }
    assert!(found > 30, "only {found} tests are named");
}

#[test]
fn the_document_has_every_attempt_and_no_other() {
    let text = document("docs/isolation-tests.md");
    let mut told: Vec<(String, String, String)> = text
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, class, name, _, weakened_by, _, _] = cells.as_slice() else {
                return None;
            };
            let name = name.strip_prefix('`')?.strip_suffix('`')?;
            Some((name.to_owned(), (*class).to_owned(), (*weakened_by).to_owned()))
        })
        .collect();
    let mut made = rows();
    told.sort();
    made.sort();
    for row in &made {
        assert!(told.contains(row), "{row:?} is not in docs/isolation-tests.md");
    }
    assert_eq!(told, made);
}
