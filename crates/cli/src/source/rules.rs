//! Which files are left out of a push.
//!
//! In order, the last match wins, written as in `.gitignore`: the defaults below, `.cfignore`, `.paasignore`; both files
//! only in the app's folder itself. A line with `!` brings back what an earlier one left out.
//!
//! Beyond CF's defaults two things are left out because the platform makes them anew: `node_modules` beside a lock file,
//! and Python virtual environments (folders with a `pyvenv.cfg`).

use crate::errors::Error;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::path::Path;

/// Left out unless a line with `!` brings it back. The first line is CF's list.
const DEFAULTS: &[&str] = &[
    ".cfignore",
    ".DS_Store",
    ".git",
    ".gitignore",
    ".hg",
    ".svn",
    "_darcs",
    "/manifest.yml",
    "/manifest.yaml",
    ".paasignore",
    "/.paas.toml",
];
/// The app's own lists.
pub const FILES: [&str; 2] = [".cfignore", ".paasignore"];
/// Beside one of these, `node_modules` is left out.
const NODE_LOCKS: [&str; 6] = [
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
];

/// The rules of one folder.
pub struct Rules {
    listed: Gitignore,
}

impl Rules {
    /// Those of the app in `root`.
    ///
    /// # Errors
    /// Where a list can't be read or has a pattern that is none.
    pub fn of(root: &Path) -> Result<Self, Error> {
        let mut builder = GitignoreBuilder::new(root);
        for line in DEFAULTS {
            builder
                .add_line(None, line)
                .map_err(|error| Error::usage(error.to_string()))?;
        }
        for name in FILES {
            let path = root.join(name);
            let text = match std::fs::read(&path) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::file("read", path, &error)),
            };
            for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
                builder.add_line(None, line).map_err(|error| Error::Usage {
                    message: format!("{name}, line {}: {error}", number + 1),
                    hint: Some("patterns are written as in .gitignore".into()),
                })?;
            }
        }
        let listed = builder.build().map_err(|error| Error::usage(error.to_string()))?;
        Ok(Self { listed })
    }

    /// Whether the entry at `path` (relative to the root) is left out.
    pub fn excludes(&self, path: &Path, absolute: &Path, is_folder: bool) -> bool {
        match self.listed.matched(path, is_folder) {
            Match::Ignore(_) => true,
            Match::Whitelist(_) => false,
            Match::None => is_folder && made_anew(absolute),
        }
    }
}

/// Whether a folder holds what the platform installs by itself.
fn made_anew(folder: &Path) -> bool {
    if folder.file_name().is_some_and(|name| name == "node_modules") {
        return folder
            .parent()
            .is_some_and(|parent| NODE_LOCKS.iter().any(|lock| parent.join(lock).is_file()));
    }
    folder.join("pyvenv.cfg").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(lists: &[(&str, &str)]) -> (tempfile::TempDir, Rules) {
        let folder = tempfile::tempdir().expect("folder");
        for (name, text) in lists {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let rules = Rules::of(folder.path()).expect("rules");
        (folder, rules)
    }

    fn excluded(rules: &Rules, folder: &Path, path: &str, is_folder: bool) -> bool {
        rules.excludes(Path::new(path), &folder.join(path), is_folder)
    }

    #[test]
    fn defaults_are_left_out() {
        let (folder, rules) = rules(&[]);
        for path in [".git", "sub/.git", ".DS_Store", ".cfignore", "manifest.yml"] {
            assert!(excluded(&rules, folder.path(), path, false), "{path}");
        }
        for path in ["app.js", "config/manifest.yml", ".profile", ".npmrc"] {
            assert!(!excluded(&rules, folder.path(), path, false), "{path}");
        }
    }

    #[test]
    fn lists_add_and_bring_back() {
        let (folder, rules) = rules(&[
            (".cfignore", "*.log\n!.gitignore\n/tmp/\n"),
            (".paasignore", "!keep.log\n"),
        ]);
        assert!(excluded(&rules, folder.path(), "a/x.log", false));
        assert!(!excluded(&rules, folder.path(), "keep.log", false));
        assert!(!excluded(&rules, folder.path(), ".gitignore", false));
        assert!(excluded(&rules, folder.path(), "tmp", true));
        assert!(
            !excluded(&rules, folder.path(), "tmp", false),
            "a pattern with / at its end is for folders"
        );
    }

    #[test]
    fn node_modules_stays_without_a_lock_file() {
        let (folder, rules) = rules(&[]);
        std::fs::create_dir(folder.path().join("node_modules")).expect("made");
        assert!(!excluded(&rules, folder.path(), "node_modules", true));
        std::fs::write(folder.path().join("package-lock.json"), "{}").expect("written");
        assert!(excluded(&rules, folder.path(), "node_modules", true));
        std::fs::write(folder.path().join(".cfignore"), "!node_modules\n").expect("written");
        let rules = Rules::of(folder.path()).expect("rules");
        assert!(!excluded(&rules, folder.path(), "node_modules", true));
    }

    #[test]
    fn virtual_environments_are_left_out() {
        let (folder, rules) = rules(&[]);
        std::fs::create_dir(folder.path().join("env")).expect("made");
        std::fs::write(folder.path().join("env/pyvenv.cfg"), "").expect("written");
        assert!(excluded(&rules, folder.path(), "env", true));
    }

    #[test]
    fn a_bad_pattern_is_named_with_its_line() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join(".paasignore"), "ok\n[z-a]\n").expect("written");
        let error = Rules::of(folder.path()).map(|_| ()).expect_err("refused");
        assert!(matches!(error, Error::Usage { message, .. } if message.contains(".paasignore, line 2")));
    }
}
