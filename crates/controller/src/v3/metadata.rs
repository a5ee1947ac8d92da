//! Labels and annotations of resources that can be changed in nothing else: `PATCH` of builds, droplets,
//! tasks, domains, routes, stacks and users. Others merge them with what else they change.

use super::{builds, catalog, domains, droplets, tasks, users};
use crate::actions::By;
use crate::actions::manifest::merge;
use crate::actions::route::set_options_on;
use crate::auth::{Caller, Need, app_for, space_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, id};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::patch;
use axum::{Json, Router};
use model::id::{BuildId, DropletId, StackId};
use model::resource::Metadata;
use store::Carrier;
use uuid::Uuid;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/builds/{guid}", patch(build))
        .route("/v3/droplets/{guid}", patch(droplet))
        .route("/v3/tasks/{guid}", patch(task))
        .route("/v3/domains/{guid}", patch(domain))
        .route("/v3/routes/{guid}", patch(route))
        .route("/v3/stacks/{guid}", patch(stack))
        .route("/v3/users/{guid}", patch(user))
}

/// Writes what is changed of `metadata`.
async fn keep(
    context: &Context,
    of: Carrier,
    id: Uuid,
    metadata: &mut Metadata,
    body: v3::MetadataUpdate,
) -> Answer<()> {
    merge(metadata, &body.metadata.unwrap_or_default())?;
    let tx = context.store.begin().await?;
    tx.metadata_set(of, id, metadata).await?;
    Ok(tx.commit().await?)
}

async fn build(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::MetadataUpdate>,
) -> Answer<Json<v3::Build>> {
    let found = context.store.build_fetch(id::<BuildId>(&guid, builds::WHAT)?).await?;
    let mut build = found.ok_or_else(|| Failure::not_found(builds::WHAT))?;
    app_for(&context.store, &caller, build.app, Need::Write, builds::WHAT).await?;
    keep(&context, Carrier::Build, build.id.0, &mut build.metadata, body).await?;
    Ok(Json(builds::present(&context, build, false)))
}

async fn droplet(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::MetadataUpdate>,
) -> Answer<Json<v3::Droplet>> {
    let found = context
        .store
        .droplet_fetch(id::<DropletId>(&guid, droplets::WHAT)?)
        .await?;
    let mut droplet = found.ok_or_else(|| Failure::not_found(droplets::WHAT))?;
    app_for(&context.store, &caller, droplet.app, Need::Write, droplets::WHAT).await?;
    keep(&context, Carrier::Droplet, droplet.id.0, &mut droplet.metadata, body).await?;
    Ok(Json(droplets::present(&context, droplet)))
}

async fn task(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::MetadataUpdate>,
) -> Answer<Json<v3::Task>> {
    let (mut task, ..) = tasks::task_for(&context, &caller, &guid, Need::Write).await?;
    keep(&context, Carrier::Task, task.id.0, &mut task.metadata, body).await?;
    Ok(Json(tasks::present(&context, task, true)))
}

async fn domain(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::MetadataUpdate>,
) -> Answer<Json<v3::Domain>> {
    let found = domains::visible(&context, &caller, id(&guid, domains::WHAT)?).await?;
    let mut domain = found.ok_or_else(|| Failure::not_found(domains::WHAT))?;
    if !domain.org.map_or(caller.admin, |org| caller.manages_org(org)) {
        return Err(Failure::forbidden());
    }
    keep(&context, Carrier::Domain, domain.id.0, &mut domain.metadata, body).await?;
    Ok(Json(domains::present(&context, domain)))
}

async fn route(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::RouteUpdate>,
) -> Answer<Json<v3::Route>> {
    let found = context.store.route_fetch(id(&guid, super::routes::WHAT)?).await?;
    let mut route = found.ok_or_else(|| Failure::not_found(super::routes::WHAT))?;
    let what = super::routes::WHAT;
    let space = space_for(&context.store, &caller, route.space, Need::Operate, what).await?;
    let change = super::routes::options_change(body.options)?;
    merge(&mut route.metadata, &body.metadata.unwrap_or_default())?;
    let tx = context.store.begin().await?;
    tx.metadata_set(Carrier::Route, route.id.0, &route.metadata).await?;
    let by = By::caller(&caller, &context);
    set_options_on(&tx, &mut route, &change, &space, &by).await?;
    tx.commit().await?;
    context.wake.scheduler();
    let destinations = context.store.destinations_of_routes(&[route.id]).await?;
    Ok(Json(super::routes::present(&context, route, &destinations)))
}

async fn stack(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::MetadataUpdate>,
) -> Answer<Json<v3::Stack>> {
    let wanted: StackId = id(&guid, catalog::STACK)?;
    let found = context
        .store
        .stack_list()
        .await?
        .into_iter()
        .find(|stack| stack.id == wanted);
    let mut stack = found.ok_or_else(|| Failure::not_found(catalog::STACK))?;
    caller.operator()?;
    keep(&context, Carrier::Stack, stack.id.0, &mut stack.metadata, body).await?;
    Ok(Json(catalog::present_stack(&context, stack)))
}

async fn user(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::MetadataUpdate>,
) -> Answer<Json<v3::User>> {
    let mut user = users::user_for(&context, &caller, &guid).await?;
    caller.operator()?;
    keep(&context, Carrier::User, user.id.0, &mut user.metadata, body).await?;
    Ok(Json(users::present(&context, user)))
}
