//! A daemon on a host of a cluster: started, killed, ended, started again. It ends with this process, however that ends.

use super::switch::Host;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Runs its arguments with standard error in the file $0, until standard input ends.
const GUARD: &str = r#"
"$@" 2>>"$0" </dev/null &
part=$!
read -r _
kill -TERM "$part" 2>/dev/null
wait "$part"
"#;

/// One daemon.
pub struct Part {
    /// Where it runs.
    pub host: Host,
    /// What it is called in messages.
    pub name: String,
    arguments: Vec<String>,
    log: PathBuf,
    running: Option<(Child, i32)>,
}

impl Part {
    /// Starts `arguments[0]` on the host and waits until it says in one line of JSON that it is ready.
    #[must_use]
    pub fn start(host: &Host, name: &str, folder: &Path, arguments: Vec<String>) -> Self {
        let mut part = Self {
            host: host.clone(),
            name: name.to_owned(),
            arguments,
            log: folder.join(format!("{name}.log")),
            running: None,
        };
        part.up();
        part
    }

    /// Starts it again.
    pub fn up(&mut self) {
        assert!(self.running.is_none(), "{} runs already", self.name);
        let mut guard = self.host.command("/bin/sh");
        guard.arg("-c").arg(GUARD).arg(&self.log).args(&self.arguments);
        let mut guard = guard
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nsenter starts");
        let mut line = String::new();
        BufReader::new(guard.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("readable");
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{} is not ready:\n{}", self.name, self.log()));
        let pid = ready["pid"].as_i64().and_then(|pid| pid.try_into().ok());
        self.running = Some((guard, pid.expect("a process id")));
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Ends it as an operator does.
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    fn end(&mut self, signal: Signal) {
        let Some((mut guard, pid)) = self.running.take() else {
            return;
        };
        // It may have ended by itself, which its log tells.
        let _ = kill(Pid::from_raw(pid), signal);
        drop(guard.stdin.take());
        guard.wait().expect("ours");
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.running.as_ref().map(|(_, pid)| *pid)
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.stop();
    }
}
