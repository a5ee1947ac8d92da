//! The build, step by step.

use crate::install::Installer;
use crate::layout;
use crate::manager::Manager;
use crate::package::Package;
use crate::start::{self, StartCommand};
use crate::{runtime, version};
use buildpack_kit::{BuildContext, Failure, Launch, Layer, Result, Types, command, output};
use std::path::Path;
use std::time::SystemTime;

/// Scripts that build the app, of which the first is run; the other platforms' names first, since they are more specific.
const BUILD_SCRIPTS: &[&str] = &["heroku-postbuild", "build"];

/// Installs, builds and declares the processes.
///
/// # Errors
/// Why the app cannot be built.
pub fn run(context: &BuildContext) -> Result<()> {
    let app = &context.app;
    if !app.join("package.json").is_file() {
        return Err(Failure::new(
            "there is no package.json at the top of the app",
            "Push the folder that holds it, or create one by `npm init -y`.",
        ));
    }
    let package = Package::read(app)?;
    let wanted = version::wanted(app, &package)?;
    let manager = Manager::of(app, &package)?;
    let now = SystemTime::now();
    let runtime = runtime::install(context, &wanted, &package, now)?;
    let manager_version = manager.provide(context, &runtime)?;
    let tmp = context.scratch()?;
    if app.join("node_modules").is_dir() {
        output::detail("node_modules was pushed and is not used: list it in .cfignore to push less.");
    }
    let installer = Installer {
        context,
        package: &package,
        runtime: &runtime,
        manager: &manager,
        manager_version: &manager_version,
        tmp: tmp.path(),
    };
    let script = BUILD_SCRIPTS
        .iter()
        .find(|name| package.script(name).is_some())
        .copied();
    let deps = dependencies(&installer, script)?;
    if let Some(deps) = &deps {
        finish(deps, app)?;
    }
    processes(context, &package)
}

/// Installs and builds; the layer with what is needed at run time, unless there is nothing to install.
fn dependencies(installer: &Installer<'_>, script: Option<&str>) -> Result<Option<Layer>> {
    let (package, variables) = (installer.package, &installer.context.variables);
    if !package.has_dependencies {
        layout::clear(&installer.context.app, false)?;
        if let Some(script) = script {
            run_script(installer, script)?;
        }
        return Ok(None);
    }
    // As other platforms spell "keep what is for development".
    let keep = ["NPM_CONFIG_PRODUCTION", "YARN_PRODUCTION"]
        .iter()
        .any(|name| variables.get(name) == Some("false"));
    // Only npm notes what is for development in a way that can be left out afterwards.
    let prunable = matches!(installer.manager, Manager::Npm { .. });
    let needs_development = package.has_dev_dependencies && (script.is_some() || !package.install_scripts().is_empty());
    if !needs_development || keep || !prunable {
        let deps = installer.install("deps", keep || needs_development, Types::LAUNCH_CACHED)?;
        if let Some(script) = script {
            run_script(installer, script)?;
        }
        return Ok(Some(deps));
    }
    let full = installer.install("build-deps", true, Types::CACHED)?;
    keep_tool_cache(installer.context, &full)?;
    let before = SystemTime::now();
    if let Some(script) = script {
        run_script(installer, script)?;
    }
    prune(installer, &full, before).map(Some)
}

fn run_script(installer: &Installer<'_>, script: &str) -> Result<()> {
    let program = installer.manager.program();
    output::headline(&format!("Build: {program} run {script}"));
    let mut build = installer.command(program);
    build.args(["run", script]);
    if installer.context.variables.get("NODE_ENV").is_none() {
        build.env("NODE_ENV", "production");
    }
    let outcome = command::run(&mut build);
    let outcome = outcome.map_err(|error| {
        Failure::new(
            format!("{program} could not be started: {error}"),
            "Report this to the operator.",
        )
    })?;
    if outcome.status.success() {
        return Ok(());
    }
    let memory = outcome.tail.contains("heap out of memory") || outcome.status.code() == Some(137);
    let remedy = if memory {
        "The build ran out of memory: raise the staging memory, or set NODE_OPTIONS=--max-old-space-size.".to_owned()
    } else {
        format!(
            "See the output above; `{program} run {script}` in a fresh copy of the app should fail in the same way."
        )
    };
    Err(Failure::new(
        format!("the app's own script {script:?} failed ({})", outcome.status),
        remedy,
    ))
}

/// What build tools keep below node_modules goes to a layer of its own, so that it does not change the packages' layer.
fn keep_tool_cache(context: &BuildContext, full: &Layer) -> Result<()> {
    let mut cache = context.layer("tool-cache");
    if !cache.is("1") {
        cache.reset()?;
    }
    cache.keep(Types::CACHED, "1", &[])?;
    let link = full.dir.join(layout::TOOL_CACHE);
    match std::fs::symlink_metadata(&link) {
        Ok(found) if found.is_symlink() => return Ok(()),
        Ok(_) => std::fs::remove_dir_all(&link).map_err(Failure::file("remove", &link))?,
        Err(_) => {}
    }
    if !full.dir.join("node_modules").is_dir() {
        return Ok(());
    }
    std::os::unix::fs::symlink(&cache.dir, &link).map_err(Failure::file("link", &link))
}

/// The run-time layer: a copy by hard links without what is for development, made anew where the packages or the build's
/// writes among them changed.
fn prune(installer: &Installer<'_>, full: &Layer, before: SystemTime) -> Result<Layer> {
    let key = format!("{}-pruned", installer.key(true)?);
    let mut deps = installer.context.layer("deps");
    if !deps.is(&key) || layout::is_newer(&full.dir, before) {
        let skip = Installer::development_paths(&full.dir);
        output::detail("leaving out what is for development only");
        deps.reset()?;
        layout::copy(&full.dir, &deps.dir, &skip).map_err(Failure::file("copy", &full.dir))?;
        layout::drop_dead_programs(&deps.dir).map_err(Failure::file("clean", &deps.dir))?;
    }
    deps.keep(Types::LAUNCH_CACHED, &key, &[])?;
    layout::clear(&installer.context.app, installer.links())?;
    layout::link(&installer.context.app, &deps.dir, installer.links())?;
    Ok(deps)
}

/// Programs of packages are on the path of processes.
fn finish(deps: &Layer, app: &Path) -> Result<()> {
    let programs = app.join("node_modules/.bin").display().to_string();
    deps.write("env.launch", "PATH.prepend", &programs)?;
    deps.write("env.launch", "PATH.delim", ":")
}

fn processes(context: &BuildContext, package: &Package) -> Result<()> {
    let launch = match start::infer(&context.app, package) {
        Some(start) => match &start.command {
            StartCommand::Shell(text) => Launch::default().shell("web", text, &start.source),
            StartCommand::Node(file) => Launch::default().direct("web", &["node", file], &start.source),
        },
        None => {
            if !context.app.join("Procfile").is_file() {
                output::alert("Nothing says how to start the app: package.json has no script \"start\" and no main,");
                output::alert(&format!("and there is no {}.", start::ENTRIES.join(", ")));
            }
            Launch::default()
        }
    };
    launch.write(context)
}
