//! `buildpack.toml`, and which folders are buildpacks of this contract at all.

use crate::Error;
use model::staging::BuildpackMount;
use serde::Deserialize;
use std::path::PathBuf;

/// Minor versions of the Buildpack API 0.x that are supported.
const API: std::ops::RangeInclusive<u32> = 7..=12;
/// What apps are built for, in the words of `exec-env`.
pub const EXEC_ENV: &str = "production";
/// Longest buildpack.toml that is read.
const LIMIT_BYTES: u64 = 1024 * 1024;

/// A buildpack as found in its folder.
#[derive(Debug, Clone)]
pub struct Buildpack {
    /// Name that users know.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// What it declares.
    pub descriptor: Descriptor,
    /// Minor version of the Buildpack API 0.x that it declares.
    pub api: u32,
}

/// `buildpack.toml`. Keys that the lifecycle does not act on are not read.
#[derive(Debug, Clone, Deserialize)]
pub struct Descriptor {
    /// Buildpack API, such as `0.10`.
    pub api: String,
    /// `[buildpack]`.
    pub buildpack: Identity,
    /// Groups of a composite buildpack.
    #[serde(default)]
    pub order: Vec<Group>,
    /// Where it runs; none means Linux. The older `stacks` are not looked at: any that names Linux would do.
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// `[buildpack]`.
#[derive(Debug, Clone, Deserialize)]
pub struct Identity {
    /// Such as `paas/nodejs`.
    pub id: String,
    /// `x.y.z`.
    #[serde(default)]
    pub version: String,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Whether its programs run without the user's variables.
    #[serde(default, rename = "clear-env")]
    pub clear_env: bool,
    /// Media types of the bills of materials that it may write.
    #[serde(default, rename = "sbom-formats")]
    pub sbom_formats: Vec<String>,
    /// What it builds for; none means everything (Buildpack API 0.12).
    #[serde(default, rename = "exec-env")]
    pub exec_env: Vec<String>,
}

/// `[[order]]`.
#[derive(Debug, Clone, Deserialize)]
pub struct Group {
    /// `[[order.group]]`.
    pub group: Vec<Reference>,
}

/// `[[order.group]]`: another buildpack by id.
#[derive(Debug, Clone, Deserialize)]
pub struct Reference {
    /// Its id.
    pub id: String,
    /// Its version, any where absent.
    #[serde(default)]
    pub version: Option<String>,
    /// Whether the group also works without it.
    #[serde(default)]
    pub optional: bool,
}

/// `[[targets]]`.
#[derive(Debug, Clone, Deserialize)]
pub struct Target {
    /// Such as `linux`.
    #[serde(default)]
    pub os: Option<String>,
    /// Such as `amd64`.
    #[serde(default)]
    pub arch: Option<String>,
    /// Distributions; none means any.
    #[serde(default)]
    pub distros: Vec<Distro>,
}

/// `[[targets.distros]]`, and what a stack is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Distro {
    /// Such as `debian`, the `ID` of os-release.
    pub name: String,
    /// Such as `12`, the `VERSION_ID`.
    #[serde(default)]
    pub version: Option<String>,
}

/// Whether something that lists these environments is for production.
#[must_use]
pub fn for_production(exec_env: &[String]) -> bool {
    exec_env.is_empty() || exec_env.iter().any(|name| name == EXEC_ENV || name == "*")
}

impl Target {
    fn fits(&self, stack: &Distro) -> bool {
        self.os.as_deref().is_none_or(|os| matches!(os, "" | "linux" | "*"))
            && self
                .arch
                .as_deref()
                .is_none_or(|arch| arch.is_empty() || arch == "*" || arch == ARCH)
            && (self.distros.is_empty()
                || self.distros.iter().any(|distro| {
                    distro.name == stack.name && (distro.version.is_none() || distro.version == stack.version)
                }))
    }
}

impl Buildpack {
    /// Reads the buildpack that `mount` names.
    ///
    /// # Errors
    /// [`Error::Buildpack`] where the folder holds none of this contract.
    pub fn load(mount: &BuildpackMount) -> Result<Self, Error> {
        let dir = PathBuf::from(&mount.path);
        let invalid = |reason: String| Error::Buildpack {
            buildpack: mount.name.clone(),
            reason,
        };
        let file = dir.join("buildpack.toml");
        if !file.is_file() {
            return Err(invalid(unknown_contract(&dir)));
        }
        let length = std::fs::metadata(&file).map_or(0, |found| found.len());
        if length > LIMIT_BYTES {
            return Err(invalid("its buildpack.toml is longer than 1 MiB".to_owned()));
        }
        let text = std::fs::read_to_string(&file).map_err(|error| invalid(format!("buildpack.toml: {error}")))?;
        let descriptor: Descriptor =
            toml::from_str(&text).map_err(|error| invalid(format!("buildpack.toml: {}", error.message())))?;
        let api = check(&descriptor).map_err(invalid)?;
        let program = dir.join("bin/build");
        if descriptor.order.is_empty() && !program.is_file() {
            return Err(invalid(
                "it has neither bin/build nor an order of other buildpacks".to_owned(),
            ));
        }
        Ok(Self {
            name: mount.name.clone(),
            dir,
            descriptor,
            api,
        })
    }

    /// Whether it builds on a stack of this distribution, for production.
    ///
    /// # Errors
    /// [`Error::Buildpack`] with what it is made for.
    pub fn check_target(&self, stack: &Distro) -> Result<(), Error> {
        let refuse = |reason: String| Error::Buildpack {
            buildpack: self.name.clone(),
            reason,
        };
        let targets = &self.descriptor.targets;
        if self.api >= 10 && !targets.is_empty() && !targets.iter().any(|target| target.fits(stack)) {
            let version = stack.version.as_deref().unwrap_or_default();
            return Err(refuse(format!(
                "none of its targets is linux/{ARCH} with {} {version}",
                stack.name
            )));
        }
        let environments = &self.descriptor.buildpack.exec_env;
        if self.api >= 12 && !for_production(environments) {
            return Err(refuse(format!(
                "it builds for {} only, not for {EXEC_ENV}",
                environments.join(", ")
            )));
        }
        Ok(())
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.descriptor.buildpack.id
    }

    /// Whether it only names groups of others.
    #[must_use]
    pub fn is_composite(&self) -> bool {
        !self.descriptor.order.is_empty()
    }
}

fn unknown_contract(dir: &std::path::Path) -> String {
    let has = |name: &str| dir.join("bin").join(name).exists();
    if has("finalize") || has("compile") || has("supply") {
        return "it follows the classic contract, and the others do not: the two cannot be mixed".to_owned();
    }
    if dir.is_dir() {
        "its folder has no buildpack.toml".to_owned()
    } else {
        format!("its folder {} does not exist", dir.display())
    }
}

/// The minor version of its API.
fn check(descriptor: &Descriptor) -> Result<u32, String> {
    let minor = descriptor.api.strip_prefix("0.").and_then(|minor| minor.parse().ok());
    let Some(minor) = minor.filter(|minor: &u32| API.contains(minor)) else {
        return Err(format!(
            "it declares Buildpack API {}, and 0.{} to 0.{} are supported",
            descriptor.api,
            API.start(),
            API.end()
        ));
    };
    let id = &descriptor.buildpack.id;
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-');
    let reserved = ["", "app", "config", "generated", "sbom", ".", ".."];
    if reserved.contains(&id.as_str()) || id.len() > 255 || !id.chars().all(valid) {
        return Err(format!("its id {id:?} is not allowed"));
    }
    Ok(minor)
}

/// Architecture in the words of the contract.
pub const ARCH: &str = match std::env::consts::ARCH.as_bytes() {
    b"aarch64" => "arm64",
    _ => "amd64",
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn load(toml: Option<&str>, programs: &[&str]) -> Result<Buildpack, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        for program in programs {
            fs::write(folder.path().join("bin").join(program), "").unwrap();
        }
        if let Some(toml) = toml {
            fs::write(folder.path().join("buildpack.toml"), toml).unwrap();
        }
        Buildpack::load(&BuildpackMount {
            name: "x".to_owned(),
            path: folder.path().display().to_string(),
            source: None,
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn a_component_is_loaded() {
        let text = "api = '0.10'\n[buildpack]\nid = 'a/b'\nversion = '1.0.0'\n[[targets]]\nos = 'linux'\n";
        let found = load(Some(text), &["build"]).unwrap();
        assert_eq!((found.id(), found.is_composite()), ("a/b", false));
    }

    #[test]
    fn a_buildpack_for_another_place_is_refused() {
        let stack = Distro {
            name: "debian".to_owned(),
            version: Some("12".to_owned()),
        };
        for (toml, fits) in [
            ("", true),
            ("[[targets]]\nos = 'windows'\n", false),
            ("[[targets]]\narch = 'riscv64'\n", false),
            ("[[targets]]\nos = 'windows'\n[[targets]]\nos = 'linux'\n", true),
            ("[[targets]]\n[[targets.distros]]\nname = 'ubuntu'\n", false),
            ("[[targets]]\n[[targets.distros]]\nname = 'debian'\n", true),
            (
                "[[targets]]\n[[targets.distros]]\nname = 'debian'\nversion = '11'\n",
                false,
            ),
            ("exec-env = ['test']\n", false),
            ("exec-env = ['production', 'test']\n", true),
        ] {
            let text = format!("api = '0.12'\n[buildpack]\nid = 'a/b'\nversion = '1.0.0'\n{toml}");
            let found = load(Some(&text), &["build"]).unwrap();
            assert_eq!(found.check_target(&stack).is_ok(), fits, "{toml}");
        }
    }

    #[test]
    fn what_is_none_says_why() {
        let with = |api: &str, id: &str| format!("api = '{api}'\n[buildpack]\nid = '{id}'\nversion = '1.0.0'\n");
        for (toml, programs, part) in [
            (None, &["supply"][..], "classic contract"),
            (None, &[], "no buildpack.toml"),
            (Some(with("0.6", "a")), &["build"], "Buildpack API 0.6"),
            (Some(with("0.13", "a")), &["build"], "Buildpack API 0.13"),
            (Some(with("1.0", "a")), &["build"], "Buildpack API 1.0"),
            (Some(with("0.10", "config")), &["build"], "not allowed"),
            (Some(with("0.10", "a b")), &["build"], "not allowed"),
            (Some(with("0.10", "a")), &[], "neither bin/build"),
            (Some("api = 1".to_owned()), &["build"], "buildpack.toml"),
        ] {
            let reason = load(toml.as_deref(), programs).unwrap_err();
            assert!(reason.contains(part), "{toml:?}: {reason}");
        }
    }
}
