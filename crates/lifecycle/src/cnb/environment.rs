//! Environment variables as layers change them: root folders such as `bin`, and files such as `env/PATH.prepend`.
//!
//! Where the specification and the reference lifecycle differ, buildpacks rely on the latter, and so do we: within a
//! buildpack the layer that comes last by name is prepended last and so found first.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// Longest file that is a variable's value.
const VALUE_BYTES: u64 = 128 * 1024;

/// What the environment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Later buildpacks.
    Build,
    /// A process of this type.
    Launch(&'a str),
}

/// A process's variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<OsString, OsString>);

impl Environment {
    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Sets `name`.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.0.insert(name.into(), value.into());
    }

    /// Forgets `name`.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(OsStr::new(name));
    }

    /// Puts `value` before what `name` holds.
    pub fn prepend(&mut self, name: &OsStr, value: &OsStr, delimiter: &OsStr) {
        self.join(name, value, delimiter, true);
    }

    fn join(&mut self, name: &OsStr, value: &OsStr, delimiter: &OsStr, before: bool) {
        let old = self.0.remove(name).unwrap_or_default();
        let joined = match (old.is_empty(), before) {
            (true, _) => value.to_owned(),
            (false, true) => [value, &old].join(delimiter),
            (false, false) => [&old, value].join(delimiter),
        };
        self.0.insert(name.to_owned(), joined);
    }

    /// Root folders of a layer: `bin`, `lib`, and for builds `include` and `pkgconfig`.
    pub fn add_roots(&mut self, layer: &Path, scope: Scope<'_>) {
        const BUILD: &[(&str, &[&str])] = &[
            ("bin", &["PATH"]),
            ("lib", &["LD_LIBRARY_PATH", "LIBRARY_PATH"]),
            ("include", &["CPATH"]),
            ("pkgconfig", &["PKG_CONFIG_PATH"]),
        ];
        const LAUNCH: &[(&str, &[&str])] = &[("bin", &["PATH"]), ("lib", &["LD_LIBRARY_PATH"])];
        let roots = if scope == Scope::Build { BUILD } else { LAUNCH };
        for (folder, names) in roots {
            let folder = layer.join(folder);
            if folder.is_dir() {
                for name in *names {
                    self.prepend(OsStr::new(name), folder.as_os_str(), OsStr::new(":"));
                }
            }
        }
    }

    /// Files of a layer's `env` folders for `scope`.
    pub fn add_files(&mut self, layer: &Path, scope: Scope<'_>) {
        self.add_folder(&layer.join("env"));
        match scope {
            Scope::Build => self.add_folder(&layer.join("env.build")),
            Scope::Launch(process) => {
                self.add_folder(&layer.join("env.launch"));
                if !process.is_empty() {
                    self.add_folder(&layer.join("env.launch").join(process));
                }
            }
        }
    }

    /// Applies `NAME`, `NAME.override`, `.prepend`, `.append` and `.default`; `NAME.delim` says what joins. Others are no rules.
    fn add_folder(&mut self, folder: &Path) {
        for (file, value) in files(folder) {
            let bytes = file.as_bytes();
            let dot = bytes.iter().position(|&byte| byte == b'.');
            let (name, suffix) = dot.map_or((bytes, &b""[..]), |dot| (&bytes[..dot], &bytes[dot + 1..]));
            let name = OsStr::from_bytes(name);
            let delimiter = || {
                let mut file = name.to_owned();
                file.push(".delim");
                read_value(&folder.join(file)).unwrap_or_default()
            };
            match suffix {
                b"" | b"override" => self.set(name, value),
                b"default" if self.0.get(name).is_none_or(|old| old.is_empty()) => self.set(name, value),
                b"prepend" => self.join(name, &value, &delimiter(), true),
                b"append" => self.join(name, &value, &delimiter(), false),
                _ => {}
            }
        }
    }
}

/// Regular files of `folder` with their contents, by name. A folder that is not there has none.
#[must_use]
pub fn files(folder: &Path) -> Vec<(OsString, OsString)> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name(), read_value(&entry.path())?))
        })
        .collect();
    found.sort();
    found
}

/// The contents of a regular file, literally.
fn read_value(path: &Path) -> Option<OsString> {
    let found = std::fs::metadata(path).ok()?;
    if !found.is_file() || found.len() > VALUE_BYTES {
        return None;
    }
    std::fs::read(path).ok().map(OsString::from_vec)
}

/// Folders below `folder`, by name: the layers of a buildpack.
#[must_use]
pub fn folders(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn layer(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        folder
    }

    fn apply(scope: Scope<'_>, before: &[(&str, &str)], files: &[(&str, &str)]) -> Environment {
        let mut environment = Environment::default();
        for (name, value) in before {
            environment.set(*name, *value);
        }
        environment.add_files(layer(files).path(), scope);
        environment
    }

    fn value<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
        environment.get(name).and_then(OsStr::to_str)
    }

    #[test]
    fn each_suffix_is_a_rule_of_its_own() {
        let before = [("A", "old"), ("B", "old"), ("C", "old"), ("D", "old"), ("F", "old")];
        let after = apply(
            Scope::Build,
            &before,
            &[
                ("env/A", "new"),
                ("env/B.prepend", "new"),
                ("env/B.delim", ":"),
                ("env/C.append", "new"),
                ("env/D.default", "new"),
                ("env/E.default", "new"),
                ("env/F.override", "new\n"),
                ("env/G.prepend", "new"),
                ("env/G.delim", ":"),
                ("env/H.unknown", "new"),
                ("env/I.x.override", "new"),
            ],
        );
        for (name, expected) in [
            ("A", Some("new")),
            ("B", Some("new:old")),
            ("C", Some("oldnew")),
            ("D", Some("old")),
            ("E", Some("new")),
            ("F", Some("new\n")),
            ("G", Some("new")),
            ("H", None),
            ("I", None),
        ] {
            assert_eq!(value(&after, name), expected, "{name}");
        }
    }

    #[test]
    fn scopes_see_their_own_folders_only() {
        let files = [
            ("env/A", "all"),
            ("env.build/A", "build"),
            ("env.launch/A", "launch"),
            ("env.launch/web/A", "web"),
        ];
        for (scope, expected) in [
            (Scope::Build, "build"),
            (Scope::Launch("web"), "web"),
            (Scope::Launch("worker"), "launch"),
        ] {
            assert_eq!(value(&apply(scope, &[], &files), "A"), Some(expected));
        }
    }

    #[test]
    fn roots_are_prepended() {
        let layer = layer(&[("bin/x", ""), ("lib/x", ""), ("include/x", "")]);
        let mut build = Environment::default();
        build.set("PATH", "/bin");
        let mut launch = build.clone();
        build.add_roots(layer.path(), Scope::Build);
        launch.add_roots(layer.path(), Scope::Launch("web"));
        let root = layer.path().display();
        assert_eq!(value(&build, "PATH"), Some(format!("{root}/bin:/bin").as_str()));
        assert_eq!(value(&build, "LIBRARY_PATH"), Some(format!("{root}/lib").as_str()));
        assert_eq!(value(&build, "CPATH"), Some(format!("{root}/include").as_str()));
        assert_eq!(value(&launch, "LD_LIBRARY_PATH"), Some(format!("{root}/lib").as_str()));
        assert_eq!(value(&launch, "CPATH"), None);
    }
}
