//! Manifests: applied to a space, compared with it, made from an app.

use super::apps::WHAT as APP;
use super::links::accepted;
use super::manifest_diff;
use crate::actions::{By, manifest as actions};
use crate::auth::{Caller, Need, app_for, space_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{body_bytes, id};
use api::error::Code;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{StatusCode, header};
use model::health::Probe;
use model::image::RegistryImage;
use model::manifest::{self, Manifest};
use model::resource::{App, AppLifecycle, Destination, Metadata, Process, Route};
use model::sidecar::Sidecar;
use serde_json::json;
use std::collections::HashMap;
use store::{Order, Page, RouteFilter, Scope};

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/spaces/{guid}/actions/apply_manifest", post(apply))
        .route("/v3/spaces/{guid}/manifest_diff", post(diff))
        .route("/v3/apps/{guid}/manifest", get(generate))
}

/// The manifest, and its text as it came.
async fn parsed(request: Request) -> Answer<(Manifest, Bytes)> {
    let bytes = body_bytes(request, manifest::MAX_BYTES).await?;
    let text = std::str::from_utf8(&bytes).map_err(unreadable)?;
    let manifest = manifest::parse(text).map_err(|problems| {
        Failure::refused_all(
            problems
                .0
                .into_iter()
                .map(|problem| (problem.to_string(), problem.hint)),
        )
    })?;
    Ok((manifest, bytes))
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(
        Code::MessageParseError,
        "Request invalid due to parse error: invalid request body",
    )
    .caused_by(error)
}

async fn apply(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    request: Request,
) -> Answer<Response> {
    let space = space_for(&context.store, &caller, id(&guid, "Space")?, Need::Write, "Space").await?;
    let (manifest, _) = parsed(request).await?;
    let job = actions::apply(&context, &space, manifest, &By::caller(&caller, &context)).await?;
    Ok(accepted(&context, job))
}

/// What applying the manifest would change.
async fn diff(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    request: Request,
) -> Answer<(StatusCode, Json<serde_json::Value>)> {
    let space = space_for(&context.store, &caller, id(&guid, "Space")?, Need::Write, "Space").await?;
    let (manifest, text) = parsed(request).await?;
    let raw: serde_json::Value = serde_yaml::from_slice(&text).map_err(unreadable)?;
    let mut there = HashMap::new();
    for app in &manifest.apps {
        if let Some(found) = context.store.app_by_name(space.id, app.name.as_str()).await? {
            // The manifest may write the name in another case.
            there.insert(app.name.to_string(), as_it_is(&context, &found).await?);
        }
    }
    let changes = manifest_diff::diff(&raw, |name| there.get(name));
    Ok((StatusCode::CREATED, Json(json!({"diff": changes}))))
}

/// An app in a manifest's terms.
async fn as_it_is(context: &Context, app: &App) -> Answer<serde_json::Value> {
    let filter = RouteFilter {
        apps: Some(vec![app.id]),
        ..RouteFilter::default()
    };
    let store = &context.store;
    let routes = store
        .route_list(&filter, Scope::All, Order::default(), Page::ALL)
        .await?
        .items;
    let processes = store.processes_of_app(app.id).await?;
    let services = store.services_of_app(app.id).await?;
    let services: Vec<&str> = services.iter().map(|(_, instance)| instance.name.as_str()).collect();
    let ids: Vec<_> = routes.iter().map(|route| route.id).collect();
    let destinations = store.destinations_of_routes(&ids).await?;
    let urls: Vec<_> = routes
        .iter()
        .map(|route| described_route(app, route, &destinations))
        .collect();
    let mut value = described(app, &processes, &urls);
    if !services.is_empty() {
        value["services"] = json!(services);
    }
    let mut sidecars = store.sidecars_of_app(app.id).await?;
    sidecars.sort_by(|one, other| one.what.name.cmp(&other.what.name));
    if !sidecars.is_empty() {
        value["sidecars"] = sidecars.iter().map(described_sidecar).collect();
    }
    if app.metadata != Metadata::default() {
        value["metadata"] = json!(app.metadata);
    }
    if app.lifecycle == AppLifecycle::Docker {
        if let Some(all) = value.as_object_mut() {
            all.remove("stack");
        }
        match image_of(context, app).await? {
            Some(image) => value["docker"] = described_image(&image),
            None => value["lifecycle"] = json!("docker"),
        }
    }
    Ok(value)
}

/// The image of a registry that an app's droplet was made of.
async fn image_of(context: &Context, app: &App) -> Answer<Option<RegistryImage>> {
    let store = &context.store;
    let droplet = match app.droplet {
        Some(droplet) => store.droplet_fetch(droplet).await?,
        None => None,
    };
    let package = match droplet.and_then(|droplet| droplet.package) {
        Some(package) => store.package_fetch(package).await?,
        None => None,
    };
    Ok(package.and_then(|package| package.image))
}

fn described_image(image: &RegistryImage) -> serde_json::Value {
    match &image.username {
        Some(username) => json!({"image": image.reference, "username": username}),
        None => json!({"image": image.reference}),
    }
}

async fn generate(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, APP)?, Need::Secrets, APP).await?;
    let document = json!({"applications": [as_it_is(&context, &app).await?]});
    let text = serde_yaml::to_string(&document).map_err(Failure::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/x-yaml")], text).into_response())
}

fn described_route(app: &App, route: &Route, destinations: &[Destination]) -> serde_json::Value {
    let mut value = json!({"route": route.url()});
    let here = |destination: &&Destination| destination.route == route.id && destination.app == app.id;
    if let Some(destination) = destinations.iter().find(here) {
        value["protocol"] = json!(destination.protocol.name());
    }
    for (name, set) in route.options.told() {
        value["options"][name] = json!(set);
    }
    value
}

fn described(app: &App, processes: &[Process], routes: &[serde_json::Value]) -> serde_json::Value {
    let mut value = json!({
        "name": app.name,
        "stack": app.stack,
        "processes": processes.iter().map(described_process).collect::<Vec<_>>(),
    });
    if !app.buildpacks.is_empty() {
        value["buildpacks"] = json!(app.buildpacks);
    }
    if !app.env.0.is_empty() {
        value["env"] = app
            .env
            .expose()
            .map(|(name, text)| (name.to_owned(), json!(text)))
            .collect();
    }
    if routes.is_empty() {
        value["no-route"] = json!(true);
    } else {
        value["routes"] = json!(routes);
    }
    value
}

fn described_sidecar(sidecar: &Sidecar) -> serde_json::Value {
    let what = &sidecar.what;
    let mut value = json!({"name": what.name, "process_types": what.process_types, "command": what.command});
    if let Some(megabytes) = what.memory_mb {
        value["memory"] = json!(format!("{megabytes}M"));
    }
    value
}

fn described_process(process: &Process) -> serde_json::Value {
    let mut value = json!({
        "type": process.process_type,
        "instances": process.instances,
        "memory": format!("{}M", process.limits.memory_mb),
        "disk_quota": format!("{}M", process.limits.disk_mb),
        "timeout": process.health.start_timeout_seconds,
    });
    if let Some(command) = &process.command {
        value["command"] = json!(command);
    }
    let (kind, endpoint) = match &process.health.probe {
        Probe::Port => ("port", None),
        Probe::Process => ("process", None),
        Probe::Http { endpoint } => ("http", Some(endpoint)),
    };
    value["health-check-type"] = json!(kind);
    if let Some(endpoint) = endpoint {
        value["health-check-http-endpoint"] = json!(endpoint);
    }
    value
}
