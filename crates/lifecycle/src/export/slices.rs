//! Slices of the app: files that buildpacks name by patterns become layers of their own, so that a change elsewhere does
//! not move them. Each file is in the first slice that names it; what none names is the app's layer.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use walkdir::WalkDir;

/// Which slice each named file or folder is in, by its path relative to the app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slices(BTreeMap<PathBuf, usize>);

impl Slices {
    /// Looks for what `patterns` name below `app`. A folder that is named is taken whole.
    ///
    /// # Errors
    /// Where the app cannot be listed.
    pub fn find(app: &Path, patterns: &[Vec<String>]) -> std::io::Result<Self> {
        let mut found = BTreeMap::new();
        if patterns.iter().all(Vec::is_empty) {
            return Ok(Self(found));
        }
        let patterns: Vec<Vec<String>> = patterns
            .iter()
            .map(|slice| slice.iter().map(|pattern| relative(app, pattern)).collect())
            .collect();
        for entry in WalkDir::new(app).min_depth(1) {
            let entry = entry.map_err(std::io::Error::from)?;
            let below = entry.path().strip_prefix(app).unwrap_or(entry.path());
            let Some(name) = below.to_str() else { continue };
            let slice = patterns
                .iter()
                .position(|slice| slice.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes())));
            if let Some(slice) = slice {
                found.insert(below.to_owned(), slice);
            }
        }
        Ok(Self(found))
    }

    /// Slices that hold anything.
    #[must_use]
    pub fn used(&self) -> Vec<usize> {
        let mut used: Vec<usize> = self.0.values().copied().collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Whether `path`, relative to the app, is in the layer of `slice`, or of the rest for `None`. Folders above what a
    /// slice holds are in it too.
    #[must_use]
    pub fn holds(&self, slice: Option<usize>, path: &Path) -> bool {
        let own = path.ancestors().filter_map(|above| self.0.get(above)).min().copied();
        own == slice
            || slice.is_some()
                && self
                    .0
                    .iter()
                    .any(|(below, at)| Some(*at) == slice && below != path && below.starts_with(path))
    }
}

/// The pattern without what leads to the app, and without `.` and doubled slashes.
fn relative(app: &Path, pattern: &str) -> String {
    let path = Path::new(pattern);
    let path = path.strip_prefix(app).unwrap_or(path);
    let parts = path.components().filter(|part| !matches!(part, Component::CurDir));
    parts.collect::<PathBuf>().display().to_string()
}

/// Patterns of the contract: `*` and `?` do not match `/`, `[a-c]` and `[^a]` match one character, `\` takes the next as it is.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            matches(rest, name) || matches!(name, [first, more @ ..] if *first != b'/' && matches(pattern, more))
        }
        ([b'?', rest @ ..], [first, more @ ..]) => *first != b'/' && matches(rest, more),
        ([b'[', rest @ ..], [first, more @ ..]) => {
            class(rest, *first).is_some_and(|(fits, rest)| fits && *first != b'/' && matches(rest, more))
        }
        ([b'\\', literal, rest @ ..] | [literal, rest @ ..], [first, more @ ..]) => {
            literal == first && matches(rest, more)
        }
        _ => false,
    }
}

/// Whether `byte` is in the class that `pattern` goes on with, and what follows the class.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut fits = false;
    let mut first = true;
    loop {
        match rest {
            [b']', after @ ..] if !first => return Some((fits != negated, after)),
            [b'\\', low, after @ ..] | [low, after @ ..] => {
                let (high, after) = match after {
                    [b'-', b'\\', high, after @ ..] => (high, after),
                    [b'-', high, after @ ..] if *high != b']' => (high, after),
                    after => (low, after),
                };
                fits |= (*low..=*high).contains(&byte);
                rest = after;
            }
            [] => return None,
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn patterns_match_as_the_contract_says() {
        for (pattern, name, expected) in [
            ("a", "a", true),
            ("*.js", "x.js", true),
            ("*.js", "a/x.js", false),
            ("*/x.js", "a/x.js", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[", "[", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("", "a", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn each_file_is_in_one_layer() {
        let app = tempfile::tempdir().unwrap();
        for file in ["a.js", "b.txt", "static/x.css", "static/y.js", "deep/er/z.js"] {
            let path = app.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let patterns = [
            vec!["static/*.css".to_owned()],
            vec!["./static".to_owned(), app.path().join("deep/er").display().to_string()],
            vec!["nothing".to_owned()],
        ];
        let slices = Slices::find(app.path(), &patterns).unwrap();
        let slices_of = |path: &str| -> Vec<Option<usize>> {
            [None, Some(0), Some(1)]
                .into_iter()
                .filter(|slice| slices.holds(*slice, Path::new(path)))
                .collect()
        };
        assert_eq!(slices_of("a.js"), [None]);
        assert_eq!(slices_of("static/x.css"), [Some(0)]);
        assert_eq!(slices_of("static/y.js"), [Some(1)]);
        assert_eq!(slices_of("static"), [Some(0), Some(1)]);
        assert_eq!(slices_of("deep"), [None, Some(1)]);
        assert_eq!(slices_of("deep/er/z.js"), [Some(1)]);
        assert_eq!(slices.used(), [0, 1]);
    }
}
