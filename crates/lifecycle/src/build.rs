//! `build`: from source and buildpacks to layers and a result, phase by phase.

use crate::cnb::build::{Builder, Built};
use crate::cnb::descriptor::Buildpack;
use crate::cnb::detect::{self, Detected};
use crate::cnb::environment::Environment;
use crate::cnb::order;
use crate::cnb::process::Surroundings;
use crate::export::{self, Exported};
use crate::metadata::{LaunchBuildpack, LaunchMetadata, LaunchProcess};
use crate::{Error, Paths, procfile, ui};
use model::staging::{BuildInput, BuildResult, PhaseTime, UsedBuildpack};
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

    let loaded: Result<Vec<Buildpack>, Error> = input.buildpacks.iter().map(Buildpack::load).collect();
    let buildpacks = loaded?;
    let around = Surroundings::prepare(&paths.app, tmp.path(), &input.stack, &input.env, environment.0)
        .map_err(Error::file("write", tmp.path()))?;
    let groups = order::groups(&buildpacks, input.detect)?;
    let detected = detect::detect(&buildpacks, &groups, &around, tmp.path(), !input.detect)?;
    announce(&buildpacks, &detected);
    clock.lap("detect");

    let mut builder = Builder::new(paths, input, &around, &detected.resolved);
    let mut built = Vec::new();
    for &index in &detected.resolved.buildpacks {
        built.push(builder.build(index, &buildpacks[index], tmp.path())?);
        clock.lap(&format!("build {}", buildpacks[index].name));
    }

    let metadata = launch_metadata(&buildpacks, &built, &procfile);
    metadata.write(paths)?;
    let layers: Vec<_> = built.iter().flat_map(|built| built.layers.clone()).collect();
    let exported = export::export(paths, input, &restored, &layers)?;
    clock.lap("export");
    summarise(&metadata, &exported);
    let store = built
        .iter()
        .filter_map(|built| Some((buildpacks[built.buildpack].id().to_owned(), built.store.clone()?)));
    Ok(BuildResult {
        layers: exported.droplet,
        cache: exported.cache,
        cache_files: exported.cache_files,
        store: store.collect(),
        processes: metadata.processes.iter().map(LaunchProcess::template).collect(),
        buildpacks: used(&buildpacks, &detected),
        phases: clock.laps,
        error: None,
    })
}

fn scratch(paths: &Paths) -> Result<tempfile::TempDir, Error> {
    std::fs::create_dir_all(&paths.tmp).map_err(Error::file("create folder", &paths.tmp))?;
    tempfile::Builder::new()
        .prefix("paas-build-")
        .tempdir_in(&paths.tmp)
        .map_err(Error::file("create a folder in", &paths.tmp))
}

fn announce(buildpacks: &[Buildpack], detected: &Detected) {
    for index in &detected.resolved.buildpacks {
        let buildpack = &buildpacks[*index];
        let version = &buildpack.descriptor.buildpack.version;
        let label = format!("{} {version}", buildpack.name);
        match detected.found.get(index).filter(|found| !found.is_empty()) {
            Some(found) => ui::headline(&format!("{}: {found}", label.trim_end())),
            None => ui::headline(label.trim_end()),
        }
    }
}

/// Processes by type: a later buildpack replaces an earlier one, and the Procfile replaces all.
fn launch_metadata(
    buildpacks: &[Buildpack],
    built: &[Built],
    procfile: &std::collections::BTreeMap<String, String>,
) -> LaunchMetadata {
    let mut processes: Vec<LaunchProcess> = Vec::new();
    let mut default = None;
    for part in built {
        let buildpack = &buildpacks[part.buildpack];
        for process in &part.launch.processes {
            if process.default {
                default = Some(process.process_type.clone());
            }
            let source = part.launch.source(&process.process_type);
            let replacement = LaunchProcess {
                process_type: process.process_type.clone(),
                command: [process.command.as_slice(), &process.args].concat(),
                direct: true,
                default: false,
                working_dir: process.working_dir.clone(),
                source: source.unwrap_or(buildpack.id()).to_owned(),
            };
            replace(&mut processes, replacement);
        }
    }
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
    let used = built.iter().map(|part| {
        let identity = &buildpacks[part.buildpack].descriptor.buildpack;
        LaunchBuildpack {
            id: identity.id.clone(),
            version: identity.version.clone(),
        }
    });
    LaunchMetadata {
        buildpacks: used.collect(),
        processes,
    }
}

fn replace(processes: &mut Vec<LaunchProcess>, process: LaunchProcess) {
    processes.retain(|old| old.process_type != process.process_type);
    processes.push(process);
}

fn used(buildpacks: &[Buildpack], detected: &Detected) -> Vec<UsedBuildpack> {
    let used = detected.resolved.buildpacks.iter().map(|index| UsedBuildpack {
        id: buildpacks[*index].id().to_owned(),
        name: buildpacks[*index].name.clone(),
        version: buildpacks[*index].descriptor.buildpack.version.clone(),
        detected: detected.found.get(index).cloned().unwrap_or_default(),
    });
    used.collect()
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
