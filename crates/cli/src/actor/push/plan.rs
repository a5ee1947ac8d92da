//! What a push is to do: the manifest and the flags made one.

use super::layout;
use crate::args::push::{Push, Strategy};
use crate::errors::Error;
use crate::manifest::{self, Manifest, Overrides};
use model::Secret;
use serde_yaml::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A push, before anything is asked of the server.
#[derive(Debug)]
pub struct Plan {
    pub manifest: Manifest,
    pub no_start: bool,
    pub staging: Staging,
    /// An archive to run instead of what would be built.
    pub droplet: Option<PathBuf>,
    pub strategy: Strategy,
    pub detach: bool,
    pub timeout: Duration,
    /// Password of the registries that images come from.
    pub image_password: Option<Secret>,
    /// An unpacked archive, for as long as it is pushed.
    _unpacked: Option<tempfile::TempDir>,
}

/// What a build may use, in MiB; the platform's own measure where it is not said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Staging {
    #[serde(rename = "staging_memory_in_mb", skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    #[serde(rename = "staging_disk_in_mb", skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<u32>,
}

impl Staging {
    fn of(args: &Push) -> Result<Self, Error> {
        let size = |text: &Option<String>| {
            text.as_deref()
                .map(model::limits::parse_megabytes)
                .transpose()
                .map_err(Error::usage)
        };
        Ok(Self {
            memory_mb: size(&args.staging_memory)?,
            disk_mb: size(&args.staging_disk)?,
        })
    }
}

/// Reads the manifest, or makes one, and applies the flags.
///
/// # Errors
/// Where the manifest can't be used, or there is no such folder.
pub fn plan(args: &Push, cwd: &Path, image_password: Option<Secret>) -> Result<Plan, Error> {
    let (folder, name_from_path) = folder_or_name(args, cwd)?;
    let name = args.name.clone().or(name_from_path);
    let name = name.map_or_else(|| name_of_image(args), |name| Ok(Some(name)))?;
    let (layout, unpacked) = match &args.image_layout {
        Some(path) => layout::open(&cwd.join(path))?,
        None => (None, None),
    };
    let path = args
        .manifest
        .as_ref()
        .map(|path| cwd.join(path))
        .or_else(|| manifest::find(&folder));
    let mut manifest = match &path {
        Some(path) => {
            let mut manifest = manifest::read(&manifest_file(path)?, &variables(args, cwd)?)?;
            if let Some(name) = &name {
                manifest.select(name)?;
            }
            // A folder beside a manifest elsewhere is what is pushed, as long as it is clear for which app.
            if let (Some(_), true, [only]) = (&args.manifest, args.path.is_some(), manifest.apps.as_mut_slice()) {
                only.folder.clone_from(&folder);
            }
            manifest
        }
        None => {
            let name = name.map_or_else(|| name_of(&folder), Ok)?;
            manifest::synthesise(&name, &folder)
        }
    };
    let overrides = Overrides {
        layout,
        ..overrides(args)
    };
    manifest.apply(&overrides)?;
    if args.droplet.is_some() && manifest.apps.len() > 1 {
        return Err(Error::usage(
            "--droplet is for one app: name it, as the manifest has several",
        ));
    }
    Ok(Plan {
        image_password,
        _unpacked: unpacked,
        manifest,
        no_start: args.no_start,
        staging: Staging::of(args)?,
        droplet: args.droplet.as_ref().map(|file| cwd.join(file)),
        strategy: args.strategy.clone(),
        detach: args.detach,
        timeout: args.timeout,
    })
}

/// The folder that is meant. A word that is no folder but an app of the manifest here means that app, as `cf push` has it.
fn folder_or_name(args: &Push, cwd: &Path) -> Result<(PathBuf, Option<String>), Error> {
    let Some(path) = &args.path else {
        return Ok((cwd.to_owned(), None));
    };
    let folder = cwd.join(path);
    if args.docker_image.is_some() || args.image_layout.is_some() {
        return Ok((cwd.to_owned(), path.to_str().map(str::to_owned)));
    }
    if folder.is_dir() {
        return Ok((folder, None));
    }
    let word = path
        .to_str()
        .filter(|word| !word.contains(std::path::MAIN_SEPARATOR) && !folder.exists());
    let manifest = args
        .manifest
        .as_ref()
        .map(|path| cwd.join(path))
        .or_else(|| manifest::find(cwd));
    if let (Some(word), Some(manifest)) = (word, manifest)
        && manifest::read(&manifest, &variables(args, cwd)?)
            .is_ok_and(|all| all.apps.iter().any(|app| app.name == word))
    {
        return Ok((cwd.to_owned(), Some(word.to_owned())));
    }
    Err(Error::NoSuchFolder { path: path.clone() })
}

/// A manifest that is given as a folder is looked for in it.
fn manifest_file(path: &Path) -> Result<PathBuf, Error> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    manifest::find(path).ok_or_else(|| Error::Manifest {
        path: path.to_owned(),
        detail: "there is no manifest.yml in this folder".into(),
    })
}

fn variables(args: &Push, cwd: &Path) -> Result<BTreeMap<String, Value>, Error> {
    let mut vars = BTreeMap::new();
    for file in &args.var_files {
        vars.extend(manifest::read_vars(&cwd.join(file))?);
    }
    // A number on the command line is a number in the manifest, as in a file.
    let typed = |text: &String| {
        serde_yaml::from_str::<Value>(text)
            .ok()
            .filter(|value| !value.is_mapping())
    };
    for (name, text) in &args.vars {
        vars.insert(name.clone(), typed(text).unwrap_or_else(|| text.clone().into()));
    }
    Ok(vars)
}

fn overrides(args: &Push) -> Overrides {
    Overrides {
        instances: args.instances,
        memory: args.memory.clone(),
        disk: args.disk.clone(),
        command: args.command.clone(),
        buildpacks: args.buildpacks.clone(),
        stack: args.stack.clone(),
        start_timeout: args.start_timeout,
        env: args.env.clone(),
        random_route: args.random_route,
        no_route: args.no_route,
        image: args.docker_image.clone(),
        image_username: args.docker_username.clone(),
        layout: None,
    }
}

/// The name that an image gives its app, where no other is given and no manifest may have one.
fn name_of_image(args: &Push) -> Result<Option<String>, Error> {
    let invalid = |message: String| Error::Usage {
        message,
        hint: Some("write registry/repository:tag".into()),
    };
    let Some(text) = args.docker_image.as_ref().filter(|_| args.manifest.is_none()) else {
        return Ok(None);
    };
    let reference: image::Reference = text.parse().map_err(|error: image::Error| invalid(error.to_string()))?;
    let last = reference.repository.rsplit('/').next().unwrap_or_default();
    Ok(model::name::host_label(last).map(|label| label.as_str().to_owned()))
}

/// An app's name from its folder's.
fn name_of(folder: &Path) -> Result<String, Error> {
    let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    absolute
        .file_name()
        .and_then(|name| model::name::host_label(&name.to_string_lossy()))
        .map(|label| label.as_str().to_owned())
        .ok_or_else(|| Error::Usage {
            message: format!("{} makes no name for an app", absolute.display()),
            hint: Some("name it with -n".into()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser as _;

    fn planned(folder: &Path, args: &[&str]) -> Result<Plan, Error> {
        let args = ["paas", "push"].iter().chain(args).copied();
        let Command::Push(push) = Cli::try_parse_from(args).expect("parses").command else {
            panic!("not a push")
        };
        plan(&push, folder, None)
    }

    #[test]
    fn without_a_manifest_the_folder_names_the_app() {
        let root = tempfile::tempdir().expect("folder");
        std::fs::create_dir(root.path().join("My Shop")).expect("made");
        let plan = planned(root.path(), &["My Shop", "-i", "3", "-m", "64M", "--env", "A=1"]).expect("plans");
        assert_eq!(plan.manifest.apps[0].name, "my-shop");
        insta::assert_snapshot!(plan.manifest.to_yaml().expect("writes"));
    }

    #[test]
    fn the_manifest_of_the_folder_counts_and_flags_beat_it() {
        let root = tempfile::tempdir().expect("folder");
        std::fs::write(
            root.path().join("manifest.yml"),
            "applications:\n- {name: a, path: web, memory: 1G}\n",
        )
        .expect("written");
        let plan = planned(root.path(), &["-m", "64M", "-n", "b"]).expect("plans");
        assert_eq!(plan.manifest.apps[0].name, "b");
        assert_eq!(plan.manifest.apps[0].folder, root.path().join("web"));
        assert!(plan.manifest.to_yaml().expect("writes").contains("memory: 64M"));
    }

    #[test]
    fn a_word_is_an_app_of_the_manifest_or_an_error() {
        let root = tempfile::tempdir().expect("folder");
        assert!(matches!(
            planned(root.path(), &["shop"]),
            Err(Error::NoSuchFolder { .. })
        ));
        std::fs::write(
            root.path().join("manifest.yml"),
            "applications: [{name: shop}, {name: other}]",
        )
        .expect("written");
        let plan = planned(root.path(), &["shop"]).expect("plans");
        assert_eq!(plan.manifest.apps.len(), 1);
        assert!(matches!(
            planned(root.path(), &["shpo"]),
            Err(Error::NoSuchFolder { .. })
        ));
    }

    #[test]
    fn variables_come_from_files_and_flags() {
        let root = tempfile::tempdir().expect("folder");
        std::fs::write(
            root.path().join("m.yml"),
            "applications: [{name: ((n)), instances: ((i))}]",
        )
        .expect("written");
        std::fs::write(root.path().join("vars.yml"), "n: a\ni: 1\n").expect("written");
        let plan = planned(root.path(), &["-f", "m.yml", "--var-file", "vars.yml", "--var", "i=4"]).expect("plans");
        let yaml = plan.manifest.to_yaml().expect("writes");
        assert!(yaml.contains("instances: 4") && yaml.contains("name: a"), "{yaml}");
    }

    #[test]
    fn an_image_names_its_app_and_has_no_folder() {
        let root = tempfile::tempdir().expect("folder");
        let plan = planned(root.path(), &["-o", "r.example:5000/team/My-Shop:1"]);
        assert!(plan.is_err(), "no such repository");
        let args = [
            "-o",
            "r.example:5000/team/shop:1",
            "--docker-username",
            "me",
            "-m",
            "64M",
        ];
        let plan = planned(root.path(), &args).expect("plans");
        let image = plan.manifest.apps[0].image().expect("an image");
        assert_eq!(plan.manifest.apps[0].name, "shop");
        assert_eq!(
            (image.reference.as_str(), image.username.as_deref()),
            ("r.example:5000/team/shop:1", Some("me"))
        );
        insta::assert_snapshot!(plan.manifest.to_yaml().expect("writes"));
        std::fs::create_dir(root.path().join("layout")).expect("made");
        assert!(
            planned(root.path(), &["-n", "a", "--image-layout", "layout"]).is_err(),
            "no layout"
        );
        std::fs::write(root.path().join("layout/index.json"), "{}").expect("written");
        let plan = planned(root.path(), &["-n", "a", "--image-layout", "layout"]).expect("plans");
        assert_eq!(plan.manifest.apps[0].folder, root.path().join("layout"));
        assert!(plan.manifest.to_yaml().expect("writes").contains("lifecycle: docker"));
    }
}
