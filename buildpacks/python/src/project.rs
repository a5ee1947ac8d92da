//! What the app's files say: which Python it wants and how its dependencies are written down.

use crate::read_text;
use buildpack_kit::{Failure, Result};
use pep440_rs::{Version, VersionSpecifiers};
use std::path::Path;

/// How dependencies are written down, the most exact first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependencies {
    /// uv.lock with pyproject.toml.
    UvLock,
    /// requirements.txt.
    Requirements,
    /// pyproject.toml alone.
    Pyproject,
    /// None: the standard library is enough.
    None,
}

/// Files that make an app one of Python, in the order in which they are named to people.
const SOURCES: &[&str] = &[
    "uv.lock",
    "requirements.txt",
    "poetry.lock",
    "Pipfile.lock",
    "pdm.lock",
    "pyproject.toml",
    "Pipfile",
    "setup.py",
    "manage.py",
    "main.py",
    "app.py",
];

/// The file that makes `app` one of Python.
#[must_use]
pub fn source(app: &Path) -> Option<&'static str> {
    SOURCES.iter().find(|name| app.join(name).is_file()).copied()
}

/// A version of Python that the app asks for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// As written.
    pub text: String,
    /// Where it is written.
    pub source: &'static str,
    specifiers: VersionSpecifiers,
    /// Set where a whole version is asked for: the patch is wished for, the line is needed.
    exact: Option<Version>,
}

impl Wanted {
    /// Whether `version` will do.
    #[must_use]
    pub fn allows(&self, version: &Version) -> bool {
        self.specifiers.contains(version)
    }

    /// Whether `version` is of the right line but not the one asked for.
    #[must_use]
    pub fn is_near_miss(&self, version: &Version) -> bool {
        self.exact.as_ref().is_some_and(|exact| exact != version)
    }
}

/// What the app's files say.
#[derive(Debug)]
pub struct Project {
    /// The Python it wants, if it says so.
    pub wanted: Option<Wanted>,
    /// How dependencies are written down.
    pub dependencies: Dependencies,
}

impl Project {
    /// Reads the files of `app`.
    ///
    /// # Errors
    /// Where one of them cannot be understood, or calls for a tool that is not supported.
    pub fn read(app: &Path) -> Result<Self> {
        let pyproject = read_text(app, "pyproject.toml")?;
        let pyproject: toml::Table = toml::from_str(pyproject.as_deref().unwrap_or_default()).map_err(|error| {
            Failure::new(
                format!("pyproject.toml is not valid: {}", error.message()),
                "Repair it.",
            )
        })?;
        Ok(Self {
            wanted: wanted(app, &pyproject)?,
            dependencies: dependencies(app, &pyproject),
        })
    }
}

fn dependencies(app: &Path, pyproject: &toml::Table) -> Dependencies {
    let has = |name: &str| app.join(name).is_file();
    if has("uv.lock") && has("pyproject.toml") {
        Dependencies::UvLock
    } else if has("requirements.txt") {
        Dependencies::Requirements
    } else if pyproject
        .get("project")
        .is_some_and(|project| project.get("dependencies").is_some())
    {
        Dependencies::Pyproject
    } else {
        Dependencies::None
    }
}

/// Tools whose lock files are not read, where nothing else says what to install.
///
/// # Errors
/// That failure, with the way out.
pub fn refuse_unsupported(app: &Path) -> Result<()> {
    for (file, tool, export) in [
        (
            "poetry.lock",
            "Poetry",
            "poetry export -f requirements.txt -o requirements.txt",
        ),
        ("Pipfile.lock", "Pipenv", "pipenv requirements > requirements.txt"),
        ("pdm.lock", "PDM", "pdm export -o requirements.txt"),
        ("Pipfile", "Pipenv", "pipenv requirements > requirements.txt"),
    ] {
        if app.join(file).is_file() {
            return Err(Failure::new(
                format!("the app is locked by {tool} ({file}), which is not supported yet"),
                format!("Run `{export}` and push the result too; or move to uv, whose uv.lock is supported."),
            ));
        }
    }
    Ok(())
}

fn wanted(app: &Path, pyproject: &toml::Table) -> Result<Option<Wanted>> {
    let first_line = |text: String| {
        let line = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default().trim());
        line.map(str::to_owned).find(|line| !line.is_empty())
    };
    if let Some(line) = read_text(app, ".python-version")?.and_then(first_line) {
        return parse_version(line.trim_start_matches("cpython-"), ".python-version").map(Some);
    }
    if let Some(line) = read_text(app, "runtime.txt")?.and_then(first_line) {
        return parse_version(line.trim_start_matches("python-"), "runtime.txt").map(Some);
    }
    let requires = pyproject
        .get("project")
        .and_then(|project| project.get("requires-python")?.as_str());
    let Some(text) = requires else { return Ok(None) };
    let source = "pyproject.toml requires-python";
    let specifiers = text.parse().map_err(|_| not_a_version(text, source))?;
    Ok(Some(Wanted {
        text: text.to_owned(),
        source,
        specifiers,
        exact: None,
    }))
}

/// `3`, `3.12`, `3.12.x` or `3.12.1`: the line is what counts.
fn parse_version(text: &str, source: &'static str) -> Result<Wanted> {
    let invalid = || not_a_version(text, source);
    let plain = text.trim_end_matches(".x").trim_end_matches(".*");
    let version: Version = plain.parse().map_err(|_| invalid())?;
    let release: Vec<u64> = version.release().to_vec();
    let line = match release.as_slice() {
        [major] => format!("=={major}.*"),
        [major, minor, ..] => format!("=={major}.{minor}.*"),
        [] => return Err(invalid()),
    };
    Ok(Wanted {
        text: text.to_owned(),
        source,
        specifiers: line.parse().map_err(|_| invalid())?,
        exact: (release.len() > 2).then_some(version),
    })
}

fn not_a_version(text: &str, source: &str) -> Failure {
    Failure::new(
        format!("{source} asks for Python {text:?}, which is no version"),
        "Write a version such as 3.12, or a range such as >=3.10 in pyproject.toml.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Project> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        Project::read(folder.path())
    }

    #[test]
    fn each_way_to_ask_for_a_version() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        for (file, text, allowed, refused) in [
            (".python-version", "3.11\n", "3.11.2", "3.12.0"),
            (".python-version", "# pinned\n3.11.9\n", "3.11.2", "3.10.1"),
            ("runtime.txt", "python-3.11.x", "3.11.2", "3.12.1"),
            (
                "pyproject.toml",
                "[project]\nrequires-python = '>=3.10,<3.12'\n",
                "3.11.2",
                "3.12.0",
            ),
        ] {
            let wanted = read(&[(file, text)]).unwrap().wanted.unwrap();
            assert!(
                wanted.allows(&version(allowed)) && !wanted.allows(&version(refused)),
                "{text}"
            );
        }
        let exact = read(&[(".python-version", "3.11.9")]).unwrap().wanted.unwrap();
        assert!(exact.is_near_miss(&version("3.11.2")) && !exact.is_near_miss(&version("3.11.9")));
        assert!(read(&[("runtime.txt", "ruby")]).is_err());
        assert!(read(&[("pyproject.toml", "x")]).is_err());
    }

    #[test]
    fn the_most_exact_description_counts() {
        let of = |files: &[(&str, &str)]| read(files).unwrap().dependencies;
        let project = ("pyproject.toml", "[project]\ndependencies = ['flask']\n");
        let (lock, requirements) = (("uv.lock", ""), ("requirements.txt", ""));
        assert_eq!(of(&[project, lock, requirements]), Dependencies::UvLock);
        assert_eq!(of(&[project, requirements]), Dependencies::Requirements);
        assert_eq!(of(&[project]), Dependencies::Pyproject);
        assert_eq!(of(&[("pyproject.toml", "[tool.ruff]\n")]), Dependencies::None);
    }
}
