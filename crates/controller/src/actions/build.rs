//! Builds: staged by the scheduler, or taken from an earlier droplet of the same input.

use super::manifest::new_metadata;
use super::{By, fresh};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::services::{self, Group};
use api::error::Code;
use api::v3;
use model::id::BuildId;
use model::limits::Limits;
use model::name::StackName;
use model::resource::{App, AppLifecycle, Build, BuildState, Buildpack, Package, PackageState, Space};
use model::staging::{BuildFailure, BuildpackSource, FailureClass};
use model::{Digest, SecretEnv};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// A new build of a package.
pub async fn create(
    context: &Context,
    app: &App,
    space: &Space,
    package: &Package,
    body: &v3::BuildCreate,
    by: &By,
) -> Answer<Build> {
    if package.state != PackageState::Ready || package.digest.is_none() && package.image.is_none() {
        return Err(Failure::new(
            Code::BadRequest,
            "Bad request: Cannot stage package whose state is not ready.",
        ));
    }
    check_lifecycle(app, package, body)?;
    let data = body.lifecycle.as_ref().map(|lifecycle| &lifecycle.data);
    let buildpacks = data
        .and_then(|data| data.buildpacks.clone())
        .unwrap_or_else(|| app.buildpacks.clone());
    super::buildpack::check(context, &buildpacks).await?;
    let stack = match data.and_then(|data| data.stack.as_deref()) {
        Some(name) => name
            .parse()
            .map_err(|error| Failure::refused(format!("Stack: {error}")))?,
        None => app.stack.clone(),
    };
    super::app::check_stack(&context.store, &stack).await?;
    let limits = limits(body)?;
    let env = services::environment(&context.store, app, Group::Staging).await?;
    let input = input(context, app, package, (&env, &buildpacks, &stack)).await?;
    let mut build = Build {
        id: fresh::<BuildId>(),
        app: app.id,
        package: package.id,
        state: BuildState::Staging,
        error: None,
        droplet: None,
        lifecycle: app.lifecycle,
        buildpacks,
        stack,
        limits,
        input_digest: input.clone(),
        created_by: by.user,
        metadata: new_metadata(body.metadata.as_ref())?,
        created_at: by.now,
        updated_at: by.now,
    };
    let tx = context.store.begin().await?;
    let earlier = match &input {
        Some(input) => tx.droplet_by_input(app.id, input).await?,
        None => None,
    };
    if let Some(droplet) = earlier {
        build.state = BuildState::Staged;
        build.droplet = Some(droplet.id);
    }
    tx.build_create(&build).await?;
    let data = json!({"build": build.id, "package": package.id});
    tx.event(by.app_event("audit.app.build.create", app, space, data));
    if let Some(droplet) = build.droplet {
        let data = json!({"build": build.id, "droplet": droplet, "reused": true});
        tx.event(by.app_event("build.staged", app, space, data));
    }
    tx.commit().await?;
    context.wake.scheduler();
    Ok(build)
}

/// Ends a build that is under way: it has failed then, and its work is stopped by the next plan.
pub async fn cancel(context: &Context, mut build: Build, app: &App, space: &Space, by: &By) -> Answer<()> {
    let failure = BuildFailure {
        class: FailureClass::StagingError,
        title: "The build was cancelled".to_owned(),
        cause: format!("{} cancelled it", by.actor.name),
        remedy: "Push again".to_owned(),
    };
    build.state = BuildState::Failed;
    build.error = Some(failure.clone());
    build.updated_at = by.now;
    let tx = context.store.begin().await?;
    if !tx.build_finish(&build).await? {
        return Err(Failure::refused("The build is over, and can't be cancelled"));
    }
    let data = json!({"build": build.id, "error": failure});
    tx.event(by.app_event("build.failed", app, space, data));
    tx.commit().await?;
    context.wake.scheduler();
    Ok(())
}

/// Refuses a build of another kind than the app and its package.
fn check_lifecycle(app: &App, package: &Package, body: &v3::BuildCreate) -> Answer<()> {
    if let Some(wanted) = &body.lifecycle
        && (wanted.kind == "docker") != (app.lifecycle == AppLifecycle::Docker)
    {
        return Err(Failure::refused("Lifecycle type cannot be changed"));
    }
    if package.image.is_some() && app.lifecycle == AppLifecycle::Buildpack {
        return Err(Failure::refused("Cannot stage a Docker package of a buildpack app"));
    }
    Ok(())
}

/// Decides what staging makes of an image's layout: nothing but the layout and the lifecycle.
fn layout_digest(context: &Context, package: &Digest) -> Digest {
    image::digest(format!("image-input-1 {} {package}", context.config.lifecycle_version).as_bytes())
}

/// What the build may use.
fn limits(body: &v3::BuildCreate) -> Answer<Limits> {
    let limits = Limits {
        memory_mb: body.staging_memory_in_mb.unwrap_or(Limits::BUILD.memory_mb),
        disk_mb: body.staging_disk_in_mb.unwrap_or(Limits::BUILD.disk_mb),
        ..Limits::BUILD
    };
    let sane = 1..=super::app::MAX_MEGABYTES;
    if sane.contains(&limits.memory_mb) && sane.contains(&limits.disk_mb) {
        return Ok(limits);
    }
    Err(Failure::refused("Staging memory and disk must be greater than 0"))
}

/// Names all that decides what staging makes of a package; `None` where an equal build may come to something else.
async fn input(
    context: &Context,
    app: &App,
    package: &Package,
    (env, buildpacks, stack): (&SecretEnv, &[String], &StackName),
) -> Answer<Option<Digest>> {
    // What a tag means changes; and whoever may not read an image any more must not get it from an earlier build.
    let Some(digest) = &package.digest else {
        return Ok(None);
    };
    if app.lifecycle == AppLifecycle::Docker {
        return Ok(Some(layout_digest(context, digest)));
    }
    let known = super::buildpack::all(context, &context.store).await?;
    Ok(input_digest(context, &known, digest, env, buildpacks, stack))
}

/// Hash over all that decides what staging makes of a package; `None` where a buildpack is not the same each time.
fn input_digest(
    context: &Context,
    known: &[Buildpack],
    package: &Digest,
    env: &SecretEnv,
    buildpacks: &[String],
    stack: &StackName,
) -> Option<Digest> {
    let mut parts = vec![
        "build-input-2".to_owned(),
        context.config.lifecycle_version.clone(),
        package.to_string(),
        stack.to_string(),
        if buildpacks.is_empty() { "detect" } else { "chosen" }.to_owned(),
    ];
    if buildpacks.is_empty() {
        parts.extend(super::buildpack::candidates(known, stack).flat_map(|one| identity(context, one)));
    }
    for name in buildpacks {
        match BuildpackSource::parse(name).ok().flatten() {
            Some(source) if !source.is_pinned() => return None,
            Some(_) => parts.push(name.clone()),
            None => {
                let one = super::buildpack::named(context, known, name, Some(stack));
                parts.extend(one.into_iter().flat_map(|one| identity(context, one)));
            }
        }
    }
    parts.push("env".to_owned());
    for (name, value) in env.expose() {
        parts.extend([name.to_owned(), value.to_owned()]);
    }
    let mut hash = Sha256::new();
    for part in parts {
        // Each part with its length, so that no two lists of parts read alike.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    Some(Digest::from_sha256(hash.finalize().into()))
}

/// What changes when a buildpack of the platform does.
fn identity(context: &Context, buildpack: &Buildpack) -> [String; 2] {
    let builtin = buildpack.builtin.as_ref();
    let builtin = builtin.and_then(|name| context.config.buildpacks.iter().find(|known| known.name == *name));
    match builtin {
        Some(builtin) => [builtin.id.clone(), builtin.version.clone()],
        None => {
            let digest = buildpack.digest.as_ref().map(ToString::to_string);
            [buildpack.name.clone(), digest.unwrap_or_default()]
        }
    }
}
