//! Makes work specs from rows: environment, layers, limits. Once placed they never change.

use super::load::PendingTask;
use crate::actions::buildpack;
use crate::config::Config;
use crate::context::Context;
use model::health::Probe;
use model::id::VersionId;
use model::image::ImageSource;
use model::limits::Limits;
use model::resource::{AppLifecycle, Build, Buildpack, Droplet};
use model::secret::SecretEnv;
use model::staging::{BuildFailure, BuildInput, BuildpackMount, BuildpackSource, FailureClass};
use model::work::{BuildSpec, InstanceSpec, Owner, TaskSpec, WorkKind, WorkSpec};
use serde_json::json;
use store::{DesiredProcess, DesiredVersion, PendingBuild};

/// The port that apps are told to listen on. Each instance has a network of its own.
pub(crate) const APP_PORT: u16 = 8080;
/// Longest build.
const BUILD_SECONDS: u32 = 15 * 60;
/// Longest task.
const TASK_SECONDS: u32 = 24 * 60 * 60;
/// File descriptors of an instance, as `VCAP_APPLICATION` says them.
const FILES: u32 = 16384;

/// An instance of a version.
pub(super) fn instance(config: &Config, of: &DesiredProcess, version: &DesiredVersion, index: u32) -> WorkSpec {
    let DesiredVersion { version, droplet } = version;
    let process = &of.process;
    let listens = process.process_type.as_str() == "web" || !matches!(version.health.probe, Probe::Process);
    let mut env = version.env.clone();
    let mut about = application(config, &of.owner, &version.limits, &of.uris);
    about["process_id"] = json!(process.id);
    about["process_type"] = json!(process.process_type);
    about["application_version"] = json!(version.id);
    about["version"] = json!(version.id);
    platform_env(&mut env, &about);
    WorkSpec {
        owner: of.owner.clone(),
        limits: version.limits,
        stack: droplet.stack.clone(),
        env,
        kind: WorkKind::Instance(InstanceSpec {
            process: process.id,
            process_type: process.process_type.clone(),
            version: version.id,
            index,
            droplet: droplet.id,
            layers: droplet.layers.clone(),
            command: version.command.clone(),
            health: version.health.clone(),
            port: listens.then(|| port(droplet)),
            grace_seconds: version.grace_seconds,
            uris: of.uris.clone(),
            sidecars: model::sidecar::beside(&version.sidecars, process.process_type.as_str()),
            image: droplet.image.clone(),
        }),
    }
}

/// The port that an app is to listen on: the first that an image exposes, or the usual one.
fn port(droplet: &Droplet) -> u16 {
    let image = droplet.image.as_ref();
    image.and_then(|image| image.ports.first()).copied().unwrap_or(APP_PORT)
}

/// The version of a process that is to be placed, where it is there.
pub(super) fn version(of: &DesiredProcess, id: VersionId) -> Option<&DesiredVersion> {
    let mut versions = of.versions.iter();
    versions.find(|version| version.version.id == id).map(AsRef::as_ref)
}

/// A build. `env` is the app's with that of its services.
///
/// # Errors
/// What to tell the user where it names a buildpack that the platform does not have.
pub(super) fn build(
    context: &Context,
    known: &[Buildpack],
    pending: &PendingBuild,
    mut env: SecretEnv,
) -> Result<WorkSpec, BuildFailure> {
    let PendingBuild { build, app, owner, .. } = pending;
    platform_env(&mut env, &application(&context.config, owner, &build.limits, &[]));
    env.set("CF_STACK", build.stack.to_string());
    let image = match (build.lifecycle, &pending.image) {
        (AppLifecycle::Docker, Some(image)) => Some(ImageSource::Registry(image.clone())),
        (AppLifecycle::Docker, None) => Some(ImageSource::Package),
        (AppLifecycle::Buildpack, _) => None,
    };
    let buildpacks = match image {
        None => mounts(context, known, build)?,
        Some(_) => Vec::new(),
    };
    Ok(WorkSpec {
        owner: owner.clone(),
        limits: build.limits,
        stack: build.stack.clone(),
        env: env.clone(),
        kind: WorkKind::Build(Box::new(BuildSpec {
            build: build.id,
            package: build.package,
            package_digest: pending.package_digest.clone(),
            input: BuildInput {
                app_name: app.name.to_string(),
                stack: build.stack.to_string(),
                buildpacks,
                detect: build.buildpacks.is_empty(),
                env,
                memory_mb: build.limits.memory_mb,
                restored: pending.cache.layers.clone(),
                store: pending.cache.store.clone(),
                image,
            },
            timeout_seconds: BUILD_SECONDS,
        })),
    })
}

/// A task. `env` is the app's with that of its services.
pub(super) fn task(config: &Config, pending: &PendingTask, mut env: SecretEnv) -> WorkSpec {
    let PendingTask {
        task, owner, droplet, ..
    } = pending;
    platform_env(&mut env, &application(config, owner, &task.limits, &[]));
    WorkSpec {
        owner: owner.clone(),
        limits: task.limits,
        stack: droplet.stack.clone(),
        env,
        kind: WorkKind::Task(TaskSpec {
            task: task.id,
            name: task.name.clone(),
            droplet: droplet.id,
            layers: droplet.layers.clone(),
            command: task.command.clone(),
            timeout_seconds: TASK_SECONDS,
            image: droplet.image.clone(),
        }),
    }
}

fn mounts(context: &Context, known: &[Buildpack], build: &Build) -> Result<Vec<BuildpackMount>, BuildFailure> {
    if build.buildpacks.is_empty() {
        return Ok(buildpack::candidates(known, &build.stack)
            .filter_map(|one| mount(&context.config, one))
            .collect());
    }
    let find = |name: &String| {
        if let Ok(Some(source)) = BuildpackSource::parse(name) {
            return Ok(BuildpackMount {
                name: name.clone(),
                path: String::new(),
                source: Some(source),
            });
        }
        let one = buildpack::named(context, known, name, Some(&build.stack));
        let mount = one.and_then(|one| mount(&context.config, one));
        mount.ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
            BuildFailure {
                class: FailureClass::NoAppDetectedError,
                title: format!("there is no buildpack {name}"),
                cause: format!(
                    "the app names a buildpack that the platform does not have, or has not for the stack {}",
                    build.stack
                ),
                remedy: format!("use one of: {}", names.join(", ")),
            }
        })
    };
    build.buildpacks.iter().map(find).collect()
}

/// How a staging sandbox sees a buildpack of the platform.
fn mount(config: &Config, buildpack: &Buildpack) -> Option<BuildpackMount> {
    let name = buildpack.name.clone();
    if let Some(builtin) = &buildpack.builtin {
        let known = config.buildpacks.iter().find(|known| known.name == *builtin)?;
        return Some(BuildpackMount {
            name,
            path: format!("/.paas/buildpacks/{}", known.folder),
            source: None,
        });
    }
    let digest = buildpack.digest.clone()?;
    Some(BuildpackMount {
        name,
        path: String::new(),
        source: Some(BuildpackSource::Archive {
            path: model::staging::archive_path(&digest),
            digest,
        }),
    })
}

/// `VCAP_APPLICATION` without what only the cell knows.
fn application(config: &Config, owner: &Owner, limits: &Limits, uris: &[String]) -> serde_json::Value {
    json!({
        "cf_api": config.public_url,
        "limits": {"fds": FILES, "mem": limits.memory_mb, "disk": limits.disk_mb},
        "application_id": owner.app,
        "application_name": owner.app_name,
        "name": owner.app_name,
        "application_uris": uris,
        "uris": uris,
        "space_id": owner.space,
        "space_name": owner.space_name,
        "organization_id": owner.org,
        "organization_name": owner.org_name,
        "users": null,
    })
}

/// The platform's own variables win over the user's.
fn platform_env(env: &mut SecretEnv, application: &serde_json::Value) {
    env.set("VCAP_APPLICATION", application.to_string());
    // Versions of apps that are bound to services have it already.
    if !env.0.contains_key("VCAP_SERVICES") {
        env.set("VCAP_SERVICES", "{}");
    }
}
