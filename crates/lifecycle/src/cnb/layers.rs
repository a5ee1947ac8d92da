//! The folder of a buildpack's layers: what the last build left is put back by the contract's rules, and what this build
//! made of it is read.

use crate::Error;
use crate::cnb::descriptor::Buildpack;
use model::staging::{CachedLayer, LayerTypes};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Names of files beside the layers that are no layers.
const RESERVED: &[&str] = &["build", "launch", "store"];
/// Most layers of a buildpack.
const LAYERS: usize = 200;
/// Longest TOML file that is read.
pub(crate) const LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// `<layer>.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerToml {
    /// What it is for.
    #[serde(default)]
    pub types: LayerTypes,
    /// Whatever the buildpack wants to know next time.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub metadata: toml::Table,
}

/// A layer after a build.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Id of the buildpack.
    pub buildpack: String,
    /// Its name.
    pub name: String,
    /// Its folder, which need not exist.
    pub dir: PathBuf,
    /// Its TOML.
    pub toml: LayerToml,
}

/// Puts the TOML files of `restored` into `<layers>/<buildpack>`, without their types, and removes contents that have none.
///
/// # Errors
/// Where a file cannot be written.
pub fn restore(
    folder: &Path,
    buildpack: &str,
    restored: &[CachedLayer],
    store: Option<&serde_json::Value>,
) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(Error::file("create folder", folder))?;
    for layer in restored.iter().filter(|layer| layer.buildpack == buildpack) {
        if !restores_metadata(layer.types) || RESERVED.contains(&layer.layer.as_str()) {
            continue;
        }
        // Cached contents that did not arrive would make the metadata a lie.
        if layer.types.cache && !(layer.contents && folder.join(&layer.layer).is_dir()) {
            continue;
        }
        write_toml(
            &folder.join(format!("{}.toml", layer.layer)),
            "metadata",
            &layer.metadata,
        )?;
    }
    if let Some(store) = store {
        write_toml(&folder.join("store.toml"), "metadata", store)?;
    }
    Ok(())
}

/// Cached layers come back, and so does the metadata of those that are only launched.
fn restores_metadata(types: LayerTypes) -> bool {
    types.cache || (types.launch && !types.build)
}

fn write_toml(path: &Path, key: &str, value: &serde_json::Value) -> Result<(), Error> {
    let mut table = toml::Table::new();
    // Metadata came from TOML, which knows no null; what cannot go back is left out.
    if let Ok(value) = toml::Value::try_from(value) {
        table.insert(key.to_owned(), value);
    }
    std::fs::write(path, table.to_string()).map_err(Error::file("write", path))
}

/// The layers that `<layers>/<buildpack>` declares, by name. A layer without any type is moved out of later buildpacks' way.
///
/// # Errors
/// [`Error::Contract`] where a TOML file is invalid.
pub fn read(folder: &Path, buildpack: &Buildpack) -> Result<Vec<Layer>, Error> {
    let invalid = |file: &str, reason: String| Error::Contract {
        buildpack: buildpack.name.clone(),
        file: file.to_owned(),
        reason,
    };
    let mut layers = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(Error::file("list", folder))?;
    for entry in entries {
        let path = entry.map_err(Error::file("list", folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".toml")) else {
            continue;
        };
        if RESERVED.contains(&name) || name.is_empty() {
            continue;
        }
        let file = format!("{name}.toml");
        let toml: LayerToml = read_toml(&path)
            .map_err(|reason| invalid(&file, reason))?
            .unwrap_or_default();
        let dir = folder.join(name);
        if toml.types == LayerTypes::default() {
            let ignored = folder.join(format!("{name}.ignore"));
            if dir.is_dir() {
                let _ = std::fs::remove_dir_all(&ignored);
                // Where even that fails the layer is dropped all the same: it is not in the list.
                let _ = std::fs::rename(&dir, &ignored);
            }
            continue;
        }
        // A link as a layer would make a layer of whatever it leads to.
        if std::fs::symlink_metadata(&dir).is_ok_and(|found| !found.is_dir()) {
            return Err(invalid(name, "a layer has to be a folder, and no link".to_owned()));
        }
        layers.push(Layer {
            buildpack: buildpack.id().to_owned(),
            name: name.to_owned(),
            dir,
            toml,
        });
    }
    if layers.len() > LAYERS {
        return Err(invalid("layers", format!("it has more than {LAYERS} layers")));
    }
    layers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(layers)
}

/// A TOML file as `T`; `None` where there is no file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(found) if !found.is_file() => return Err("it is not a file".to_owned()),
        Ok(found) if found.len() > LIMIT_BYTES => return Err("it is longer than 4 MiB".to_owned()),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    toml::from_str(&text)
        .map(Some)
        .map_err(|error| error.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::digest::Digest;
    use std::fs;

    fn types(text: &str) -> LayerTypes {
        LayerTypes {
            build: text.contains('b'),
            cache: text.contains('c'),
            launch: text.contains('l'),
        }
    }

    fn cached(layer: &str, kind: &str, contents: bool) -> CachedLayer {
        CachedLayer {
            buildpack: "a/b".to_owned(),
            layer: layer.to_owned(),
            digest: Digest::from_sha256([0; 32]),
            size_bytes: 1,
            types: types(kind),
            metadata: serde_json::json!({ "version": "1" }),
            contents,
        }
    }

    fn buildpack() -> Buildpack {
        Buildpack {
            name: "x".to_owned(),
            dir: "/".into(),
            api: 10,
            descriptor: toml::from_str("api='0.10'\nbuildpack={id='a/b'}").unwrap(),
        }
    }

    #[test]
    fn what_comes_back_follows_from_the_types() {
        for (kind, contents, expected) in [
            ("c", true, true),
            ("bcl", true, true),
            ("cl", false, false),
            ("l", false, true),
            ("b", false, false),
            ("bl", false, false),
        ] {
            let root = tempfile::tempdir().unwrap();
            if contents {
                fs::create_dir(root.path().join("x")).unwrap();
            }
            restore(root.path(), "a/b", &[cached("x", kind, contents)], None).unwrap();
            assert_eq!(root.path().join("x.toml").exists(), expected, "{kind} {contents}");
        }
    }

    #[test]
    fn types_are_stripped_and_metadata_kept() {
        let root = tempfile::tempdir().unwrap();
        let store = serde_json::json!({ "seen": 3 });
        restore(root.path(), "a/b", &[cached("x", "l", false)], Some(&store)).unwrap();
        assert_eq!(read(root.path(), &buildpack()).unwrap(), []);
        let layer: LayerToml = read_toml(&root.path().join("x.toml")).unwrap().unwrap();
        assert_eq!(layer.metadata["version"].as_str(), Some("1"));
        let store = fs::read_to_string(root.path().join("store.toml")).unwrap();
        assert_eq!(store, "[metadata]\nseen = 3\n");
    }

    #[test]
    fn layers_without_types_are_put_aside() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        fs::write(root.path().join("a.toml"), "[types]\nlaunch = true\n").unwrap();
        fs::write(root.path().join("b.toml"), "").unwrap();
        fs::write(root.path().join("launch.toml"), "").unwrap();
        let layers = read(root.path(), &buildpack()).unwrap();
        assert_eq!(layers.len(), 1);
        assert_eq!((layers[0].name.as_str(), layers[0].toml.types.launch), ("a", true));
        assert!(root.path().join("b.ignore").is_dir());
        fs::write(root.path().join("c.toml"), "types = 1").unwrap();
        assert!(matches!(read(root.path(), &buildpack()), Err(Error::Contract { .. })));
    }
}
