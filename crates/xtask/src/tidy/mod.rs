//! `cargo xtask tidy`: the invariants of `ARCHITECTURE.md` that a compiler does not see, checked over the whole tree.
//!
//! Each rule is a pure function from a file (or the workspace) to findings. It reads text, not types: a rule that would
//! need types belongs into clippy's configuration. Exemptions stand in `.config/tidy.toml`, each with its reason; those
//! of size have to follow what shrinks.

mod documents;
mod edges;
mod exempt;
mod rust;
mod size;
mod source;

use crate::workspace::{Workspace, root};
use anyhow::{Context as _, Result, bail};
use exempt::Exemptions;
use source::Source;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Extensions of files that people write.
const TEXT: [&str; 14] = [
    "rs", "md", "toml", "sql", "sh", "yml", "yaml", "json", "html", "css", "js", "py", "service", "txt",
];
/// Apps of users, as tests push them: not ours, and some are wrong on purpose.
const APPS: &str = "tests/apps/";

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    path: PathBuf,
    /// From 1; 0 where it is about the file as a whole.
    line: usize,
    rule: &'static str,
    message: String,
}

impl Finding {
    fn new(path: &Path, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            rule,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {} [{}]", self.message, self.rule)
    }
}

/// Checks the tree and prints what it finds.
pub fn run() -> Result<()> {
    let findings = check(&root())?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => bail!("{count} findings; docs/checklists/tidy.md says what each rule is for"),
    }
}

/// All findings in the tree below `root`.
fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut exemptions = Exemptions::load(&root.join(".config/tidy.toml"))?;
    let mut findings = edges::check(&Workspace::load()?);
    for path in files(root)? {
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else {
            continue; // Deleted in the work tree, or not text.
        };
        if path.starts_with(APPS) {
            continue;
        }
        findings.extend(documents::words(&path, &text));
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => {
                let source = Source::new(path, text);
                findings.extend(rust::check(&source));
                findings.extend(size::check(&source, &mut exemptions));
            }
            Some("md") => findings.extend(documents::paths(root, &path, &text)),
            _ => {}
        }
    }
    findings.retain(|finding| !exemptions.allows(finding.rule, &finding.path));
    findings.extend(exemptions.unused());
    findings.sort();
    Ok(findings)
}

/// Every file that is or could be committed, relative to the root.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .output()
        .context("failed to run git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    let is_text = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_none_or(|extension| TEXT.contains(&extension))
    };
    Ok(names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .filter(is_text)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let findings = check(&root()).unwrap();
        let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{}", text.join("\n"));
    }
}
