//! `exec.d`: programs of a layer that set variables when a process starts, by TOML on file descriptor 3.

use super::is_executable;
use crate::Error;
use crate::cnb::environment::Environment;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Most that a program may say.
const LIMIT_BYTES: u64 = 1024 * 1024;
/// Moves the pipe from descriptor 1, where a child gets it, to 3; what the program prints goes to its log.
const REDIRECT: &str = "exec \"$0\" 3>&1 1>&2";

/// Runs the programs of `<layer>/exec.d` and of its folder for `process`, by name.
///
/// # Errors
/// [`Error::ExecD`] where one fails: the process must not start half set up.
pub fn run(layer: &Path, process: &str, app: &Path, environment: &mut Environment) -> Result<(), Error> {
    let folder = layer.join("exec.d");
    let mut all = programs(&folder);
    if !process.is_empty() {
        all.extend(programs(&folder.join(process)));
    }
    for program in all {
        let variables = ask(&program, app, environment).map_err(|reason| Error::ExecD {
            program: program.clone(),
            reason,
        })?;
        for (name, value) in variables {
            environment.set(name, value);
        }
    }
    Ok(())
}

fn programs(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| is_executable(path))
        .collect();
    found.sort();
    found
}

fn ask(program: &Path, app: &Path, environment: &Environment) -> Result<Vec<(String, String)>, String> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", REDIRECT])
        .arg(program)
        .env_clear()
        .envs(&environment.0)
        .current_dir(app)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("it could not be started: {error}"))?;
    let mut text = String::new();
    let mut read = Ok(0);
    if let Some(stream) = child.stdout.take() {
        read = stream.take(LIMIT_BYTES).read_to_string(&mut text);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(crate::runner::describe(status));
    }
    read.map_err(|error| error.to_string())?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| format!("its output: {}", error.message()))?;
    let variables = table.into_iter().map(|(name, value)| match value {
        toml::Value::String(value) => Ok((name, value)),
        _ => Err(format!("its output: {name} is no text")),
    });
    variables.collect()
}
