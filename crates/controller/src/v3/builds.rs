//! `/v3/builds`.

use super::apps::{WHAT as APP, lifecycle};
use super::links::links;
use super::packages::package_for;
use crate::actions::{By, build as actions};
use crate::auth::{Caller, Need, app_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use crate::request::{Body, Polls, Query, id, settle};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use model::id::BuildId;
use model::resource::{AppLifecycle, Build, BuildState};
use store::BuildFilter;

pub(super) const WHAT: &str = "Build";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/builds", get(list).post(create))
        .route("/v3/builds/{guid}", get(fetch))
        .route("/v3/apps/{guid}/builds", get(of_app))
}

pub(super) fn present(context: &Context, build: Build, reused: bool) -> v3::Build {
    // CF's clients recognise the class.
    let error = build.error.as_ref().map(|failure| {
        let class = serde_json::to_value(failure.class).ok();
        let class = class
            .as_ref()
            .and_then(serde_json::Value::as_str)
            .unwrap_or("StagingError")
            .to_owned();
        format!("{class} - {}", failure.title)
    });
    v3::Build {
        links: links(
            context,
            [
                ("self", format!("/v3/builds/{}", build.id)),
                ("app", format!("/v3/apps/{}", build.app)),
                ("history", format!("/paas/v1/builds/{}/history", build.id)),
            ],
        ),
        guid: build.id,
        created_at: build.created_at,
        updated_at: build.updated_at,
        state: build.state,
        staging_memory_in_mb: build.limits.memory_mb,
        staging_disk_in_mb: build.limits.disk_mb,
        error,
        failure: build.error,
        reused,
        lifecycle: lifecycle(build.lifecycle, &build.buildpacks, build.stack.as_str()),
        package: v3::Guid { guid: build.package },
        droplet: build.droplet.map(|guid| v3::Guid { guid }),
        created_by: v3::CreatedBy {
            guid: build.created_by,
            name: String::new(),
            email: String::new(),
        },
        relationships: v3::BuildRelationships {
            app: v3::ToOne::to(build.app),
        },
        metadata: build.metadata,
    }
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::Build>>> {
    let filter = BuildFilter {
        common: query.common()?,
        apps: query.ids("app_guids"),
        packages: query.ids("package_guids"),
        states: query.words("states")?,
    };
    let listed = context
        .store
        .build_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    query
        .list(&context, listed, |build| present(&context, build, false))
        .map(Json)
}

async fn of_app(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Build>>> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, APP)?, Need::Read, APP).await?;
    let filter = BuildFilter {
        common: query.common()?,
        apps: Some(vec![app.id]),
        states: query.words("states")?,
        ..BuildFilter::default()
    };
    let listed = context
        .store
        .build_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    query
        .list(&context, listed, |build| present(&context, build, false))
        .map(Json)
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    polls: Polls,
    Path(guid): Path<String>,
) -> Answer<Json<v3::Build>> {
    let build_id: BuildId = id(&guid, WHAT)?;
    let store = &context.store;
    let read = || async {
        store
            .build_fetch(build_id)
            .await?
            .ok_or_else(|| Failure::not_found(WHAT))
    };
    app_for(store, &caller, read().await?.app, Need::Read, WHAT).await?;
    let build = settle(
        &context,
        &polls,
        |build: &Build| build.state != BuildState::Staging,
        read,
    )
    .await?;
    let reused = match build.droplet {
        Some(droplet) => store
            .droplet_fetch(droplet)
            .await?
            .is_some_and(|droplet| droplet.build != Some(build.id)),
        None => false,
    };
    Ok(Json(present(&context, build, reused)))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::BuildCreate>,
) -> Answer<(StatusCode, Json<v3::Build>)> {
    let found = package_for(&context, &caller, &body.package.guid.to_string(), Need::Write).await;
    let (package, app, space) = match found {
        Err(failure) if failure.status() == StatusCode::NOT_FOUND => {
            return Err(Failure::refused(
                "Unable to use package. Ensure that the package exists and you have access to it.",
            ));
        }
        other => other?,
    };
    if app.lifecycle == AppLifecycle::Docker {
        Flag::DiegoDocker.require_on(&context.store).await?;
    }
    let build = actions::create(&context, &app, &space, &package, &body, &By::caller(&caller, &context)).await?;
    let reused = build.state == BuildState::Staged;
    Ok((StatusCode::CREATED, Json(present(&context, build, reused))))
}
