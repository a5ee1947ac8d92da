//! `/v3/processes`, and the same below an app by type.

use super::apps::WHAT as APP;
use super::links::{links, post};
use super::stats;
use crate::actions::{By, app as actions};
use crate::auth::{Caller, Need, app_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use crate::request::{Body, Query, id};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::{delete, get, post as on_post};
use axum::{Json, Router};
use http::StatusCode;
use model::resource::{App, Process, ProcessVersion, Space};
use std::collections::HashMap;
use store::{Paged, ProcessFilter};

const WHAT: &str = "Process";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/processes", get(list))
        .route("/v3/processes/{guid}", get(fetch).patch(update))
        .route("/v3/processes/{guid}/stats", get(stats_of))
        .route("/v3/processes/{guid}/process_instances", get(instances))
        .route("/v3/processes/{guid}/actions/scale", on_post(scale))
        .route("/v3/processes/{guid}/instances/{index}", delete(restart_instance))
        .route(
            "/v3/apps/{guid}/processes/{type}/instances/{index}",
            delete(restart_instance_by_type),
        )
        .route("/v3/apps/{guid}/processes", get(of_app))
        .route(
            "/v3/apps/{guid}/processes/{type}",
            get(fetch_by_type).patch(update_by_type),
        )
        .route("/v3/apps/{guid}/processes/{type}/stats", get(stats_by_type))
        .route("/v3/apps/{guid}/processes/{type}/actions/scale", on_post(scale_by_type))
}

/// `command` is what instances run: the process's own, or the droplet's.
pub(super) fn present(context: &Context, process: Process, command: Option<String>) -> v3::Process {
    let own = format!("/v3/processes/{}", process.id);
    let mut all = links(
        context,
        [
            ("self", own.clone()),
            ("app", format!("/v3/apps/{}", process.app)),
            ("stats", format!("{own}/stats")),
        ],
    );
    all.insert("scale".to_owned(), post(context, format!("{own}/actions/scale")));
    let rate = process.limits.log_bytes_per_second;
    v3::Process {
        links: all,
        guid: process.id,
        created_at: process.created_at,
        updated_at: process.updated_at,
        process_type: process.process_type.to_string(),
        command,
        instances: process.instances,
        memory_in_mb: process.limits.memory_mb,
        disk_in_mb: process.limits.disk_mb,
        log_rate_limit_in_bytes_per_second: rate.map_or(-1, |rate| i64::try_from(rate).unwrap_or(i64::MAX)),
        health_check: (&process.health).into(),
        readiness_health_check: Some(v3::HealthCheck {
            kind: Some("process".to_owned()),
            data: v3::HealthCheckData::default(),
        }),
        relationships: v3::ProcessRelationships {
            app: v3::ToOne::to(process.app),
        },
        process_instances: None,
        version: process.version,
        metadata: process.metadata,
    }
}

/// Lists hide the command, as CF's do.
fn listed(process: &Process) -> Option<String> {
    Some("[PRIVATE DATA HIDDEN IN LISTS]".to_owned()).filter(|_| process.command.is_some())
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::Process>>> {
    let filter = ProcessFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        types: query.texts("types"),
        apps: query.ids("app_guids"),
        spaces: query.ids("space_guids"),
        orgs: query.ids("organization_guids"),
    };
    listed_by(&context, &caller, &query, &filter).await
}

async fn listed_by(
    context: &Context,
    caller: &Caller,
    query: &Query,
    filter: &ProcessFilter,
) -> Answer<Json<v3::List<v3::Process>>> {
    let processes = context
        .store
        .process_list(filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    let embed = query.wanted("embed").any(|what| what == "process_instances");
    present_list(context, query, processes, embed).await.map(Json)
}

async fn present_list(
    context: &Context,
    query: &Query,
    processes: Paged<Process>,
    embed: bool,
) -> Answer<v3::List<v3::Process>> {
    let mut instances = if embed {
        stats::in_short(context, &processes.items).await?
    } else {
        HashMap::new()
    };
    query.list(context, processes, |process| {
        let command = listed(&process);
        let id = process.id;
        let mut process = present(context, process, command);
        if embed {
            process.process_instances = Some(instances.remove(&id).unwrap_or_default());
        }
        process
    })
}

async fn of_app(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Process>>> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, APP)?, Need::Read, APP).await?;
    let filter = ProcessFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        types: query.texts("types"),
        apps: Some(vec![app.id]),
        ..ProcessFilter::default()
    };
    listed_by(&context, &caller, &query, &filter).await
}

/// A process with its app and space.
async fn process_for(context: &Context, caller: &Caller, guid: &str, need: Need) -> Answer<(Process, App, Space)> {
    let process = context.store.process_fetch(id(guid, WHAT)?).await?;
    let process = process.ok_or_else(|| Failure::not_found(WHAT))?;
    let (app, space) = app_for(&context.store, caller, process.app, need, WHAT).await?;
    Ok((process, app, space))
}

async fn process_of(
    context: &Context,
    caller: &Caller,
    guid: &str,
    process_type: &str,
    need: Need,
) -> Answer<(Process, App, Space)> {
    let (app, space) = app_for(&context.store, caller, id(guid, APP)?, need, APP).await?;
    let process = context.store.process_by_type(app.id, process_type).await?;
    Ok((process.ok_or_else(|| Failure::not_found(WHAT))?, app, space))
}

/// The command that instances run: the process's own, else that of the droplet.
async fn command(context: &Context, app: &App, process: &Process) -> Answer<Option<String>> {
    if process.command.is_some() {
        return Ok(process.command.clone());
    }
    let version: Option<ProcessVersion> = match process.version {
        Some(version) => context.store.version_fetch(version).await?,
        None => None,
    };
    let Some(droplet) = version.map(|version| version.droplet).or(app.droplet) else {
        return Ok(None);
    };
    let droplet = context.store.droplet_fetch(droplet).await?;
    let templates = droplet.map(|droplet| droplet.processes).unwrap_or_default();
    let template = templates
        .into_iter()
        .find(|template| template.process_type == process.process_type.as_str());
    Ok(template.map(|template| template.command))
}

async fn in_full(context: &Context, app: &App, process: Process) -> Answer<Json<v3::Process>> {
    let command = command(context, app, &process).await?;
    Ok(Json(present(context, process, command)))
}

async fn fetch(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::Process>> {
    let (process, app, _) = process_for(&context, &caller, &guid, Need::Read).await?;
    in_full(&context, &app, process).await
}

async fn fetch_by_type(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, process_type)): Path<(String, String)>,
) -> Answer<Json<v3::Process>> {
    let (process, app, _) = process_of(&context, &caller, &guid, &process_type, Need::Read).await?;
    in_full(&context, &app, process).await
}

/// Index, state and age of each instance.
async fn instances(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<serde_json::Value>> {
    let (process, ..) = process_for(&context, &caller, &guid, Need::Read).await?;
    let id = process.id;
    let mut all = stats::in_short(&context, &[process]).await?;
    Ok(Json(
        serde_json::json!({"resources": all.remove(&id).unwrap_or_default()}),
    ))
}

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::ProcessUpdate>,
) -> Answer<Json<v3::Process>> {
    let found = process_for(&context, &caller, &guid, Need::Write).await?;
    updated(&context, &caller, found, body).await
}

async fn update_by_type(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, process_type)): Path<(String, String)>,
    Body(body): Body<v3::ProcessUpdate>,
) -> Answer<Json<v3::Process>> {
    let found = process_of(&context, &caller, &guid, &process_type, Need::Write).await?;
    updated(&context, &caller, found, body).await
}

async fn updated(
    context: &Context,
    caller: &Caller,
    found: (Process, App, Space),
    body: v3::ProcessUpdate,
) -> Answer<Json<v3::Process>> {
    let (process, app, space) = found;
    let by = By::caller(caller, context);
    let process = actions::process_update(context, process.id, app.id, &space, body, &by).await?;
    in_full(context, &app, process).await
}

async fn scale(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::Scale>,
) -> Answer<(StatusCode, Json<v3::Process>)> {
    let found = process_for(&context, &caller, &guid, Need::Operate).await?;
    scaled(&context, &caller, found, &body).await
}

async fn scale_by_type(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, process_type)): Path<(String, String)>,
    Body(body): Body<v3::Scale>,
) -> Answer<(StatusCode, Json<v3::Process>)> {
    let found = process_of(&context, &caller, &guid, &process_type, Need::Operate).await?;
    scaled(&context, &caller, found, &body).await
}

async fn scaled(
    context: &Context,
    caller: &Caller,
    found: (Process, App, Space),
    body: &v3::Scale,
) -> Answer<(StatusCode, Json<v3::Process>)> {
    let (process, app, space) = found;
    Flag::AppScaling.require(&context.store, caller).await?;
    let by = By::caller(caller, context);
    let process = actions::scale(context, process.id, app.id, &space, body, &by).await?;
    Ok((StatusCode::ACCEPTED, in_full(context, &app, process).await?))
}

/// Which instance a path means; what is no number is not found.
fn index(text: &str) -> Answer<u32> {
    id(text, "Instance")
}

async fn restart_instance(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, at)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let (process, _, space) = process_for(&context, &caller, &guid, Need::Operate).await?;
    let by = By::caller(&caller, &context);
    actions::restart_instance(&context, &process, &space, index(&at)?, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn restart_instance_by_type(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, process_type, at)): Path<(String, String, String)>,
) -> Answer<StatusCode> {
    let (process, _, space) = process_of(&context, &caller, &guid, &process_type, Need::Operate).await?;
    let by = By::caller(&caller, &context);
    actions::restart_instance(&context, &process, &space, index(&at)?, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn stats_of(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::Stats>> {
    let (process, app, _) = process_for(&context, &caller, &guid, Need::Read).await?;
    stats::in_full(&context, &app, &process).await.map(Json)
}

async fn stats_by_type(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, process_type)): Path<(String, String)>,
) -> Answer<Json<v3::Stats>> {
    let (process, app, _) = process_of(&context, &caller, &guid, &process_type, Need::Read).await?;
    stats::in_full(&context, &app, &process).await.map(Json)
}
