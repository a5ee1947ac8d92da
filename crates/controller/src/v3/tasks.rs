//! `/v3/tasks`, and the same below an app.

use super::apps::WHAT as APP;
use super::links::{links, post};
use crate::actions::{By, task as actions};
use crate::auth::{Caller, Need, app_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use crate::request::{Body, Polls, Query, id, settle};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::{get, post as on_post, put};
use axum::{Json, Router};
use http::StatusCode;
use model::id::TaskId;
use model::resource::{App, Space, Task, TaskState};
use store::TaskFilter;

const WHAT: &str = "Task";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/tasks", get(list))
        .route("/v3/tasks/{guid}", get(fetch))
        // The command line of CF uses one, libraries the other.
        .route("/v3/tasks/{guid}/cancel", put(cancel))
        .route("/v3/tasks/{guid}/actions/cancel", on_post(cancel))
        .route("/v3/apps/{guid}/tasks", get(of_app).post(create))
}

/// `secrets`: whether the caller may see the command.
pub(super) fn present(context: &Context, task: Task, secrets: bool) -> v3::Task {
    let own = format!("/v3/tasks/{}", task.id);
    let mut all = links(
        context,
        [
            ("self", own.clone()),
            ("app", format!("/v3/apps/{}", task.app)),
            ("droplet", format!("/v3/droplets/{}", task.droplet)),
        ],
    );
    all.insert("cancel".to_owned(), post(context, format!("{own}/actions/cancel")));
    let rate = task.limits.log_bytes_per_second;
    v3::Task {
        links: all,
        guid: task.id,
        created_at: task.created_at,
        updated_at: task.updated_at,
        sequence_id: task.sequence,
        name: task.name,
        command: secrets.then_some(task.command),
        state: task.state,
        memory_in_mb: task.limits.memory_mb,
        disk_in_mb: task.limits.disk_mb,
        log_rate_limit_in_bytes_per_second: rate.map_or(-1, |rate| i64::try_from(rate).unwrap_or(i64::MAX)),
        result: v3::TaskResult {
            failure_reason: task.failure,
        },
        droplet_guid: task.droplet,
        relationships: v3::TaskRelationships {
            app: v3::ToOne::to(task.app),
        },
        metadata: task.metadata,
    }
}

fn filter(query: &Query) -> Answer<TaskFilter> {
    Ok(TaskFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        apps: query.ids("app_guids"),
        spaces: query.ids("space_guids"),
        orgs: query.ids("organization_guids"),
        droplets: query.ids("droplet_guids"),
        names: query.texts("names"),
        states: query.words("states")?,
        sequences: query.ids("sequence_ids"),
    })
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::Task>>> {
    let listed = context
        .store
        .task_list(&filter(&query)?, caller.scope(), query.order()?, query.page()?)
        .await?;
    query
        .list(&context, listed, |task| present(&context, task, false))
        .map(Json)
}

async fn of_app(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Task>>> {
    let (app, space) = app_for(&context.store, &caller, id(&guid, APP)?, Need::Read, APP).await?;
    let filter = TaskFilter {
        apps: Some(vec![app.id]),
        ..filter(&query)?
    };
    let listed = context
        .store
        .task_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    let secrets = caller.operates(&space);
    query
        .list(&context, listed, |task| present(&context, task, secrets))
        .map(Json)
}

pub(super) async fn task_for(context: &Context, caller: &Caller, guid: &str, need: Need) -> Answer<(Task, App, Space)> {
    let found = context.store.task_fetch(id::<TaskId>(guid, WHAT)?).await?;
    let task = found.ok_or_else(|| Failure::not_found(WHAT))?;
    let (app, space) = app_for(&context.store, caller, task.app, need, WHAT).await?;
    Ok((task, app, space))
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    polls: Polls,
    Path(guid): Path<String>,
) -> Answer<Json<v3::Task>> {
    let (task, _, space) = task_for(&context, &caller, &guid, Need::Read).await?;
    let over = |task: &Task| matches!(task.state, TaskState::Succeeded | TaskState::Failed);
    let read = || async {
        let task = context.store.task_fetch(task.id).await?;
        task.ok_or_else(|| Failure::not_found(WHAT))
    };
    let task = settle(&context, &polls, over, read).await?;
    Ok(Json(present(&context, task, caller.operates(&space))))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::TaskCreate>,
) -> Answer<(StatusCode, Json<v3::Task>)> {
    let (app, space) = app_for(&context.store, &caller, id(&guid, APP)?, Need::Write, APP).await?;
    Flag::TaskCreation.require(&context.store, &caller).await?;
    let by = By::caller(&caller, &context);
    let task = actions::create(&context, app.id, &space, &body, &by).await?;
    Ok((StatusCode::ACCEPTED, Json(present(&context, task, true))))
}

async fn cancel(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<(StatusCode, Json<v3::Task>)> {
    let (task, app, space) = task_for(&context, &caller, &guid, Need::Operate).await?;
    let by = By::caller(&caller, &context);
    let task = actions::cancel(&context, task.id, &app, &space, &by).await?;
    Ok((StatusCode::ACCEPTED, Json(present(&context, task, true))))
}
