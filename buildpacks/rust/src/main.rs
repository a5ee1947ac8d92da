//! Rust: the toolchain that the app asks for, crates as `Cargo.lock` has them, the programs of the package or workspace.

mod build;
mod dist;
mod hints;
mod project;
mod toolchain;
mod version;

use buildpack_kit::{BuildContext, Buildpack, DetectContext, Detection, Result, Variables, run};
use project::Project;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    run(&Rust, &arguments, Variables(std::env::vars_os().collect()))
}

struct Rust;

impl Buildpack for Rust {
    fn detect(&self, context: &DetectContext) -> Result<Detection> {
        if Project::read(&context.app)?.is_none() {
            return Ok(Detection::Declined("no Cargo.toml at the top".to_owned()));
        }
        let wanted = version::wanted(&context.app, &context.variables)?;
        Ok(Detection::Passed {
            found: format!("Rust {} ({})", wanted.channel, wanted.said_by),
            provides: Some("rust".to_owned()),
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
        match Rust.detect(&context) {
            Ok(Detection::Passed { found, .. }) => format!("+{found}"),
            Ok(Detection::Declined(reason)) => reason,
            Err(failure) => format!("!{}", failure.cause),
        }
    }

    #[test]
    fn packages_and_workspaces_are_recognised() {
        assert_eq!(
            detect(&[("Cargo.toml", "[package]\nname = 'a'\n")]),
            "+Rust stable (default)"
        );
        assert_eq!(
            detect(&[
                ("Cargo.toml", "[workspace]\nmembers = ['a']\n"),
                ("rust-toolchain", "1.85\n")
            ]),
            "+Rust 1.85 (rust-toolchain)"
        );
        assert!(detect(&[("main.rs", "")]).starts_with("no Cargo.toml"));
        assert!(detect(&[("Cargo.toml", "[package")]).starts_with("!Cargo.toml cannot be read"));
    }
}
