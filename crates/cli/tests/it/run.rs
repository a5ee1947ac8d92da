//! Runs the program in a home of its own, and makes its output comparable.

use super::fake::FakeController;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Longest time for one run.
const LIMIT: Duration = Duration::from_secs(30);

/// A user with a home.
pub struct User {
    pub home: tempfile::TempDir,
}

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl User {
    /// One that never used the program.
    pub fn new() -> Self {
        Self {
            home: tempfile::tempdir().expect("a folder"),
        }
    }

    /// One on a machine where the platform `fake` runs.
    pub fn beside(fake: &FakeController) -> Self {
        let user = Self::new();
        let login = json!({"api": fake.api, "username": "admin", "password": "right", "org": "dev", "space": "dev"});
        std::fs::write(user.home.path().join("login.json"), login.to_string()).expect("written");
        user
    }

    /// A file in the home.
    pub fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.home.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below the home")).expect("made");
        std::fs::write(path, text).expect("written");
        self
    }

    /// A folder with a small app.
    pub fn with_app(self) -> Self {
        self.file("shop/package.json", "{\"name\": \"shop\"}")
            .file("shop/server.js", "require('http')");
        self
    }

    /// The program, about to be run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .env("PAAS_DEV_LOGIN", self.home.path().join("login.json"))
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the program to its end.
    pub async fn run(&self, args: &[&str]) -> Ran {
        finish(self.command(args).output()).await
    }

    /// As [`Self::run`], with this on standard input.
    pub async fn run_with_input(&self, args: &[&str], input: &str) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).await.expect("written");
        drop(stdin);
        finish(child.wait_with_output()).await
    }
}

async fn finish(run: impl Future<Output = std::io::Result<Output>>) -> Ran {
    let output = tokio::time::timeout(LIMIT, run)
        .await
        .expect("ends in time")
        .expect("runs");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

impl Ran {
    /// Standard output as one document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {:?}\n{}", self.stdout, self.stderr))
    }

    /// The last line of standard error as the error document.
    pub fn error(&self) -> Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {}", self.stderr))
    }

    /// Standard error with times, addresses and folders replaced.
    pub fn steady_stderr(&self, home: &Path, api: &str) -> String {
        steady(&self.stderr, home, api)
    }
}

/// Text in which what differs from run to run is replaced.
pub fn steady(text: &str, home: &Path, api: &str) -> String {
    let mut steady = String::new();
    for line in text.lines() {
        let line = line
            .replace(api, "[api]")
            .replace(home.to_str().expect("UTF-8"), "[home]");
        let line = match line.get(..9) {
            Some(clock) if clock.as_bytes()[2] == b':' && clock.as_bytes()[5] == b':' => {
                format!("[time] {}", &line[9..])
            }
            _ => line,
        };
        // The drawing of the waterfall and durations depend on the machine.
        let drawing = line.find('|').filter(|_| line.ends_with('|'));
        let line = drawing.map_or(line.clone(), |at| line[..at].to_owned());
        let words: Vec<&str> = line.split(' ').collect();
        let mut kept: Vec<String> = Vec::new();
        for (index, word) in words.iter().enumerate() {
            let is_number = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || c == '.');
            let unit = words.get(index + 1).is_some_and(|next| *next == "ms" || *next == "s");
            kept.push(if is_number && unit {
                "[n]".into()
            } else {
                (*word).to_owned()
            });
        }
        let line = kept
            .join(" ")
            .replace("[n] ms", "[duration]")
            .replace("[n] s", "[duration]");
        steady.push_str(log_time(squeezed(&line)).trim_end());
        steady.push('\n');
    }
    steady
}

/// Runs of spaces before a replaced duration depend on its length.
fn squeezed(line: &str) -> String {
    match line.split_once("[duration]") {
        Some((head, tail)) => format!("{}  [duration]{tail}", head.trim_end()),
        None => line.to_owned(),
    }
}

/// The time of a log line.
fn log_time(line: String) -> String {
    match line.split_once("Z [") {
        Some((time, rest)) if time.len() == 23 => format!("[time] [{rest}"),
        _ => line,
    }
}
