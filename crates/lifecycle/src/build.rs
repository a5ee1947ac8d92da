//! `build`: from source and buildpacks to layers and a result, phase by phase.

mod choose;

use crate::classic::{self, Classic};
use crate::cnb::build::{Builder, Built, Process};
use crate::cnb::descriptor::Buildpack;
use crate::cnb::detect::Detected;
use crate::cnb::environment::Environment;
use crate::cnb::layers::Layer;
use crate::cnb::process::Surroundings;
use crate::export::{self, Exported, Folder};
use crate::metadata::{LaunchBuildpack, LaunchMetadata, LaunchProcess};
use crate::{Error, Paths, procfile, ui};
use choose::Chosen;
use model::staging::{BuildInput, BuildResult, PhaseTime, UsedBuildpack};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Reads the input, builds, and writes `result.json` whatever happens.
///
/// # Errors
/// Why there is no droplet; the result file has it too.
pub fn run(paths: &Paths, input: &Path, environment: Environment) -> Result<BuildResult, Error> {
    let outcome = read_input(input).and_then(|input| build(paths, &input, environment));
    let result = match &outcome {
        Ok(result) => result.clone(),
        Err(error) => BuildResult {
            error: Some(error.explain()),
            ..BuildResult::default()
        },
    };
    write_result(paths, &result)?;
    outcome
}

fn read_input(path: &Path) -> Result<BuildInput, Error> {
    let invalid = |source: Box<dyn std::error::Error + Send + Sync>| Error::Input {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read(path).map_err(|error| invalid(error.into()))?;
    serde_json::from_slice(&text).map_err(|error| invalid(error.into()))
}

fn write_result(paths: &Paths, result: &BuildResult) -> Result<(), Error> {
    let path = paths.out.join("result.json");
    std::fs::create_dir_all(&paths.out).map_err(Error::file("create folder", &paths.out))?;
    let text = serde_json::to_vec(result).map_err(|error| Error::Metadata {
        reason: error.to_string(),
    })?;
    std::fs::write(&path, text).map_err(Error::file("write", &path))
}

/// Detects, builds and exports.
///
/// # Errors
/// Why there is no droplet.
pub fn build(paths: &Paths, input: &BuildInput, environment: Environment) -> Result<BuildResult, Error> {
    let mut clock = Clock::default();
    let tmp = scratch(paths)?;
    let restored = export::remember(paths, input);
    // Read first: a broken Procfile should not cost a whole build.
    let procfile = procfile::read(&paths.app)?;
    clock.lap("prepare");

    let around = Surroundings::prepare(&paths.app, tmp.path(), &input.stack, &input.env, environment.0)
        .map_err(Error::file("write", tmp.path()))?;
    let chosen = choose::choose(input, &around, tmp.path())?;
    clock.lap("detect");

    let parts = match &chosen {
        Chosen::Native(buildpacks, detected) => {
            native(paths, input, &around, buildpacks, detected, tmp.path(), &mut clock)?
        }
        Chosen::Classic(buildpacks) => classic(paths, &around, buildpacks, &mut clock)?,
    };
    let metadata = merge(parts.processes, parts.default, parts.launch, &procfile);
    metadata.write(paths)?;
    let exported = export::export(paths, input, &restored, &parts.folders, &parts.layers)?;
    clock.lap("export");
    summarise(&metadata, &exported);
    Ok(BuildResult {
        layers: exported.droplet,
        cache: exported.cache,
        cache_files: exported.cache_files,
        store: parts.store,
        processes: metadata.processes.iter().map(LaunchProcess::template).collect(),
        buildpacks: parts.used,
        phases: clock.laps,
        error: None,
    })
}

/// What either contract leaves to be exported and launched.
#[derive(Default)]
struct Parts {
    layers: Vec<Layer>,
    folders: Vec<Folder>,
    processes: Vec<LaunchProcess>,
    default: Option<String>,
    launch: Vec<LaunchBuildpack>,
    store: BTreeMap<String, serde_json::Value>,
    used: Vec<UsedBuildpack>,
}

fn native(
    paths: &Paths,
    input: &BuildInput,
    around: &Surroundings,
    buildpacks: &[Buildpack],
    detected: &Detected,
    tmp: &Path,
    clock: &mut Clock,
) -> Result<Parts, Error> {
    let mut parts = Parts::default();
    let mut builder = Builder::new(paths, input, around, &detected.resolved);
    for &index in &detected.resolved.buildpacks {
        let buildpack = &buildpacks[index];
        let identity = &buildpack.descriptor.buildpack;
        let found = detected.found.get(&index).cloned().unwrap_or_default();
        announce(&buildpack.name, &identity.version, &found);
        let built = builder.build(index, buildpack, tmp)?;
        clock.lap(&format!("build {}", buildpack.name));
        for process in &built.launch.processes {
            if process.default {
                parts.default = Some(process.process_type.clone());
            }
            replace(&mut parts.processes, native_process(process, &built, buildpack));
        }
        parts.launch.push(LaunchBuildpack {
            id: identity.id.clone(),
            version: identity.version.clone(),
        });
        parts.used.push(UsedBuildpack {
            id: identity.id.clone(),
            name: buildpack.name.clone(),
            version: identity.version.clone(),
            detected: found,
        });
        parts
            .store
            .extend(built.store.map(|store| (identity.id.clone(), store)));
        parts.layers.extend(built.layers);
    }
    Ok(parts)
}

fn native_process(process: &Process, built: &Built, buildpack: &Buildpack) -> LaunchProcess {
    let source = built.launch.source(&process.process_type);
    LaunchProcess {
        process_type: process.process_type.clone(),
        command: [process.command.as_slice(), &process.args].concat(),
        direct: true,
        default: false,
        working_dir: process.working_dir.clone(),
        source: source.unwrap_or(buildpack.id()).to_owned(),
    }
}

fn classic(
    paths: &Paths,
    around: &Surroundings,
    buildpacks: &[(Classic, String)],
    clock: &mut Clock,
) -> Result<Parts, Error> {
    let mut used = Vec::new();
    for (buildpack, found) in buildpacks {
        announce(&buildpack.name, "", found);
        used.push(UsedBuildpack {
            id: buildpack.name.clone(),
            name: buildpack.name.clone(),
            version: String::new(),
            detected: found.clone(),
        });
    }
    let all: Vec<Classic> = buildpacks.iter().map(|(buildpack, _)| buildpack.clone()).collect();
    let built = classic::build(paths, &all, around)?;
    let names: Vec<&str> = all.iter().map(|buildpack| buildpack.name.as_str()).collect();
    clock.lap(&format!("build {}", names.join(", ")));
    Ok(Parts {
        layers: built.caches,
        folders: built.folders,
        processes: built.processes,
        used,
        ..Parts::default()
    })
}

fn scratch(paths: &Paths) -> Result<tempfile::TempDir, Error> {
    std::fs::create_dir_all(&paths.tmp).map_err(Error::file("create folder", &paths.tmp))?;
    tempfile::Builder::new()
        .prefix("paas-build-")
        .tempdir_in(&paths.tmp)
        .map_err(Error::file("create a folder in", &paths.tmp))
}

fn announce(name: &str, version: &str, found: &str) {
    let label = format!("{name} {version}");
    let label = label.trim_end();
    if found.is_empty() {
        ui::headline(label);
    } else {
        ui::headline(&format!("{label}: {found}"));
    }
}

/// Processes by type: the Procfile replaces what buildpacks say.
fn merge(
    mut processes: Vec<LaunchProcess>,
    default: Option<String>,
    buildpacks: Vec<LaunchBuildpack>,
    procfile: &BTreeMap<String, String>,
) -> LaunchMetadata {
    for (process_type, command) in procfile {
        let replacement = LaunchProcess {
            process_type: process_type.clone(),
            command: vec![command.clone()],
            direct: false,
            default: false,
            working_dir: None,
            source: "Procfile".to_owned(),
        };
        replace(&mut processes, replacement);
    }
    let default = default.unwrap_or_else(|| "web".to_owned());
    for process in &mut processes {
        process.default = process.process_type == default;
    }
    LaunchMetadata { buildpacks, processes }
}

fn replace(processes: &mut Vec<LaunchProcess>, process: LaunchProcess) {
    processes.retain(|old| old.process_type != process.process_type);
    processes.push(process);
}

fn summarise(metadata: &LaunchMetadata, exported: &Exported) {
    ui::headline("Process types");
    if !metadata.processes.iter().any(|process| process.process_type == "web") {
        ui::alert("No web process: name one in a Procfile (`web: COMMAND`), or give a start command when you push.");
    }
    for process in &metadata.processes {
        let template = process.template();
        ui::detail(&format!(
            "{}: {} ({})",
            template.process_type, template.command, template.source
        ));
    }
    let written: Vec<_> = exported.droplet.iter().filter(|layer| layer.file.is_some()).collect();
    let bytes: u64 = written.iter().map(|layer| layer.size_bytes).sum();
    ui::headline(&format!(
        "Layers: {} new ({}), {} reused",
        written.len(),
        megabytes(bytes),
        exported.droplet.len() - written.len()
    ));
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Times of phases, each from the end of the one before.
struct Clock {
    last: Instant,
    laps: Vec<PhaseTime>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            last: Instant::now(),
            laps: Vec::new(),
        }
    }
}

impl Clock {
    fn lap(&mut self, name: &str) {
        let now = Instant::now();
        let duration = now.duration_since(self.last);
        self.last = now;
        self.laps.push(PhaseTime {
            name: name.to_owned(),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        });
    }
}
