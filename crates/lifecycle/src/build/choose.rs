//! Which buildpacks build: those that the user chose, or the first candidate that matches, of either contract.

use crate::Error;
use crate::classic::Classic;
use crate::cnb::descriptor::Buildpack;
use crate::cnb::detect::{self, Detected};
use crate::cnb::order;
use crate::cnb::process::Surroundings;
use model::staging::BuildpackMount;
use std::path::{Path, PathBuf};

/// Where a packaged buildpack has its parts: a folder an id, and in it one a version.
const PARTS: &str = "cnb/buildpacks";
/// Most parts of a packaged buildpack.
const MOST_PARTS: usize = 1000;

/// What builds.
pub enum Chosen {
    /// Cloud Native Buildpacks, of which detection names those that take part.
    Native(Vec<Buildpack>, Detected),
    /// Classic ones in order, each with what it said it found.
    Classic(Vec<(Classic, String)>),
}

/// Loads and detects. With `detect` the mounts are candidates of which the first that matches builds.
///
/// # Errors
/// Where a buildpack cannot be used, both contracts are mixed in one choice, or nothing matches.
pub fn choose(mounts: &[BuildpackMount], detect: bool, around: &Surroundings, tmp: &Path) -> Result<Chosen, Error> {
    let classics: Vec<Option<Classic>> = mounts.iter().map(Classic::load).collect();
    if !detect && !classics.is_empty() && classics.iter().all(Option::is_some) {
        let all = classics
            .into_iter()
            .flatten()
            .map(|buildpack| (buildpack, String::new()));
        return Ok(Chosen::Classic(all.collect()));
    }
    let mut native = Native::default();
    for (at, mount) in mounts.iter().enumerate() {
        // In a choice of the user all have to be of this contract, and a classic one is refused by its loading.
        if !detect || classics[at].is_none() {
            match native.load(at, mount, around) {
                // One bad candidate must not keep the others from building.
                Err(Error::Buildpack { buildpack, reason }) if detect => native.declined.push((buildpack, reason)),
                other => other?,
            }
        }
    }
    let groups = order::groups(&native.buildpacks, &native.roots, detect)?;
    let outcome = detect::detect(&native.buildpacks, &groups, around, tmp, !detect);
    let first = outcome
        .as_ref()
        .ok()
        .and_then(|detected| detected.resolved.buildpacks.first());
    let winner = first.map_or(usize::MAX, |&index| native.mounts[index]);
    let mut declined = native.declined;
    if detect {
        for classic in classics.into_iter().take(winner.min(mounts.len())).flatten() {
            match classic.detect(around) {
                Ok(found) => return Ok(Chosen::Classic(vec![(classic, found)])),
                Err(reason) => declined.push((classic.name, reason)),
            }
        }
    }
    match outcome {
        Ok(detected) => Ok(Chosen::Native(native.buildpacks, detected)),
        Err(Error::NotDetected { mut tried, empty }) => {
            tried.extend(declined);
            Err(Error::NotDetected { tried, empty })
        }
        Err(error) => Err(error),
    }
}

/// Cloud Native Buildpacks as loaded.
#[derive(Default)]
struct Native {
    buildpacks: Vec<Buildpack>,
    /// Of each of them, the mount that it came from.
    mounts: Vec<usize>,
    /// Those that stand for themselves; the others are parts of these.
    roots: Vec<usize>,
    declined: Vec<(String, String)>,
}

impl Native {
    fn load(&mut self, at: usize, mount: &BuildpackMount, around: &Surroundings) -> Result<(), Error> {
        let parts = parts(Path::new(&mount.path));
        if parts.is_empty() {
            let loaded = Buildpack::load(mount)?;
            loaded.check_target(&around.distro)?;
            self.roots.push(self.buildpacks.len());
            self.add(at, loaded);
            return Ok(());
        }
        let all: Result<Vec<Buildpack>, Error> = parts
            .iter()
            .map(|path| {
                Buildpack::load(&BuildpackMount {
                    name: mount.name.clone(),
                    path: path.display().to_string(),
                    source: None,
                })
            })
            .collect();
        let mut all = all?;
        let named = |id: &str| {
            let mut references = all
                .iter()
                .flat_map(|one| &one.descriptor.order)
                .flat_map(|order| &order.group);
            references.any(|reference| reference.id == id)
        };
        let roots: Vec<String> = all
            .iter()
            .map(|one| one.id().to_owned())
            .filter(|id| !named(id))
            .collect();
        let [root] = roots.as_slice() else {
            return Err(Error::Buildpack {
                buildpack: mount.name.clone(),
                reason: format!(
                    "its package has {} buildpacks that no other of it names, and one is expected",
                    roots.len()
                ),
            });
        };
        for mut part in all.drain(..) {
            if part.id() == *root {
                part.check_target(&around.distro)?;
                self.roots.push(self.buildpacks.len());
            } else {
                part.name = part.id().to_owned();
            }
            self.add(at, part);
        }
        Ok(())
    }

    fn add(&mut self, mount: usize, buildpack: Buildpack) {
        self.buildpacks.push(buildpack);
        self.mounts.push(mount);
    }
}

/// Folders of the parts of a packaged buildpack, by id and version; empty where `dir` is none.
fn parts(dir: &Path) -> Vec<PathBuf> {
    let folders = |dir: &Path| crate::cnb::environment::folders(dir);
    folders(&dir.join(PARTS))
        .iter()
        .flat_map(|id| folders(id))
        .filter(|version| version.join("buildpack.toml").is_file())
        .take(MOST_PARTS)
        .collect()
}
