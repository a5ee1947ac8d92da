//! Which package manager the app uses, by its lock file, and how each is called.

use crate::package::Package;
use crate::runtime::Runtime;
use crate::version::newest;
use buildpack_kit::source::npm::Registry;
use buildpack_kit::{BuildContext, Failure, Result, Types, output};
use std::path::Path;

/// A package manager with what it needs to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manager {
    /// npm, which is part of the runtime layer.
    Npm {
        /// Its lock file, where there is one.
        lock: Option<&'static str>,
    },
    /// Yarn 1.
    Yarn,
    /// pnpm of this range.
    Pnpm(String),
}

/// Lock files of npm, the first of which counts.
const NPM_LOCKS: &[&str] = &["npm-shrinkwrap.json", "package-lock.json"];

impl Manager {
    /// By `packageManager`, then by lock file.
    ///
    /// # Errors
    /// Where the app needs a manager that is not supported.
    pub fn of(app: &Path, package: &Package) -> Result<Self> {
        let has = |name: &str| app.join(name).is_file();
        let lock = NPM_LOCKS.iter().find(|name| has(name)).copied();
        let named = package.package_manager.as_deref().unwrap_or_default();
        let (name, version) = named.split_once('@').unwrap_or((named, ""));
        let version = version.split('+').next().unwrap_or_default();
        match name {
            "npm" => return Ok(Self::Npm { lock }),
            "pnpm" if has("pnpm-lock.yaml") => return Ok(Self::Pnpm(version.to_owned())),
            "yarn" if has("yarn.lock") && version.starts_with('1') => return Ok(Self::Yarn),
            "bun" if lock.is_none() => return Err(unsupported("bun")),
            _ => {}
        }
        if lock.is_some() {
            return Ok(Self::Npm { lock });
        }
        if has("pnpm-lock.yaml") {
            return Ok(Self::Pnpm(pnpm_range(app)?));
        }
        if has("yarn.lock") {
            let text = crate::read_text(app, "yarn.lock")?.unwrap_or_default();
            // Later ones write their lock file as YAML with this key.
            return if text.contains("__metadata:") {
                Err(unsupported("Yarn 2 or later"))
            } else {
                Ok(Self::Yarn)
            };
        }
        if ["bun.lock", "bun.lockb"].iter().any(|name| has(name)) {
            return Err(unsupported("bun"));
        }
        Ok(Self::Npm { lock: None })
    }

    /// The lock file, where there is one.
    #[must_use]
    pub fn lock(&self) -> Option<&'static str> {
        match self {
            Self::Npm { lock } => *lock,
            Self::Yarn => Some("yarn.lock"),
            Self::Pnpm(_) => Some("pnpm-lock.yaml"),
        }
    }

    /// Name of the program.
    #[must_use]
    pub fn program(&self) -> &'static str {
        match self {
            Self::Npm { .. } => "npm",
            Self::Yarn => "yarn",
            Self::Pnpm(_) => "pnpm",
        }
    }

    /// Arguments that install what the lock file says, with or without what is for development only.
    #[must_use]
    pub fn install_arguments(&self, development: bool) -> Vec<&'static str> {
        match (self, development) {
            (Self::Npm { lock: Some(_) }, true) => vec!["ci", "--include=dev"],
            (Self::Npm { lock: Some(_) }, false) => vec!["ci", "--omit=dev"],
            (Self::Npm { lock: None }, true) => vec!["install", "--no-package-lock", "--include=dev"],
            (Self::Npm { lock: None }, false) => vec!["install", "--no-package-lock", "--omit=dev"],
            (Self::Yarn, true) => vec![
                "install",
                "--frozen-lockfile",
                "--non-interactive",
                "--production=false",
            ],
            (Self::Yarn, false) => vec!["install", "--frozen-lockfile", "--non-interactive", "--production=true"],
            (Self::Pnpm(_), true) => vec!["install", "--frozen-lockfile", "--prod=false"],
            (Self::Pnpm(_), false) => vec!["install", "--frozen-lockfile", "--prod"],
        }
    }

    /// Version of the manager; where it is not part of the runtime, a layer with it is made.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub fn provide(&self, context: &BuildContext, runtime: &Runtime) -> Result<String> {
        let (package, range, script) = match self {
            Self::Npm { .. } => return Ok(runtime.npm.clone()),
            Self::Yarn => ("yarn", "1.x", "bin/yarn.js"),
            Self::Pnpm(range) => ("pnpm", range.as_str(), "bin/pnpm.cjs"),
        };
        let mut layer = context.layer("manager");
        let wanted = format!("{package}@{range}");
        if let Some(version) = layer.restored("version").map(str::to_owned)
            && layer.is(&wanted)
        {
            layer.keep(Types::ALL, &wanted, &[("version", &version)])?;
            return Ok(version);
        }
        let registry = Registry::new(&context.variables)?;
        let index = registry.index(package)?;
        let version = newest(&index.versions(), range).ok_or_else(|| {
            Failure::new(
                format!("no published {package} satisfies {range:?}"),
                "Name a version that exists in package.json packageManager.",
            )
        })?;
        output::headline(&format!("{package} {version}: downloading"));
        layer.reset()?;
        let target = layer.dir.join("lib");
        registry.unpack(&index, &version, &target, |path| Some(path.to_owned()))?;
        let starter = format!("#!/bin/sh\nexec node \"{}\" \"$@\"\n", target.join(script).display());
        layer.write_program("bin", package, &starter)?;
        layer.keep(Types::ALL, &wanted, &[("version", &version)])?;
        Ok(version)
    }
}

fn unsupported(name: &str) -> Failure {
    Failure::new(
        format!("the app is locked by {name}, which is not supported"),
        "Supported are npm (package-lock.json), Yarn 1 (yarn.lock) and pnpm (pnpm-lock.yaml): \
         add a lock file of one of these, for example by `npm install --package-lock-only`.",
    )
}

/// The line of pnpm that reads the app's lock file.
fn pnpm_range(app: &Path) -> Result<String> {
    let text = crate::read_text(app, "pnpm-lock.yaml")?.unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("lockfileVersion:"))
        .unwrap_or_default();
    let version = line.trim().trim_matches(['\'', '"']);
    Ok(match version.split('.').next() {
        Some("5") => "7.x",
        Some("6") => "8.x",
        _ => "9.x",
    }
    .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::tests::package;

    fn of(json: &str, files: &[(&str, &str)]) -> Result<Manager> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        Manager::of(folder.path(), &package(json))
    }

    #[test]
    fn the_lock_file_decides_unless_the_package_does() {
        let npm = Manager::Npm {
            lock: Some("package-lock.json"),
        };
        assert_eq!(of("{}", &[]).unwrap(), Manager::Npm { lock: None });
        assert_eq!(of("{}", &[("package-lock.json", ""), ("yarn.lock", "")]).unwrap(), npm);
        assert_eq!(of("{}", &[("yarn.lock", "# yarn lockfile v1")]).unwrap(), Manager::Yarn);
        let pnpm = |version: &str| of("{}", &[("pnpm-lock.yaml", version)]).unwrap();
        assert_eq!(pnpm("lockfileVersion: '6.0'\n"), Manager::Pnpm("8.x".to_owned()));
        assert_eq!(pnpm("lockfileVersion: '9.0'\n"), Manager::Pnpm("9.x".to_owned()));
        let named = r#"{"packageManager":"pnpm@9.1.0+sha512.abc"}"#;
        assert_eq!(
            of(named, &[("pnpm-lock.yaml", "")]).unwrap(),
            Manager::Pnpm("9.1.0".to_owned())
        );
        assert_eq!(of(named, &[("package-lock.json", "")]).unwrap(), npm);
    }

    #[test]
    fn what_is_not_supported_says_what_is() {
        for files in [("yarn.lock", "__metadata:\n"), ("bun.lock", "")] {
            assert!(of("{}", &[files]).unwrap_err().remedy.contains("package-lock.json"));
        }
    }
}
