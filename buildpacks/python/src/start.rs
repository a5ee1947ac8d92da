//! What starts the app where no Procfile says it: the framework that its files name, by the server that it installed.

use crate::read_text;
use buildpack_kit::Result;
use std::path::Path;

/// Files in which apps define themselves, with the name of each as a module.
const MODULES: &[(&str, &str)] = &[
    ("main.py", "main"),
    ("app.py", "app"),
    ("wsgi.py", "wsgi"),
    ("asgi.py", "asgi"),
    ("server.py", "server"),
    ("application.py", "application"),
    ("run.py", "run"),
    ("app/main.py", "app.main"),
    ("app/app.py", "app.app"),
    ("app/__init__.py", "app"),
    ("src/main.py", "src.main"),
];
/// Files that are run as they are.
const SCRIPTS: &[&str] = &["main.py", "app.py", "server.py", "run.py", "application.py"];

/// A start command, its source, and what the person who pushed should know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// For the shell.
    pub command: String,
    /// Such as `Flask in app.py`.
    pub source: String,
    /// Set where it is good enough to try but not to serve.
    pub warning: Option<&'static str>,
}

/// Django, then FastAPI, then Flask, then a script with a usual name. `has` says which programs are installed.
///
/// # Errors
/// Where a file cannot be read.
pub fn infer(app: &Path, has: &dyn Fn(&str) -> bool) -> Result<Option<Start>> {
    if app.join("manage.py").is_file() {
        return Ok(Some(django(app, has)));
    }
    let mut flask = None;
    for (file, module) in MODULES {
        let Some(text) = read_text(app, file)? else { continue };
        if let Some(name) = variable(&text, "FastAPI(").or_else(|| variable(&text, "Starlette(")) {
            return Ok(Some(fastapi(file, module, &name, has)));
        }
        if flask.is_none() {
            let name = variable(&text, "Flask(").or_else(|| factory(&text).then(|| "create_app()".to_owned()));
            flask = name.map(|name| self::flask(file, module, &name, has));
        }
    }
    if flask.is_some() {
        return Ok(flask);
    }
    let script = SCRIPTS.iter().find(|name| app.join(name).is_file());
    Ok(script.map(|name| Start {
        command: format!("python3 {name}"),
        source: (*name).to_owned(),
        warning: None,
    }))
}

fn django(app: &Path, has: &dyn Fn(&str) -> bool) -> Start {
    let folder = std::fs::read_dir(app)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok());
    let mut modules: Vec<String> = folder
        .filter(|entry| entry.path().join("wsgi.py").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    modules.sort();
    match modules.first() {
        Some(module) if has("gunicorn") => Start {
            command: format!("gunicorn --bind 0.0.0.0:$PORT {module}.wsgi"),
            source: format!("Django in {module}/wsgi.py"),
            warning: None,
        },
        _ => Start {
            command: "python manage.py runserver --noreload 0.0.0.0:$PORT".to_owned(),
            source: "Django in manage.py".to_owned(),
            warning: Some("Django's own server is not made for production: add gunicorn to the dependencies."),
        },
    }
}

fn fastapi(file: &str, module: &str, name: &str, has: &dyn Fn(&str) -> bool) -> Start {
    let source = format!("FastAPI in {file}");
    let missing = "An ASGI server is not installed: add uvicorn to the dependencies.";
    Start {
        // A proxy is in front: it tells the client's address and scheme.
        command: format!(
            "uvicorn --host 0.0.0.0 --port $PORT --proxy-headers --forwarded-allow-ips '*' {module}:{name}"
        ),
        source,
        warning: (!has("uvicorn")).then_some(missing),
    }
}

fn flask(file: &str, module: &str, name: &str, has: &dyn Fn(&str) -> bool) -> Start {
    let source = format!("Flask in {file}");
    if has("gunicorn") {
        let target = if name.contains('(') {
            format!("'{module}:{name}'")
        } else {
            format!("{module}:{name}")
        };
        return Start {
            command: format!("gunicorn --bind 0.0.0.0:$PORT {target}"),
            source,
            warning: None,
        };
    }
    Start {
        command: format!("flask --app {module} run --host 0.0.0.0 --port $PORT"),
        source,
        warning: Some("Flask's own server is not made for production: add gunicorn to the dependencies."),
    }
}

/// The variable at the beginning of a line that is assigned what `constructor` makes.
fn variable(text: &str, constructor: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let called = value.trim_start().rsplit_once(constructor).map(|(before, _)| before)?;
        let name = name.split(':').next().unwrap_or_default().trim_end();
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        // `flask.Flask(` is the same; `MyFlask(` is not.
        (is_name && (called.is_empty() || called.ends_with('.'))).then(|| name.to_owned())
    })
}

fn factory(text: &str) -> bool {
    text.contains("Flask(") && text.lines().any(|line| line.starts_with("def create_app("))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(files: &[(&str, &str)], installed: &[&str]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        infer(folder.path(), &|name| installed.contains(&name))
            .unwrap()
            .map(|start| start.command)
    }

    #[test]
    fn each_framework_by_its_server() {
        let flask = ("app.py", "from flask import Flask\napp = Flask(__name__)\n");
        for (files, installed, expected) in [
            (
                &[flask][..],
                &["gunicorn"][..],
                Some("gunicorn --bind 0.0.0.0:$PORT app:app"),
            ),
            (&[flask], &[], Some("flask --app app run --host 0.0.0.0 --port $PORT")),
            (
                &[("app/__init__.py", "def create_app():\n    app = Flask(__name__)\n")],
                &["gunicorn"],
                Some("gunicorn --bind 0.0.0.0:$PORT 'app:create_app()'"),
            ),
            (
                &[
                    flask,
                    ("main.py", "import fastapi\napi: fastapi.FastAPI = fastapi.FastAPI()\n"),
                ],
                &["uvicorn"],
                Some("uvicorn --host 0.0.0.0 --port $PORT --proxy-headers --forwarded-allow-ips '*' main:api"),
            ),
            (
                &[("manage.py", ""), ("site/wsgi.py", "")],
                &["gunicorn"],
                Some("gunicorn --bind 0.0.0.0:$PORT site.wsgi"),
            ),
            (
                &[("manage.py", "")],
                &[],
                Some("python manage.py runserver --noreload 0.0.0.0:$PORT"),
            ),
            (&[("main.py", "print(1)")], &[], Some("python3 main.py")),
            (&[("app.py", "x = MyFlask()\n")], &[], Some("python3 app.py")),
            (&[("other.py", "")], &[], None),
        ] {
            assert_eq!(command(files, installed).as_deref(), expected, "{files:?}");
        }
    }
}
