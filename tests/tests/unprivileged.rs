//! A platform that an ordinary user runs: apps answer, what is missing is told, and nothing outlives it.

use std::process::Command;
use tests::user::User;
use tests::{Ended, Platform, app, text};

/// Waits for a state of the kernel that announces itself to nobody.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "waited in vain until {what}");
        // sleeps: the kernel tells nobody that a process of another parent is gone.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn subjects(platform: &Platform) -> Vec<&str> {
    let missing = platform.ready["missing"].as_array().expect("told");
    missing.iter().map(|lack| text(&lack["subject"])).collect()
}

#[test]
fn apps_answer_end_with_it_and_start_with_it() {
    let mut platform = Platform::start_as(User::new(true));
    assert!(
        ["resources", "users", "disk", "survival"]
            .iter()
            .all(|subject| subjects(&platform).contains(subject))
    );
    let site = app("static-site");
    let _ = platform
        .paas(["push", site.path().to_str().expect("UTF-8"), "-n", "site"])
        .ok();
    let (status, body) = platform.get("site.localhost", "/");
    assert!(status == 200 && body.contains("It works"), "{status} {body}");
    // An app of Python, with the interpreter of the machine.
    let shell = app("procfile-shell");
    let _ = platform
        .paas(["push", shell.path().to_str().expect("UTF-8"), "-n", "shell"])
        .ok();
    assert_eq!(platform.get("shell.localhost", "/").0, 200);
    // Its dependencies come from outside, through the way out.
    assert!(!subjects(&platform).contains(&"network"), "{}", platform.ready);
    let flask = app("python-flask");
    let _ = platform
        .paas(["push", flask.path().to_str().expect("UTF-8"), "-n", "flask"])
        .ok();
    let (status, body) = platform.get("flask.localhost", "/");
    assert!(status == 200 && body.contains("Hello from Flask"), "{status} {body}");
    let user = platform.paas(["exec", "shell", "--", "id", "-u"]).ok();
    assert_eq!(user.stdout.trim(), "2000");

    platform.kill();
    eventually("all that the platform started has ended", || {
        platform.user().processes().is_empty()
    });
    platform.up();
    let _ = platform.paas(["restart", "site"]).ok();
    assert_eq!(platform.get("site.localhost", "/").0, 200);
    platform.stop();
    eventually("nothing is left of an orderly end", || {
        platform.user().processes().is_empty()
    });
}

#[test]
fn one_id_is_enough_for_a_binary() {
    let platform = Platform::start_as(User::new(false));
    let users = platform.ready["missing"].as_array().expect("told").iter();
    let users = users.clone().find(|lack| lack["subject"] == "users").expect("told");
    assert!(text(&users["effect"]).contains("own user id") && text(&users["remedy"]).contains("--add-subuids"));
    let folder = tempfile::tempdir().expect("a folder");
    let rustc = Command::new("rustc")
        .arg("-O")
        .arg("-o")
        .arg(folder.path().join("server"))
        .arg(tests::root().join("tests/apps/binary/server.rs"))
        .status();
    assert!(rustc.expect("rustc starts").success());
    let _ = platform
        .paas(["push", folder.path().to_str().expect("UTF-8"), "-n", "binary"])
        .ok();
    let (status, body) = platform.get("binary.localhost", "/");
    assert!(
        status == 200 && body.contains("Hello from a compiled program"),
        "{status} {body}"
    );
}

#[test]
fn a_stack_is_made_by_root_and_that_is_said() {
    let user = User::new(false);
    let output = user.paasd().args(["stack", "create", "mine"]).output().expect("starts");
    let ended = Ended::from(output).code(1);
    assert!(
        ended.stderr.contains("sudo paasd stack create mine --state /"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains(".local/state/paas"), "{}", ended.stderr);
}
