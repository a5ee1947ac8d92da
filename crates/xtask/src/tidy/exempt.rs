//! `.config/tidy.toml`: what is exempt from which rule and why. An exemption that nothing needs is a finding itself.

use super::Finding;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Files and functions that are longer than allowed, with their length.
    #[serde(default)]
    long: Vec<Long>,
    /// Files that a rule does not hold for.
    #[serde(default)]
    exempt: Vec<Exempt>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Long {
    path: PathBuf,
    function: Option<String>,
    lines: usize,
    #[expect(dead_code, reason = "for the reader of the file; required so that it is given")]
    reason: String,
    #[serde(skip)]
    used: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exempt {
    rule: String,
    /// A file, or a folder with everything below it.
    path: PathBuf,
    #[expect(dead_code, reason = "for the reader of the file; required so that it is given")]
    reason: String,
    #[serde(skip)]
    used: bool,
}

/// The exemptions, and which of them were needed.
pub struct Exemptions(File);

impl Exemptions {
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("failed to read {}", path.display()))
    }

    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self(toml::from_str(text)?))
    }

    /// The listed length of a file or function.
    pub fn length(&mut self, path: &Path, function: Option<&str>) -> Option<usize> {
        let listed = self
            .0
            .long
            .iter_mut()
            .find(|long| long.path == path && long.function.as_deref() == function)?;
        listed.used = true;
        Some(listed.lines)
    }

    /// Whether a rule does not hold for a file.
    pub fn allows(&mut self, rule: &str, path: &Path) -> bool {
        let exempt = self
            .0
            .exempt
            .iter_mut()
            .find(|exempt| exempt.rule == rule && path.starts_with(&exempt.path));
        exempt.map(|exempt| exempt.used = true).is_some()
    }

    /// Those that nothing needed.
    pub fn unused(&self) -> Vec<Finding> {
        let long = self.0.long.iter().filter(|long| !long.used).map(|long| &long.path);
        let exempt = self
            .0
            .exempt
            .iter()
            .filter(|exempt| !exempt.used)
            .map(|exempt| &exempt.path);
        let message = "its exemption in .config/tidy.toml is not needed: remove it";
        long.chain(exempt)
            .map(|path| Finding::new(path, 0, "exempt", message))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_required_and_unused_ones_reported() {
        assert!(Exemptions::parse("[[exempt]]\nrule = \"sql\"\npath = \"a\"\n").is_err());
        let text = "[[exempt]]\nrule = \"sql\"\npath = \"crates/a\"\nreason = \"x\"\n";
        let mut exemptions = Exemptions::parse(text).unwrap();
        assert!(
            !exemptions.allows("sql", Path::new("crates/ab/c.rs"))
                && !exemptions.allows("sleep", Path::new("crates/a"))
        );
        assert_eq!(exemptions.unused().len(), 1);
        assert!(exemptions.allows("sql", Path::new("crates/a/b.rs")));
        assert!(exemptions.unused().is_empty());
    }
}
