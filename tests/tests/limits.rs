//! What an app does to itself: each has a named end, and a neighbour does not notice.

use std::path::Path;
use tests::{Ended, Platform};

/// An app of one shell script that listens by way of a Python one-liner, then does `harm`.
fn harmful(folder: &Path, harm: &str) {
    let script = format!("python3 -m http.server \"$PORT\" &\nsleep 1\n{harm}\nwait\n");
    std::fs::write(folder.join("run.sh"), script).expect("written");
    std::fs::write(folder.join("Procfile"), "web: sh run.sh\n").expect("written");
}

fn neighbour(platform: &Platform) {
    let folder = tests::app("static-site");
    let _ = platform
        .paas(["push", folder.path().to_str().expect("UTF-8"), "-n", "neighbour"])
        .ok();
}

fn push(platform: &Platform, harm: &str) -> Ended {
    let folder = tempfile::tempdir().expect("a folder");
    harmful(folder.path(), harm);
    platform.paas([
        "push",
        folder.path().to_str().expect("UTF-8"),
        "-n",
        "harmful",
        "-m",
        "64M",
        "-k",
        "64M",
    ])
}

/// Asks until what a command says contains `part`.
fn says(platform: &Platform, command: &[&str], part: &str) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let said = platform.paas(command).ok().stdout;
        if said.contains(part) {
            return;
        }
        assert!(
            std::time::Instant::now() < until,
            "no {part:?} in
{said}"
        );
    }
}

fn event(platform: &Platform, part: &str) {
    says(platform, &["events", "harmful"], part);
}

fn logged(platform: &Platform, part: &str) {
    says(platform, &["logs", "harmful", "--recent"], part);
}

#[test]
fn memory_without_end() {
    let platform = Platform::start();
    neighbour(&platform);
    push(&platform, "python3 -c 'x=[]\nwhile True: x.append(bytearray(1 << 20))'");
    event(&platform, "out of memory: limit 64 MiB");
    assert_eq!(platform.get("neighbour.localhost", "/").0, 200);
}

#[test]
fn a_fork_bomb() {
    let platform = Platform::start();
    neighbour(&platform);
    push(&platform, "bomb() { bomb | bomb & }; bomb");
    assert_eq!(platform.get("neighbour.localhost", "/").0, 200);
    let _ = platform.paas(["delete", "harmful", "--yes"]).ok();
}

#[test]
fn a_full_disk() {
    let platform = Platform::start();
    neighbour(&platform);
    push(&platform, "dd if=/dev/zero of=full bs=1M; exit 7");
    logged(&platform, "No space left on device");
    event(&platform, "Exited with status 7");
    assert_eq!(platform.get("neighbour.localhost", "/").0, 200);
}

#[test]
fn a_log_flood() {
    let platform = Platform::start();
    neighbour(&platform);
    push(&platform, "timeout 5 yes 0123456789012345678901234567890123456789");
    assert_eq!(platform.get("neighbour.localhost", "/").0, 200);
    logged(&platform, "exceeded log rate limit");
    let _ = platform.paas(["delete", "harmful", "--yes"]).ok();
}
