//! Which PHP the app wants, said by whom, and which of those that can be had that is.

use crate::constraint::Constraint;
use crate::project::Project;
use buildpack_kit::app::{first_line, tool_version};
use buildpack_kit::source::Release;
use buildpack_kit::{Failure, Result, Variables, Version};
use std::path::Path;

/// What the app wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// As written.
    pub text: String,
    /// Where it is written.
    pub said_by: &'static str,
    constraint: Constraint,
}

/// `BP_PHP_VERSION`, `composer.json`, `.php-version`, `.tool-versions`; else what there is.
///
/// # Errors
/// Where what is written is no version or range.
pub fn wanted(app: &Path, project: &Project, variables: &Variables) -> Result<Wanted> {
    let said = [
        (variables.get("BP_PHP_VERSION").map(str::to_owned), "BP_PHP_VERSION"),
        (project.php.clone(), "composer.json"),
        (first_line(app, ".php-version")?, ".php-version"),
        (tool_version(app, &["php"])?, ".tool-versions"),
    ];
    let first = said.into_iter().find_map(|(text, said_by)| Some((text?, said_by)));
    let (text, said_by) = first.unwrap_or(("*".to_owned(), "default"));
    let constraint = Constraint::parse(&text).ok_or_else(|| {
        Failure::new(
            format!("{said_by} asks for PHP {text:?}, which is no version or range"),
            "Write a range such as ^8.2.",
        )
    })?;
    Ok(Wanted {
        text,
        said_by,
        constraint,
    })
}

impl Wanted {
    /// The newest that is allowed.
    ///
    /// # Errors
    /// Where none will do.
    pub fn choose(&self, releases: &[Release]) -> Result<Release> {
        let mut published: Vec<(Version, &Release)> = releases
            .iter()
            .filter_map(|release| Some((Version::parse(&release.version)?, release)))
            .collect();
        published.sort_by(|a, b| b.0.cmp(&a.0));
        let found = published.iter().find(|(version, _)| self.constraint.allows(version));
        found.map(|(_, release)| (*release).clone()).ok_or_else(|| {
            let there: Vec<&str> = published.iter().map(|(_, release)| release.version.as_str()).collect();
            Failure::new(
                format!(
                    "PHP {} ({}) cannot be had on this stack; there is {}",
                    self.text,
                    self.said_by,
                    there.join(", ")
                ),
                "Ask for a range that has it in it; or use a stack of another release of Debian, which has another PHP.",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildpack_kit::http::Integrity;
    use buildpack_kit::source::{Form, Root};

    #[test]
    fn the_first_that_says_something_wins() {
        let folder = tempfile::tempdir().unwrap();
        let said = |project: &Project, variables: &Variables| {
            wanted(folder.path(), project, variables).map(|wanted| format!("{} {}", wanted.text, wanted.said_by))
        };
        let none = Variables::default();
        let plain = Project::default();
        assert_eq!(said(&plain, &none).unwrap(), "* default");
        std::fs::write(folder.path().join(".php-version"), "8.2\n").unwrap();
        assert_eq!(said(&plain, &none).unwrap(), "8.2 .php-version");
        let project = Project {
            php: Some("^8.1".to_owned()),
            ..Project::default()
        };
        assert_eq!(said(&project, &none).unwrap(), "^8.1 composer.json");
        let variables = Variables([("BP_PHP_VERSION".into(), "eight".into())].into());
        assert!(
            said(&project, &variables)
                .unwrap_err()
                .cause
                .starts_with("BP_PHP_VERSION")
        );
    }

    #[test]
    fn what_cannot_be_had_is_told_with_what_can() {
        let releases = [Release {
            version: "8.2.36".to_owned(),
            url: String::new(),
            integrity: Integrity::Sha256(Vec::new()),
            form: Form::Deb,
            root: Root::Strip(0),
        }];
        let wanted = |text: &str| Wanted {
            text: text.to_owned(),
            said_by: "test",
            constraint: Constraint::parse(text).unwrap(),
        };
        assert_eq!(wanted("^8.1").choose(&releases).unwrap().version, "8.2.36");
        assert!(
            wanted("^8.4")
                .choose(&releases)
                .unwrap_err()
                .cause
                .contains("there is 8.2.36")
        );
    }
}
