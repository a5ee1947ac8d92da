//! Other people's tools, run where the person who pushed sees what they say.

use crate::output;
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, pipe};
use std::process::{Command, ExitStatus, Stdio};

/// Lines kept as evidence.
const TAIL_LINES: usize = 200;

/// How a tool ended, and what it said last.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// The end of its output, stdout and stderr in the order written.
    pub tail: String,
}

/// Runs `command` with its output indented below the headline.
///
/// # Errors
/// Where it cannot be started.
pub fn run(command: &mut Command) -> std::io::Result<Outcome> {
    let (reader, writer) = pipe()?;
    command.stdin(Stdio::null());
    command.stderr(writer.try_clone()?).stdout(writer);
    let mut child = command.spawn()?;
    // The command holds our ends of the pipe's writers; without this its end would never be seen.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut tail = VecDeque::new();
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        output::detail(&text);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(text);
        line.clear();
    }
    Ok(Outcome {
        status: child.wait()?,
        tail: Vec::from(tail).join("\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_are_kept() {
        let outcome = run(Command::new("/bin/sh").args(["-c", "echo a; echo b >&2; exit 3"])).unwrap();
        assert_eq!((outcome.tail.as_str(), outcome.status.code()), ("a\nb", Some(3)));
    }
}
