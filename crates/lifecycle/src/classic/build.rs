//! Runs the scripts of classic buildpacks and reads what they leave.

use super::chain::{self, Step};
use super::files::{self, Declared};
use super::{Classic, script};
use crate::cnb::layers::{Layer, LayerToml};
use crate::cnb::process::Surroundings;
use crate::export::Folder;
use crate::metadata::LaunchProcess;
use crate::{Error, Paths, runner, ui};
use model::staging::{LayerKind, LayerTypes, SidecarTemplate};
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
    /// What runs beside processes.
    pub sidecars: Vec<SidecarTemplate>,
    /// Name and version of each buildpack, as it says itself where it does.
    pub identities: Vec<(String, String)>,
    /// Runs shell commands instead of the shell.
    pub entrypoint_prefix: Option<String>,
    /// Variables that processes have unless the user sets them.
    pub defaults: BTreeMap<String, String>,
}

/// State of a chain of buildpacks.
struct Chain<'a> {
    paths: &'a Paths,
    buildpacks: &'a [Classic],
    around: &'a Surroundings,
    /// `export` files of those that are done, for Heroku's.
    exports: Vec<PathBuf>,
}

/// Runs `buildpacks`, of which all but the last only supply.
///
/// # Errors
/// [`Error::Chain`] where they cannot work together, [`Error::BuildFailed`] with the script that failed, or
/// [`Error::Contract`] where what it left cannot be read.
pub fn build(paths: &Paths, buildpacks: &[Classic], around: &Surroundings, tmp: &Path) -> Result<ClassicBuilt, Error> {
    let steps = chain::steps(buildpacks)?;
    let heroku = chain::is_heroku(buildpacks);
    let writable: Result<Vec<Classic>, Error> = buildpacks.iter().map(|one| one.writable(tmp)).collect();
    let buildpacks = writable?;
    let mut chain = Chain {
        paths,
        buildpacks: &buildpacks,
        around,
        exports: Vec::new(),
    };
    for at in 0..buildpacks.len() {
        for folder in [chain.deps(at), paths.profile(), chain.cache(at)] {
            std::fs::create_dir_all(&folder).map_err(Error::file("create folder", &folder))?;
        }
    }
    let mut merged = Merged::default();
    for (position, &step) in steps.iter().enumerate() {
        chain.run(step)?;
        let is_done = steps
            .get(position + 1)
            .is_none_or(|next| next.buildpack != step.buildpack);
        if !is_done {
            continue;
        }
        let is_last = step.buildpack + 1 == buildpacks.len();
        let declared = chain.declared(step.buildpack, is_last)?;
        merged.add(declared, &buildpacks[step.buildpack].name);
        if heroku {
            let export = buildpacks[step.buildpack].dir.join("export");
            chain.exports.extend(export.is_file().then_some(export));
        }
    }
    chain.leave(merged)
}

impl Chain<'_> {
    /// `deps/<index>`, as wide as the highest index of as many.
    fn index(&self, at: usize) -> String {
        let width = self.buildpacks.len().to_string().len();
        format!("{at:0width$}")
    }

    fn deps(&self, at: usize) -> PathBuf {
        self.paths.deps.join(self.index(at))
    }

    fn cache(&self, at: usize) -> PathBuf {
        self.paths.buildpack_layers(&self.buildpacks[at].id()).join("cache")
    }

    fn run(&self, step: Step) -> Result<(), Error> {
        let at = step.buildpack;
        let buildpack = &self.buildpacks[at];
        let (app, cache, index) = (self.paths.app.clone(), self.cache(at), self.index(at));
        let profile = self.paths.profile();
        let mut arguments = vec![app, cache];
        match step.script {
            "compile" => {
                let deps = self.deps(at);
                std::fs::remove_dir_all(&deps).map_err(Error::file("remove", &deps))?;
                if at > 0 && self.exports.is_empty() && !chain::is_heroku(self.buildpacks) {
                    ui::alert(&format!(
                        "{} has no bin/finalize: it may not see what the buildpacks before it supply.",
                        buildpack.name
                    ));
                }
                // Heroku's folder of variables; others do not look at it.
                arguments.push(self.around.platform.join("env"));
            }
            "finalize" => arguments.extend([self.paths.deps.clone(), index.into(), profile]),
            _ => arguments.extend([self.paths.deps.clone(), index.into()]),
        }
        script::run(buildpack, step.script, &arguments, self.around, &self.exports)
    }

    /// What a buildpack that is done wants started: its launch.yml, or else the release of the last.
    fn declared(&self, at: usize, is_last: bool) -> Result<Declared, Error> {
        let buildpack = &self.buildpacks[at];
        // Some tools write the index without its leading zeros.
        for folder in [self.index(at), at.to_string()] {
            let file = self.paths.deps.join(folder).join("launch.yml");
            if let Some(declared) = files::launch(&file).map_err(|reason| contract(buildpack, "launch.yml", reason))? {
                return Ok(declared);
            }
        }
        if is_last && buildpack.has("release") {
            return self.release(buildpack);
        }
        Ok(Declared::default())
    }

    fn release(&self, buildpack: &Classic) -> Result<Declared, Error> {
        let mut command = script::command(buildpack, "release", self.around, &self.exports);
        let failed = |status: String, tail: &str| Error::BuildFailed {
            buildpack: buildpack.name.clone(),
            script: "release",
            status,
            tail: tail.lines().map(str::to_owned).collect(),
        };
        let said = runner::run_quiet(command.arg(&self.paths.app))
            .map_err(|error| failed(format!("bin/release could not be started: {error}"), ""))?;
        if !said.status.success() {
            ui::raw(said.stderr.as_bytes());
            return Err(failed(runner::describe(said.status), &said.stderr));
        }
        let invalid = |reason: String| failed(format!("buildpack's release output invalid: {reason}"), &said.stdout);
        files::release(&said.stdout).map_err(invalid)
    }

    /// Gathers what is in the folders now that all are done.
    fn leave(&self, merged: Merged) -> Result<ClassicBuilt, Error> {
        let mut built = ClassicBuilt::default();
        for (at, buildpack) in self.buildpacks.iter().enumerate() {
            let deps = self.deps(at);
            let config = files::config(&deps.join("config.yml"))
                .map_err(|reason| contract(buildpack, "config.yml", reason))?
                .unwrap_or_default();
            let version = config.version.map(|version| version.0).unwrap_or_default();
            built
                .identities
                .push((config.name.unwrap_or_else(|| buildpack.name.clone()), version));
            let prefix = config.config.and_then(|config| config.entrypoint_prefix);
            built.entrypoint_prefix = prefix.or(built.entrypoint_prefix);
            if deps.is_dir() {
                let prefix = format!("home/vcap/deps/{}", self.index(at));
                built
                    .folders
                    .push(folder(&deps, prefix, &buildpack.name, LayerKind::Dependencies));
            }
            built.caches.push(cache_layer(buildpack, self.cache(at)));
        }
        let profile = self.paths.profile();
        let prefix = "home/vcap/profile.d".to_owned();
        built
            .folders
            .push(folder(&profile, prefix, "profile", LayerKind::Config));
        merged.into(&mut built);
        Ok(built)
    }
}

/// Declarations of all buildpacks, of which the later ones replace the earlier.
#[derive(Default)]
struct Merged {
    processes: BTreeMap<String, LaunchProcess>,
    sidecars: BTreeMap<String, SidecarTemplate>,
    defaults: BTreeMap<String, String>,
}

impl Merged {
    fn add(&mut self, declared: Declared, source: &str) {
        for (process_type, start) in declared.processes {
            let mut process = LaunchProcess::shell(process_type.clone(), start.command, source.to_owned());
            process.memory_mb = start.memory_mb;
            self.processes.insert(process_type, process);
        }
        for (name, (start, process_types)) in declared.sidecars {
            let sidecar = SidecarTemplate {
                name: name.clone(),
                command: start.command,
                process_types,
                memory_mb: start.memory_mb,
            };
            self.sidecars.insert(name, sidecar);
        }
        self.defaults.extend(declared.config_vars);
    }

    fn into(self, built: &mut ClassicBuilt) {
        built.processes = self.processes.into_values().collect();
        built.sidecars = self.sidecars.into_values().collect();
        built.defaults = self.defaults;
    }
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
