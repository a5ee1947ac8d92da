//! A layer: a folder, what it is for, and what the buildpack wants to know of it next time.

use crate::{Failure, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Key of the layer's metadata that says what its contents were made from.
const KEY: &str = "key";
/// The time of every file after a restore, in seconds since 1970: layers are stored with this one.
const RESTORED_TIME: u64 = 315_532_801;

/// What a layer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Types {
    /// Part of the app at run time.
    pub launch: bool,
    /// Seen by later buildpacks.
    pub build: bool,
    /// Restored to the next build.
    pub cache: bool,
}

impl Types {
    /// For run time and, restored, the next build.
    pub const LAUNCH_CACHED: Self = Self {
        launch: true,
        build: false,
        cache: true,
    };
    /// For run time, later buildpacks and the next build.
    pub const ALL: Self = Self {
        launch: true,
        build: true,
        cache: true,
    };
    /// For the next build only.
    pub const CACHED: Self = Self {
        launch: false,
        build: false,
        cache: true,
    };
    /// For run time, made anew each time.
    pub const LAUNCH: Self = Self {
        launch: true,
        build: false,
        cache: false,
    };
}

/// A layer's folder and TOML.
#[derive(Debug)]
pub struct Layer {
    /// Its folder.
    pub dir: PathBuf,
    toml: PathBuf,
    restored: toml::Table,
}

impl Layer {
    /// Layer `name` below `layers`.
    #[must_use]
    pub fn open(layers: &Path, name: &str) -> Self {
        let toml = layers.join(format!("{name}.toml"));
        let text = fs::read_to_string(&toml).unwrap_or_default();
        // What cannot be read is as good as nothing: the layer is made anew.
        let table: toml::Table = toml::from_str(&text).unwrap_or_default();
        let restored = match table.get("metadata") {
            Some(toml::Value::Table(metadata)) => metadata.clone(),
            _ => toml::Table::new(),
        };
        Self {
            dir: layers.join(name),
            toml,
            restored,
        }
    }

    /// A text that the last build left.
    #[must_use]
    pub fn restored(&self, name: &str) -> Option<&str> {
        self.restored.get(name).and_then(toml::Value::as_str)
    }

    /// Whether the contents are there and were made from `key`.
    #[must_use]
    pub fn is(&self, key: &str) -> bool {
        self.restored(KEY) == Some(key) && self.dir.is_dir()
    }

    /// An empty folder, whatever was there.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn reset(&mut self) -> Result<()> {
        self.restored.clear();
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::file("remove", &self.dir)(error));
            }
            _ => {}
        }
        fs::create_dir_all(&self.dir).map_err(Failure::file("create", &self.dir))
    }

    /// The folder as the last build left it, or an empty one where there is none or it outgrew `limit` bytes: for what tools
    /// keep between builds and never tidy up.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn bounded(mut self, limit: u64) -> Result<Self> {
        if !self.dir.is_dir() || size(&self.dir) > limit {
            self.reset()?;
        }
        Ok(self)
    }

    /// Gives all files the one time that files have after a restore: tools that touch what they use then leave no change.
    ///
    /// # Errors
    /// Where a file cannot be opened.
    pub fn settle(&self) -> Result<()> {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(RESTORED_TIME);
        each_file(&self.dir, &mut |path, found| {
            if found.modified().is_ok_and(|modified| modified == time) {
                return Ok(());
            }
            let file = fs::File::open(path).map_err(Failure::file("open", path))?;
            file.set_modified(time).map_err(Failure::file("set the time of", path))
        })
    }

    /// Declares the layer, made from `key`, with further texts to find again.
    ///
    /// # Errors
    /// Where its TOML cannot be written.
    pub fn keep(&self, types: Types, key: &str, metadata: &[(&str, &str)]) -> Result<()> {
        let mut table = toml::Table::new();
        table.insert(KEY.to_owned(), key.into());
        for (name, value) in metadata {
            table.insert((*name).to_owned(), (*value).into());
        }
        let mut kinds = toml::Table::new();
        for (name, value) in [("launch", types.launch), ("build", types.build), ("cache", types.cache)] {
            kinds.insert(name.to_owned(), value.into());
        }
        let mut whole = toml::Table::new();
        whole.insert("types".to_owned(), kinds.into());
        whole.insert("metadata".to_owned(), table.into());
        fs::write(&self.toml, whole.to_string()).map_err(Failure::file("write", &self.toml))
    }

    /// Writes `<folder>/<file>` of the layer, such as `env.launch` and `NODE_ENV.default`, unless it says that already.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, folder: &str, file: &str, content: &str) -> Result<()> {
        let path = self.dir.join(folder).join(file);
        // A restored layer that is rewritten would be exported anew for nothing.
        if fs::read(&path).is_ok_and(|old| old == content.as_bytes()) {
            return Ok(());
        }
        let folder = self.dir.join(folder);
        fs::create_dir_all(&folder).map_err(Failure::file("create", &folder))?;
        fs::write(&path, content).map_err(Failure::file("write", &path))
    }

    /// Writes an executable file of the layer, unless it is there already.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_program(&self, folder: &str, file: &str, content: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.join(folder).join(file);
        self.write(folder, file, content)?;
        let mode = fs::metadata(&path)
            .map_err(Failure::file("read", &path))?
            .permissions()
            .mode();
        if mode & 0o111 != 0 {
            return Ok(());
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(Failure::file("make executable", &path))
    }
}

/// Bytes of all files below `dir`.
fn size(dir: &Path) -> u64 {
    let mut sum = 0;
    let _ = each_file(dir, &mut |_, found| {
        sum += found.len();
        Ok(())
    });
    sum
}

fn each_file(dir: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata) -> Result<()>) -> Result<()> {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(Failure::file("read", &folder))?;
        for entry in entries.filter_map(|entry| entry.ok()) {
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                folders.push(entry.path());
            } else if found.is_file() {
                visit(&entry.path(), &found)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_keep_is_bounded_and_settled() {
        let layers = tempfile::tempdir().unwrap();
        let open = || Layer::open(layers.path(), "x").bounded(10).unwrap();
        let layer = open();
        fs::create_dir(layer.dir.join("a")).unwrap();
        fs::write(layer.dir.join("a/b"), "12345").unwrap();
        layer.settle().unwrap();
        let time = fs::metadata(layer.dir.join("a/b")).unwrap().modified().unwrap();
        let seconds = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(seconds, RESTORED_TIME);
        assert!(open().dir.join("a/b").exists());
        fs::write(layer.dir.join("c"), "1234567").unwrap();
        assert!(!open().dir.join("a").exists());
    }

    #[test]
    fn a_kept_layer_is_found_by_its_key() {
        let layers = tempfile::tempdir().unwrap();
        let mut layer = Layer::open(layers.path(), "x");
        assert!(!layer.is("k"));
        layer.reset().unwrap();
        layer.keep(Types::ALL, "k", &[("version", "1")]).unwrap();
        let found = Layer::open(layers.path(), "x");
        assert!(found.is("k") && !found.is("other"));
        assert_eq!(found.restored("version"), Some("1"));
        fs::remove_dir(&found.dir).unwrap();
        assert!(!found.is("k"));
    }

    #[test]
    fn a_file_that_says_it_already_is_left_alone() {
        let layers = tempfile::tempdir().unwrap();
        let mut layer = Layer::open(layers.path(), "x");
        layer.reset().unwrap();
        layer.write_program("exec.d", "run", "#!/bin/sh\n").unwrap();
        let file = fs::File::open(layer.dir.join("exec.d/run")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        layer.write_program("exec.d", "run", "#!/bin/sh\n").unwrap();
        assert_eq!(file.metadata().unwrap().modified().unwrap(), std::time::UNIX_EPOCH);
    }
}
