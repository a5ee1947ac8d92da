//! `build`: from source and buildpacks to layers and a result, phase by phase.

mod choose;

use crate::classic::{self, Classic};
use crate::cnb::build::{Builder, Built};
use crate::cnb::descriptor::Buildpack;
use crate::cnb::detect::Detected;
use crate::cnb::environment::Environment;
use crate::cnb::launch_toml::Process;
use crate::cnb::layers::{Layer, LayerToml};
use crate::cnb::process::Surroundings;
use crate::cnb::sbom;
use crate::export::{self, Exported, Folder};
use crate::metadata::{LaunchBuildpack, LaunchMetadata, LaunchProcess};
use crate::{Error, Paths, disk, procfile, source, ui};
use choose::Chosen;
use model::image::ImageSource;
use model::staging::{BuildInput, BuildResult, LayerTypes, PhaseTime, SbomFile, SidecarTemplate, UsedBuildpack};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Reads the input, builds, and writes `result.json` whatever happens.
///
/// # Errors
/// Why there is no droplet; the result file has it too.
pub fn run(paths: &Paths, input: &Path, environment: Environment) -> Result<BuildResult, Error> {
    let reserve = reserve(paths)?;
    let outcome = read_input(input)
        .and_then(|input| build(paths, &input, environment))
        .map_err(|error| blame_disk(paths, error));
    let result = match &outcome {
        Ok(result) => result.clone(),
        Err(error) => BuildResult {
            error: Some(error.explain()),
            ..BuildResult::default()
        },
    };
    let _ = std::fs::remove_file(reserve);
    write_result(paths, &result)?;
    outcome
}

/// Room for the result, which has to be written even when the disk is full.
fn reserve(paths: &Paths) -> Result<PathBuf, Error> {
    const BYTES: usize = 1 << 20;
    std::fs::create_dir_all(&paths.out).map_err(Error::file("create folder", &paths.out))?;
    let file = paths.out.join("reserve");
    std::fs::write(&file, vec![1; BYTES]).map_err(Error::file("write", &file))?;
    Ok(file)
}

/// A failure on a full disk is for the disk, whatever the program that failed says. What was exported by then is of no use.
fn blame_disk(paths: &Paths, error: Error) -> Error {
    let is_full = || disk::full(&paths.layers).or_else(|| disk::full(&paths.app));
    // What did not fit is often removed by the program that wrote it; what it said is still there.
    let was_full = || {
        error
            .tells_of_full_disk()
            .then(|| disk::size_mb(&paths.layers))
            .flatten()
    };
    let Some(size_mb) = is_full().or_else(was_full) else {
        return error;
    };
    for index in 0.. {
        if std::fs::remove_file(paths.out.join(format!("{index}.tar.zst"))).is_err() {
            break;
        }
    }
    Error::DiskFull {
        size_mb,
        source: Box::new(error),
    }
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
    if let Some(source) = &input.image {
        return image(paths, input, source, &environment, clock);
    }
    let tmp = scratch(paths)?;
    let restored = export::remember(paths, input);
    // A broken Procfile should not cost a whole build.
    procfile::read(&paths.app)?;
    clock.lap("prepare");

    let around = Surroundings::prepare(&paths.app, tmp.path(), &input.stack, &input.env, environment.0)
        .map_err(Error::file("write", tmp.path()))?;
    let fetched = source::fetch(paths, input, &around, tmp.path())?;
    if input.buildpacks.iter().any(|buildpack| buildpack.source.is_some()) {
        clock.lap("fetch buildpacks");
    }
    let chosen = choose::choose(&fetched.buildpacks, input.detect, &around, tmp.path())?;
    clock.lap("detect");

    let mut parts = match &chosen {
        Chosen::Native(buildpacks, detected) => {
            native(paths, input, &around, buildpacks, detected, tmp.path(), &mut clock)?
        }
        Chosen::Classic(buildpacks) => classic(paths, &around, buildpacks, tmp.path(), &mut clock)?,
    };
    parts.layers.extend(fetched.caches);
    // As it is now: there are buildpacks whose whole purpose is to write one.
    let metadata = merge(&mut parts, &procfile::read(&paths.app)?);
    metadata.write(paths)?;
    let exported = export::export(paths, input, &restored, &parts.folders, &parts.slices, &parts.layers)?;
    clock.lap("export");
    summarise(&metadata, &exported);
    Ok(BuildResult {
        layers: exported.droplet,
        cache: exported.cache,
        cache_files: exported.cache_files,
        store: parts.store,
        processes: metadata.processes.iter().map(LaunchProcess::template).collect(),
        buildpacks: parts.used,
        sidecars: parts.sidecars,
        labels: parts.labels,
        sboms: parts.sboms,
        image: None,
        phases: clock.laps,
        error: None,
    })
}

/// An image is taken as it is.
fn image(
    paths: &Paths,
    input: &BuildInput,
    source: &ImageSource,
    environment: &Environment,
    mut clock: Clock,
) -> Result<BuildResult, Error> {
    let mut result = crate::image::take(paths, input, source, environment)?;
    clock.lap("image");
    result.phases = clock.laps;
    Ok(result)
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
    slices: Vec<Vec<String>>,
    labels: BTreeMap<String, String>,
    sboms: Vec<SbomFile>,
    sidecars: Vec<SidecarTemplate>,
    entrypoint_prefix: Option<String>,
    defaults: BTreeMap<String, String>,
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
    let mut sboms = Vec::new();
    let mut builder = Builder::new(paths, input, around, &detected.resolved);
    for &index in &detected.resolved.buildpacks {
        let buildpack = &buildpacks[index];
        let identity = &buildpack.descriptor.buildpack;
        let found = detected.found.get(&index).cloned().unwrap_or_default();
        announce(&buildpack.name, &identity.version, &found);
        let built = builder.build(index, buildpack, tmp)?;
        clock.lap(&format!("build {}", buildpack.name));
        parts.take(built, buildpack, &found, &mut sboms);
    }
    sbom::clear(paths)?;
    if let Some(dir) = sbom::gather(paths, &sboms)? {
        parts.layers.push(sbom_layer(dir));
    }
    parts.sboms = sboms.into_iter().map(|found| found.file).collect();
    Ok(parts)
}

impl Parts {
    /// Takes over what a buildpack built; where two say something of one name, the later is right.
    fn take(&mut self, built: Built, buildpack: &Buildpack, found: &str, sboms: &mut Vec<sbom::Found>) {
        let identity = &buildpack.descriptor.buildpack;
        for process in &built.launch.processes {
            if process.default {
                self.default = Some(process.process_type.clone());
            }
            replace(&mut self.processes, native_process(process, &built, buildpack));
        }
        self.launch.push(LaunchBuildpack {
            id: identity.id.clone(),
            version: identity.version.clone(),
        });
        self.used.push(UsedBuildpack {
            id: identity.id.clone(),
            name: buildpack.name.clone(),
            version: identity.version.clone(),
            detected: found.to_owned(),
        });
        self.store.extend(built.store.map(|store| (identity.id.clone(), store)));
        let labels = built.launch.labels.into_iter();
        self.labels.extend(labels.map(|label| (label.key, label.value)));
        self.slices.extend(built.launch.slices);
        self.layers.extend(built.layers);
        sboms.extend(built.sboms);
    }
}

/// The gathered bills of materials: part of the droplet, and back for the next build.
fn sbom_layer(dir: PathBuf) -> Layer {
    Layer {
        buildpack: sbom::OWNER.to_owned(),
        name: sbom::LAYER.to_owned(),
        dir,
        toml: LayerToml {
            types: LayerTypes {
                launch: true,
                cache: true,
                build: false,
            },
            metadata: toml::Table::new(),
        },
    }
}

fn native_process(process: &Process, built: &Built, buildpack: &Buildpack) -> LaunchProcess {
    let source = built.launch.source(&process.process_type);
    LaunchProcess {
        process_type: process.process_type.clone(),
        command: process.command.clone(),
        args: process.args.clone(),
        direct: process.direct,
        default: false,
        working_dir: process.working_dir.clone(),
        source: source.unwrap_or(buildpack.id()).to_owned(),
        memory_mb: None,
    }
}

fn classic(
    paths: &Paths,
    around: &Surroundings,
    buildpacks: &[(Classic, String)],
    tmp: &Path,
    clock: &mut Clock,
) -> Result<Parts, Error> {
    for (buildpack, found) in buildpacks {
        announce(&buildpack.name, "", found);
    }
    let all: Vec<Classic> = buildpacks.iter().map(|(buildpack, _)| buildpack.clone()).collect();
    let built = classic::build(paths, &all, around, tmp)?;
    let names: Vec<&str> = all.iter().map(|buildpack| buildpack.name.as_str()).collect();
    clock.lap(&format!("build {}", names.join(", ")));
    let identities = buildpacks.iter().zip(built.identities);
    let used = identities.map(|((buildpack, found), (name, version))| UsedBuildpack {
        id: buildpack.name.clone(),
        name,
        version,
        detected: found.clone(),
    });
    Ok(Parts {
        used: used.collect(),
        layers: built.caches,
        folders: built.folders,
        processes: built.processes,
        sidecars: built.sidecars,
        entrypoint_prefix: built.entrypoint_prefix,
        defaults: built.defaults,
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
fn merge(parts: &mut Parts, procfile: &BTreeMap<String, String>) -> LaunchMetadata {
    let mut processes = std::mem::take(&mut parts.processes);
    for (process_type, command) in procfile {
        let process = LaunchProcess::shell(process_type.clone(), command.clone(), "Procfile".to_owned());
        replace(&mut processes, process);
    }
    let default = parts.default.take().unwrap_or_else(|| "web".to_owned());
    for process in &mut processes {
        process.default = process.process_type == default;
    }
    for sidecar in &parts.sidecars {
        ui::alert(&format!(
            "The sidecar {} runs beside {}.",
            sidecar.name,
            sidecar.process_types.join(", ")
        ));
    }
    LaunchMetadata {
        buildpacks: std::mem::take(&mut parts.launch),
        entrypoint_prefix: parts.entrypoint_prefix.take(),
        defaults: std::mem::take(&mut parts.defaults),
        processes,
    }
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
pub(crate) fn megabytes(bytes: u64) -> String {
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
