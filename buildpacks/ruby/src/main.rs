//! Ruby: the interpreter from packages made for the stack, gems as `Gemfile.lock` has them, and what serves by convention.

mod build;
mod gems;
mod interpreter;
mod lock;
mod start;
mod version;

use buildpack_kit::{BuildContext, Buildpack, DetectContext, Detection, Result, Variables, run};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    run(&Ruby, &arguments, Variables(std::env::vars_os().collect()))
}

struct Ruby;

impl Buildpack for Ruby {
    fn detect(&self, context: &DetectContext) -> Result<Detection> {
        if !is_ruby(&context.app) {
            return Ok(Detection::Declined("no Gemfile or config.ru at the top".to_owned()));
        }
        let wanted = version::wanted(&context.app, &context.variables)?;
        Ok(Detection::Passed {
            found: format!("Ruby {} ({})", wanted.text, wanted.said_by),
            provides: Some("ruby".to_owned()),
        })
    }

    fn build(&self, context: &BuildContext) -> Result<()> {
        build::run(context)
    }
}

fn is_ruby(app: &Path) -> bool {
    ["Gemfile", "config.ru"].iter().any(|name| app.join(name).is_file())
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
        match Ruby.detect(&context) {
            Ok(Detection::Passed { found, .. }) => format!("+{found}"),
            Ok(Detection::Declined(reason)) => reason,
            Err(failure) => format!("!{}", failure.cause),
        }
    }

    #[test]
    fn a_gemfile_or_a_rack_file_is_recognised() {
        assert_eq!(detect(&[("config.ru", "run app")]), "+Ruby 3 (default)");
        assert_eq!(detect(&[("Gemfile", "ruby '~> 3.1'\n")]), "+Ruby ~> 3.1 (Gemfile)");
        assert!(detect(&[("app.rb", "")]).starts_with("no Gemfile"));
        assert!(detect(&[("Gemfile", "ruby 'three'\n")]).starts_with("!Gemfile asks for Ruby"));
    }
}
