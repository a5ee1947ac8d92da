//! Runs `bin/build` of each member of the group in order, each with the layers and the plan that earlier ones left it.

use super::descriptor::Buildpack;
use super::environment::{Environment, Scope};
use super::guard::Outside;
use super::launch_toml::{LaunchToml, Written};
use super::layers::{self, Layer};
use super::plan::{Entry, Resolved};
use super::process::Surroundings;
use super::sbom::{self, Found};
use crate::{Error, Paths, runner};
use model::staging::BuildInput;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What a buildpack left behind.
#[derive(Debug)]
pub struct Built {
    /// Index of the buildpack.
    pub buildpack: usize,
    /// Its layers with any type, by name.
    pub layers: Vec<Layer>,
    /// `launch.toml`.
    pub launch: LaunchToml,
    /// `[metadata]` of `store.toml`.
    pub store: Option<serde_json::Value>,
    /// Bills of materials.
    pub sboms: Vec<Found>,
}

/// `build.toml`.
#[derive(Debug, Default, Deserialize)]
struct BuildToml {
    #[serde(default)]
    unmet: Vec<Unmet>,
}

#[derive(Debug, Deserialize)]
struct Unmet {
    name: String,
}

/// `store.toml`.
#[derive(Debug, Default, Deserialize)]
struct StoreToml {
    metadata: Option<serde_json::Value>,
}

/// State that goes from one buildpack to the next.
pub struct Builder<'a> {
    paths: &'a Paths,
    input: &'a BuildInput,
    around: &'a Surroundings,
    environment: Environment,
    entries: BTreeMap<String, Entry>,
}

impl<'a> Builder<'a> {
    /// Starts with the plan that detection resolved.
    #[must_use]
    pub fn new(paths: &'a Paths, input: &'a BuildInput, around: &'a Surroundings, resolved: &Resolved) -> Self {
        Self {
            paths,
            input,
            around,
            environment: around.base.clone(),
            entries: resolved.entries.clone(),
        }
    }

    /// Restores, runs and reads one buildpack.
    ///
    /// # Errors
    /// [`Error::BuildFailed`] where it fails, [`Error::Contract`] where what it left cannot be read.
    pub fn build(&mut self, index: usize, buildpack: &Buildpack, tmp: &Path) -> Result<Built, Error> {
        let folder = self.paths.buildpack_layers(buildpack.id());
        let store = self.input.store.get(buildpack.id());
        layers::restore(&folder, buildpack.id(), &self.input.restored, store)?;
        sbom::restore(self.paths, buildpack.id(), &self.input.restored)?;
        let plan = tmp.join(format!("plan-{index}.toml"));
        std::fs::write(&plan, self.plan(index)).map_err(Error::file("write", &plan))?;
        let outside = Outside::of(self.paths, buildpack)?;
        self.run(buildpack, &folder, &plan)?;
        outside.check(self.paths, buildpack)?;
        let built = read(self.paths, &folder, index, buildpack)?;
        self.settle(index, buildpack, &folder)?;
        for layer in built.layers.iter().filter(|layer| layer.toml.types.build) {
            self.environment.add_roots(&layer.dir, Scope::Build);
            self.environment.add_files(&layer.dir, Scope::Build);
        }
        Ok(built)
    }

    fn plan(&self, index: usize) -> String {
        let provided = self.entries.values().filter(|entry| entry.providers.contains(&index));
        let entries: Vec<_> = provided.flat_map(|entry| &entry.requires).collect();
        let mut table = toml::Table::new();
        if let Ok(entries) = toml::Value::try_from(entries) {
            table.insert("entries".to_owned(), entries);
        }
        table.to_string()
    }

    fn run(&self, buildpack: &Buildpack, folder: &Path, plan: &Path) -> Result<(), Error> {
        let mut command = self.around.command(buildpack, "build", &self.environment);
        command
            .arg(folder)
            .arg(&self.around.platform)
            .arg(plan)
            .env("CNB_LAYERS_DIR", folder)
            .env("CNB_BP_PLAN_PATH", plan);
        let failed = |status: String, tail: Vec<String>| Error::BuildFailed {
            buildpack: buildpack.name.clone(),
            script: "build",
            status,
            tail,
        };
        let outcome = runner::run_loud(&mut command)
            .map_err(|error| failed(format!("bin/build could not be started: {error}"), Vec::new()))?;
        if outcome.status.success() {
            return Ok(());
        }
        Err(failed(runner::describe(outcome.status), outcome.tail))
    }

    /// What this buildpack provides is done, save what it says it left to the next provider.
    fn settle(&mut self, index: usize, buildpack: &Buildpack, folder: &Path) -> Result<(), Error> {
        let left: BuildToml = read_file(folder, "build.toml", buildpack)?;
        let told = |unmet: &Unmet| {
            let entry = self.entries.get(&unmet.name);
            entry.is_some_and(|entry| entry.providers.contains(&index))
        };
        if let Some(unmet) = left.unmet.iter().find(|unmet| !told(unmet)) {
            return Err(Error::Contract {
                buildpack: buildpack.name.clone(),
                file: "build.toml".to_owned(),
                reason: format!("unmet {:?} is no entry of its plan", unmet.name),
            });
        }
        self.entries.retain(|name, entry| {
            !entry.providers.contains(&index) || left.unmet.iter().any(|unmet| unmet.name == *name)
        });
        Ok(())
    }
}

fn read(paths: &Paths, folder: &Path, index: usize, buildpack: &Buildpack) -> Result<Built, Error> {
    let written: Written = read_file(folder, "launch.toml", buildpack)?;
    let launch = LaunchToml::read(written, buildpack.api).map_err(|reason| Error::Contract {
        buildpack: buildpack.name.clone(),
        file: "launch.toml".to_owned(),
        reason,
    })?;
    let store: StoreToml = read_file(folder, "store.toml", buildpack)?;
    let layers = layers::read(folder, buildpack)?;
    Ok(Built {
        buildpack: index,
        sboms: sbom::find(paths, buildpack, &layers)?,
        layers,
        launch,
        store: store.metadata,
    })
}

fn read_file<T: serde::de::DeserializeOwned + Default>(
    folder: &Path,
    file: &str,
    buildpack: &Buildpack,
) -> Result<T, Error> {
    match layers::read_toml(&folder.join(file)) {
        Ok(found) => Ok(found.unwrap_or_default()),
        Err(reason) => Err(Error::Contract {
            buildpack: buildpack.name.clone(),
            file: file.to_owned(),
            reason,
        }),
    }
}
