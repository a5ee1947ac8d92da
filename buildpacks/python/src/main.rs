//! Python: the interpreter of the stack, dependencies as uv.lock or requirements.txt has them, the framework's start command.

mod build;
mod install;
mod interpreter;
mod lock;
mod project;
mod start;
mod uv;

use buildpack_kit::{BuildContext, Buildpack, DetectContext, Detection, Result, Variables, run};
use project::Project;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    run(&Python, &arguments, Variables(std::env::vars_os().collect()))
}

struct Python;

/// Files whose names are nearly right.
const MISSPELT: &[&str] = &[
    "requirement.txt",
    "Requirements.txt",
    "requirements.text",
    "requirements.txt.txt",
    "requirments.txt",
];

impl Buildpack for Python {
    fn detect(&self, context: &DetectContext) -> Result<Detection> {
        let app = &context.app;
        let Some(source) = project::source(app) else {
            let misspelt = MISSPELT.iter().find(|name| app.join(name).is_file());
            return Ok(Detection::Declined(match misspelt {
                Some(name) => format!("no requirements.txt, and {name} looks as if it should be called that"),
                None => "no requirements.txt, uv.lock, pyproject.toml, manage.py, app.py or main.py".to_owned(),
            }));
        };
        let project = Project::read(app)?;
        let found = match &project.wanted {
            Some(wanted) => format!("Python {} ({}), {source}", wanted.text, wanted.source),
            None => format!("Python ({source})"),
        };
        Ok(Detection::Passed {
            found,
            provides: Some("python".to_owned()),
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
    let bytes = std::fs::read(&path).map_err(buildpack_kit::Failure::file("read", &path))?;
    // Some editors write such files in UTF-16.
    let text = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => {
            let units: Vec<u16> = rest
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        }
        _ => String::from_utf8_lossy(&bytes)
            .trim_start_matches('\u{feff}')
            .to_owned(),
    };
    Ok(Some(text))
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
        match Python.detect(&context).unwrap() {
            Detection::Passed { found, .. } => format!("+{found}"),
            Detection::Declined(reason) => reason,
        }
    }

    #[test]
    fn files_of_python_are_recognised() {
        assert_eq!(detect(&[("requirements.txt", "flask")]), "+Python (requirements.txt)");
        assert_eq!(
            detect(&[("uv.lock", ""), ("pyproject.toml", ""), (".python-version", "3.11")]),
            "+Python 3.11 (.python-version), uv.lock"
        );
        assert_eq!(detect(&[("app.py", "")]), "+Python (app.py)");
        assert!(detect(&[("requirement.txt", "")]).contains("looks as if"));
        assert!(detect(&[("a.txt", "")]).starts_with("no requirements.txt"));
    }

    #[test]
    fn text_in_utf_16_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![0xff, 0xfe];
        bytes.extend("flask\n".encode_utf16().flat_map(u16::to_le_bytes));
        std::fs::write(folder.path().join("requirements.txt"), bytes).unwrap();
        assert_eq!(
            read_text(folder.path(), "requirements.txt").unwrap().as_deref(),
            Some("flask\n")
        );
    }
}
