//! Runs the scripts of classic buildpacks in order: `supply` of all, then `finalize` or `compile` and `release` of the last.

use super::{Classic, launch_yml};
use crate::cnb::layers::{Layer, LayerToml};
use crate::cnb::process::Surroundings;
use crate::export::Folder;
use crate::metadata::LaunchProcess;
use crate::{Error, Paths, runner, ui};
use model::staging::{LayerKind, LayerTypes};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What classic buildpacks left behind.
#[derive(Debug, Default)]
pub struct ClassicBuilt {
    /// Folders of the droplet beside the app.
    pub folders: Vec<Folder>,
    /// Caches for the next build.
    pub caches: Vec<Layer>,
    /// Processes by type, the last word of each.
    pub processes: Vec<LaunchProcess>,
}

/// Where the scripts work.
struct Places {
    app: PathBuf,
    deps: PathBuf,
    profile: PathBuf,
}

/// Runs `buildpacks`, of which all but the last only supply.
///
/// # Errors
/// [`Error::BuildFailed`] with the script that failed, or [`Error::Contract`] where what it left cannot be read.
pub fn build(paths: &Paths, buildpacks: &[Classic], around: &Surroundings) -> Result<ClassicBuilt, Error> {
    let places = Places {
        app: paths.app.clone(),
        deps: paths.deps.clone(),
        profile: paths.profile(),
    };
    let mut built = ClassicBuilt::default();
    let mut processes = BTreeMap::new();
    let width = buildpacks.len().to_string().len();
    for (index, buildpack) in buildpacks.iter().enumerate() {
        let is_last = index + 1 == buildpacks.len();
        let name = format!("{index:0width$}");
        let cache = paths.buildpack_layers(&buildpack.id()).join("cache");
        for folder in [&places.deps.join(&name), &places.profile, &cache] {
            std::fs::create_dir_all(folder).map_err(Error::file("create folder", folder))?;
        }
        run(buildpack, is_last, &name, &cache, &places, around)?;
        // Some tools write the index without its leading zeros.
        let candidates = [name.clone(), index.to_string()];
        let files = candidates.iter().map(|name| places.deps.join(name).join("launch.yml"));
        let mut declared = None;
        for file in files {
            declared =
                declared.or(launch_yml::read(&file).map_err(|reason| contract(buildpack, "launch.yml", reason))?);
        }
        if declared.is_none() && is_last {
            declared = release(buildpack, &places.app, around)?;
        }
        for (process, command) in declared.unwrap_or_default() {
            processes.insert(process, (command, buildpack.name.clone()));
        }
        built.folders.push(folder(
            &places.deps.join(&name),
            format!("home/vcap/deps/{name}"),
            &buildpack.name,
            LayerKind::Dependencies,
        ));
        built.caches.push(cache_layer(buildpack, cache));
    }
    built.folders.push(folder(
        &places.profile,
        "home/vcap/profile.d".to_owned(),
        "profile",
        LayerKind::Config,
    ));
    built.processes = processes
        .into_iter()
        .map(|(process, (command, source))| shell(process, command, source))
        .collect();
    Ok(built)
}

fn run(
    buildpack: &Classic,
    is_last: bool,
    index: &str,
    cache: &Path,
    places: &Places,
    around: &Surroundings,
) -> Result<(), Error> {
    let Places { app, deps, profile } = places;
    if buildpack.has("supply") {
        script(buildpack, "supply", &[app, cache, deps, Path::new(index)], around)?;
    } else if !is_last {
        return Err(Error::Buildpack {
            buildpack: buildpack.name.clone(),
            reason: "it has no bin/supply, so it can only be the last of several".to_owned(),
        });
    }
    if !is_last {
        return Ok(());
    }
    if buildpack.has("finalize") {
        return script(
            buildpack,
            "finalize",
            &[app, cache, deps, Path::new(index), profile],
            around,
        );
    }
    if buildpack.has("compile") {
        // The third argument is Heroku's folder of variables; others do not look at it.
        return script(
            buildpack,
            "compile",
            &[app, cache, &around.platform.join("env")],
            around,
        );
    }
    Err(Error::Buildpack {
        buildpack: buildpack.name.clone(),
        reason: "it only supplies to others: another buildpack has to come after it".to_owned(),
    })
}

fn script(buildpack: &Classic, name: &'static str, arguments: &[&Path], around: &Surroundings) -> Result<(), Error> {
    let failed = |status: String, tail: Vec<String>| Error::BuildFailed {
        buildpack: buildpack.name.clone(),
        script: name,
        status,
        tail,
    };
    let mut command = around.classic_command(&buildpack.dir.join("bin").join(name));
    let outcome = runner::run_loud(command.args(arguments))
        .map_err(|error| failed(format!("bin/{name} could not be started: {error}"), Vec::new()))?;
    if outcome.status.success() {
        return Ok(());
    }
    Err(failed(runner::describe(outcome.status), outcome.tail))
}

fn release(buildpack: &Classic, app: &Path, around: &Surroundings) -> Result<Option<BTreeMap<String, String>>, Error> {
    if !buildpack.has("release") {
        return Ok(None);
    }
    let mut command = around.classic_command(&buildpack.dir.join("bin/release"));
    let failed = |status: String, tail: &str| Error::BuildFailed {
        buildpack: buildpack.name.clone(),
        script: "release",
        status,
        tail: tail.lines().map(str::to_owned).collect(),
    };
    let said = runner::run_quiet(command.arg(app))
        .map_err(|error| failed(format!("bin/release could not be started: {error}"), ""))?;
    if !said.status.success() {
        ui::raw(said.stderr.as_bytes());
        return Err(failed(runner::describe(said.status), &said.stderr));
    }
    let invalid = |reason: String| failed(format!("an invalid release: {reason}"), &said.stdout);
    launch_yml::release(&said.stdout).map(Some).map_err(invalid)
}

fn contract(buildpack: &Classic, file: &str, reason: String) -> Error {
    Error::Contract {
        buildpack: buildpack.name.clone(),
        file: file.to_owned(),
        reason,
    }
}

fn folder(dir: &Path, prefix: String, name: &str, kind: LayerKind) -> Folder {
    Folder {
        dir: dir.to_owned(),
        prefix,
        kind,
        name: format!("{name}:{}", dir.file_name().unwrap_or_default().to_string_lossy()),
    }
}

fn cache_layer(buildpack: &Classic, dir: PathBuf) -> Layer {
    Layer {
        buildpack: buildpack.id(),
        name: "cache".to_owned(),
        dir,
        toml: LayerToml {
            types: LayerTypes {
                cache: true,
                ..LayerTypes::default()
            },
            metadata: toml::Table::new(),
        },
    }
}

fn shell(process_type: String, command: String, source: String) -> LaunchProcess {
    LaunchProcess {
        process_type,
        command: vec![command],
        direct: false,
        default: false,
        working_dir: None,
        source,
    }
}
