//! What lies behind a URL: a file by HTTP, or a repository by the `git` of the stack.

use crate::cnb::process::Surroundings;
use crate::{runner, ui};
use buildpack_kit::Variables;
use buildpack_kit::http::Client;
use model::digest::Digest;
use std::path::Path;
use std::process::Command;

/// Largest archive that is downloaded.
const DOWNLOAD_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Saves what `url` answers as `file` and says its digest.
pub fn download(url: &str, file: &Path, around: &Surroundings) -> Result<Digest, String> {
    ui::headline(&format!("Downloading buildpack {url}"));
    let client = Client::new(&Variables(around.base.0.clone())).map_err(|failure| failure.cause)?;
    let digest = client
        .save(url, file, DOWNLOAD_BYTES)
        .map_err(|failure| failure.cause)?;
    Ok(Digest::from_sha256(digest))
}

/// Clones the repository at `url` into the empty `folder`, at a branch, tag or commit.
pub fn clone(url: &str, reference: Option<&str>, folder: &Path, around: &Surroundings) -> Result<(), String> {
    ui::headline(&format!("Cloning buildpack {url}"));
    let git = |arguments: &[&str]| -> Result<(), String> {
        let mut command = Command::new("git");
        command.env_clear().envs(&around.base.0).args(["-C"]).arg(folder);
        // Never ask: there is nobody to answer.
        command.args(arguments).env("GIT_TERMINAL_PROMPT", "0");
        let outcome =
            runner::run_loud(&mut command).map_err(|error| format!("the stack's git could not be started: {error}"))?;
        match outcome.status.success() {
            true => Ok(()),
            false => Err(format!(
                "git {} ended with {}: {}",
                arguments.first().unwrap_or(&""),
                runner::describe(outcome.status),
                outcome.tail.last().map_or("", String::as_str)
            )),
        }
    };
    let reference = reference.unwrap_or("HEAD");
    git(&["init", "--quiet"])?;
    git(&["remote", "add", "origin", "--", url])?;
    // A server may refuse to give out single commits, or not know how to give less than all.
    if git(&["fetch", "--quiet", "--depth=1", "origin", reference]).is_err() {
        git(&["fetch", "--quiet", "--tags", "origin"])?;
        git(&["checkout", "--quiet", "--detach", reference])?;
    } else {
        git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"])?;
    }
    git(&["submodule", "update", "--quiet", "--init", "--recursive"])
}
