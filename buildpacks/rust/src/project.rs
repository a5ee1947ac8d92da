//! `Cargo.toml` and what lies beside it: the parts that matter here. Which programs there are, cargo itself says.

use buildpack_kit::app::{files, read_text};
use buildpack_kit::{Failure, Result};
use std::path::Path;

/// What the app's files say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Project {
    /// Name of the package at the top, where there is one.
    pub package: Option<String>,
    /// The program of it that `cargo run` starts.
    pub default_run: Option<String>,
    /// Whether `Cargo.lock` is there.
    pub locked: bool,
    /// Whether the app listens by the settings of Rocket.
    pub rocket: bool,
}

impl Project {
    /// Reads the files of `app`; `None` where there is no `Cargo.toml` at its top.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub fn read(app: &Path) -> Result<Option<Self>> {
        let Some(text) = read_text(app, "Cargo.toml")? else {
            return Ok(None);
        };
        let table: toml::Table = toml::from_str(&text).map_err(|error| {
            Failure::new(
                format!("Cargo.toml cannot be read: {}", error.message()),
                "Repair it; `cargo metadata` in a fresh copy of the app should fail in the same way.",
            )
        })?;
        let package = table.get("package").and_then(toml::Value::as_table);
        let named = |name: &str| Some(package?.get(name)?.as_str()?.to_owned());
        let lock = read_text(app, "Cargo.lock")?;
        Ok(Some(Self {
            package: named("name"),
            default_run: named("default-run"),
            locked: lock.is_some(),
            rocket: lock.is_some_and(|lock| lock.lines().any(|line| line.trim() == "name = \"rocket\"")),
        }))
    }
}

/// Names of the packages whose sources are part of the app.
#[must_use]
pub fn own_packages(app: &Path) -> Vec<String> {
    let manifests = files(app).into_iter().filter(|name| {
        Path::new(name).file_name().is_some_and(|file| file == "Cargo.toml") && !name.starts_with("vendor/")
    });
    manifests
        .filter_map(|name| {
            let table: toml::Table = toml::from_str(&read_text(app, &name).ok()??).ok()?;
            Some(table.get("package")?.get("name")?.as_str()?.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path();
        assert_eq!(Project::read(app).unwrap(), None);
        std::fs::write(
            app.join("Cargo.toml"),
            "[package]\nname = 'shop'\ndefault-run = 'web'\n",
        )
        .unwrap();
        std::fs::write(app.join("Cargo.lock"), "[[package]]\nname = \"rocket\"\n").unwrap();
        for (name, text) in [
            ("crates/a", "[package]\nname = 'a'\n"),
            ("vendor/b", "[package]\nname = 'b'\n"),
        ] {
            std::fs::create_dir_all(app.join(name)).unwrap();
            std::fs::write(app.join(name).join("Cargo.toml"), text).unwrap();
        }
        let project = Project::read(app).unwrap().unwrap();
        assert_eq!(
            (project.package.as_deref(), project.default_run.as_deref()),
            (Some("shop"), Some("web"))
        );
        assert!(project.locked && project.rocket);
        assert_eq!(own_packages(app), ["shop", "a"]);
    }
}
