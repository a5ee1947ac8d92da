//! The build, step by step.

use crate::install::{self, Installer};
use crate::interpreter;
use crate::project::{self, Dependencies, Project};
use crate::{read_text, start};
use buildpack_kit::{BuildContext, Failure, Launch, Layer, Result, command, output};
use std::path::Path;
use std::process::Command;
use walkdir::WalkDir;

/// Installs, prepares and declares the processes.
///
/// # Errors
/// Why the app cannot be built.
pub fn run(context: &BuildContext) -> Result<()> {
    let app = &context.app;
    let project = Project::read(app)?;
    if project.dependencies == Dependencies::None {
        project::refuse_unlocked(app)?;
    }
    let tmp = context.scratch()?;
    let installer = Installer {
        context,
        tmp: tmp.path(),
    };
    let wanted = project.wanted.as_ref();
    let (mut found, all) = interpreter::find(&context.variables, wanted);
    if let (None, Some(wanted)) = (&found, wanted) {
        found = installer.python(wanted)?;
    }
    let stack = context.variables.get("CF_STACK").unwrap_or("in use");
    let interpreter = interpreter::required(found, wanted, &all, stack)?;
    interpreter::announce(&interpreter, wanted);
    let deps = installer.install(project.dependencies, &interpreter)?;
    collect_static(context, &deps)?;
    processes(context, &deps)
}

/// Django's static files, where the app says where they go.
fn collect_static(context: &BuildContext, deps: &Layer) -> Result<()> {
    let app = &context.app;
    let manage = app.join("manage.py").is_file() && deps.dir.join("venv/bin/django-admin").exists();
    if !manage || context.variables.is_on("DISABLE_COLLECTSTATIC") || !has_static_root(app) {
        return Ok(());
    }
    output::headline("Django: python manage.py collectstatic --noinput");
    let mut collect = Command::new(deps.dir.join("venv/bin/python"));
    collect
        .args(["manage.py", "collectstatic", "--noinput"])
        .current_dir(app)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let outcome = command::run(&mut collect).map_err(Failure::file("run", Path::new("manage.py")))?;
    if outcome.status.success() {
        return Ok(());
    }
    Err(Failure::new(
        "python manage.py collectstatic failed (see above)",
        "Repair it (often a variable that the settings need: set it for the app), or set DISABLE_COLLECTSTATIC=1.",
    ))
}

fn has_static_root(app: &Path) -> bool {
    let files = WalkDir::new(app)
        .max_depth(4)
        .into_iter()
        .filter_map(|entry| entry.ok());
    let mut settings = files.filter(|entry| {
        let path = entry.path();
        let named = path
            .file_stem()
            .is_some_and(|stem| stem.to_string_lossy().starts_with("settings"));
        path.extension().is_some_and(|end| end == "py")
            && (named || path.parent().is_some_and(|folder| folder.ends_with("settings")))
    });
    settings.any(|entry| {
        std::fs::read_to_string(entry.path()).is_ok_and(|text| text.lines().any(|line| line.starts_with("STATIC_ROOT")))
    })
}

fn processes(context: &BuildContext, deps: &Layer) -> Result<()> {
    let app = &context.app;
    let has = |name: &str| install::program(deps, name).is_some();
    let procfile = read_text(app, "Procfile")?.is_some();
    match start::infer(app, &has)? {
        Some(start) => {
            if let Some(warning) = start.warning.filter(|_| !procfile) {
                output::alert(warning);
            }
            Launch::default()
                .shell("web", &start.command, &start.source)
                .write(context)
        }
        None => {
            if !procfile {
                output::alert(
                    "Nothing says how to start the app: there is no Procfile, no manage.py, no Flask or FastAPI app,",
                );
                output::alert("and no main.py or app.py. Add a Procfile, for example `web: gunicorn module:app`.");
            }
            Launch::default().write(context)
        }
    }
}
