//! What the end of a tool's output means: each language has a table of words with cause and remedy, all share what happens
//! to any tool.

use crate::command::{self, Outcome};
use crate::{Failure, Result};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

/// Words in a tool's output, and what they mean.
#[derive(Debug, Clone, Copy)]
pub struct Hint {
    /// Any of these.
    pub words: &'static [&'static str],
    /// What is wrong.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// What happens to any tool. These come last: a tool's own words say more.
const COMMON: &[Hint] = &[
    Hint {
        words: &["No space left on device", "ENOSPC", "Disk quota exceeded"],
        cause: "the disk of the build is full",
        remedy: "Raise the disk limit of the app, or push and install less (.cfignore).",
    },
    Hint {
        words: &["Cannot allocate memory", "out of memory", "OutOfMemoryError", "ENOMEM"],
        cause: "the build ran out of memory",
        remedy: "Raise the staging memory.",
    },
    Hint {
        words: &[
            "Could not resolve host",
            "Temporary failure in name resolution",
            "Name or service not known",
            "no such host",
            "Connection refused",
            "connection refused",
            "Network is unreachable",
            "network is unreachable",
            "Connection timed out",
            "i/o timeout",
            "UnknownHostException",
        ],
        cause: "a package registry could not be reached (see above)",
        remedy: "Try again; if it persists, the operator checks the egress policy, the proxy and the mirror settings of staging.",
    },
];

/// Runs `command`, shown to people as `shown`.
///
/// # Errors
/// Where it cannot be started or fails, with the cause that its output tells by `hints`.
pub fn run(command: &mut Command, shown: &str, hints: &[Hint]) -> Result<Outcome> {
    let outcome = command::run(command).map_err(|error| {
        Failure::new(
            format!("{shown} could not be started: {error}"),
            "Report this to the operator.",
        )
    })?;
    if outcome.status.success() {
        return Ok(outcome);
    }
    let killed = outcome.status.signal() == Some(9) || outcome.status.code() == Some(137);
    Err(explain(shown, &outcome.tail, killed, hints))
}

/// The failure of `shown` by the end of its output.
#[must_use]
pub fn explain(shown: &str, tail: &str, killed: bool, hints: &[Hint]) -> Failure {
    if killed {
        return Failure::new(
            format!("{shown} was killed, most likely for its memory"),
            "Raise the staging memory.",
        );
    }
    let mut all = hints.iter().chain(COMMON);
    let found = all.find(|hint| hint.words.iter().any(|word| tail.contains(word)));
    match found {
        Some(hint) => Failure::new(hint.cause, hint.remedy),
        None => Failure::new(
            format!("{shown} failed (see above)"),
            "Run the same command in a fresh copy of the app: it should fail in the same way.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_s_own_words_come_first() {
        let hints = [Hint {
            words: &["lock is stale"],
            cause: "stale",
            remedy: "lock",
        }];
        let cause = |tail: &str, killed| explain("tool", tail, killed, &hints).cause;
        assert_eq!(cause("lock is stale: No space left on device", false), "stale");
        assert_eq!(
            cause("write: No space left on device", false),
            "the disk of the build is full"
        );
        assert_eq!(cause("dial tcp: lookup x: no such host", false), COMMON[2].cause);
        assert_eq!(cause("what?", false), "tool failed (see above)");
        assert!(cause("", true).contains("killed"));
        assert!(
            run(&mut Command::new("/nonexistent"), "x", &[])
                .unwrap_err()
                .cause
                .contains("started")
        );
        assert!(run(&mut Command::new("false"), "false", &[]).is_err());
    }
}
