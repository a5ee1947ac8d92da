//! Go: the toolchain that go.mod asks for, modules vendored or as go.sum has them, one static program per command.

mod build;
mod dist;
mod module;
mod toolchain;
mod version;

use buildpack_kit::{BuildContext, Buildpack, DetectContext, Detection, Result, Variables, run};
use module::Project;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    run(&Go, &arguments, Variables(std::env::vars_os().collect()))
}

struct Go;

impl Buildpack for Go {
    fn detect(&self, context: &DetectContext) -> Result<Detection> {
        let Some(project) = Project::read(&context.app)? else {
            return Ok(Detection::Declined(
                "no go.mod, go.work or .go files at the top".to_owned(),
            ));
        };
        let wanted = version::wanted(&context.app, &project, &context.variables)?;
        Ok(Detection::Passed {
            found: format!("Go {} ({})", wanted.text, wanted.said_by),
            provides: Some("go".to_owned()),
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
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let context = DetectContext {
            app: folder.path().to_owned(),
            variables: Variables::default(),
        };
        match Go.detect(&context).unwrap() {
            Detection::Passed { found, .. } => format!("+{found}"),
            Detection::Declined(reason) => reason,
        }
    }

    #[test]
    fn modules_and_single_files_are_recognised() {
        assert_eq!(detect(&[("go.mod", "module a\n\ngo 1.25\n")]), "+Go 1.25 (go.mod go)");
        assert_eq!(detect(&[("main.go", "package main\n")]), "+Go 1 (default)");
        assert_eq!(
            detect(&[("go.work", "go 1.26.1\nuse ./a\n")]),
            "+Go 1.26.1 (go.work go)"
        );
        assert!(detect(&[("a.txt", "")]).starts_with("no go.mod"));
    }
}
