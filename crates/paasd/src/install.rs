//! What lies beside this program: the programs that run inside sandboxes, and the built-in buildpacks.

use anyhow::{Context as _, ensure};
use controller::BuildpackInfo;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Where the parts are.
pub struct Install {
    /// `paas-init` and `paas-lifecycle`.
    pub libexec: PathBuf,
    /// One folder a buildpack, and `order.toml`.
    pub buildpacks: PathBuf,
}

#[derive(Deserialize)]
struct Order {
    buildpacks: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    folder: String,
}

#[derive(Deserialize)]
struct Description {
    buildpack: Identity,
}

#[derive(Deserialize)]
struct Identity {
    id: String,
    version: String,
}

impl Install {
    /// The installation that this program belongs to: `../libexec` and `../buildpacks` beside its folder.
    ///
    /// # Errors
    /// Where parts are missing.
    pub fn find() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("failed to find this program's own path")?;
        let root = program
            .parent()
            .and_then(Path::parent)
            .context("this program lies in no folder")?;
        let install = Self {
            libexec: root.join("libexec"),
            buildpacks: root.join("buildpacks"),
        };
        for part in [
            install.libexec.join("paas-init"),
            install.libexec.join("paas-lifecycle"),
            install.order(),
        ] {
            ensure!(
                part.exists(),
                "{} is missing: paasd runs from a whole installation, which `cargo xtask dist` makes in dist/",
                part.display()
            );
        }
        Ok(install)
    }

    fn order(&self) -> PathBuf {
        self.buildpacks.join("order.toml")
    }

    /// The built-in buildpacks in the order in which they are tried.
    ///
    /// # Errors
    /// Where a description can't be read.
    pub fn built_in(&self) -> anyhow::Result<Vec<BuildpackInfo>> {
        let order: Order = read(&self.order())?;
        let info = |entry: Entry| {
            let description: Description = read(&self.buildpacks.join(&entry.folder).join("buildpack.toml"))?;
            let Identity { id, version } = description.buildpack;
            Ok(BuildpackInfo {
                name: entry.name,
                id,
                version,
                folder: entry.folder,
            })
        };
        order.buildpacks.into_iter().map(info).collect()
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("failed to parse {}", path.display()))
}
