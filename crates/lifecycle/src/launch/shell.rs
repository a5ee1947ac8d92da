//! Shell processes: one shell reads the profile scripts and then becomes the command.

use crate::Paths;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Reads each file given after the command, then runs the command in the same process.
const SCRIPT: &str = r#"paas_shell=$0 paas_command=$1 paas_prefix=$2; shift 2
for paas_profile in "$@"; do . "$paas_profile"; done
unset paas_profile
set --
if [ -n "$paas_prefix" ]; then exec $paas_prefix "$paas_command"; fi
exec "$paas_shell" -c "$paas_command""#;

/// A command that runs `text` after all profile scripts; with `prefix` by that program instead of the shell.
pub fn command(paths: &Paths, layers: &[PathBuf], process: &str, text: &str, prefix: Option<&str>) -> Command {
    let shell = shell();
    let scripts = profiles(paths, layers, process);
    let mut command = Command::new(shell);
    let prefix = prefix.unwrap_or_default();
    if scripts.is_empty() && prefix.is_empty() {
        command.args(["-c", text]);
    } else {
        command.args(["-c", SCRIPT, shell, text, prefix]).args(scripts);
    }
    command
}

/// Commands of Cloud Foundry are written for bash; a stack without it still runs simple ones.
fn shell() -> &'static str {
    if Path::new("/bin/bash").exists() {
        "/bin/bash"
    } else {
        "/bin/sh"
    }
}

/// Profile scripts in order: of layers, of classic buildpacks, and the app's own.
fn profiles(paths: &Paths, layers: &[PathBuf], process: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for layer in layers {
        let folder = layer.join("profile.d");
        found.extend(scripts(&folder));
        if !process.is_empty() {
            found.extend(scripts(&folder.join(process)));
        }
    }
    found.extend(scripts(&paths.profile()));
    found.extend(scripts(&paths.app.join(".profile.d")));
    found.push(paths.app.join(".profile"));
    found.retain(|path| path.is_file());
    found
}

fn scripts(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found
}
