//! The manifest as this side of the wire needs it: which apps, from which folders, with variables filled in and flags
//! applied. What the keys mean and whether they are right is the server's to say, so all keys are passed on.

use crate::errors::Error;
use serde_yaml::{Mapping, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Largest manifest or variables file, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// File names that are looked for in the app's folder.
const NAMES: [&str; 2] = ["manifest.yml", "manifest.yaml"];

/// A manifest with its apps.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Where it was read; `None` where it was made from flags alone.
    pub path: Option<PathBuf>,
    /// What is sent beside `applications`: `version`.
    rest: Mapping,
    pub apps: Vec<Entry>,
}

/// One app of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub name: String,
    /// What is pushed.
    pub folder: PathBuf,
    /// Its keys without `path`, which means nothing elsewhere.
    keys: Mapping,
}

/// What flags say about an app.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    pub instances: Option<u32>,
    pub memory: Option<String>,
    pub disk: Option<String>,
    pub command: Option<String>,
    pub buildpacks: Vec<String>,
    pub stack: Option<String>,
    pub start_timeout: Option<u32>,
    pub env: Vec<(String, String)>,
    pub random_route: bool,
    pub no_route: bool,
    /// An image of a registry, instead of source.
    pub image: Option<String>,
    /// Name at the image's registry.
    pub image_username: Option<String>,
    /// What is pushed is an image's layout.
    pub layout: Option<PathBuf>,
}

/// An image that an app is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub reference: String,
    pub username: Option<String>,
}

/// The manifest in `folder`, where there is one.
pub fn find(folder: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// Reads a manifest and fills its variables in.
///
/// # Errors
/// Where it can't be read or understood, or a variable has no value.
pub fn read(path: &Path, vars: &BTreeMap<String, Value>) -> Result<Manifest, Error> {
    let broken = |detail: String| Error::Manifest {
        path: path.to_owned(),
        detail,
    };
    let mut value = parse(path)?;
    let mut missing = BTreeSet::new();
    interpolate(&mut value, vars, &mut missing);
    if !missing.is_empty() {
        return Err(Error::ManifestVars {
            path: path.to_owned(),
            missing: missing.into_iter().collect(),
        });
    }
    let Value::Mapping(mut rest) = value else {
        return Err(broken("it is not a mapping: it begins with `applications:`".into()));
    };
    let apps = match rest.remove("applications") {
        Some(Value::Sequence(apps)) if !apps.is_empty() => apps,
        Some(Value::Sequence(_)) | None => return Err(broken("it names no app below `applications:`".into())),
        Some(_) => return Err(broken("`applications` is not a list".into())),
    };
    let base = path.parent().unwrap_or(Path::new("."));
    let apps = apps
        .into_iter()
        .map(|app| entry(app, base).map_err(broken))
        .collect::<Result<Vec<_>, _>>()?;
    let mut names = BTreeSet::new();
    if let Some(twice) = apps.iter().find(|app| !names.insert(&app.name)) {
        return Err(broken(format!("the app {} is there twice", twice.name)));
    }
    // Other keys hold anchors; the server would not know them.
    rest.retain(|key, _| key.as_str() == Some("version"));
    Ok(Manifest {
        path: Some(path.to_owned()),
        rest,
        apps,
    })
}

/// A manifest for one app without a manifest.
pub fn synthesise(name: &str, folder: &Path) -> Manifest {
    Manifest {
        path: None,
        rest: Mapping::new(),
        apps: vec![Entry {
            name: name.to_owned(),
            folder: folder.to_owned(),
            keys: Mapping::new(),
        }],
    }
}

/// Reads a file of variables: a flat mapping.
///
/// # Errors
/// Where it can't be read or is something else.
pub fn read_vars(path: &Path) -> Result<BTreeMap<String, Value>, Error> {
    match parse(path)? {
        Value::Mapping(vars) => vars
            .into_iter()
            .map(|(name, value)| match name {
                Value::String(name) => Ok((name, value)),
                _ => Err(Error::Manifest {
                    path: path.to_owned(),
                    detail: "a variable's name is not a text".into(),
                }),
            })
            .collect(),
        Value::Null => Ok(BTreeMap::new()),
        _ => Err(Error::Manifest {
            path: path.to_owned(),
            detail: "it is not a mapping of names to values".into(),
        }),
    }
}

fn parse(path: &Path) -> Result<Value, Error> {
    let broken = |detail: String| Error::Manifest {
        path: path.to_owned(),
        detail,
    };
    let meta = std::fs::metadata(path).map_err(|error| broken(error.to_string()))?;
    if meta.len() > MAX_BYTES {
        return Err(broken(format!("it is larger than {MAX_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
    let mut value: Value = serde_yaml::from_str(&text).map_err(|error| broken(error.to_string()))?;
    value.apply_merge().map_err(|error| broken(error.to_string()))?;
    Ok(value)
}

fn entry(app: Value, base: &Path) -> Result<Entry, String> {
    let Value::Mapping(mut keys) = app else {
        return Err("an entry of `applications` is not a mapping".into());
    };
    let name = match keys.get("name") {
        Some(Value::String(name)) if !name.is_empty() => name.clone(),
        Some(Value::Number(name)) => name.to_string(),
        Some(_) => return Err("an app's `name` is not a text".into()),
        None => return Err("an app has no `name`".into()),
    };
    let folder = match keys.remove("path") {
        Some(Value::String(path)) => base.join(path),
        Some(_) => return Err(format!("`path` of {name} is not a text")),
        None => base.to_owned(),
    };
    Ok(Entry { name, folder, keys })
}

/// Puts values in the places of `((name))`. A text that is nothing but a variable takes the value's type.
fn interpolate(value: &mut Value, vars: &BTreeMap<String, Value>, missing: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            if let Some(filled) = fill(text, vars, missing) {
                *value = filled;
            }
        }
        Value::Sequence(items) => items.iter_mut().for_each(|item| interpolate(item, vars, missing)),
        Value::Mapping(members) => members
            .iter_mut()
            .for_each(|(_, member)| interpolate(member, vars, missing)),
        _ => {}
    }
}

fn fill(text: &str, vars: &BTreeMap<String, Value>, missing: &mut BTreeSet<String>) -> Option<Value> {
    let mut filled = String::new();
    let mut rest = text;
    let mut found = false;
    while let Some((before, after)) = rest.split_once("((") {
        let Some((name, after)) = after.split_once("))") else {
            break;
        };
        found = true;
        filled.push_str(before);
        match vars.get(name) {
            Some(value) if before.is_empty() && after.is_empty() && filled.is_empty() => return Some(value.clone()),
            Some(Value::String(value)) => filled.push_str(value),
            Some(value) => filled.push_str(serde_yaml::to_string(value).unwrap_or_default().trim_end()),
            None => {
                missing.insert(name.to_owned());
            }
        }
        rest = after;
    }
    filled.push_str(rest);
    found.then_some(Value::String(filled))
}

impl Manifest {
    /// Keeps only the app `name`. In a manifest of one app that app is renamed.
    ///
    /// # Errors
    /// Where there are several and none has the name.
    pub fn select(&mut self, name: &str) -> Result<(), Error> {
        if let [only] = self.apps.as_mut_slice() {
            name.clone_into(&mut only.name);
            return Ok(());
        }
        if !self.apps.iter().any(|app| app.name == name) {
            return Err(Error::NotFound {
                kind: "app",
                name: name.to_owned(),
                place: self
                    .path
                    .as_deref()
                    .map_or_else(String::new, |path| path.display().to_string()),
                similar: self.apps.iter().map(|app| app.name.clone()).collect(),
            });
        }
        self.apps.retain(|app| app.name == name);
        Ok(())
    }

    /// Applies flags.
    ///
    /// # Errors
    /// Where they are for one app and the manifest has several.
    pub fn apply(&mut self, overrides: &Overrides) -> Result<(), Error> {
        match self.apps.as_mut_slice() {
            _ if *overrides == Overrides::default() => {}
            [only] => only.apply(overrides),
            _ => {
                return Err(Error::Usage {
                    message: "the manifest has several apps, and flags are for one".into(),
                    hint: Some("name the app with -n".into()),
                });
            }
        }
        self.apps.iter_mut().for_each(Entry::route_by_default);
        Ok(())
    }

    /// What is sent to the server.
    ///
    /// # Errors
    /// Where it can't be written as YAML.
    pub fn to_yaml(&self) -> Result<String, Error> {
        let apps = self.apps.iter().map(|app| {
            let mut keys = app.keys.clone();
            keys.insert("name".into(), app.name.clone().into());
            Value::Mapping(keys)
        });
        let mut all = self.rest.clone();
        all.insert("applications".into(), Value::Sequence(apps.collect()));
        serde_yaml::to_string(&all).map_err(|error| Error::Manifest {
            path: self.path.clone().unwrap_or_default(),
            detail: error.to_string(),
        })
    }
}

impl Entry {
    fn apply(&mut self, overrides: &Overrides) {
        let process: [(&str, Option<Value>); 5] = [
            ("instances", overrides.instances.map(Value::from)),
            ("memory", overrides.memory.clone().map(Value::from)),
            ("disk_quota", overrides.disk.clone().map(Value::from)),
            ("command", overrides.command.clone().map(Value::from)),
            ("timeout", overrides.start_timeout.map(Value::from)),
        ];
        let target = self.web();
        for (key, value) in process {
            if let Some(value) = value {
                target.insert(key.into(), value);
            }
        }
        if !overrides.buildpacks.is_empty() {
            self.keys.remove("buildpack");
            self.keys
                .insert("buildpacks".into(), overrides.buildpacks.clone().into());
        }
        if let Some(stack) = &overrides.stack {
            self.keys.insert("stack".into(), stack.clone().into());
        }
        self.take_image(overrides);
        if overrides.no_route || overrides.random_route {
            for key in ["routes", "no-route", "random-route", "default-route"] {
                self.keys.remove(key);
            }
            self.keys.insert(
                if overrides.no_route { "no-route" } else { "random-route" }.into(),
                true.into(),
            );
        }
        self.add_env(&overrides.env);
    }

    /// What flags say of an image, over what the manifest says.
    fn take_image(&mut self, overrides: &Overrides) {
        if let Some(reference) = &overrides.image {
            let mut docker = Mapping::new();
            docker.insert("image".into(), reference.clone().into());
            self.keys.insert("docker".into(), Value::Mapping(docker));
        }
        if let Some(username) = &overrides.image_username
            && let Some(Value::Mapping(docker)) = self.keys.get_mut("docker")
        {
            docker.insert("username".into(), username.clone().into());
        }
        if let Some(layout) = &overrides.layout {
            self.keys.remove("docker");
            self.keys.insert("lifecycle".into(), "docker".into());
            self.folder.clone_from(layout);
        }
    }

    /// Where the web process's keys are: its entry below `processes`, which has precedence, or the app itself.
    fn web(&mut self) -> &mut Mapping {
        let is_web = |process: &Value| process.get("type").and_then(Value::as_str) == Some("web");
        let index = self
            .keys
            .get("processes")
            .and_then(Value::as_sequence)
            .and_then(|all| all.iter().position(is_web));
        if let Some(index) = index
            && let Some(Value::Sequence(all)) = self.keys.get("processes")
            && all[index].is_mapping()
        {
            return match self.keys.get_mut("processes").and_then(|all| all.get_mut(index)) {
                Some(Value::Mapping(web)) => web,
                _ => unreachable!("the same place was a mapping just now"),
            };
        }
        &mut self.keys
    }

    fn add_env(&mut self, vars: &[(String, String)]) {
        if vars.is_empty() {
            return;
        }
        if !self.keys.get("env").is_some_and(Value::is_mapping) {
            self.keys.insert("env".into(), Value::Mapping(Mapping::new()));
        }
        if let Some(Value::Mapping(env)) = self.keys.get_mut("env") {
            for (name, value) in vars {
                env.insert(name.clone().into(), value.clone().into());
            }
        }
    }

    /// An app that says nothing about routes gets the default one.
    fn route_by_default(&mut self) {
        let says = |key: &str| self.keys.contains_key(key);
        if !["routes", "no-route", "random-route", "default-route"]
            .into_iter()
            .any(says)
        {
            self.keys.insert("default-route".into(), true.into());
        }
    }

    /// The image of a registry that it is; then it has no files to push.
    pub fn image(&self) -> Option<Image> {
        let docker = self.keys.get("docker")?;
        let text = |key: &str| docker.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Image {
            reference: text("image")?,
            username: text("username"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, vars: &[(&str, Value)]) -> Result<Manifest, Error> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("manifest.yml");
        std::fs::write(&path, text).expect("written");
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        read(&path, &vars)
    }

    #[test]
    fn variables_anchors_and_unknown_keys_survive() {
        let text = "
version: 1
defaults: &d {memory: 64M}
applications:
- <<: *d
  name: shop-((stage))
  instances: ((count))
  path: ./web
  frobnicate: [1, two]
";
        let mut manifest = load(text, &[("stage", "dev".into()), ("count", 2.into())]).expect("reads");
        assert!(manifest.apps[0].folder.ends_with("web"));
        manifest.apply(&Overrides::default()).expect("applies");
        insta::assert_snapshot!(manifest.to_yaml().expect("writes"));
    }

    #[test]
    fn flags_go_where_they_have_precedence() {
        let text = "applications: [{name: a, memory: 64M, processes: [{type: web, memory: 32M}]}]";
        let mut manifest = load(text, &[]).expect("reads");
        let overrides = Overrides {
            memory: Some("128M".into()),
            env: vec![("K".into(), "1".into())],
            no_route: true,
            ..Overrides::default()
        };
        manifest.apply(&overrides).expect("applies");
        insta::assert_snapshot!(manifest.to_yaml().expect("writes"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("[1]", "not a mapping"),
            ("applications: []", "names no app"),
            ("applications: 3", "not a list"),
            ("applications: [{memory: 1G}]", "no `name`"),
            ("applications: [{name: a}, {name: a}]", "twice"),
            ("a: [", ""),
        ] {
            match load(text, &[]) {
                Err(Error::Manifest { detail, .. }) => assert!(detail.contains(part), "{text}: {detail}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(
            load("applications: [{name: ((a))-((b))}]", &[("a", "x".into())]),
            Err(Error::ManifestVars { missing, .. }) if missing == ["b"]
        ));
    }

    #[test]
    fn one_of_several_apps_is_chosen_by_name() {
        let mut manifest = load("applications: [{name: a}, {name: b}]", &[]).expect("reads");
        assert!(
            manifest
                .apply(&Overrides {
                    instances: Some(2),
                    ..Overrides::default()
                })
                .is_err()
        );
        assert!(matches!(manifest.select("c"), Err(Error::NotFound { .. })));
        manifest.select("b").expect("there");
        assert_eq!(manifest.apps.len(), 1);
        let mut single = load("applications: [{name: a}]", &[]).expect("reads");
        single.select("renamed").expect("renames");
        assert_eq!(single.apps[0].name, "renamed");
    }
}
