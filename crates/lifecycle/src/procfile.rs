//! `Procfile`: a YAML map of process type to command, as Cloud Foundry reads it.

use crate::Error;
use std::collections::BTreeMap;
use std::path::Path;

/// Longest Procfile that is read.
const LIMIT_BYTES: u64 = 1024 * 1024;

/// Process types and commands of `<app>/Procfile`; empty where there is none.
///
/// # Errors
/// [`Error::Procfile`] where it is not a map of text to text, too long or unreadable.
pub fn read(app: &Path) -> Result<BTreeMap<String, String>, Error> {
    let path = app.join("Procfile");
    let invalid = |reason: String| Error::Procfile { reason };
    match std::fs::metadata(&path) {
        Ok(found) if !found.is_file() => return Err(invalid("it is not a file".to_owned())),
        Ok(found) if found.len() > LIMIT_BYTES => return Err(invalid("it is longer than 1 MiB".to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(invalid(error.to_string())),
    }
    let text = std::fs::read_to_string(&path).map_err(|error| invalid(error.to_string()))?;
    parse(&text).map_err(invalid)
}

/// Process types and commands of a Procfile's text.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Err("it names no process".to_owned());
    }
    let parsed: BTreeMap<String, serde_yaml::Value> = match serde_yaml::from_str(text) {
        Ok(parsed) => parsed,
        // A command such as `node -e "a: b"` is no YAML, but every other reader of Procfiles takes it.
        Err(error) => return by_lines(text).ok_or_else(|| format!("invalid YAML: {error}")),
    };
    let mut processes = BTreeMap::new();
    for (name, value) in parsed {
        let command = match value {
            serde_yaml::Value::String(command) => command.trim().to_owned(),
            _ => return Err(format!("process {name:?} has no text as its command")),
        };
        check(&name, &command)?;
        processes.insert(name, command);
    }
    Ok(processes)
}

/// The form of other platforms: each line is `name: command`, whatever the command contains.
fn by_lines(text: &str) -> Option<BTreeMap<String, String>> {
    let mut processes = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, command) = line.split_once(':')?;
        check(name, command.trim()).ok()?;
        processes.insert(name.to_owned(), command.trim().to_owned());
    }
    Some(processes)
}

fn check(name: &str, command: &str) -> Result<(), String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 255 || !name.chars().all(valid) {
        return Err(format!(
            "{name:?} is no process type: use letters, digits, '-', '_' and '.'"
        ));
    }
    if command.is_empty() {
        return Err(format!("process {name:?} has an empty command"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_by_type() {
        let processes = parse("web: node index.js\nworker: \"ruby run.rb\"\n").unwrap();
        assert_eq!(processes["web"], "node index.js");
        assert_eq!(processes["worker"], "ruby run.rb");
    }

    #[test]
    fn commands_that_are_no_yaml_are_taken_by_lines() {
        let processes = parse("web: sh -c \"echo a: b\" | cat: x\n# note\nworker: run *\n").unwrap();
        assert_eq!(processes["web"], "sh -c \"echo a: b\" | cat: x");
        assert_eq!(processes["worker"], "run *");
    }

    #[test]
    fn what_is_no_procfile_says_why() {
        for (text, part) in [
            ("", "names no process"),
            ("- a\n- b\n", "invalid YAML"),
            ("web:\n", "no text"),
            ("we b: x\n", "no process type"),
            ("web: ''\n", "empty command"),
            ("web: [a]\n", "no text"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(part), "{text:?}: {reason}");
        }
    }

    #[test]
    fn none_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), BTreeMap::new());
        std::fs::create_dir(folder.path().join("Procfile")).unwrap();
        assert!(read(folder.path()).is_err());
    }
}
