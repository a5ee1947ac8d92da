//! `/v3/apps`: the app itself, and its actions.

use super::include::{Related, included};
use super::links::{accepted, links, post};
use crate::actions::{By, app as actions, manifest::merge};
use crate::auth::{Caller, Need, app_for, space_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use crate::request::{Body, Query, id};
use api::v3;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post as on_post};
use axum::{Json, Router};
use http::StatusCode;
use model::SecretEnv;
use model::id::AppId;
use model::resource::{App, AppLifecycle, Metadata, Space};
use serde_json::json;
use store::AppFilter;

pub(super) const WHAT: &str = "App";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/apps", get(list).post(create))
        .route("/v3/apps/{guid}", get(fetch).patch(update).delete(delete))
        .route("/v3/apps/{guid}/actions/start", on_post(start))
        .route("/v3/apps/{guid}/actions/stop", on_post(stop))
        .route("/v3/apps/{guid}/actions/restart", on_post(restart))
        .route("/v3/apps/{guid}/actions/clear_buildpack_cache", on_post(clear_cache))
}

pub(super) fn lifecycle(kind: AppLifecycle, buildpacks: &[String], stack: &str) -> v3::Lifecycle {
    if kind == AppLifecycle::Docker {
        return v3::Lifecycle {
            kind: "docker".to_owned(),
            data: v3::LifecycleData::default(),
        };
    }
    v3::Lifecycle {
        kind: "buildpack".to_owned(),
        data: v3::LifecycleData {
            buildpacks: Some(buildpacks.to_vec()),
            stack: Some(stack.to_owned()),
        },
    }
}

pub(super) fn present(context: &Context, app: App) -> v3::App {
    let own = format!("/v3/apps/{}", app.id);
    let mut all = links(
        context,
        [
            ("self", own.clone()),
            ("space", format!("/v3/spaces/{}", app.space)),
            ("environment_variables", format!("{own}/environment_variables")),
            ("processes", format!("{own}/processes")),
            ("packages", format!("{own}/packages")),
            ("current_droplet", format!("{own}/droplets/current")),
            ("droplets", format!("{own}/droplets")),
            ("features", format!("{own}/features")),
        ],
    );
    for action in ["start", "stop", "restart", "clear_buildpack_cache"] {
        all.insert(action.to_owned(), post(context, format!("{own}/actions/{action}")));
    }
    v3::App {
        links: all,
        guid: app.id,
        created_at: app.created_at,
        updated_at: app.updated_at,
        lifecycle: lifecycle(app.lifecycle, &app.buildpacks, app.stack.as_str()),
        name: app.name.into(),
        state: app.state,
        relationships: v3::AppRelationships {
            space: v3::ToOne::to(app.space),
            current_droplet: Some(v3::ToOne {
                data: app.droplet.map(|guid| v3::Guid { guid }),
            }),
        },
        metadata: app.metadata,
    }
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::App>>> {
    let filter = AppFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        names: query.texts("names"),
        spaces: query.ids("space_guids"),
        orgs: query.ids("organization_guids"),
        stacks: query.texts("stacks"),
        lifecycles: query.words("lifecycle_type")?,
    };
    filtered(&context, &caller, &query, filter).await
}

/// A page of apps, with what of their spaces is asked for.
pub(super) async fn filtered(
    context: &Context,
    caller: &Caller,
    query: &Query,
    filter: AppFilter,
) -> Answer<Json<v3::List<v3::App>>> {
    let listed = context
        .store
        .app_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    let related = Related {
        spaces: listed.items.iter().map(|app| app.space).collect(),
        ..Related::default()
    };
    let mut list = query.list(context, listed, |app| present(context, app))?;
    list.included = included(context, caller, query, related).await?;
    Ok(Json(list))
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::Shown<v3::App>>> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    let related = Related {
        spaces: vec![app.space],
        ..Related::default()
    };
    let included = included(&context, &caller, &query, related).await?;
    let resource = present(&context, app);
    Ok(Json(v3::Shown { resource, included }))
}

/// What a lifecycle comes to here: both contracts of buildpacks are one.
pub(super) fn check_lifecycle(lifecycle: &v3::Lifecycle) -> Answer<AppLifecycle> {
    match lifecycle.kind.as_str() {
        "buildpack" | "cnb" => Ok(AppLifecycle::Buildpack),
        "docker" if lifecycle.data != v3::LifecycleData::default() => {
            Err(Failure::refused("Lifecycle data must be empty"))
        }
        "docker" => Ok(AppLifecycle::Docker),
        _ => Err(Failure::refused(
            "Lifecycle type must be one of the following: buildpack, cnb, docker",
        )),
    }
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::AppCreate>,
) -> Answer<(StatusCode, Json<v3::App>)> {
    let invalid = || Failure::refused("Invalid space. Ensure that the space exists and you have access to it.");
    let space = body.relationships.space.id().ok_or_else(invalid)?;
    let space = match space_for(&context.store, &caller, space, Need::Write, "Space").await {
        Err(failure) if failure.status() == StatusCode::NOT_FOUND => return Err(invalid()),
        other => other?,
    };
    let lifecycle = body.lifecycle.unwrap_or(v3::Lifecycle {
        kind: "buildpack".to_owned(),
        data: v3::LifecycleData::default(),
    });
    let kind = check_lifecycle(&lifecycle)?;
    if kind == AppLifecycle::Docker {
        Flag::DiegoDocker.require_on(&context.store).await?;
    }
    let buildpacks = lifecycle.data.buildpacks.unwrap_or_default();
    crate::actions::buildpack::check(&context, &buildpacks).await?;
    let stack = match lifecycle.data.stack {
        Some(stack) => Some(stack.parse().map_err(|error| Failure::refused(format!("{error}")))?),
        None => None,
    };
    if let Some(stack) = &stack {
        actions::check_stack(&context.store, stack).await?;
    }
    let mut env = SecretEnv::default();
    actions::patch_env(&mut env, body.environment_variables.unwrap_or_default())?;
    let mut metadata = Metadata::default();
    merge(&mut metadata, &body.metadata.unwrap_or_default())?;
    let new = actions::NewApp {
        name: body
            .name
            .parse()
            .map_err(|error| Failure::refused(format!("{error}")))?,
        lifecycle: kind,
        buildpacks,
        stack,
        env,
        metadata,
    };
    let tx = context.store.begin().await?;
    let app = actions::create_on(&tx, new, &space, &By::caller(&caller, &context)).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(present(&context, app))))
}

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::AppUpdate>,
) -> Answer<Json<v3::App>> {
    let by = By::caller(&caller, &context);
    let tx = context.store.begin().await?;
    let (app, space) = app_for(&tx, &caller, id(&guid, WHAT)?, Need::Write, WHAT).await?;
    let mut app = actions::locked(&tx, app.id).await?;
    if let Some(name) = &body.name {
        app.name = name.parse().map_err(|error| Failure::refused(format!("{error}")))?;
    }
    if let Some(lifecycle) = &body.lifecycle {
        if check_lifecycle(lifecycle)? != app.lifecycle {
            return Err(Failure::refused("Lifecycle type cannot be changed"));
        }
        if let Some(buildpacks) = &lifecycle.data.buildpacks {
            crate::actions::buildpack::check(&context, buildpacks).await?;
            app.buildpacks.clone_from(buildpacks);
        }
        if let Some(stack) = &lifecycle.data.stack {
            app.stack = stack.parse().map_err(|error| Failure::refused(format!("{error}")))?;
            actions::check_stack(&tx, &app.stack).await?;
        }
    }
    merge(&mut app.metadata, &body.metadata.unwrap_or_default())?;
    let data = json!({"name": app.name});
    actions::update_on(&tx, &mut app, &space, &by, data).await?;
    tx.commit().await?;
    Ok(Json(present(&context, app)))
}

async fn delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let (app, space) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Write, WHAT).await?;
    let job = actions::delete(&context, app.id, &space, &By::caller(&caller, &context)).await?;
    Ok(accepted(&context, job))
}

/// What the three actions begin with.
async fn operated(context: &Context, caller: &Caller, guid: &str) -> Answer<(AppId, Space, By)> {
    let (app, space) = app_for(&context.store, caller, id(guid, WHAT)?, Need::Operate, WHAT).await?;
    Ok((app.id, space, By::caller(caller, context)))
}

async fn start(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::App>> {
    let (app, space, by) = operated(&context, &caller, &guid).await?;
    let app = actions::start(&context, app, &space, &by).await?;
    Ok(Json(present(&context, app)))
}

async fn stop(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::App>> {
    let (app, space, by) = operated(&context, &caller, &guid).await?;
    let app = actions::stop(&context, app, &space, &by).await?;
    Ok(Json(present(&context, app)))
}

async fn restart(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::App>> {
    let (app, space, by) = operated(&context, &caller, &guid).await?;
    let app = actions::restart(&context, app, &space, &by).await?;
    Ok(Json(present(&context, app)))
}

async fn clear_cache(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let (app, space) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Write, WHAT).await?;
    let by = By::caller(&caller, &context);
    let job = by.done_job("app.clear_buildpack_cache");
    let tx = context.store.begin().await?;
    tx.build_cache_clear(app.id).await?;
    tx.event(by.app_event("audit.app.clear_buildpack_cache", &app, &space, json!({})));
    tx.job_create(&job).await?;
    tx.commit().await?;
    Ok(accepted(&context, job.id))
}
