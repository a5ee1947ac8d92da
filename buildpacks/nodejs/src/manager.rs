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
    /// Yarn 2 and later.
    Berry {
        /// Its range.
        range: String,
        /// The program that is pushed along, where there is one.
        own: Option<String>,
    },
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
            "yarn" if has("yarn.lock") && version.starts_with(|c: char| c.is_ascii_digit()) => {
                return Self::berry(app, version.to_owned());
            }
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
                Self::berry(app, berry_range(&text))
            } else {
                Ok(Self::Yarn)
            };
        }
        if ["bun.lock", "bun.lockb"].iter().any(|name| has(name)) {
            return Err(unsupported("bun"));
        }
        Ok(Self::Npm { lock: None })
    }

    fn berry(app: &Path, range: String) -> Result<Self> {
        let settings = crate::read_text(app, ".yarnrc.yml")?.unwrap_or_default();
        let named = settings.lines().find_map(|line| line.strip_prefix("yarnPath:"));
        let own = named.map(|path| {
            path.trim()
                .trim_matches(['"', '\''])
                .trim_start_matches("./")
                .to_owned()
        });
        let is_inside = |path: &String| !path.split('/').any(|part| part == "..") && app.join(path).is_file();
        Ok(Self::Berry {
            range,
            own: own.filter(is_inside),
        })
    }

    /// The lock file, where there is one.
    #[must_use]
    pub fn lock(&self) -> Option<&'static str> {
        match self {
            Self::Npm { lock } => *lock,
            Self::Yarn | Self::Berry { .. } => Some("yarn.lock"),
            Self::Pnpm(_) => Some("pnpm-lock.yaml"),
        }
    }

    /// Name of the program.
    #[must_use]
    pub fn program(&self) -> &'static str {
        match self {
            Self::Npm { .. } => "npm",
            Self::Yarn | Self::Berry { .. } => "yarn",
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
            // What is for development stays: leaving it out takes a plugin that not all versions have.
            (Self::Berry { .. }, _) => vec!["install", "--immutable"],
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
            Self::Berry { own: Some(own), .. } => return provide_own(context, own),
            Self::Berry { range, .. } => ("@yarnpkg/cli-dist", range.as_str(), "bin/yarn.js"),
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
        layer.write_program("bin", self.program(), &starter)?;
        layer.keep(Types::ALL, &wanted, &[("version", &version)])?;
        Ok(version)
    }
}

/// A Yarn that the app brings along.
fn provide_own(context: &BuildContext, own: &str) -> Result<String> {
    let mut layer = context.layer("manager");
    layer.reset()?;
    let starter = format!("#!/bin/sh\nexec node \"{}\" \"$@\"\n", context.app.join(own).display());
    layer.write_program("bin", "yarn", &starter)?;
    layer.keep(Types::ALL, own, &[])?;
    Ok(own.to_owned())
}

/// The line of Yarn that wrote the app's lock file.
fn berry_range(lock: &str) -> String {
    let after = lock.split("__metadata:").nth(1).unwrap_or_default();
    let line = after
        .lines()
        .find_map(|line| line.trim().strip_prefix("version:"))
        .unwrap_or_default();
    // A newer line takes the lock of an older one for stale.
    match line.trim().parse::<u32>().unwrap_or(8) {
        0..=4 => "3.0.x",
        5 => "3.1.x",
        6 | 7 => "3.x",
        8 => ">=4.0.0 <4.14.0",
        9 => "4.14.x",
        _ => ">=4.16.0",
    }
    .to_owned()
}

fn unsupported(name: &str) -> Failure {
    Failure::new(
        format!("the app is locked by {name}, which is not supported"),
        "Supported are npm (package-lock.json), Yarn (yarn.lock) and pnpm (pnpm-lock.yaml): \
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
        let failure = of("{}", &[("bun.lock", "")]).unwrap_err();
        assert!(failure.remedy.contains("package-lock.json"));
    }

    #[test]
    fn later_yarns_are_known_by_package_lock_and_program() {
        let berry = |range: &str, own: Option<&str>| Manager::Berry {
            range: range.to_owned(),
            own: own.map(str::to_owned),
        };
        let lock = |version: u32| format!("# yarn\n\n__metadata:\n  version: {version}\n  cacheKey: 10c0\n");
        assert_eq!(
            of("{}", &[("yarn.lock", &lock(8))]).unwrap(),
            berry(">=4.0.0 <4.14.0", None)
        );
        assert_eq!(of("{}", &[("yarn.lock", &lock(6))]).unwrap(), berry("3.x", None));
        let named = r#"{"packageManager":"yarn@4.5.1"}"#;
        assert_eq!(of(named, &[("yarn.lock", &lock(8))]).unwrap(), berry("4.5.1", None));
        let settings = (".yarnrc.yml", "yarnPath: ./yarn-4.cjs\n");
        let own = of("{}", &[("yarn.lock", &lock(10)), settings, ("yarn-4.cjs", "")]).unwrap();
        assert_eq!(own, berry(">=4.16.0", Some("yarn-4.cjs")));
        let outside = (".yarnrc.yml", "yarnPath: ../yarn.cjs\n");
        assert_eq!(
            of("{}", &[("yarn.lock", &lock(8)), outside]).unwrap(),
            berry(">=4.0.0 <4.14.0", None)
        );
    }
}
