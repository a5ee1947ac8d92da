//! PHP: the interpreter and a web server from packages made for the stack, and the app's packages as `composer.lock` has them.

mod build;
mod composer;
mod constraint;
mod extensions;
mod project;
mod runtime;
mod server;
mod version;

use buildpack_kit::{BuildContext, Buildpack, DetectContext, Detection, Result, Variables, run};
use project::Project;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    run(&Php, &arguments, Variables(std::env::vars_os().collect()))
}

struct Php;

impl Buildpack for Php {
    fn detect(&self, context: &DetectContext) -> Result<Detection> {
        let Some(project) = Project::read(&context.app)? else {
            return Ok(Detection::Declined(
                "no composer.json and no .php file at the top, in public, htdocs, web or www".to_owned(),
            ));
        };
        let wanted = version::wanted(&context.app, &project, &context.variables)?;
        Ok(Detection::Passed {
            found: format!("PHP {} ({})", wanted.text, wanted.said_by),
            provides: Some("php".to_owned()),
        })
    }

    fn build(&self, context: &BuildContext) -> Result<()> {
        build::run(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(files: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("public")).unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let context = DetectContext {
            app: folder.path().to_owned(),
            variables: Variables::default(),
        };
        match Php.detect(&context) {
            Ok(Detection::Passed { found, .. }) => format!("+{found}"),
            Ok(Detection::Declined(reason)) => reason,
            Err(failure) => format!("!{}", failure.cause),
        }
    }

    #[test]
    fn packages_and_pages_are_recognised() {
        assert_eq!(detect(&[("index.php", "<?php")]), "+PHP * (default)");
        assert_eq!(detect(&[("public/index.php", "<?php")]), "+PHP * (default)");
        assert_eq!(
            detect(&[("composer.json", r#"{"require": {"php": "^8.1"}}"#)]),
            "+PHP ^8.1 (composer.json)"
        );
        assert!(detect(&[("index.html", "")]).starts_with("no composer.json"));
        assert!(detect(&[("composer.json", "{")]).starts_with("!composer.json cannot be read"));
    }
}
