//! `launch`: from a droplet's metadata to the running process. The launcher becomes the process; it never stays beside it.
//!
//! ```text
//! variables of the platform -> layers' environment -> exec.d -> (shell only) profile scripts -> exec
//! ```

mod exec_d;
mod shell;

use crate::cnb::environment::{Environment, Scope, folders};
use crate::metadata::{LaunchMetadata, LaunchProcess};
use crate::{Error, Paths};
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Process type whose environment applies.
    pub process: String,
    /// Replaces the droplet's command: one word is a text for the shell, several are a program and its arguments.
    pub command: Vec<String>,
    /// Replace the arguments that the droplet's command can do without.
    pub args: Vec<String>,
}

/// Replaces this program by the process.
///
/// # Errors
/// Why it could not be started; on success there is no return.
pub fn run(paths: &Paths, request: &Request, environment: Environment) -> Result<std::convert::Infallible, Error> {
    let mut command = prepare(paths, request, environment)?;
    let source = command.exec();
    Err(Error::Exec {
        command: command.get_program().to_string_lossy().into_owned(),
        source,
    })
}

/// Everything up to the exec.
///
/// # Errors
/// Where there is nothing to start, or the environment cannot be set up.
pub fn prepare(paths: &Paths, request: &Request, mut environment: Environment) -> Result<Command, Error> {
    let metadata = LaunchMetadata::read(paths)?;
    let process = choose(&metadata, request)?;
    for (name, value) in &metadata.defaults {
        if environment.get(name).is_none() {
            environment.set(name, value);
        }
    }
    environment.remove("VCAP_PLATFORM_OPTIONS");
    if environment.get("DEPS_DIR").is_none() {
        environment.set("DEPS_DIR", paths.deps.as_os_str());
    }
    if environment.get("PATH").is_none() {
        environment.set("PATH", "/usr/local/bin:/usr/bin:/bin");
    }
    let layers = layers(paths, &metadata);
    let scope = Scope::Launch(&process.process_type);
    for layers in &layers {
        // All root folders of a buildpack come before all its files, as the reference launcher has it.
        for layer in layers {
            environment.add_roots(layer, scope);
        }
        for layer in layers {
            environment.add_files(layer, scope);
        }
    }
    let all: Vec<PathBuf> = layers.into_iter().flatten().collect();
    for layer in &all {
        exec_d::run(layer, &process.process_type, &paths.app, &mut environment)?;
    }
    let mut command = if process.direct {
        let all = process.words();
        let mut words = all.iter();
        let program = words.next().ok_or_else(|| no_command(&metadata, request))?;
        let mut command = Command::new(find(program, &environment));
        command.args(words);
        command
    } else {
        let words = process.words();
        let text = words.first().ok_or_else(|| no_command(&metadata, request))?;
        let prefix = metadata.entrypoint_prefix.as_deref();
        shell::command(paths, &all, &process.process_type, text, prefix)
    };
    let folder = process
        .working_dir
        .as_ref()
        .map_or_else(|| paths.app.clone(), |folder| paths.app.join(folder));
    command.env_clear().envs(&environment.0).current_dir(folder);
    Ok(command)
}

/// The process that `request` means, with its command replaced where the request has one.
fn choose(metadata: &LaunchMetadata, request: &Request) -> Result<LaunchProcess, Error> {
    let named = |process: &&LaunchProcess| {
        if request.process.is_empty() {
            process.default
        } else {
            process.process_type == request.process
        }
    };
    let found = metadata.processes.iter().find(named);
    let command = match request.command.as_slice() {
        // An empty command is how "none of its own" looks after a shell or a form.
        [only] if only.trim().is_empty() => &[],
        command => command,
    };
    match (command, found) {
        ([], Some(process)) if request.args.is_empty() => Ok(process.clone()),
        ([], Some(process)) => Ok(LaunchProcess {
            args: request.args.clone(),
            ..process.clone()
        }),
        ([], None) => Err(no_command(metadata, request)),
        (command, found) => Ok(LaunchProcess {
            process_type: found.map_or_else(|| request.process.clone(), |process| process.process_type.clone()),
            command: command.to_vec(),
            direct: command.len() > 1,
            ..LaunchProcess::shell(String::new(), String::new(), "the user".to_owned())
        }),
    }
}

fn no_command(metadata: &LaunchMetadata, request: &Request) -> Error {
    Error::NoStartCommand {
        process: request.process.clone(),
        known: metadata
            .processes
            .iter()
            .map(|process| process.process_type.clone())
            .collect(),
    }
}

/// Folders of layers by buildpack, in the order in which they take effect.
fn layers(paths: &Paths, metadata: &LaunchMetadata) -> Vec<Vec<PathBuf>> {
    let buildpacks = metadata.buildpacks.iter();
    buildpacks
        .map(|buildpack| folders(&paths.buildpack_layers(&buildpack.id)))
        .collect()
}

/// The program's file by the process's own `PATH`, which may differ from the launcher's.
fn find(program: &str, environment: &Environment) -> OsString {
    if program.contains('/') {
        return program.into();
    }
    let path = environment.get("PATH").unwrap_or_default();
    std::env::split_paths(path)
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
        .map_or_else(|| program.into(), PathBuf::into_os_string)
}

fn is_executable(file: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
