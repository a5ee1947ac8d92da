//! The classic contract of Cloud Foundry and Heroku: scripts that change the app's folder in place, and folders beside it.
//!
//! An adapter in front of what Cloud Native Buildpacks make: dependencies, profile scripts and caches become layers, and
//! start commands become processes of a shell. Everything is built where it will run, so nothing has to be moved.

mod build;
mod chain;
pub(crate) mod files;
mod script;

pub use build::{ClassicBuilt, build};

use crate::cnb::process::Surroundings;
use crate::{Error, runner};
use model::staging::BuildpackMount;
use std::path::{Path, PathBuf};

/// A classic buildpack as found in its folder.
#[derive(Debug, Clone)]
pub struct Classic {
    /// Name that users know.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
}

impl Classic {
    /// The buildpack that `mount` names, if it is of this contract.
    #[must_use]
    pub fn load(mount: &BuildpackMount) -> Option<Self> {
        let dir = PathBuf::from(&mount.path);
        let has = |name: &str| dir.join("bin").join(name).is_file();
        let is_native = dir.join("buildpack.toml").is_file() && has("build");
        (!is_native && (has("compile") || has("finalize") || has("supply"))).then(|| Self {
            name: mount.name.clone(),
            dir,
        })
    }

    /// Whether it has `bin/<script>`.
    #[must_use]
    pub fn has(&self, script: &str) -> bool {
        self.dir.join("bin").join(script).is_file()
    }

    /// Its name as that of a folder.
    #[must_use]
    pub fn id(&self) -> String {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let id: String = self.name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
        format!("classic-{id}")
    }

    /// The same buildpack in a folder that it may write to: some build themselves, and Heroku's leave `export` there.
    ///
    /// # Errors
    /// Where it cannot be copied.
    fn writable(&self, tmp: &Path) -> Result<Self, Error> {
        if tempfile::Builder::new().prefix(".paas-").tempfile_in(&self.dir).is_ok() {
            return Ok(self.clone());
        }
        let dir = tmp.join("buildpacks").join(self.id());
        copy_tree(&self.dir, &dir).map_err(Error::file("copy", &self.dir))?;
        Ok(Self {
            name: self.name.clone(),
            dir,
        })
    }

    /// What `bin/detect` says it found, or why it did not match. Any exit code but 0 means that it did not.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn detect(&self, around: &Surroundings) -> Result<String, String> {
        let mut command = around.classic_command(&self.dir.join("bin/detect"));
        let said = runner::run_quiet(command.arg(&around.app)).map_err(|error| format!("bin/detect: {error}"))?;
        let words: String = said
            .stdout
            .trim()
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(200)
            .collect();
        if said.status.success() {
            return Ok(words);
        }
        Err(if words.is_empty() {
            "it does not match".to_owned()
        } else {
            words
        })
    }
}

/// Copies a folder with its links and modes.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.map_err(std::io::Error::from)?;
        let target = to.join(entry.path().strip_prefix(from).unwrap_or(entry.path()));
        let kind = entry.file_type();
        if kind.is_dir() {
            std::fs::create_dir_all(&target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
