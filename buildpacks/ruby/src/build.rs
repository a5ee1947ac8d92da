//! The build, step by step.

use crate::gems::{self, Workshop};
use crate::interpreter::{self, Ruby};
use crate::lock::Lock;
use crate::{start, version};
use buildpack_kit::{BuildContext, Launch, Result, Types, memory, output};
use std::path::Path;

/// Sets what depends on the memory of the instance, when it starts.
const EXEC_D: &str = include_str!("memory.sh");
/// What apps in production expect, unless they say otherwise.
const DEFAULTS: &[(&str, &str)] = &[
    ("RACK_ENV", "production"),
    ("RAILS_ENV", "production"),
    ("RAILS_LOG_TO_STDOUT", "enabled"),
    ("RAILS_SERVE_STATIC_FILES", "enabled"),
    // Threads that each have their own heaps take several times the memory.
    ("MALLOC_ARENA_MAX", "2"),
];

/// Installs Ruby and the gems, compiles assets, and declares the processes.
///
/// # Errors
/// Why the app cannot be built.
pub fn run(context: &BuildContext) -> Result<()> {
    let wanted = version::wanted(&context.app, &context.variables)?;
    let lock = Lock::read(&context.app)?;
    let ruby = interpreter::install(context, &wanted)?;
    let tmp = context.scratch()?;
    let mut workshop = Workshop::new(context, &ruby, tmp.path());
    if context.app.join("Gemfile").is_file() {
        workshop.install(lock.as_ref())?;
        if lock.is_none() && workshop.context.app.join("Gemfile.lock").is_file() {
            gems::forget_lock(&context.app)?;
        }
        assets(&workshop, lock.as_ref())?;
    }
    environment(&ruby, &workshop)?;
    processes(context, lock.as_ref())
}

/// Compiles what browsers get, where Rails does that and the app did not push it.
fn assets(workshop: &Workshop<'_>, lock: Option<&Lock>) -> Result<()> {
    let has = |gem: &str| lock.is_some_and(|lock| lock.has(gem));
    let compiles = has("railties") && (has("sprockets-rails") || has("propshaft"));
    let app: &Path = &workshop.context.app;
    let compiled = app.join("public/assets").is_dir();
    if compiles && !compiled && app.join("Rakefile").is_file() {
        workshop.rake("assets:precompile")?;
    }
    Ok(())
}

/// What programs of the app find beside them, in a layer of its own: the others are kept as they are.
fn environment(ruby: &Ruby, workshop: &Workshop<'_>) -> Result<()> {
    let mut layer = workshop.context.layer("env");
    layer.reset()?;
    for (name, value) in interpreter::variables(&ruby.layer, &ruby.version) {
        layer.write("env", &format!("{name}.prepend"), &value)?;
        layer.write("env", &format!("{name}.delim"), ":")?;
    }
    for (name, value) in workshop.settings() {
        layer.write("env.launch", &format!("{name}.default"), &value)?;
    }
    for (name, value) in DEFAULTS {
        layer.write("env.launch", &format!("{name}.default"), value)?;
    }
    layer.write_program("exec.d", "memory", &memory::program(EXEC_D))?;
    layer.keep(
        Types {
            build: true,
            ..Types::LAUNCH
        },
        "env",
        &[],
    )
}

fn processes(context: &BuildContext, lock: Option<&Lock>) -> Result<()> {
    match start::infer(&context.app, lock) {
        Some(start) => Launch::default()
            .shell("web", &start.command, &start.source)
            .write(context),
        None => {
            if !context.app.join("Procfile").is_file() {
                output::alert("Nothing says how the app is started: neither config.ru, nor Rails, nor app.rb.");
                output::alert("Add a Procfile, for example `web: bundle exec ruby lib/server.rb`.");
            }
            Launch::default().write(context)
        }
    }
}
