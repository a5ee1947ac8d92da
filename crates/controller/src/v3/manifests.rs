//! Manifests: applied to a space, compared with it, made from an app.

use super::apps::WHAT as APP;
use super::links::accepted;
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
use http::{StatusCode, header};
use model::health::Probe;
use model::manifest::{self, Manifest};
use model::resource::{App, Process};
use serde_json::json;
use store::{Order, Page, RouteFilter, Scope};

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/spaces/{guid}/actions/apply_manifest", post(apply))
        .route("/v3/spaces/{guid}/manifest_diff", post(diff))
        .route("/v3/apps/{guid}/manifest", get(generate))
}

async fn parsed(request: Request) -> Answer<Manifest> {
    let bytes = body_bytes(request, manifest::MAX_BYTES).await?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        Failure::new(
            Code::MessageParseError,
            "Request invalid due to parse error: invalid request body",
        )
        .caused_by(error)
    })?;
    manifest::parse(text).map_err(|problems| {
        Failure::refused_all(
            problems
                .0
                .into_iter()
                .map(|problem| (problem.to_string(), problem.hint)),
        )
    })
}

async fn apply(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    request: Request,
) -> Answer<Response> {
    let space = space_for(&context.store, &caller, id(&guid, "Space")?, Need::Write, "Space").await?;
    let manifest = parsed(request).await?;
    let job = actions::apply(&context, &space, manifest, &By::caller(&caller, &context)).await?;
    Ok(accepted(&context, job))
}

/// The manifest is checked; the list of differences is always empty so far, which clients show as "no changes".
async fn diff(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    request: Request,
) -> Answer<(StatusCode, Json<serde_json::Value>)> {
    space_for(&context.store, &caller, id(&guid, "Space")?, Need::Write, "Space").await?;
    parsed(request).await?;
    Ok((StatusCode::CREATED, Json(json!({"diff": []}))))
}

async fn generate(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, APP)?, Need::Secrets, APP).await?;
    let filter = RouteFilter {
        apps: Some(vec![app.id]),
        ..RouteFilter::default()
    };
    let routes = context
        .store
        .route_list(&filter, Scope::All, Order::default(), Page::ALL)
        .await?
        .items;
    let processes = context.store.processes_of_app(app.id).await?;
    let urls: Vec<_> = routes.iter().map(|route| json!({"route": route.url()})).collect();
    let document = json!({"applications": [described(&app, &processes, &urls)]});
    let text = serde_yaml::to_string(&document).map_err(Failure::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/x-yaml")], text).into_response())
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
