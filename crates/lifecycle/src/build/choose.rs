//! Which buildpacks build: those that the user chose, or the first candidate that matches, of either contract.

use crate::Error;
use crate::classic::Classic;
use crate::cnb::descriptor::Buildpack;
use crate::cnb::detect::{self, Detected};
use crate::cnb::order;
use crate::cnb::process::Surroundings;
use model::staging::BuildInput;
use std::path::Path;

/// What builds.
pub enum Chosen {
    /// Cloud Native Buildpacks, of which detection names those that take part.
    Native(Vec<Buildpack>, Detected),
    /// Classic ones in order, each with what it said it found.
    Classic(Vec<(Classic, String)>),
}

/// Loads and detects.
///
/// # Errors
/// Where a buildpack cannot be used, both contracts are mixed in one choice, or nothing matches.
pub fn choose(input: &BuildInput, around: &Surroundings, tmp: &Path) -> Result<Chosen, Error> {
    let classics: Vec<Option<Classic>> = input.buildpacks.iter().map(Classic::load).collect();
    if !input.detect && !classics.is_empty() && classics.iter().all(Option::is_some) {
        let all = classics
            .into_iter()
            .flatten()
            .map(|buildpack| (buildpack, String::new()));
        return Ok(Chosen::Classic(all.collect()));
    }
    // Positions of the native ones among all; in a choice of the user all have to be.
    let mut native: Vec<usize> = Vec::new();
    let mut buildpacks: Vec<Buildpack> = Vec::new();
    let mut declined: Vec<(String, String)> = Vec::new();
    for at in (0..classics.len()).filter(|&at| !input.detect || classics[at].is_none()) {
        let loaded = Buildpack::load(&input.buildpacks[at]);
        match loaded.and_then(|loaded| loaded.check_target(&around.distro).map(|()| loaded)) {
            Ok(loaded) => {
                native.push(at);
                buildpacks.push(loaded);
            }
            // One bad candidate must not keep the others from building.
            Err(Error::Buildpack { buildpack, reason }) if input.detect => declined.push((buildpack, reason)),
            Err(error) => return Err(error),
        }
    }
    let groups = order::groups(&buildpacks, input.detect)?;
    let outcome = detect::detect(&buildpacks, &groups, around, tmp, !input.detect);
    let first = outcome
        .as_ref()
        .ok()
        .and_then(|detected| detected.resolved.buildpacks.first());
    let winner = first.map_or(usize::MAX, |&index| native[index]);
    if input.detect {
        for classic in classics.into_iter().take(winner.min(input.buildpacks.len())).flatten() {
            match classic.detect(around) {
                Ok(found) => return Ok(Chosen::Classic(vec![(classic, found)])),
                Err(reason) => declined.push((classic.name, reason)),
            }
        }
    }
    match outcome {
        Ok(detected) => Ok(Chosen::Native(buildpacks, detected)),
        Err(Error::NotDetected { mut tried, empty }) => {
            tried.extend(declined);
            Err(Error::NotDetected { tried, empty })
        }
        Err(error) => Err(error),
    }
}
