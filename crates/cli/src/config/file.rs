//! The user file: contexts with their tokens. Readable by its owner alone, replaced atomically.

use super::DevLogin;
use crate::errors::Error;
use model::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The user file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserFile {
    /// Name of the context in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Platforms that the user logged in to, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, Context>,
}

/// A platform, a login and a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Address of the API, without a trailing slash.
    pub api: String,
    /// Organisation by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// Space by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Secret>,
    /// Where the local platform's login is, in a context that was made from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev_login: Option<PathBuf>,
}

impl Context {
    /// A context without login and target.
    pub fn new(api: &str) -> Self {
        Self {
            api: api.trim_end_matches('/').to_owned(),
            org: None,
            space: None,
            username: None,
            access_token: None,
            refresh_token: None,
            dev_login: None,
        }
    }

    /// The context of a local platform.
    pub fn from_dev(login: &DevLogin, path: &Path) -> Self {
        Self {
            org: login.org.clone(),
            space: login.space.clone(),
            username: login.username.clone(),
            refresh_token: login.refresh_token.clone(),
            dev_login: Some(path.to_owned()),
            ..Self::new(&login.api)
        }
    }
}

impl UserFile {
    /// The file at `path`, or an empty one.
    ///
    /// # Errors
    /// Where it can't be read or understood.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let Some(text) = super::read_small(path)? else {
            return Ok(Self::default());
        };
        toml::from_str(&text).map_err(|error| Error::ConfigBroken {
            path: path.to_owned(),
            detail: error.message().to_owned(),
        })
    }

    /// Replaces the file at `path`; only its owner can read it.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = toml::to_string(self).map_err(|error| Error::ConfigBroken {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        make_private_folder(folder).map_err(|error| Error::file("create", folder, &error))?;
        // A fresh temporary file is readable by its owner alone, and the rename keeps that.
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|error| Error::file("write", path, &error))
    }

    /// Reads the file, changes it and writes it back.
    ///
    /// # Errors
    /// As reading and writing.
    pub fn update(path: &Path, change: impl FnOnce(&mut Self)) -> Result<(), Error> {
        let mut user = Self::read(path)?;
        change(&mut user);
        user.write(path)
    }
}

fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a/b/config.toml");
        UserFile::default().write(&path).expect("written");
        UserFile::update(&path, |user| user.current = Some("x".into())).expect("updated");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("folder")), 0o700);
        assert_eq!(UserFile::read(&path).expect("read").current.as_deref(), Some("x"));
    }

    #[test]
    fn a_broken_file_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "contexts = 3").expect("written");
        assert!(matches!(UserFile::read(&path), Err(Error::ConfigBroken { .. })));
    }
}
