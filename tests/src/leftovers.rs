//! What a platform may not leave on a machine: processes, control groups, mounts, network parts, loop devices.

use crate::machine::things;
use std::path::Path;

/// All that still bears the platform's name or lies in its state directory, a line each.
#[must_use]
pub fn of(name: &str, state: &Path) -> Vec<String> {
    let state = state.to_string_lossy();
    let own = format!("{} ", std::process::id());
    things()
        .into_iter()
        .filter(|thing| match thing.kind {
            "process" => thing.text.contains(&*state) && !thing.text.starts_with(&own),
            "control group" => thing.text.rsplit('/').next() == Some(name),
            // Others may need it as well; its record is what shows.
            "forwarding" => false,
            _ => has_word(&thing.text, name) || thing.text.contains(&*state),
        })
        .map(|thing| thing.to_string())
        .collect()
}

/// Whether `name` stands in `line`, not as the beginning of a longer number.
fn has_word(line: &str, name: &str) -> bool {
    line.match_indices(name)
        .any(|(at, _)| !line[at + name.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_is_no_part_of_a_longer_one() {
        assert!(has_word("3: paast1: <UP>", "paast1"));
        assert!(has_word("3: paast1v0@if2: <UP>", "paast1"));
        assert!(!has_word("3: paast12: <UP>", "paast1"));
    }

    #[test]
    fn a_process_of_the_state_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("wait");
        std::fs::write(&script, "echo ready; read line").expect("written");
        let mut shell = Command::new("sh");
        let mut child = shell
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        // Its command line can be read once it runs.
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut ready)
            .expect("readable");
        let found = of("paas-none", folder.path());
        drop(child.stdin.take());
        child.wait().expect("ends");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(of("paas-none", folder.path()).is_empty());
    }
}
