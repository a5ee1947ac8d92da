//! What starts the app where no Procfile says it.

use crate::package::Package;
use std::path::Path;

/// Files that are the app's entry by habit.
pub const ENTRIES: &[&str] = &["server.js", "index.js", "app.js", "server.mjs", "index.mjs", "main.js"];

/// A start command and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// For the shell, or the arguments of Node.js.
    pub command: StartCommand,
    /// Such as `package.json scripts.start`.
    pub source: String,
}

/// How it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartCommand {
    /// A text for the shell.
    Shell(String),
    /// `node FILE`.
    Node(String),
}

/// The script `start`, then `main`, then a file with a usual name.
#[must_use]
pub fn infer(app: &Path, package: &Package) -> Option<Start> {
    if let Some(script) = package.script("start") {
        // The script itself and not `npm start`: npm would stay beside it, with its memory, between it and signals.
        let command = match package.script("prestart") {
            Some(before) => format!("{{ {before}\n}} && {script}"),
            None => script.to_owned(),
        };
        return Some(Start {
            command: StartCommand::Shell(command),
            source: "package.json scripts.start".to_owned(),
        });
    }
    let main = package.main.as_deref().and_then(|main| entry(app, main));
    if let Some(file) = main {
        return Some(Start {
            command: StartCommand::Node(file),
            source: "package.json main".to_owned(),
        });
    }
    let file = ENTRIES.iter().find(|name| app.join(name).is_file())?;
    Some(Start {
        command: StartCommand::Node((*file).to_owned()),
        source: (*file).to_owned(),
    })
}

/// The file that `main` means, as Node.js reads it.
fn entry(app: &Path, main: &str) -> Option<String> {
    let main = main.trim_start_matches("./").trim_end_matches('/');
    let candidates = [main.to_owned(), format!("{main}.js"), format!("{main}/index.js")];
    candidates
        .into_iter()
        .find(|name| !name.starts_with("..") && app.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::tests::package;

    fn inferred(json: &str, files: &[&str]) -> Option<(StartCommand, String)> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        infer(folder.path(), &package(json)).map(|start| (start.command, start.source))
    }

    #[test]
    fn the_script_then_main_then_habit() {
        let shell = |text: &str| {
            Some((
                StartCommand::Shell(text.into()),
                "package.json scripts.start".to_owned(),
            ))
        };
        let node = |file: &str, source: &str| Some((StartCommand::Node(file.into()), source.to_owned()));
        let start = r#"{"main":"a.js","scripts":{"start":"node b.js"}}"#;
        assert_eq!(inferred(start, &["a.js"]), shell("node b.js"));
        let before = r#"{"scripts":{"start":"node b","prestart":"node a"}}"#;
        assert_eq!(inferred(before, &[]), shell("{ node a\n} && node b"));
        let main = |main: &str| format!(r#"{{"main":"{main}"}}"#);
        assert_eq!(
            inferred(&main("./a"), &["a.js", "server.js"]),
            node("a.js", "package.json main")
        );
        assert_eq!(
            inferred(&main("lib/"), &["lib/index.js"]),
            node("lib/index.js", "package.json main")
        );
        assert_eq!(
            inferred(&main("gone.js"), &["index.js", "server.js"]),
            node("server.js", "server.js")
        );
        assert_eq!(inferred("{}", &["other.js"]), None);
    }
}
