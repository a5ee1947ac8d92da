//! `Gemfile.lock`: the parts that matter here.

use buildpack_kit::Result;
use buildpack_kit::app::read_text;
use std::collections::BTreeSet;
use std::path::Path;

/// What the file says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Names of all gems.
    pub gems: BTreeSet<String>,
    /// `RUBY VERSION` without the word.
    pub ruby: Option<String>,
    /// `BUNDLED WITH`.
    pub bundler: Option<String>,
}

impl Lock {
    /// Reads the file of `app`, if there is one.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(app: &Path) -> Result<Option<Self>> {
        Ok(read_text(app, "Gemfile.lock")?.map(|text| Self::parse(&text)))
    }

    fn parse(text: &str) -> Self {
        let mut lock = Self::default();
        let mut section = "";
        for line in text.lines() {
            let depth = line.len() - line.trim_start().len();
            let words: Vec<&str> = line.split_whitespace().collect();
            match (depth, section, words.as_slice()) {
                (0, _, [_, ..]) => section = line.trim(),
                (4, "GEM" | "GIT" | "PATH", [name, ..]) => {
                    lock.gems.insert((*name).to_owned());
                }
                (_, "RUBY VERSION", ["ruby", version]) => lock.ruby = Some((*version).to_owned()),
                (_, "BUNDLED WITH", [version]) => lock.bundler = Some((*version).to_owned()),
                _ => {}
            }
        }
        lock
    }

    /// Whether the app has this gem.
    #[must_use]
    pub fn has(&self, gem: &str) -> bool {
        self.gems.contains(gem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gems_and_versions_are_found() {
        let text = "GEM\n  remote: https://gems.test/\n  specs:\n    puma (6.0.0)\n      nio4r (~> 2.0)\n    nio4r (2.5.8)\n\n\
                    PLATFORMS\n  ruby\n\nDEPENDENCIES\n  puma\n\nRUBY VERSION\n   ruby 3.1.2p20\n\nBUNDLED WITH\n   2.3.15\n";
        let lock = Lock::parse(text);
        assert_eq!(
            lock.gems.iter().map(String::as_str).collect::<Vec<_>>(),
            ["nio4r", "puma"]
        );
        assert!(lock.has("puma") && !lock.has("rack"));
        assert_eq!(
            (lock.ruby.as_deref(), lock.bundler.as_deref()),
            (Some("3.1.2p20"), Some("2.3.15"))
        );
    }
}
