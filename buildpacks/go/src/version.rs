//! Which Go the app wants, said by whom, and which of those published that is.

use crate::module::Project;
use buildpack_kit::app::{first_line, tool_version};
use buildpack_kit::source::Release;
use buildpack_kit::{Failure, Result, Variables, Version};
use std::path::Path;

/// What the app wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// As written, without `go`.
    pub text: String,
    /// Where it is written.
    pub said_by: &'static str,
    version: Version,
    /// Whether a newer line will do: files of modules say the oldest, variables and version files the one.
    minimum: bool,
}

/// The variable of the app, `// +heroku goVersion`, `toolchain`, `go`, `.go-version`, `.tool-versions`; else the newest.
///
/// # Errors
/// Where what is written is no version.
pub fn wanted(app: &Path, project: &Project, variables: &Variables) -> Result<Wanted> {
    let variable = ["BP_GO_VERSION", "GOVERSION"]
        .into_iter()
        .find_map(|name| Some((variables.get(name)?.to_owned(), name)));
    if let Some((text, said_by)) = variable {
        return parse(&text, said_by, false);
    }
    let work = project.file == Some("go.work");
    let said = [
        (project.comment_version.clone(), "go.mod +heroku goVersion", false),
        (
            project.toolchain.clone(),
            if work { "go.work toolchain" } else { "go.mod toolchain" },
            true,
        ),
        (project.go.clone(), if work { "go.work go" } else { "go.mod go" }, true),
        (first_line(app, ".go-version")?, ".go-version", false),
        (tool_version(app, &["go", "golang"])?, ".tool-versions", false),
    ];
    let first = said
        .into_iter()
        .find_map(|(text, said_by, minimum)| Some((text?, said_by, minimum)));
    match first {
        Some((text, said_by, minimum)) => parse(&text, said_by, minimum),
        None => parse("1", "default", false),
    }
}

fn parse(text: &str, said_by: &'static str, minimum: bool) -> Result<Wanted> {
    let text = text.trim().trim_start_matches("go").trim_end_matches(".x");
    let version = Version::parse(text)
        .filter(|version| version.parts() <= 3)
        .ok_or_else(|| {
            Failure::new(
                format!("{said_by} asks for Go {text:?}, which is no version of a release"),
                "Write a version such as 1.26 or 1.26.2.",
            )
        })?;
    Ok(Wanted {
        text: text.to_owned(),
        said_by,
        version,
        minimum,
    })
}

impl Wanted {
    /// The newest of its line; where that is not published and a newer line will do, the newest of the next one that is.
    ///
    /// # Errors
    /// Where none will do.
    pub fn choose(&self, releases: &[Release]) -> Result<Release> {
        let published: Vec<(Version, &Release)> = releases
            .iter()
            .filter_map(|release| Some((Version::parse(&release.version)?, release)))
            .collect();
        let newest = |line: &Version, least: &Version| {
            let fitting = published
                .iter()
                .filter(|(version, _)| version.is_of(line) && version >= least);
            fitting.max_by(|a, b| a.0.cmp(&b.0)).map(|(_, release)| *release)
        };
        // An exact version that somebody chose is that version; that of a module is where its line begins.
        let line = if self.minimum {
            self.version.line(2.min(self.version.parts()))
        } else {
            self.version.clone()
        };
        let mut found = newest(&line, &self.version);
        if found.is_none() && self.minimum {
            let later = published.iter().filter(|(version, _)| *version > self.version);
            let next = later.map(|(version, _)| version.line(2)).min();
            found = next.and_then(|next| newest(&next, &self.version));
        }
        found
            .cloned()
            .ok_or_else(|| self.missing(published.iter().map(|(version, _)| version)))
    }

    fn missing<'a>(&self, published: impl Iterator<Item = &'a Version>) -> Failure {
        let mut lines: Vec<Version> = published.map(|version| version.line(2)).collect();
        lines.sort();
        lines.dedup();
        let lines: Vec<String> = lines.iter().map(Version::to_string).collect();
        Failure::new(
            format!(
                "Go {} ({}) cannot be had here; there is {}",
                self.text,
                self.said_by,
                lines.join(", ")
            ),
            "Ask for one of these; or the operator names another source for staging (BP_GO_MIRROR, BP_MIRROR).",
        )
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use buildpack_kit::http::Integrity;
    use buildpack_kit::source::{Form, Root};

    pub fn releases(versions: &[&str]) -> Vec<Release> {
        let release = |version: &&str| Release {
            version: (*version).to_owned(),
            url: String::new(),
            integrity: Integrity::Sha256(Vec::new()),
            form: Form::Zip,
            root: Root::Strip(0),
        };
        versions.iter().map(release).collect()
    }

    fn chosen(text: &str, minimum: bool) -> Option<String> {
        let published = releases(&["1.21.13", "1.25.1", "1.25.5", "1.26.0", "1.26.6", "1.27.3", "1.28rc1"]);
        let wanted = parse(text, "test", minimum).ok()?;
        wanted.choose(&published).ok().map(|release| release.version)
    }

    #[test]
    fn a_module_names_the_oldest_that_will_do() {
        for (text, minimum, expected) in [
            ("1", false, Some("1.27.3")),
            ("1.25", true, Some("1.25.5")),
            ("1.25.2", true, Some("1.25.5")),
            ("1.25.9", true, Some("1.26.6")),
            ("1.18", true, Some("1.21.13")),
            ("1.22", true, Some("1.25.5")),
            ("1.25.1", false, Some("1.25.1")),
            ("1.25", false, Some("1.25.5")),
            ("1.22", false, None),
            ("1.99", true, None),
            ("go1.26.x", false, Some("1.26.6")),
            ("1.27rc1", true, None),
        ] {
            assert_eq!(chosen(text, minimum).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_first_source_that_says_something_wins() {
        let folder = tempfile::tempdir().unwrap();
        let said =
            |project: &Project, variables: &Variables| wanted(folder.path(), project, variables).unwrap().said_by;
        let none = Variables::default();
        assert_eq!(said(&Project::default(), &none), "default");
        std::fs::write(folder.path().join(".go-version"), "1.25\n").unwrap();
        assert_eq!(said(&Project::default(), &none), ".go-version");
        let project = Project {
            go: Some("1.24".to_owned()),
            ..Project::default()
        };
        assert_eq!(said(&project, &none), "go.mod go");
        let variables = Variables([("GOVERSION".into(), "go1.25".into())].into());
        assert_eq!(said(&project, &variables), "GOVERSION");
    }
}
