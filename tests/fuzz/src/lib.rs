//! Every parser of what a tenant, an app or a sandbox can send, as a function from bytes to nothing that panics where
//! the parser broke a promise. `cargo xtask fuzz` feeds them; the tests here feed them seeds and past findings.
//!
//! A target calls the parser as its owner does, with small limits, and checks what it gave: no name that leads out,
//! no more than allowed. Not here: what only the platform itself writes and reads.

mod scratch;
mod targets;

use std::io;
use std::path::Path;

/// A parser under test.
#[derive(Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Feeds it one input.
    pub run: fn(&[u8]),
    /// Inputs to begin with: one of each form that the parser knows.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = targets::ALL;

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Names of all targets.
#[must_use]
pub fn names() -> Vec<&'static str> {
    TARGETS.iter().map(|target| target.name).collect()
}

/// Writes a target's seeds into a folder.
///
/// # Errors
/// Where the folder cannot be written.
pub fn write_seeds(target: &Target, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (at, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{at:03}")), seed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_takes_its_seeds() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{} has no seeds", target.name);
            for seed in seeds {
                (target.run)(&seed);
                (target.run)(&seed[..seed.len() / 2]);
            }
            (target.run)(&[]);
        }
    }

    #[test]
    fn what_was_found_once_is_not_found_again() {
        let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
        for target in TARGETS {
            for entry in std::fs::read_dir(found.join(target.name)).into_iter().flatten() {
                let path = entry.unwrap().path();
                (target.run)(&std::fs::read(&path).unwrap());
            }
        }
    }

    #[test]
    fn findings_belong_to_targets() {
        let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
        for entry in std::fs::read_dir(found).into_iter().flatten() {
            let name = entry.unwrap().file_name();
            assert!(find(name.to_str().unwrap()).is_some(), "{name:?} is no target");
        }
    }
}
