//! Pythons of the stack, found by asking them.

use crate::project::Wanted;
use buildpack_kit::{Failure, Result, Variables, output};
use pep440_rs::Version;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where stacks have their programs, whatever the path says.
const FOLDERS: &[&str] = &["/usr/local/bin", "/usr/bin"];
/// What a Python says of itself.
const QUESTION: &str =
    "import platform, sysconfig; print(platform.python_version(), sysconfig.get_config_var('SOABI') or '-')";

/// A Python that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// Its program.
    pub program: PathBuf,
    /// Its version.
    pub version: Version,
    /// The binary interface that compiled packages are made for.
    pub abi: String,
}

/// The newest Python of the stack that the app allows; `None` where there is none, with a list of what there is.
///
/// # Errors
/// Never for the app's sake: what does not answer is left out.
pub fn find(variables: &Variables, wanted: Option<&Wanted>) -> (Option<Interpreter>, Vec<Interpreter>) {
    let mut all = all(variables);
    all.sort_by(|a, b| b.version.cmp(&a.version));
    // Without a wish it is the stack's own default rather than the newest: that is what its packages are made for.
    let default = all
        .iter()
        .find(|found| found.program.ends_with("python3"))
        .or(all.first());
    let chosen = match wanted {
        None => default,
        Some(wanted) => {
            let default = default.filter(|found| wanted.allows(&found.version) && !wanted.is_near_miss(&found.version));
            default.or_else(|| all.iter().find(|found| wanted.allows(&found.version)))
        }
    };
    (chosen.cloned(), all)
}

fn all(variables: &Variables) -> Vec<Interpreter> {
    let path = variables.get("PATH").unwrap_or_default();
    let folders = std::env::split_paths(path).chain(FOLDERS.iter().map(PathBuf::from));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for folder in folders {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| is_python(name))
            .collect();
        // The plain name comes first: it is the one to be remembered.
        names.sort();
        for name in names {
            let program = folder.join(name);
            let Ok(real) = fs::canonicalize(&program) else { continue };
            if seen.insert(real) {
                found.extend(ask(&program));
            }
        }
    }
    found
}

/// `python3` or `python3.12`, not `python3-config`.
fn is_python(name: &str) -> bool {
    name == "python3"
        || name
            .strip_prefix("python3.")
            .is_some_and(|minor| !minor.is_empty() && minor.chars().all(|digit| digit.is_ascii_digit()))
}

/// What `program` says of itself, if it is a Python.
#[must_use]
pub fn ask(program: &Path) -> Option<Interpreter> {
    let mut command = Command::new(program);
    let output = command
        .args(["-I", "-S", "-c", QUESTION])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (version, abi) = text.trim().split_once(' ')?;
    Some(Interpreter {
        program: program.to_owned(),
        version: version.parse().ok()?,
        abi: abi.to_owned(),
    })
}

/// Says which Python is used, and where it is not quite the one asked for.
pub fn announce(interpreter: &Interpreter, wanted: Option<&Wanted>) {
    let source = wanted.map_or_else(
        || "of the stack".to_owned(),
        |wanted| format!("{} in {}", wanted.text, wanted.source),
    );
    output::headline(&format!("Python {} ({source})", interpreter.version));
    if let Some(wanted) = wanted.filter(|wanted| wanted.is_near_miss(&interpreter.version)) {
        output::alert(&format!(
            "{} asks for {}, and the stack has {}: the same line, another patch",
            wanted.source, wanted.text, interpreter.version
        ));
    }
}

/// The failure where the stack has no fitting Python.
#[must_use]
pub fn missing(wanted: Option<&Wanted>, all: &[Interpreter], stack: &str) -> Failure {
    let has = if all.is_empty() {
        "no Python at all".to_owned()
    } else {
        let list: Vec<String> = all.iter().map(|found| found.version.to_string()).collect();
        format!("Python {}", list.join(", "))
    };
    match wanted {
        None => Failure::new(
            format!("the stack {stack} has {has}"),
            "Push to a stack with Python (-s STACK); the operator sees which there are by `paas stacks`.",
        ),
        Some(wanted) => Failure::new(
            format!(
                "the app asks for Python {} ({}), and the stack {stack} has {has}",
                wanted.text, wanted.source
            ),
            "Ask for a version that the stack has, or push to another stack (-s STACK). \
             The operator may also set UV_PYTHON_INSTALL_MIRROR, from which other versions are then installed.",
        ),
    }
}

/// `Ok` where the interpreter was found.
///
/// # Errors
/// See [`missing`].
pub fn required(
    found: Option<Interpreter>,
    wanted: Option<&Wanted>,
    all: &[Interpreter],
    stack: &str,
) -> Result<Interpreter> {
    found.ok_or_else(|| missing(wanted, all, stack))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pythons() {
        for (name, expected) in [
            ("python3", true),
            ("python3.12", true),
            ("python", false),
            ("python3-config", false),
            ("python3.12-config", false),
            ("python3.", false),
        ] {
            assert_eq!(is_python(name), expected, "{name}");
        }
    }

    #[test]
    fn programs_are_asked_and_others_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            path
        };
        let python = script("python3.99", "echo 3.99.1 cpython-399");
        let found = ask(&python).unwrap();
        assert_eq!(
            (found.version.to_string().as_str(), found.abi.as_str()),
            ("3.99.1", "cpython-399")
        );
        assert_eq!(ask(&script("python3.98", "exit 1")), None);
        let variables = Variables([("PATH".into(), folder.path().into())].into());
        assert!(find(&variables, None).1.contains(&found));
    }

    #[test]
    fn a_missing_python_lists_what_there_is() {
        let failure = missing(None, &[], "host");
        assert!(failure.cause.contains("no Python at all"));
    }
}
