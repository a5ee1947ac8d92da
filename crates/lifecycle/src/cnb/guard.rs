//! What a buildpack must leave alone: the layers that others declared, and the folders beside its own.
//!
//! Only declarations and folders are looked at. What programs write into an earlier layer while they run, such as compiled
//! Python, is usual and belongs to that layer.

use super::descriptor::Buildpack;
use super::layers::LIMIT_BYTES;
use crate::paths::escape_id;
use crate::{Error, Paths};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// What is outside a buildpack's own folder, before it runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Outside(BTreeMap<PathBuf, [u8; 32]>);

impl Outside {
    /// Looks around `buildpack`'s folder.
    ///
    /// # Errors
    /// Where the layers cannot be listed.
    pub fn of(paths: &Paths, buildpack: &Buildpack) -> Result<Self, Error> {
        look(&paths.layers, &escape_id(buildpack.id()))
            .map(Self)
            .map_err(Error::file("list", &paths.layers))
    }

    /// Compares with what is there now.
    ///
    /// # Errors
    /// [`Error::Contract`] with the first file that is new, gone or another.
    pub fn check(&self, paths: &Paths, buildpack: &Buildpack) -> Result<(), Error> {
        let now = Self::of(paths, buildpack)?;
        let differs = |path: &&PathBuf| self.0.get(*path) != now.0.get(*path);
        match self.0.keys().chain(now.0.keys()).find(differs) {
            None => Ok(()),
            Some(path) => Err(Error::Contract {
                buildpack: buildpack.name.clone(),
                file: path.display().to_string(),
                reason: "it is outside the buildpack's own layers, which is all that it may write to".to_owned(),
            }),
        }
    }
}

/// Everything directly below `layers`, and the declarations one level further down, but for the folder `own`.
fn look(layers: &Path, own: &str) -> io::Result<BTreeMap<PathBuf, [u8; 32]>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(layers)? {
        let entry = entry?;
        if entry.file_name() == own {
            continue;
        }
        found.insert(entry.path(), [0; 32]);
        if !entry.file_type()?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(entry.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "toml") {
                let mut text = Vec::new();
                fs::File::open(&path)?.take(LIMIT_BYTES).read_to_end(&mut text)?;
                found.insert(path, Sha256::digest(text).into());
            }
        }
    }
    Ok(found)
}
