//! `package.json`: the parts that matter here.

use buildpack_kit::{Failure, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Scripts of the app itself that installing runs.
const INSTALL_SCRIPTS: &[&str] = &[
    "preinstall",
    "install",
    "postinstall",
    "prepublish",
    "preprepare",
    "prepare",
    "postprepare",
];
/// Fields that decide what is installed.
const DEPENDENCY_FIELDS: &[&str] = &[
    "name",
    "dependencies",
    "devDependencies",
    "optionalDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "bundleDependencies",
    "bundledDependencies",
    "overrides",
    "resolutions",
    "pnpm",
    "workspaces",
];

/// `package.json`.
#[derive(Debug, Default, Clone)]
pub struct Package {
    /// `engines`, such as `node` and `npm`.
    pub engines: BTreeMap<String, String>,
    /// `scripts`.
    pub scripts: BTreeMap<String, String>,
    /// `main`.
    pub main: Option<String>,
    /// `packageManager`, such as `pnpm@9.1.0`.
    pub package_manager: Option<String>,
    /// Whether there is anything to install for development only.
    pub has_dev_dependencies: bool,
    /// Whether there is anything to install at all.
    pub has_dependencies: bool,
    /// Whether packages of the app itself are linked into `node_modules`.
    pub has_workspaces: bool,
    dependency_fields: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Raw {
    engines: Option<serde_json::Value>,
    scripts: Option<serde_json::Value>,
    main: Option<serde_json::Value>,
    package_manager: Option<serde_json::Value>,
}

impl Package {
    /// Reads `<app>/package.json`.
    ///
    /// # Errors
    /// Where it is no JSON object.
    pub fn read(app: &Path) -> Result<Self> {
        let path = app.join("package.json");
        let text = std::fs::read_to_string(&path).map_err(Failure::file("read", &path))?;
        Self::parse(text.trim_start_matches('\u{feff}')).map_err(|reason| {
            Failure::new(
                format!("package.json is not valid: {reason}"),
                "Repair it; `npm pkg get name` says where it is broken.",
            )
        })
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Some(object) = value.as_object() else {
            return Err("it is no JSON object".to_owned());
        };
        let is_filled = |name: &str| match object.get(name) {
            Some(serde_json::Value::Object(map)) => !map.is_empty(),
            Some(serde_json::Value::Array(list)) => !list.is_empty(),
            _ => false,
        };
        let fields: BTreeMap<&str, &serde_json::Value> = DEPENDENCY_FIELDS
            .iter()
            .filter_map(|name| Some((*name, object.get(*name)?)))
            .collect();
        let dependency_fields = serde_json::to_string(&fields).map_err(|error| error.to_string())?;
        let (has_dev_dependencies, has_workspaces) = (is_filled("devDependencies"), is_filled("workspaces"));
        let has_dependencies = is_filled("dependencies") || is_filled("optionalDependencies") || has_workspaces;
        let raw: Raw = serde_json::from_value(value).map_err(|error| error.to_string())?;
        Ok(Self {
            engines: texts(raw.engines),
            scripts: texts(raw.scripts),
            main: filled(raw.main),
            package_manager: filled(raw.package_manager),
            has_dev_dependencies,
            has_dependencies: has_dependencies || has_dev_dependencies,
            has_workspaces,
            dependency_fields,
        })
    }

    /// Everything in it that decides what gets installed, in one form whatever the order and the white space.
    #[must_use]
    pub fn dependency_fields(&self) -> &str {
        &self.dependency_fields
    }

    /// A script that is not empty.
    #[must_use]
    pub fn script(&self, name: &str) -> Option<&str> {
        self.scripts
            .get(name)
            .map(String::as_str)
            .map(str::trim)
            .filter(|script| !script.is_empty())
    }

    /// Scripts that installing runs and that may read any file of the app.
    #[must_use]
    pub fn install_scripts(&self) -> Vec<(&str, &str)> {
        let scripts = INSTALL_SCRIPTS
            .iter()
            .filter_map(|name| Some((*name, self.script(name)?)));
        // Hooks for commits are of no use in a build and touch nothing.
        scripts
            .filter(|(_, script)| !script.starts_with("husky") && !script.starts_with("simple-git-hooks"))
            .collect()
    }
}

fn filled(value: Option<serde_json::Value>) -> Option<String> {
    match value {
        Some(serde_json::Value::String(text)) if !text.trim().is_empty() => Some(text),
        _ => None,
    }
}

fn texts(value: Option<serde_json::Value>) -> BTreeMap<String, String> {
    let Some(serde_json::Value::Object(map)) = value else {
        return BTreeMap::new();
    };
    map.into_iter()
        .filter_map(|(name, value)| Some((name, filled(Some(value))?)))
        .collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn package(text: &str) -> Package {
        Package::parse(text).unwrap()
    }

    #[test]
    fn only_what_decides_the_installation_is_in_the_key() {
        let one = package(r#"{"version":"1","dependencies":{"a":"1","b":"2"},"scripts":{"test":"x"}}"#);
        let two = package(r#"{"dependencies": {"b": "2", "a": "1"}, "version":"2"}"#);
        let three = package(r#"{"dependencies":{"a":"1"}}"#);
        assert_eq!(one.dependency_fields(), two.dependency_fields());
        assert_ne!(one.dependency_fields(), three.dependency_fields());
    }

    #[test]
    fn odd_values_are_not_read_as_something_else() {
        let odd = package(r#"{"engines":["node"],"scripts":{"start":3,"build":""},"main":false,"devDependencies":{}}"#);
        assert!(odd.engines.is_empty() && odd.script("start").is_none() && odd.script("build").is_none());
        assert!(odd.main.is_none() && !odd.has_dev_dependencies && !odd.has_dependencies);
        assert!(Package::parse("[]").is_err() && Package::parse("{").is_err());
    }

    #[test]
    fn hooks_for_commits_do_not_count() {
        let hooks = package(r#"{"scripts":{"prepare":"husky install","postinstall":"prisma generate"}}"#);
        assert_eq!(hooks.install_scripts(), [("postinstall", "prisma generate")]);
    }
}
