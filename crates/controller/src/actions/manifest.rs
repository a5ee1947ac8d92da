//! Applies a manifest to a space: all of its apps in one transaction, or none.

use super::quota::Guard;
use super::{By, app as apps, rollout, route as routes, service as services, sidecar};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use model::id::JobId;
use model::manifest::{App as Wanted, Manifest, NamedRoute, Process as WantedProcess};
use model::resource::{App, AppLifecycle, Metadata, Space};
use model::{Secret, SecretEnv};
use serde_json::json;
use store::{Order, Page, RouteFilter, Scope, Tx};

/// Makes the space's apps, their processes and routes what the manifest says; what it does not mention stays.
/// Running instances are not touched: a deployment does that.
pub async fn apply(context: &Context, space: &Space, manifest: Manifest, by: &By) -> Answer<JobId> {
    let job = by.done_job("space.apply_manifest");
    let tx = context.store.begin().await?;
    let guard = Guard::before(&tx, space).await?;
    for wanted in manifest.apps {
        let name = wanted.name.clone();
        apply_app(context, &tx, space, wanted, &guard, by)
            .await
            .map_err(|failure| naming(failure, name.as_str()))?;
    }
    guard.after(&tx).await?;
    tx.job_create(&job).await?;
    tx.commit().await?;
    context.wake.scheduler();
    Ok(job.id)
}

/// Says in a refusal which app it is about.
fn naming(failure: Failure, app: &str) -> Failure {
    if failure.status().as_u16() != 422 {
        return failure;
    }
    let errors = failure.errors().to_vec();
    Failure::refused_all(
        errors
            .into_iter()
            .map(|error| (format!("For application '{app}': {}", error.detail), error.hint)),
    )
}

async fn apply_app(context: &Context, tx: &Tx, space: &Space, wanted: Wanted, guard: &Guard, by: &By) -> Answer<()> {
    if let Some(buildpacks) = &wanted.buildpacks {
        super::buildpack::check(context, buildpacks).await?;
    }
    if let Some(stack) = &wanted.stack {
        apps::check_stack(tx, stack).await?;
    }
    if wanted.docker {
        Flag::DiegoDocker.require_on(tx).await?;
    }
    let app = match tx.app_by_name(space.id, wanted.name.as_str()).await? {
        Some(app) => update(tx, app, space, &wanted, by).await?,
        None => create(tx, space, &wanted, by).await?,
    };
    apply_processes(tx, &app, &wanted.processes, guard, by).await?;
    sidecar::apply_on(tx, &app, space, &wanted.sidecars, by).await?;
    apply_services(tx, &app, space, &wanted, by).await?;
    apply_routes(tx, &app, space, &wanted, by).await
}

/// Binds what is named and not bound yet.
async fn apply_services(tx: &Tx, app: &App, space: &Space, wanted: &Wanted, by: &By) -> Answer<()> {
    if wanted.services.is_empty() {
        return Ok(());
    }
    let bound = tx.services_of_app(app.id).await?;
    for service in &wanted.services {
        if bound.iter().any(|(_, instance)| instance.name == service.name) {
            continue;
        }
        let filter = store::ServiceFilter {
            spaces: Some(vec![space.id]),
            names: Some(vec![service.name.clone()]),
            ..store::ServiceFilter::default()
        };
        let found = tx
            .service_list(&filter, Scope::All, Order::default(), Page::ONE)
            .await?;
        let instance = found.items.first().ok_or_else(|| {
            Failure::refused(format!("Service instance '{}' not found", service.name))
                .hint("Create it in this space first")
        })?;
        services::bind_on(
            tx,
            app,
            instance,
            space,
            service.binding_name.clone(),
            Metadata::default(),
            by,
        )
        .await?;
    }
    Ok(())
}

async fn create(tx: &Tx, space: &Space, wanted: &Wanted, by: &By) -> Answer<App> {
    let new = apps::NewApp {
        name: wanted.name.clone(),
        lifecycle: lifecycle(wanted),
        buildpacks: wanted.buildpacks.clone().unwrap_or_default(),
        stack: wanted.stack.clone(),
        env: SecretEnv(wanted.env.clone()),
        metadata: wanted.metadata.clone().unwrap_or_default(),
    };
    apps::create_on(tx, new, space, by).await
}

fn lifecycle(wanted: &Wanted) -> AppLifecycle {
    if wanted.docker {
        AppLifecycle::Docker
    } else {
        AppLifecycle::Buildpack
    }
}

async fn update(tx: &Tx, before: App, space: &Space, wanted: &Wanted, by: &By) -> Answer<App> {
    let before = apps::locked(tx, before.id).await?;
    let mut app = before.clone();
    if wanted.docker && app.lifecycle != AppLifecycle::Docker {
        return Err(Failure::refused("Lifecycle type cannot be changed")
            .hint("Delete the app first, or push the image under another name"));
    }
    if app.lifecycle == AppLifecycle::Docker && wanted.buildpacks.is_some() {
        return Err(Failure::refused("Buildpacks cannot be set for an app that is an image"));
    }
    if let Some(buildpacks) = &wanted.buildpacks {
        app.buildpacks.clone_from(buildpacks);
    }
    if let Some(stack) = &wanted.stack {
        app.stack = stack.clone();
    }
    for (name, value) in &wanted.env {
        app.env.0.insert(name.clone(), Secret::new(value.expose()));
    }
    apps::check_env(&app.env)?;
    if let Some(metadata) = &wanted.metadata {
        merge(&mut app.metadata, metadata)?;
    }
    let changed = app.buildpacks != before.buildpacks
        || app.stack != before.stack
        || app.env != before.env
        || app.metadata != before.metadata;
    if changed {
        apps::update_on(tx, &mut app, space, by, json!({"by": "manifest"})).await?;
    }
    Ok(app)
}

/// Labels and annotations over those that are there; one without a value is removed.
pub fn merge(into: &mut Metadata, change: &Metadata) -> Answer<()> {
    model::labels::merge(into, change).map_err(Failure::refused)
}

/// The metadata of something new, checked.
pub fn new_metadata(given: Option<&Metadata>) -> Answer<Metadata> {
    let mut metadata = Metadata::default();
    if let Some(given) = given {
        merge(&mut metadata, given)?;
    }
    Ok(metadata)
}

async fn apply_processes(tx: &Tx, app: &App, wanted: &[WantedProcess], guard: &Guard, by: &By) -> Answer<()> {
    for wanted in wanted {
        let known = tx.process_by_type(app.id, wanted.process_type.as_str()).await?;
        let is_new = known.is_none();
        let before = known.unwrap_or_else(|| rollout::new_process(app, wanted.process_type.clone(), by));
        let mut process = before.clone();
        if let Some(command) = &wanted.command {
            process.command.clone_from(command);
        }
        process.instances = wanted.instances.unwrap_or(process.instances);
        process.limits = wanted.limits(process.limits);
        if process.limits.memory_mb > before.limits.memory_mb {
            guard.instance(&process.limits)?;
        }
        if process.limits.memory_mb != before.limits.memory_mb {
            sidecar::check_process(tx, &process).await?;
        }
        process.health = wanted.health.apply(&process.health);
        let changed = process.command != before.command
            || process.instances != before.instances
            || process.limits != before.limits
            || process.health != before.health;
        if is_new {
            tx.process_create(&process).await?;
        } else if changed {
            process.updated_at = by.now;
            tx.process_update(&process).await?;
        }
    }
    Ok(())
}

async fn apply_routes(tx: &Tx, app: &App, space: &Space, wanted: &Wanted, by: &By) -> Answer<()> {
    let filter = RouteFilter {
        apps: Some(vec![app.id]),
        ..RouteFilter::default()
    };
    let there = tx
        .route_list(&filter, Scope::All, Order::default(), Page::ALL)
        .await?
        .items;
    if wanted.routes.none {
        for route in &there {
            for destination in tx.destinations_of_routes(&[route.id]).await? {
                if destination.app == app.id {
                    routes::unmap_on(tx, route, &destination, app, space, by).await?;
                }
            }
        }
        return Ok(());
    }
    let mut addresses = Vec::new();
    for named in &wanted.routes.named {
        addresses.push((routes::address(tx, &named.address, space).await?, named.clone()));
    }
    if addresses.is_empty() && there.is_empty() && (wanted.routes.random || wanted.routes.default) {
        let address = routes::default_address(tx, app, wanted.routes.random).await?;
        addresses.push((address, NamedRoute::default()));
    }
    for (address, named) in addresses {
        let mut route = routes::obtain_on(tx, address, space, by).await?;
        routes::set_options_on(tx, &mut route, &named.options, space, by).await?;
        let door = routes::Door {
            process_type: "web".parse().map_err(Failure::internal)?,
            port: None,
            protocol: named.protocol,
        };
        routes::map_on(tx, &route, app, door, space, by).await?;
    }
    Ok(())
}
