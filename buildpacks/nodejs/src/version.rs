//! Which Node.js the app wants, said by whom, and which of those published that is.

use crate::package::Package;
use crate::read_text;
use buildpack_kit::{Failure, Result};
use node_semver::{Range, Version};
use std::path::Path;

/// The line used where the app says nothing, or only what it needs at least: the newest that is supported for long.
pub const DEFAULT_LINE: &str = "24.x";
/// The oldest line that still gets repairs.
const OLDEST_MAINTAINED: u64 = 22;
/// Names of lines as version files write them.
const CODE_NAMES: &[(&str, u64)] = &[
    ("argon", 4),
    ("boron", 6),
    ("carbon", 8),
    ("dubnium", 10),
    ("erbium", 12),
    ("fermium", 14),
    ("gallium", 16),
    ("hydrogen", 18),
    ("iron", 20),
    ("jod", 22),
    ("krypton", 24),
];

/// What the app wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// As written.
    pub text: String,
    /// Where it is written.
    pub source: &'static str,
    range: Range,
}

impl Wanted {
    /// For people: the default line without its wildcard.
    #[must_use]
    pub fn shown(&self) -> &str {
        if self.source == DEFAULT_SOURCE {
            DEFAULT_LINE.trim_end_matches(".x")
        } else {
            &self.text
        }
    }

    /// Whether `version` will do.
    #[must_use]
    pub fn allows(&self, version: &str) -> bool {
        version
            .parse::<Version>()
            .is_ok_and(|version| version.satisfies(&self.range))
    }

    /// The best of `published`: the newest allowed; of the default line where no upper bound is set.
    ///
    /// # Errors
    /// Where none is allowed.
    pub fn choose(&self, published: &[String]) -> Result<String> {
        let releases = published.iter().filter_map(|text| text.parse::<Version>().ok());
        // Builds of the packager that are no releases have a suffix.
        let mut allowed: Vec<Version> = releases
            .filter(|version| version.pre_release.is_empty() && version.satisfies(&self.range))
            .collect();
        allowed.sort();
        let unbounded = Version::new(9999, 0, 0).satisfies(&self.range);
        let preferred = if unbounded {
            DEFAULT_LINE.parse::<Range>().ok()
        } else {
            None
        };
        let chosen = preferred
            .and_then(|line| allowed.iter().rfind(|version| version.satisfies(&line)))
            .or(allowed.last());
        chosen.map(ToString::to_string).ok_or_else(|| {
            Failure::new(
                format!("no published Node.js satisfies {:?} ({})", self.text, self.source),
                format!("Ask for a line such as \"{DEFAULT_LINE}\" in package.json engines.node."),
            )
        })
    }
}

/// The newest release of `published` that `range` allows.
#[must_use]
pub fn newest(published: &[String], range: &str) -> Option<String> {
    let range: Range = range.parse().ok()?;
    let versions = published.iter().filter_map(|text| text.parse::<Version>().ok());
    let allowed = versions.filter(|version| version.pre_release.is_empty() && version.satisfies(&range));
    allowed.max().map(|version| version.to_string())
}

/// What is said of a version that is too old, if it is.
#[must_use]
pub fn age_warning(version: &str) -> Option<String> {
    let version: Version = version.parse().ok()?;
    (version.major < OLDEST_MAINTAINED).then(|| {
        format!(
            "Node.js {} gets no security repairs any more: move to {DEFAULT_LINE} (package.json engines.node)",
            version.major
        )
    })
}

const DEFAULT_SOURCE: &str = "default";

/// Reads package.json `engines.node`, then `.nvmrc`, `.node-version` and `.tool-versions`.
///
/// # Errors
/// Where what is written is no version and no range.
pub fn wanted(app: &Path, package: &Package) -> Result<Wanted> {
    if let Some(text) = package.engines.get("node") {
        return parse(text, "package.json engines.node");
    }
    for (file, source) in [(".nvmrc", ".nvmrc"), (".node-version", ".node-version")] {
        let text = read_text(app, file)?.unwrap_or_default();
        let line = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default().trim())
            .find(|line| !line.is_empty());
        if let Some(line) = line {
            return parse(line, source);
        }
    }
    let tools = read_text(app, ".tool-versions")?.unwrap_or_default();
    for line in tools.lines() {
        let mut words = line.split_whitespace();
        if let (Some("nodejs" | "node"), Some(version)) = (words.next(), words.next()) {
            return parse(version, ".tool-versions");
        }
    }
    parse(DEFAULT_LINE, DEFAULT_SOURCE)
}

fn parse(text: &str, source: &'static str) -> Result<Wanted> {
    let text = text.trim();
    let normal = match text.to_ascii_lowercase().as_str() {
        "lts/*" | "lts" | "node" | "stable" | "latest" | "current" | "lts/-1" => DEFAULT_LINE.to_owned(),
        lower => match lower.strip_prefix("lts/") {
            Some(name) => {
                let line = CODE_NAMES.iter().find(|(known, _)| *known == name);
                line.map_or_else(|| text.to_owned(), |(_, line)| format!("{line}.x"))
            }
            None => text.to_owned(),
        },
    };
    let range = normal.trim_start_matches('v').parse::<Range>().map_err(|_| {
        Failure::new(
            format!("{source} asks for Node.js {text:?}, which is no version"),
            format!("Write a version or a range, such as \"{DEFAULT_LINE}\" or \"^22.3\"."),
        )
    })?;
    Ok(Wanted {
        text: text.to_owned(),
        source,
        range,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::tests::package;

    fn choose(text: &str) -> Option<String> {
        let published = [
            "18.20.8",
            "20.20.2",
            "22.23.3",
            "23.0.0",
            "24.1.0",
            "24.21.0",
            "26.10.0",
            "4.2.1-pkg1",
        ];
        let published: Vec<String> = published.iter().map(|text| (*text).to_owned()).collect();
        parse(text, "test").ok()?.choose(&published).ok()
    }

    #[test]
    fn each_way_to_write_a_version() {
        for (text, expected) in [
            ("22", Some("22.23.3")),
            ("v20.20.2", Some("20.20.2")),
            ("22.x", Some("22.23.3")),
            ("^18.1 || ^20", Some("20.20.2")),
            ("lts/iron", Some("20.20.2")),
            ("lts/*", Some("24.21.0")),
            // Without an upper bound the default line is safer than the newest.
            (">=18", Some("24.21.0")),
            ("*", Some("24.21.0")),
            (">=26", Some("26.10.0")),
            (">=18 <23", Some("22.23.3")),
            ("99", None),
            ("banana", None),
            ("4.2.1", None),
        ] {
            assert_eq!(choose(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_first_source_that_says_something_wins() {
        let folder = tempfile::tempdir().unwrap();
        let source = |text: &str| wanted(folder.path(), &package(text)).unwrap().source;
        assert_eq!(source("{}"), "default");
        std::fs::write(folder.path().join(".tool-versions"), "python 3\nnodejs 20.1.0\n").unwrap();
        assert_eq!(source("{}"), ".tool-versions");
        std::fs::write(folder.path().join(".nvmrc"), "# comment\nv22\n").unwrap();
        assert_eq!(source("{}"), ".nvmrc");
        assert_eq!(source(r#"{"engines":{"node":"20"}}"#), "package.json engines.node");
    }

    #[test]
    fn old_lines_are_warned_about() {
        assert!(age_warning("18.20.8").is_some() && age_warning("24.1.0").is_none());
    }
}
