//! Which scripts of which classic buildpack run: the rules of Cloud Foundry, and those of Heroku for its own.
//!
//! ```text
//! Cloud Foundry   supply of every one, then finalize of the last, or else compile alone of the last
//! Heroku          compile of every one, each after reading what the ones before wrote to `export`
//! ```
//! Buildpacks that know nothing but `compile` are Heroku's. A Cloud Foundry that is given several of those refuses them.

use super::Classic;
use crate::Error;

/// A script with its buildpack's place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Index of the buildpack.
    pub buildpack: usize,
    /// Its program.
    pub script: &'static str,
}

/// The scripts to run, in order.
///
/// # Errors
/// [`Error::Chain`] where these buildpacks do not work in this order.
pub fn steps(buildpacks: &[Classic]) -> Result<Vec<Step>, Error> {
    let step = |buildpack, script| Step { buildpack, script };
    if is_heroku(buildpacks) {
        return Ok((0..buildpacks.len()).map(|at| step(at, "compile")).collect());
    }
    let mut steps = Vec::new();
    for (at, buildpack) in buildpacks.iter().enumerate() {
        let is_last = at + 1 == buildpacks.len();
        let refuse = |script, reason: &str| Error::Chain {
            buildpack: buildpack.name.clone(),
            script,
            reason: reason.to_owned(),
        };
        match (is_last, buildpack.has("supply"), buildpack.has("finalize")) {
            (false, true, _) => steps.push(step(at, "supply")),
            (false, false, _) => {
                return Err(refuse(
                    "supply",
                    "it has no bin/supply, so it can only be the last of several: one of the buildpacks chosen to \
                     supply dependencies does not support multi-buildpack apps",
                ));
            }
            (true, true, true) => steps.extend([step(at, "supply"), step(at, "finalize")]),
            (true, false, true) => steps.push(step(at, "finalize")),
            (true, _, false) if buildpack.has("compile") => steps.push(step(at, "compile")),
            (true, ..) => {
                return Err(refuse(
                    "finalize",
                    "it only supplies to others: another buildpack has to come after it",
                ));
            }
        }
    }
    Ok(steps)
}

/// Whether these are several buildpacks that know nothing but `compile`.
pub fn is_heroku(buildpacks: &[Classic]) -> bool {
    let only_compiles =
        |buildpack: &Classic| buildpack.has("compile") && !buildpack.has("supply") && !buildpack.has("finalize");
    buildpacks.len() > 1 && buildpacks.iter().all(only_compiles)
}
