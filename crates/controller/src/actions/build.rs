//! Builds: staged by the scheduler, or taken from an earlier droplet of the same input.

use super::{By, fresh};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::services;
use api::error::Code;
use api::v3;
use model::id::BuildId;
use model::limits::Limits;
use model::resource::{App, Build, BuildState, Package, PackageState, Space};
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
    let ready = (package.state == PackageState::Ready)
        .then(|| package.digest.clone())
        .flatten();
    let package_digest = ready.ok_or_else(|| {
        Failure::new(
            Code::BadRequest,
            "Bad request: Cannot stage package whose state is not ready.",
        )
    })?;
    let data = body.lifecycle.as_ref().map(|lifecycle| &lifecycle.data);
    let buildpacks = data
        .and_then(|data| data.buildpacks.clone())
        .unwrap_or_else(|| app.buildpacks.clone());
    super::app::check_buildpacks(context, &buildpacks)?;
    let stack = match data.and_then(|data| data.stack.as_deref()) {
        Some(name) => name
            .parse()
            .map_err(|error| Failure::refused(format!("Stack: {error}")))?,
        None => app.stack.clone(),
    };
    super::app::check_stack(&context.store, &stack).await?;
    let limits = Limits {
        memory_mb: body.staging_memory_in_mb.unwrap_or(Limits::BUILD.memory_mb),
        disk_mb: body.staging_disk_in_mb.unwrap_or(Limits::BUILD.disk_mb),
        ..Limits::BUILD
    };
    if !(1..=super::app::MAX_MEGABYTES).contains(&limits.memory_mb)
        || !(1..=super::app::MAX_MEGABYTES).contains(&limits.disk_mb)
    {
        return Err(Failure::refused("Staging memory and disk must be greater than 0"));
    }
    let env = services::environment(&context.store, app).await?;
    let input = input_digest(context, &package_digest, &env, &buildpacks, stack.as_str());
    let mut build = Build {
        id: fresh::<BuildId>(),
        app: app.id,
        package: package.id,
        state: BuildState::Staging,
        error: None,
        droplet: None,
        buildpacks,
        stack,
        limits,
        input_digest: Some(input.clone()),
        created_by: by.user,
        created_at: by.now,
        updated_at: by.now,
    };
    let tx = context.store.begin().await?;
    if let Some(droplet) = tx.droplet_by_input(app.id, &input).await? {
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

/// Hash over all that decides what staging makes of a package.
fn input_digest(context: &Context, package: &Digest, env: &SecretEnv, buildpacks: &[String], stack: &str) -> Digest {
    let mut hash = Sha256::new();
    // Each part with its length, so that no two lists of parts read alike.
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    part("build-input-1");
    part(&context.config.lifecycle_version);
    part(&package.to_string());
    part(stack);
    part(if buildpacks.is_empty() { "detect" } else { "chosen" });
    let known = &context.config.buildpacks;
    let chosen = buildpacks
        .iter()
        .filter_map(|name| known.iter().find(|known| known.name == *name || known.id == *name));
    let candidates: Vec<_> = if buildpacks.is_empty() {
        known.iter().collect()
    } else {
        chosen.collect()
    };
    for buildpack in candidates {
        part(&buildpack.id);
        part(&buildpack.version);
    }
    part("env");
    for (name, value) in env.expose() {
        part(name);
        part(value);
    }
    Digest::from_sha256(hash.finalize().into())
}
