//! What happens when the daemon dies: apps go on, and what was under way ends in its true outcome.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use tests::{Platform, app};

/// Pids of the app's processes as the host sees them.
fn pids(marker: &str) -> Vec<u32> {
    let folders = std::fs::read_dir("/proc").expect("there").flatten();
    let mut found: Vec<u32> = folders
        .filter_map(|folder| {
            let pid = folder.file_name().to_str()?.parse().ok()?;
            let environment = std::fs::read(folder.path().join("environ")).ok()?;
            let line = std::fs::read(folder.path().join("cmdline")).ok()?;
            let shown = String::from_utf8_lossy(&environment).contains(marker);
            (shown && !line.is_empty()).then_some(pid)
        })
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn apps_outlive_the_daemon_and_are_taken_up_again() {
    let mut platform = Platform::start();
    let folder = app("static-site");
    let _ = platform
        .paas([
            "push",
            folder.path().to_str().expect("UTF-8"),
            "-n",
            "site",
            "--env",
            "MARK=outlives1",
        ])
        .ok();
    let before = pids("MARK=outlives1");
    assert!(!before.is_empty());
    platform.kill();
    assert_eq!(pids("MARK=outlives1"), before);
    platform.up();
    let (status, _) = platform.get("site.localhost", "/");
    assert_eq!(status, 200);
    assert_eq!(pids("MARK=outlives1"), before, "the app was not started anew");
    // It is watched again: when it dies, it comes back.
    let _ = platform.paas(["stop", "site"]).ok();
    assert!(pids("MARK=outlives1").is_empty());
}

#[test]
fn a_staging_survives_the_daemon() {
    let mut platform = Platform::start();
    let folder = app("node-express");
    let mut push = platform
        .command(["push", folder.path().to_str().expect("UTF-8"), "-n", "web"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("paas starts");
    // The first line of the build's own log says that it is under way.
    let mut lines = BufReader::new(push.stderr.take().expect("piped")).lines();
    let mut seen = String::new();
    while !seen.contains("----->") {
        seen = lines.next().expect("the build begins").expect("UTF-8");
    }
    platform.kill();
    platform.up();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let status = push.wait().expect("ours");
    assert!(status.success(), "{}", rest.join("\n"));
    assert_eq!(platform.get("web.localhost", "/").0, 200);
}
