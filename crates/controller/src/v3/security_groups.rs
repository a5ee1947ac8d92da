//! `/v3/security_groups`, their spaces, and the security groups of a space.

use super::links::{accepted, links};
use crate::actions::By;
use crate::actions::security_group::{self as actions, Wanted};
use crate::auth::{Caller, Need, space_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, Query, id};
use api::v3;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::StatusCode;
use model::id::{SecurityGroupId, SpaceId};
use model::security::{SecurityGroup, Use};
use serde_json::{Map, Value};
use store::{BoundSpaces, Paged, Scope, SecurityGroupFilter};

const WHAT: &str = "Security group";
const SPACE: &str = "Space";

pub(super) fn routes() -> Router<Context> {
    let of = "/v3/security_groups/{guid}/relationships";
    Router::new()
        .route("/v3/security_groups", get(list).post(create))
        .route("/v3/security_groups/{guid}", get(fetch).patch(update).delete(remove))
        .route(&format!("{of}/running_spaces"), post(bind_running))
        .route(&format!("{of}/running_spaces/{{space}}"), delete(unbind_running))
        .route(&format!("{of}/staging_spaces"), post(bind_staging))
        .route(&format!("{of}/staging_spaces/{{space}}"), delete(unbind_staging))
        .route("/v3/spaces/{guid}/running_security_groups", get(running_of_space))
        .route("/v3/spaces/{guid}/staging_security_groups", get(staging_of_space))
}

fn to_many(spaces: &[SpaceId]) -> v3::ToMany<SpaceId> {
    v3::ToMany {
        data: spaces.iter().map(|guid| v3::Guid { guid: *guid }).collect(),
    }
}

fn present(context: &Context, group: SecurityGroup, bound: &BoundSpaces) -> v3::SecurityGroup {
    v3::SecurityGroup {
        links: links(context, [("self", format!("/v3/security_groups/{}", group.id))]),
        guid: group.id,
        created_at: group.created_at,
        updated_at: group.updated_at,
        name: group.name,
        rules: group.rules,
        globally_enabled: group.globally,
        relationships: v3::SecurityGroupRelationships {
            running_spaces: to_many(&bound.running),
            staging_spaces: to_many(&bound.staging),
        },
    }
}

/// One group with the spaces that the caller may see.
async fn shown(context: &Context, caller: &Caller, group: SecurityGroup) -> Answer<Json<v3::SecurityGroup>> {
    let mut bound = context.store.security_group_spaces(&[group.id], caller.scope()).await?;
    let bound = bound.remove(&group.id).unwrap_or_default();
    Ok(Json(present(context, group, &bound)))
}

async fn page_of(
    context: &Context,
    caller: &Caller,
    query: &Query,
    paged: Paged<SecurityGroup>,
) -> Answer<Json<v3::List<v3::SecurityGroup>>> {
    let ids: Vec<SecurityGroupId> = paged.items.iter().map(|group| group.id).collect();
    let mut bound = context.store.security_group_spaces(&ids, caller.scope()).await?;
    let list = query.list(context, paged, |group| {
        let bound = bound.remove(&group.id).unwrap_or_default();
        present(context, group, &bound)
    })?;
    Ok(Json(list))
}

/// The group, if the caller may see it: it is in force everywhere, or in a space that they may see.
async fn group_for(context: &Context, caller: &Caller, guid: &str) -> Answer<SecurityGroup> {
    let id = id::<SecurityGroupId>(guid, WHAT)?;
    let found = context.store.security_group_fetch(id, caller.scope()).await?;
    found.ok_or_else(|| Failure::not_found(WHAT))
}

fn administrator(caller: &Caller) -> Answer<()> {
    if caller.admin {
        Ok(())
    } else {
        Err(Failure::forbidden())
    }
}

fn flag(query: &Query, name: &str) -> Answer<Option<bool>> {
    match query.get(name) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => {
            let mut text = name.replace('_', " ");
            text.replace_range(..1, "G");
            Err(Failure::refused(format!("{text} must be 'true' or 'false'")))
        }
    }
}

async fn list(
    State(context): State<Context>,
    caller: Caller,
    query: Query,
) -> Answer<Json<v3::List<v3::SecurityGroup>>> {
    let filter = SecurityGroupFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        names: query.texts("names"),
        running_spaces: query.ids("running_space_guids"),
        staging_spaces: query.ids("staging_space_guids"),
        globally_running: flag(&query, "globally_enabled_running")?,
        globally_staging: flag(&query, "globally_enabled_staging")?,
        in_force: None,
    };
    let (order, page) = (query.order()?, query.page()?);
    let store = &context.store;
    let listed = store.security_group_list(&filter, caller.scope(), order, page).await?;
    page_of(&context, &caller, &query, listed).await
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::SecurityGroup>> {
    let group = group_for(&context, &caller, &guid).await?;
    shown(&context, &caller, group).await
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<Map<String, Value>>,
) -> Answer<(StatusCode, Json<v3::SecurityGroup>)> {
    administrator(&caller)?;
    let wanted = Wanted::read(&body, true)?;
    let group = actions::create(&context, wanted, &By::caller(&caller, &context)).await?;
    Ok((StatusCode::CREATED, shown(&context, &caller, group).await?))
}

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Answer<Json<v3::SecurityGroup>> {
    let group = group_for(&context, &caller, &guid).await?;
    administrator(&caller)?;
    let wanted = Wanted::read(&body, false)?;
    let group = actions::update(&context, group.id, wanted, &By::caller(&caller, &context)).await?;
    shown(&context, &caller, group).await
}

async fn remove(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let group = group_for(&context, &caller, &guid).await?;
    administrator(&caller)?;
    let job = actions::delete(&context, &group, &By::caller(&caller, &context)).await?;
    Ok(accepted(&context, job.id))
}

async fn bind_running(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Answer<Json<v3::SecurityGroupSpaces>> {
    bind(&context, &caller, &guid, &body, Use::Running).await
}

async fn bind_staging(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Answer<Json<v3::SecurityGroupSpaces>> {
    bind(&context, &caller, &guid, &body, Use::Staging).await
}

/// Whoever manages all the spaces may bind a group that they see.
async fn bind(
    context: &Context,
    caller: &Caller,
    guid: &str,
    body: &Map<String, Value>,
    use_: Use,
) -> Answer<Json<v3::SecurityGroupSpaces>> {
    let group = group_for(context, caller, guid).await?;
    let guids = actions::named_spaces(body)?;
    let (spaces, missing) = actions::spaces_of(&context.store, &guids, Scope::All).await?;
    if spaces.iter().any(|space| !caller.manages_space(space)) {
        return Err(Failure::forbidden());
    }
    if !missing.is_empty() {
        return Err(Failure::refused(format!(
            "Spaces with guids {missing:?} do not exist, or you do not have access to them."
        )));
    }
    actions::bind(context, &group, &spaces, use_, &By::caller(caller, context)).await?;
    let mut bound = context.store.security_group_spaces(&[group.id], caller.scope()).await?;
    let bound = bound.remove(&group.id).unwrap_or_default();
    let path = format!("/v3/security_groups/{}/relationships/{}_spaces", group.id, use_.name());
    Ok(Json(v3::SecurityGroupSpaces {
        data: to_many(bound.of(use_)).data,
        links: links(context, [("self", path)]),
    }))
}

async fn unbind_running(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, space)): Path<(String, String)>,
) -> Answer<StatusCode> {
    unbind(&context, &caller, &guid, &space, Use::Running).await
}

async fn unbind_staging(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, space)): Path<(String, String)>,
) -> Answer<StatusCode> {
    unbind(&context, &caller, &guid, &space, Use::Staging).await
}

async fn unbind(context: &Context, caller: &Caller, guid: &str, space: &str, use_: Use) -> Answer<StatusCode> {
    let group = group_for(context, caller, guid).await?;
    let unbound = || {
        Failure::refused(format!(
            "Unable to unbind security group from space with guid '{space}'. Ensure the space is bound to this \
             security group."
        ))
    };
    let id: SpaceId = space.parse().map_err(|_| unbound())?;
    let space = context.store.space_fetch(id).await?.ok_or_else(unbound)?;
    if !caller.manages_space(&space) {
        return Err(Failure::forbidden());
    }
    let by = By::caller(caller, context);
    if !actions::unbind(context, &group, &space, use_, &by).await? {
        return Err(unbound());
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn running_of_space(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::SecurityGroup>>> {
    of_space(&context, &caller, &guid, &query, Use::Running).await
}

async fn staging_of_space(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::SecurityGroup>>> {
    of_space(&context, &caller, &guid, &query, Use::Staging).await
}

/// All that is in force in a space: bound to it, or everywhere.
async fn of_space(
    context: &Context,
    caller: &Caller,
    guid: &str,
    query: &Query,
    use_: Use,
) -> Answer<Json<v3::List<v3::SecurityGroup>>> {
    let space = space_for(&context.store, caller, id::<SpaceId>(guid, SPACE)?, Need::Read, SPACE).await?;
    let filter = SecurityGroupFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        names: query.texts("names"),
        in_force: Some((space.id, use_)),
        ..SecurityGroupFilter::default()
    };
    let (order, page) = (query.order()?, query.page()?);
    // Who sees the space sees what is in force in it.
    let listed = context
        .store
        .security_group_list(&filter, Scope::All, order, page)
        .await?;
    page_of(context, caller, query, listed).await
}
