//! Node.js: the runtime from a package registry, dependencies as the lock file has them, the app's own build, its start command.

mod build;
mod dist;
mod install;
mod layout;
mod manager;
mod package;
mod runtime;
mod start;
mod version;

use buildpack_kit::{BuildContext, Buildpack, DetectContext, Detection, Result, Variables, run};
use package::Package;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    run(&Nodejs, &arguments, Variables(std::env::vars_os().collect()))
}

struct Nodejs;

/// Files of Python apps, whose package.json often only builds assets.
const PYTHON: &[&str] = &[
    "requirements.txt",
    "pyproject.toml",
    "uv.lock",
    "manage.py",
    "Pipfile",
    "setup.py",
];

impl Buildpack for Nodejs {
    fn detect(&self, context: &DetectContext) -> Result<Detection> {
        let app = &context.app;
        if !app.join("package.json").is_file() {
            let hint = if start::ENTRIES.iter().any(|entry| app.join(entry).is_file()) {
                "no package.json beside the script: create one by `npm init -y`"
            } else {
                "no package.json"
            };
            return Ok(Detection::Declined(hint.to_owned()));
        }
        let package = Package::read(app)?;
        if let Some(python) = PYTHON.iter().find(|name| app.join(name).is_file())
            && start::infer(app, &package).is_none()
        {
            return Ok(Detection::Declined(format!(
                "package.json has nothing to start, and there is a {python}"
            )));
        }
        let wanted = version::wanted(app, &package)?;
        Ok(Detection::Passed {
            found: format!("Node.js {} ({})", wanted.shown(), wanted.source),
            provides: Some("node".to_owned()),
        })
    }

    fn build(&self, context: &BuildContext) -> Result<()> {
        build::run(context)
    }
}

/// A file of the app as text; `None` where there is none.
fn read_text(app: &Path, name: &str) -> Result<Option<String>> {
    let path = app.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    std::fs::read_to_string(&path)
        .map(Some)
        .map_err(buildpack_kit::Failure::file("read", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(files: &[(&str, &str)]) -> Detection {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let context = DetectContext {
            app: folder.path().to_owned(),
            variables: Variables::default(),
        };
        Nodejs.detect(&context).unwrap()
    }

    fn declined(files: &[(&str, &str)]) -> String {
        match detect(files) {
            Detection::Declined(reason) => reason,
            Detection::Passed { found, .. } => panic!("passed: {found}"),
        }
    }

    #[test]
    fn package_json_decides() {
        let found = Detection::Passed {
            found: "Node.js 22.x (package.json engines.node)".to_owned(),
            provides: Some("node".to_owned()),
        };
        assert_eq!(detect(&[("package.json", r#"{"engines":{"node":"22.x"}}"#)]), found);
        assert_eq!(declined(&[("a.txt", "")]), "no package.json");
        assert!(declined(&[("server.js", "")]).contains("npm init"));
    }

    #[test]
    fn assets_of_a_python_app_are_no_node_app() {
        let python = ("requirements.txt", "");
        assert!(declined(&[("package.json", "{}"), python]).contains("requirements.txt"));
        let start = ("package.json", r#"{"scripts":{"start":"node x"}}"#);
        assert!(matches!(detect(&[start, python]), Detection::Passed { .. }));
    }
}
