//! One input gives one droplet: on another day, by another cell, in another folder.

use std::path::Path;
use std::process::Command;
use tests::{Api, Platform, app, text};

/// Loaded before a program's libraries, it shows that many days later.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long shift(void) {
    const char *days = getenv("TEST_DAYS");
    return days ? atol(days) * 86400 : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"#;

/// Compiles the clock to `file`.
fn clock(file: &Path) {
    let source = file.with_extension("c");
    std::fs::write(&source, CLOCK).expect("written");
    let mut cc = Command::new("cc");
    let status = cc
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(file)
        .arg(&source)
        .status();
    assert!(status.expect("cc starts").success());
}

/// What a program of this machine takes for today, `days` later.
fn today(clock: &Path, days: &str) -> String {
    let mut date = Command::new("date");
    let output = date.arg("+%F").env("LD_PRELOAD", clock).env("TEST_DAYS", days).output();
    String::from_utf8(output.expect("date starts").stdout).expect("text")
}

/// Pushes each of `apps` to a platform of its own whose clock is `days` ahead: name and digest of every layer.
fn layers(apps: &[&str], clock: &Path, days: &str) -> Vec<String> {
    let library = clock.to_str().expect("UTF-8");
    let platform = Platform::with(&[], &[("LD_PRELOAD", library), ("TEST_DAYS", days)]);
    let api = Api::of(&platform);
    let mut found = Vec::new();
    for name in apps {
        let folder = app(name);
        std::fs::copy(clock, folder.path().join("clock.so")).expect("copied");
        let days = format!("TEST_DAYS={days}");
        let path = folder.path().to_str().expect("UTF-8");
        // The variables reach the build, and every program of it that is not static.
        let pushed = platform.paas([
            "push",
            path,
            "-n",
            name,
            "--no-start",
            "--env",
            "LD_PRELOAD=/home/vcap/app/clock.so",
            "--env",
            &days,
        ]);
        let _ = pushed.ok();
    }
    let (status, listed) = api.call(
        "GET",
        "/v3/droplets?per_page=100&order_by=created_at",
        &serde_json::Value::Null,
    );
    assert_eq!(status, 200);
    for droplet in listed["resources"].as_array().expect("a list") {
        found.push(format!("droplet {}", text(&droplet["checksum"]["value"])));
        for layer in droplet["layers"].as_array().expect("a list") {
            found.push(format!("  {} {}", text(&layer["name"]), text(&layer["digest"])));
        }
    }
    found
}

#[test]
fn one_input_gives_one_droplet_whatever_the_day_the_cell_and_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock_file = folder.path().join("clock.so");
    clock(&clock_file);
    assert_ne!(today(&clock_file, "0"), today(&clock_file, "2"), "the clock is shifted");
    let apps = ["node-express", "python-flask", "static-site", "go-http"];
    let first = layers(&apps, &clock_file, "0");
    let second = layers(&apps, &clock_file, "2");
    assert!(first.len() > 4 * apps.len(), "{first:#?}");
    assert_eq!(first, second);
}
