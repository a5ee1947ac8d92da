//! `composer.json` and `composer.lock`: the parts that matter here, and which folder is served.

use buildpack_kit::app::read_text;
use buildpack_kit::{Failure, Result, Variables};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Folders that are served by habit, before the top.
const FOLDERS: &[&str] = &["public", "htdocs", "web", "www"];

/// What the app's files say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Project {
    /// Whether there is a `composer.json`.
    pub composer: bool,
    /// Whether there is a `composer.lock`.
    pub locked: bool,
    /// `config.platform.php`, else `require.php`.
    pub php: Option<String>,
    /// Extensions that the app and its packages ask for, without `ext-`.
    pub extensions: BTreeSet<String>,
    /// Whether packages of others are needed, or files of the app's own are loaded by rules.
    pub installs: bool,
}

impl Project {
    /// Reads the files of `app`; `None` where there is no PHP.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub fn read(app: &Path) -> Result<Option<Self>> {
        let Some(manifest) = json(app, "composer.json")? else {
            let has_pages = |folder: &str| {
                let entries = std::fs::read_dir(app.join(folder)).into_iter().flatten().flatten();
                entries
                    .into_iter()
                    .any(|entry| entry.file_name().to_string_lossy().ends_with(".php"))
            };
            let found = [""].iter().chain(FOLDERS).any(|folder| has_pages(folder));
            return Ok(found.then(Self::default));
        };
        let lock = json(app, "composer.lock")?;
        let mut project = Self {
            composer: true,
            locked: lock.is_some(),
            ..Self::default()
        };
        project.php = [&manifest["config"]["platform"]["php"], &manifest["require"]["php"]]
            .into_iter()
            .find_map(|value| value.as_str().map(str::to_owned));
        project.installs = manifest.get("autoload").is_some();
        project.require(&manifest["require"]);
        for package in lock.iter().flat_map(|lock| lock["packages"].as_array()).flatten() {
            project.installs = true;
            project.require(&package["require"]);
        }
        Ok(Some(project))
    }

    fn require(&mut self, require: &Value) {
        for name in require.as_object().into_iter().flat_map(|require| require.keys()) {
            if let Some(extension) = name.strip_prefix("ext-") {
                self.extensions
                    .insert(extension.to_ascii_lowercase().replace("zend-opcache", "opcache"));
            } else if name.contains('/') {
                self.installs = true;
            }
        }
    }
}

fn json(app: &Path, name: &str) -> Result<Option<Value>> {
    let Some(text) = read_text(app, name)? else {
        return Ok(None);
    };
    let read = serde_json::from_str(&text).map(Some);
    read.map_err(|error| {
        Failure::new(
            format!("{name} cannot be read: {error}"),
            "Repair it; `composer validate` in a fresh copy of the app should fail in the same way.",
        )
    })
}

/// The folder that is served, relative to the app; empty for its top.
///
/// # Errors
/// Where the app names one that is not there.
pub fn web_folder(app: &Path, variables: &Variables) -> Result<String> {
    if let Some(named) = variables.get("BP_PHP_WEB_DIR") {
        let named = named.trim_matches('/');
        let plain = named.split('/').all(|part| !part.is_empty() && part != "..")
            && named
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
        if plain && app.join(named).is_dir() {
            return Ok(named.to_owned());
        }
        return Err(Failure::new(
            format!("BP_PHP_WEB_DIR names {named:?}, which is no folder of the app"),
            "Name a folder that is pushed, such as public.",
        ));
    }
    let has_entry = |folder: &&&str| {
        ["index.php", "index.html"]
            .iter()
            .any(|name| app.join(folder).join(name).is_file())
    };
    Ok(FOLDERS
        .iter()
        .find(has_entry)
        .map_or(String::new(), |folder| (*folder).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path();
        assert_eq!(Project::read(app).unwrap(), None);
        let manifest = r#"{"require": {"php": ">=8.1", "ext-gd": "*"}, "config": {"platform": {"php": "8.2"}}}"#;
        std::fs::write(app.join("composer.json"), manifest).unwrap();
        let plain = Project::read(app).unwrap().unwrap();
        assert_eq!(
            (plain.php.as_deref(), plain.installs, plain.locked),
            (Some("8.2"), false, false)
        );
        let lock = r#"{"packages": [{"name": "a/b", "require": {"ext-mbstring": "*", "ext-Zend-OPcache": "*"}}]}"#;
        std::fs::write(app.join("composer.lock"), lock).unwrap();
        let project = Project::read(app).unwrap().unwrap();
        let extensions: Vec<&str> = project.extensions.iter().map(String::as_str).collect();
        assert_eq!(
            (extensions, project.installs),
            (vec!["gd", "mbstring", "opcache"], true)
        );
    }

    #[test]
    fn the_folder_that_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path();
        let none = Variables::default();
        assert_eq!(web_folder(app, &none).unwrap(), "");
        for name in ["web", "public", "my/site"] {
            std::fs::create_dir_all(app.join(name)).unwrap();
        }
        std::fs::write(app.join("web/index.php"), "").unwrap();
        assert_eq!(web_folder(app, &none).unwrap(), "web");
        std::fs::write(app.join("public/index.php"), "").unwrap();
        assert_eq!(web_folder(app, &none).unwrap(), "public");
        let named = |value: &str| web_folder(app, &Variables([("BP_PHP_WEB_DIR".into(), value.into())].into()));
        assert_eq!(named("/my/site/").unwrap(), "my/site");
        for odd in ["..", "gone", "my/../..", "a;b"] {
            assert!(named(odd).is_err(), "{odd}");
        }
    }
}
