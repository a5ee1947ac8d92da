//! Where things lie: the final run paths of a sandbox, or the same tree below another root for tests.

use std::path::{Path, PathBuf};

/// The app's folder as archives name it.
pub const APP_IN_ARCHIVE: &str = "home/vcap/app";
/// The folder of layers as archives name it.
pub const LAYERS_IN_ARCHIVE: &str = "layers";

/// Every folder the lifecycle reads or writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Source of the app, and where it runs.
    pub app: PathBuf,
    /// Layers of Cloud Native Buildpacks.
    pub layers: PathBuf,
    /// Layers of classic buildpacks.
    pub deps: PathBuf,
    /// Results of a build, read by the cell.
    pub out: PathBuf,
    /// Short-lived files of a build.
    pub tmp: PathBuf,
}

impl Paths {
    /// The paths inside every sandbox.
    #[must_use]
    pub fn in_sandbox() -> Self {
        Self::below(Path::new("/"))
    }

    /// The same tree below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self {
            app: root.join(APP_IN_ARCHIVE),
            layers: root.join(LAYERS_IN_ARCHIVE),
            deps: root.join("home/vcap/deps"),
            out: root.join("paas/out"),
            tmp: root.join("tmp"),
        }
    }

    /// Launch metadata of the droplet.
    #[must_use]
    pub fn metadata(&self) -> PathBuf {
        self.layers.join("config/metadata.toml")
    }

    /// Profile scripts of classic buildpacks.
    #[must_use]
    pub fn profile(&self) -> PathBuf {
        self.app.with_file_name("profile.d")
    }

    /// Folder of a buildpack's layers: `/` in an id becomes `_`.
    #[must_use]
    pub fn buildpack_layers(&self, buildpack: &str) -> PathBuf {
        self.layers.join(escape_id(buildpack))
    }
}

/// A buildpack's id as the name of its folder.
#[must_use]
pub fn escape_id(buildpack: &str) -> String {
    buildpack.replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_with_slashes_are_one_folder() {
        assert_eq!(
            Paths::in_sandbox().buildpack_layers("heroku/procfile"),
            Path::new("/layers/heroku_procfile")
        );
    }
}
