//! Starts the scripts of classic buildpacks.

use super::Classic;
use crate::cnb::process::Surroundings;
use crate::{Error, runner};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Reads as many files as the first argument says, then becomes the program that follows them.
const EXPORTS: &str = r#"paas_left=$1; shift; while [ "$paas_left" -gt 0 ]; do . "$1"; shift; paas_left=$((paas_left - 1)); done
unset paas_left; exec "$@""#;

/// Runs `bin/<name>` and passes on what it says.
pub fn run(
    buildpack: &Classic,
    name: &'static str,
    arguments: &[PathBuf],
    around: &Surroundings,
    exports: &[PathBuf],
) -> Result<(), Error> {
    let failed = |status: String, tail: Vec<String>| Error::BuildFailed {
        buildpack: buildpack.name.clone(),
        script: name,
        status,
        tail,
    };
    let mut command = command(buildpack, name, around, exports);
    let outcome = runner::run_loud(command.args(arguments))
        .map_err(|error| failed(format!("bin/{name} could not be started: {error}"), Vec::new()))?;
    if outcome.status.success() {
        return Ok(());
    }
    Err(failed(runner::describe(outcome.status), outcome.tail))
}

/// A command for `bin/<name>` that sees what `exports` set.
pub fn command(buildpack: &Classic, name: &str, around: &Surroundings, exports: &[PathBuf]) -> Command {
    let program = buildpack.dir.join("bin").join(name);
    if exports.is_empty() {
        return around.classic_command(&program);
    }
    let shell = ["/bin/bash", "/bin/sh"]
        .into_iter()
        .find(|shell| Path::new(shell).exists());
    let mut command = around.classic_command(Path::new(shell.unwrap_or("/bin/sh")));
    command.args(["-c", EXPORTS, "export", &exports.len().to_string()]);
    command.args(exports).arg(program);
    command
}
