//! What a platform may not leave on a machine: processes, control groups, mounts, network parts, loop devices.

use std::path::Path;
use std::process::Command;

/// All that still bears the platform's name or lies in its state directory, a line each.
#[must_use]
pub fn of(name: &str, state: &Path) -> Vec<String> {
    let state = state.to_string_lossy();
    let mut left = Vec::new();
    left.extend(processes(&state));
    left.extend(lines("/proc/self/mountinfo", &state).map(|line| format!("mount: {line}")));
    left.extend(groups(name));
    for (what, program, arguments) in [
        ("interface", "ip", &["-o", "link", "show"][..]),
        ("network namespace", "ip", &["netns", "list"]),
        ("firewall", "nft", &["list", "tables"]),
        ("loop device", "losetup", &["--list", "--noheadings"]),
    ] {
        let Ok(output) = Command::new(program).args(arguments).output() else {
            continue;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = text
            .lines()
            .filter(|line| has_word(line, name) || line.contains(&*state));
        left.extend(found.map(|line| format!("{what}: {}", line.trim())));
    }
    left
}

/// Whether `name` stands in `line`, not as the beginning of a longer number.
fn has_word(line: &str, name: &str) -> bool {
    line.match_indices(name)
        .any(|(at, _)| !line[at + name.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

fn lines(path: &str, part: &str) -> impl Iterator<Item = String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter(|line| line.contains(part))
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

fn processes(state: &str) -> Vec<String> {
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = std::process::id().to_string();
    folders
        .filter(|folder| folder.file_name() != own.as_str())
        .filter_map(|folder| {
            let line = std::fs::read(folder.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(state)
                .then(|| format!("process {}: {line}", folder.file_name().to_string_lossy()))
        })
        .collect()
}

fn groups(name: &str) -> Vec<String> {
    walkdir::WalkDir::new("/sys/fs/cgroup")
        .max_depth(4)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_dir() && entry.file_name() == name)
        .map(|entry| format!("control group: {}", entry.path().display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

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
