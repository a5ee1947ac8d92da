//! Runs a buildpack's program: its output goes on as it comes, and the end of it is kept as evidence for a failure.

use crate::ui;
use std::collections::VecDeque;
use std::io::{self, Read, pipe};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Lines kept as evidence.
const TAIL_LINES: usize = 60;
/// Longest line kept whole.
const LINE_BYTES: usize = 4096;
/// How long output may trail the end of the program, when something it left behind holds the stream open.
const TRAILING: Duration = Duration::from_secs(2);
/// Most that a quiet program may say.
const QUIET_BYTES: u64 = 256 * 1024;

/// How a program ended, and what it said last.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Its last lines, stdout and stderr in the order written.
    pub tail: Vec<String>,
}

/// Runs `command` with stdout and stderr passed on to our stdout in the order written.
///
/// # Errors
/// Where it cannot be started.
pub fn run_loud(command: &mut Command) -> io::Result<Outcome> {
    let (reader, writer) = pipe()?;
    command.stdin(Stdio::null());
    command.stderr(writer.try_clone()?).stdout(writer);
    let mut child = command.spawn()?;
    // The command holds our ends of the pipe's writers; without this its end would never be seen.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (done, finished) = mpsc::sync_channel(1);
    let tail = Arc::new(Mutex::new(VecDeque::new()));
    let kept = Arc::clone(&tail);
    std::thread::spawn(move || {
        pump(reader, &kept);
        let _ = done.send(());
    });
    let status = child.wait()?;
    let _ = finished.recv_timeout(TRAILING);
    let tail = std::mem::take(&mut *tail.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Outcome {
        status,
        tail: tail.into(),
    })
}

/// Passes chunks on as they come and keeps the last lines, each cut at [`LINE_BYTES`].
fn pump(mut reader: impl Read, tail: &Mutex<VecDeque<String>>) {
    let keep = |line: &mut Vec<u8>| {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(String::from_utf8_lossy(line).trim_end().to_owned());
        line.clear();
    };
    let mut chunk = vec![0; 16 * 1024];
    let mut line = Vec::new();
    while let Ok(read @ 1..) = reader.read(&mut chunk) {
        let bytes = &chunk[..read];
        ui::raw(bytes);
        for &byte in bytes {
            if byte == b'\n' {
                keep(&mut line);
            } else if line.len() < LINE_BYTES {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        keep(&mut line);
    }
}

/// What a program that runs unheard said.
#[derive(Debug)]
pub struct Quiet {
    /// How it ended.
    pub status: ExitStatus,
    /// Its stdout, cut at 256 KiB.
    pub stdout: String,
    /// Its stderr, cut at 256 KiB.
    pub stderr: String,
}

/// Runs `command` and keeps what it says to itself.
///
/// # Errors
/// Where it cannot be started.
pub fn run_quiet(command: &mut Command) -> io::Result<Quiet> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let errors = child.stderr.take();
    let stderr = std::thread::spawn(move || errors.map(read_limited).unwrap_or_default());
    let stdout = child.stdout.take().map(read_limited).unwrap_or_default();
    let status = child.wait()?;
    Ok(Quiet {
        status,
        stdout,
        stderr: stderr.join().unwrap_or_default(),
    })
}

fn read_limited(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = stream.by_ref().take(QUIET_BYTES).read_to_end(&mut bytes);
    // Reading on keeps the program from failing on a closed pipe.
    let _ = io::copy(&mut stream, &mut io::sink());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `exit code 3` or `signal 9`.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_are_kept_in_order() {
        let outcome = run_loud(&mut shell("echo one; echo two >&2; printf three; exit 7")).unwrap();
        assert_eq!(outcome.tail, ["one", "two", "three"]);
        assert_eq!(describe(outcome.status), "exit code 7");
    }

    #[test]
    fn only_the_end_is_kept() {
        let outcome = run_loud(&mut shell("for i in $(seq 1 500); do echo $i; done")).unwrap();
        assert_eq!(outcome.tail.len(), TAIL_LINES);
        assert_eq!(outcome.tail.last().map(String::as_str), Some("500"));
    }

    #[test]
    fn a_program_left_behind_does_not_hold_the_build() {
        let outcome = run_loud(&mut shell("sleep 5 & echo done")).unwrap();
        assert_eq!(outcome.tail, ["done"]);
    }

    #[test]
    fn quiet_streams_are_apart_and_limited() {
        let quiet = run_quiet(&mut shell("echo out; echo err >&2; kill -9 $$")).unwrap();
        assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(describe(quiet.status), "signal 9");
        let quiet = run_quiet(&mut shell("yes | head -c 1000000")).unwrap();
        assert_eq!(quiet.stdout.len() as u64, QUIET_BYTES);
        assert!(quiet.status.success());
    }
}
