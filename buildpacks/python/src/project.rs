//! What the app's files say: which Python it wants and how its dependencies are written down.

use crate::lock::Tool;
use crate::read_text;
use buildpack_kit::{Failure, Result};
use pep440_rs::{Version, VersionSpecifiers};
use std::path::Path;

/// How dependencies are written down, the most exact first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependencies {
    /// uv.lock with pyproject.toml.
    UvLock,
    /// The lock of another tool, written out as requirements.
    Locked(Tool),
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
    } else if let Some(tool) = [Tool::Poetry, Tool::Pipenv, Tool::Pdm]
        .into_iter()
        .find(|tool| has(tool.file()))
    {
        Dependencies::Locked(tool)
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

/// Tools that say what they need in their own way, and were pushed without their lock.
///
/// # Errors
/// That failure, with the way out.
pub fn refuse_unlocked(app: &Path) -> Result<()> {
    let poetry = read_text(app, "pyproject.toml")?.is_some_and(|text| text.contains("[tool.poetry.dependencies]"));
    let pipenv = app.join("Pipfile").is_file();
    let (tool, file, command) = match (poetry, pipenv) {
        (true, _) => ("Poetry", "poetry.lock", "poetry lock"),
        (_, true) => ("Pipenv", "Pipfile.lock", "pipenv lock"),
        (false, false) => return Ok(()),
    };
    Err(Failure::new(
        format!("the app names its dependencies for {tool}, and {file} is missing"),
        format!("Run `{command}`, and push {file} too."),
    ))
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
    let Some(text) = requires else {
        return wanted_by_tools(app, pyproject);
    };
    let source = "pyproject.toml requires-python";
    let specifiers = text.parse().map_err(|_| not_a_version(text, source))?;
    Ok(Some(Wanted {
        text: text.to_owned(),
        source,
        specifiers,
        exact: None,
    }))
}

/// What Pipenv and Poetry are told in their own files.
fn wanted_by_tools(app: &Path, pyproject: &toml::Table) -> Result<Option<Wanted>> {
    let pipfile: toml::Table = toml::from_str(&read_text(app, "Pipfile")?.unwrap_or_default()).unwrap_or_default();
    let of_pipenv = |name: &str| pipfile.get("requires")?.get(name)?.as_str().map(str::to_owned);
    if let Some(text) = of_pipenv("python_full_version").or_else(|| of_pipenv("python_version")) {
        return parse_version(&text, "Pipfile").map(Some);
    }
    let of_poetry = || {
        pyproject
            .get("tool")?
            .get("poetry")?
            .get("dependencies")?
            .get("python")?
            .as_str()
    };
    let Some(text) = of_poetry().filter(|text| *text != "*") else {
        return Ok(None);
    };
    let source = "pyproject.toml tool.poetry";
    let specifiers = poetry_range(text).and_then(|range| range.parse().ok());
    Ok(Some(Wanted {
        text: text.to_owned(),
        source,
        specifiers: specifiers.ok_or_else(|| not_a_version(text, source))?,
        exact: None,
    }))
}

/// `^3.9` and `~3.9` as the standard writes them.
fn poetry_range(text: &str) -> Option<String> {
    let part = |part: &str| {
        let part = part.trim();
        let (sign, version) = match part.chars().next()? {
            sign @ ('^' | '~') => (sign, part[1..].trim_start_matches('=')),
            digit if digit.is_ascii_digit() => return Some(format!("=={part}")),
            _ => return Some(part.to_owned()),
        };
        let numbers: Option<Vec<u64>> = version.split('.').map(|number| number.trim().parse().ok()).collect();
        let numbers = numbers?;
        let end = match (sign, numbers.as_slice()) {
            ('~', [major, minor, ..]) => format!("{major}.{}", minor + 1),
            (_, [major, ..]) => format!("{}", major + 1),
            _ => return None,
        };
        Some(format!(">={},<{end}", version.trim()))
    };
    let all: Option<Vec<String>> = text.split(',').map(part).collect();
    Some(all?.join(","))
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
        for (text, range) in [
            ("^3.9", ">=3.9,<4"),
            ("~3.9.2", ">=3.9.2,<3.10"),
            (">=3.9,<3.13", ">=3.9,<3.13"),
            ("3.11.*", "==3.11.*"),
        ] {
            assert_eq!(poetry_range(text).as_deref(), Some(range));
        }
        let poetry = ("pyproject.toml", "[tool.poetry.dependencies]\npython = '^3.9'\n");
        assert!(read(&[poetry]).unwrap().wanted.unwrap().allows(&version("3.11.2")));
        let pipenv = ("Pipfile", "[requires]\npython_version = '3.10'\n");
        assert!(!read(&[pipenv]).unwrap().wanted.unwrap().allows(&version("3.11.2")));
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
        assert_eq!(
            of(&[requirements, ("poetry.lock", "")]),
            Dependencies::Locked(Tool::Poetry)
        );
        assert_eq!(of(&[project]), Dependencies::Pyproject);
        assert_eq!(of(&[("pyproject.toml", "[tool.ruff]\n")]), Dependencies::None);
    }
}
