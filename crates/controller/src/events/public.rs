//! Our additions to the public API: an app's stream, its explanation, commands inside it; and cells for operators.

use super::{History, StreamQuery, Why, history, stream, why};
use crate::actions::{self, By};
use crate::auth::{Caller, Need, app_for};
use crate::error::Failure;
use crate::exec::{self, Command};
use crate::request::Body;
use crate::{Context, Control, feeds, sessions};
use api::cell::Purpose;
use api::error::Code;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, Query, State};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use model::id::{AppId, BuildId, CellId};
use model::resource::{App, Build, Space};
use serde::Deserialize;
use serde_json::Value;

/// The routes, to be merged into those of the public API.
pub fn routes(control: Control) -> Router<Context> {
    Router::new()
        .route("/paas/v1/apps/{guid}/stream", get(app_stream))
        .route("/paas/v1/apps/{guid}/why", get(app_why))
        .route("/paas/v1/apps/{guid}/exec", get(app_exec))
        .route("/paas/v1/builds/{guid}/history", get(build_history))
        .route("/paas/v1/builds/{guid}/cancel", post(build_cancel))
        .route("/admin/v1/cells", get(cells))
        .route("/admin/v1/cells/{id}", get(cell).delete(remove))
        .route("/admin/v1/cells/{id}/drain", post(drain))
        .route("/admin/v1/cells/{id}/cordon", post(cordon))
        .route("/admin/v1/cells/{id}/uncordon", post(uncordon))
        .layer(middleware::from_fn_with_state(control.clone(), crate::lead::elected))
        .layer(Extension(control))
}

async fn app_stream(
    caller: Caller,
    State(context): State<Context>,
    Extension(control): Extension<Control>,
    Path(app): Path<AppId>,
    Query(query): Query<StreamQuery>,
) -> Result<Response, Failure> {
    app_for(&context.store, &caller, app, Need::Read, "App").await?;
    stream(&control, app, query).await
}

async fn app_why(
    caller: Caller,
    State(context): State<Context>,
    Extension(control): Extension<Control>,
    Path(app): Path<AppId>,
) -> Result<Json<Why>, Failure> {
    app_for(&context.store, &caller, app, Need::Read, "App").await?;
    why(&control, app)
        .await?
        .map(Json)
        .ok_or_else(|| Failure::not_found("App"))
}

async fn build_history(
    caller: Caller,
    State(context): State<Context>,
    Extension(control): Extension<Control>,
    Path(build): Path<BuildId>,
) -> Result<Json<History>, Failure> {
    let (build, ..) = find_build(&context, &caller, build, Need::Read).await?;
    history(&control, &build).await.map(Json)
}

async fn build_cancel(
    caller: Caller,
    State(context): State<Context>,
    Path(build): Path<BuildId>,
) -> Result<StatusCode, Failure> {
    let (build, app, space) = find_build(&context, &caller, build, Need::Write).await?;
    let by = By::caller(&caller, &context);
    actions::build::cancel(&context, build, &app, &space, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find_build(
    context: &Context,
    caller: &Caller,
    build: BuildId,
    need: Need,
) -> Result<(Build, App, Space), Failure> {
    let build = context.store.build_fetch(build).await?;
    let build = build.ok_or_else(|| Failure::not_found("Build"))?;
    let (app, space) = app_for(&context.store, caller, build.app, need, "Build").await?;
    Ok((build, app, space))
}

/// Which instance, and what to run in it.
#[derive(Debug, Deserialize)]
struct ExecQuery {
    #[serde(default = "web")]
    process: String,
    #[serde(default)]
    index: u32,
    /// A JSON list of texts.
    #[serde(default)]
    command: Option<String>,
    rows: Option<u16>,
    columns: Option<u16>,
    /// `host:port` to connect to from inside, in place of a command.
    connect: Option<String>,
}

fn web() -> String {
    "web".to_owned()
}

impl ExecQuery {
    fn command(&self) -> Result<Command, Failure> {
        let bad = |text: &str| Failure::new(Code::BadQueryParameter, text);
        let argv = match &self.command {
            None => Vec::new(),
            Some(text) => serde_json::from_str(text).map_err(|_| bad("command is not a JSON list of texts"))?,
        };
        let purpose = match &self.connect {
            None => Purpose::Command,
            Some(text) => {
                let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
                let (host, port) = parts.ok_or_else(|| bad("connect is not host:port"))?;
                let port = port.parse().map_err(|_| bad("connect is not host:port"))?;
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                Purpose::Connect { host, port }
            }
        };
        Ok(Command {
            argv,
            terminal: self.rows.zip(self.columns),
            variables: Vec::new(),
            purpose,
        })
    }
}

async fn app_exec(
    caller: Caller,
    State(context): State<Context>,
    Extension(control): Extension<Control>,
    Path(app): Path<AppId>,
    Query(query): Query<ExecQuery>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Failure> {
    let (app, space) = app_for(&context.store, &caller, app, Need::Write, "App").await?;
    let command = query.command()?;
    sessions::authorize(&context, &app, &space, query.index, &By::caller(&caller, &context)).await?;
    let work = exec::instance(&context, app.id, query.index, |instance| {
        instance.process_type.as_str() == query.process
    });
    let work = work.await?.ok_or_else(|| {
        let text = format!("Instance {} of process {} is not running", query.index, query.process);
        Failure::refused(text).hint(format!("See what it does: paas why {}", app.name))
    })?;
    exec::open(&control, &work, command, upgrade)
}

fn operator(caller: &Caller) -> Result<(), Failure> {
    if caller.admin {
        Ok(())
    } else {
        Err(Failure::forbidden())
    }
}

async fn cells(caller: Caller, Extension(control): Extension<Control>) -> Result<Json<Value>, Failure> {
    operator(&caller)?;
    feeds::list_cells(&control).await.map(Json)
}

async fn cell(
    caller: Caller,
    Extension(control): Extension<Control>,
    Path(cell): Path<CellId>,
) -> Result<Json<Value>, Failure> {
    caller.operator()?;
    feeds::show_cell(&control, cell).await.map(Json)
}

async fn remove(
    caller: Caller,
    Extension(control): Extension<Control>,
    Path(cell): Path<CellId>,
) -> Result<StatusCode, Failure> {
    caller.operator()?;
    feeds::remove(&control, cell).await.map(|()| StatusCode::NO_CONTENT)
}

/// How a cell is drained.
#[derive(Debug, Deserialize)]
struct Drain {
    /// Instances that move at once.
    #[serde(default = "a_few")]
    at_once: u32,
}

const fn a_few() -> u32 {
    4
}

async fn drain(
    caller: Caller,
    Extension(control): Extension<Control>,
    Path(cell): Path<CellId>,
    Body(body): Body<Drain>,
) -> Result<StatusCode, Failure> {
    caller.operator()?;
    let drained = feeds::drain(&control, cell, body.at_once).await;
    drained.map(|()| StatusCode::NO_CONTENT)
}

async fn cordon(
    caller: Caller,
    Extension(control): Extension<Control>,
    Path(cell): Path<CellId>,
) -> Result<StatusCode, Failure> {
    operator(&caller)?;
    feeds::cordon(&control, cell, true)
        .await
        .map(|()| StatusCode::NO_CONTENT)
}

async fn uncordon(
    caller: Caller,
    Extension(control): Extension<Control>,
    Path(cell): Path<CellId>,
) -> Result<StatusCode, Failure> {
    operator(&caller)?;
    feeds::cordon(&control, cell, false)
        .await
        .map(|()| StatusCode::NO_CONTENT)
}
