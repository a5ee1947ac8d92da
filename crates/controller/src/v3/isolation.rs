//! `/v3/isolation_segments`, and which one organisations and spaces have.

use super::links::links;
use super::orgs;
use crate::actions::manifest::{merge, new_metadata};
use crate::actions::{By, fresh, isolation as actions};
use crate::auth::{Caller, Need, org_for, space_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, Query, id};
use api::v3::{self, ToMany, ToOne};
use axum::extract::{Path, State};
use axum::routing::{delete, get};
use axum::{Json, Router};
use http::StatusCode;
use model::id::{OrgId, SegmentId};
use model::isolation::{Segment, check_name};
use model::resource::Metadata;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{OrgFilter, Scope};
use time::format_description::well_known::Rfc3339;

const WHAT: &str = "Isolation segment";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/isolation_segments", get(list).post(create))
        .route("/v3/isolation_segments/{guid}", get(fetch).patch(update).delete(remove))
        .route("/v3/isolation_segments/{guid}/organizations", get(orgs_in_full))
        .route(
            "/v3/isolation_segments/{guid}/relationships/organizations",
            get(entitled).post(entitle),
        )
        .route(
            "/v3/isolation_segments/{guid}/relationships/organizations/{org}",
            delete(revoke),
        )
        .route("/v3/isolation_segments/{guid}/relationships/spaces", get(spaces))
        .route(
            "/v3/organizations/{guid}/relationships/default_isolation_segment",
            get(of_org).patch(set_of_org),
        )
        .route(
            "/v3/spaces/{guid}/relationships/isolation_segment",
            get(of_space).patch(set_of_space),
        )
}

/// What a segment is to be; `None`: nothing is said.
#[derive(Deserialize)]
struct Write {
    name: Option<String>,
    metadata: Option<Metadata>,
}

fn present(context: &Context, segment: Segment) -> Value {
    let own = format!("/v3/isolation_segments/{}", segment.id);
    let time = |at: model::Timestamp| at.format(&Rfc3339).unwrap_or_default();
    json!({
        "guid": segment.id,
        "created_at": time(segment.created_at),
        "updated_at": time(segment.updated_at),
        "name": segment.name,
        "metadata": segment.metadata,
        "links": links(context, [("organizations", format!("{own}/organizations")), ("self", own)]),
    })
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<Value>>> {
    let listed = context
        .store
        .segment_list(&query.named()?, caller.scope(), query.order()?, query.page()?)
        .await?;
    query
        .list(&context, listed, |segment| present(&context, segment))
        .map(Json)
}

async fn segment_for(context: &Context, caller: &Caller, guid: &str) -> Answer<Segment> {
    let segment = context.store.segment_fetch(id(guid, WHAT)?, caller.scope()).await?;
    segment.ok_or_else(|| Failure::not_found(WHAT))
}

async fn fetch(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<Value>> {
    Ok(Json(present(&context, segment_for(&context, &caller, &guid).await?)))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<Write>,
) -> Answer<(StatusCode, Json<Value>)> {
    caller.operator()?;
    let by = By::caller(&caller, &context);
    let name = body.name.unwrap_or_default();
    check_name(&name).map_err(Failure::refused)?;
    let segment = Segment {
        id: fresh::<SegmentId>(),
        name,
        metadata: new_metadata(body.metadata.as_ref())?,
        created_at: by.now,
        updated_at: by.now,
    };
    actions::create(&context, &segment).await?;
    Ok((StatusCode::CREATED, Json(present(&context, segment))))
}

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<Write>,
) -> Answer<Json<Value>> {
    let mut segment = segment_for(&context, &caller, &guid).await?;
    caller.operator()?;
    let by = By::caller(&caller, &context);
    if let Some(name) = body.name {
        check_name(&name).map_err(Failure::refused)?;
        segment.name = name;
    }
    merge(&mut segment.metadata, &body.metadata.unwrap_or_default())?;
    segment.updated_at = by.now;
    actions::update(&context, &segment).await?;
    Ok(Json(present(&context, segment)))
}

async fn remove(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<StatusCode> {
    let segment = segment_for(&context, &caller, &guid).await?;
    caller.operator()?;
    actions::delete(&context, &segment).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Those that may use it, as they are.
async fn orgs_in_full(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Organization>>> {
    let segment = segment_for(&context, &caller, &guid).await?;
    let mut ids = context.store.segment_orgs(segment.id, caller.scope()).await?;
    if let Some(wanted) = query.ids::<OrgId>("guids") {
        ids.retain(|id| wanted.contains(id));
    }
    let filter = OrgFilter {
        ids: Some(ids),
        names: query.texts("names"),
        common: query.common()?,
    };
    let listed = context
        .store
        .org_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    orgs::listed(&context, &query, listed).await
}

fn related(context: &Context, segment: SegmentId, ids: impl Iterator<Item = String>, what: &str) -> Json<Value> {
    let own = format!("/v3/isolation_segments/{segment}");
    let data: Vec<_> = ids.map(|guid| json!({"guid": guid})).collect();
    let mut all = links(context, [("self", format!("{own}/relationships/{what}"))]);
    if what == "organizations" {
        all.extend(links(context, [("related", format!("{own}/{what}"))]));
    }
    Json(json!({"data": data, "links": all}))
}

async fn entitled(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<Value>> {
    let segment = segment_for(&context, &caller, &guid).await?;
    let ids = context.store.segment_orgs(segment.id, caller.scope()).await?;
    Ok(related(
        &context,
        segment.id,
        ids.iter().map(ToString::to_string),
        "organizations",
    ))
}

async fn spaces(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<Value>> {
    let segment = segment_for(&context, &caller, &guid).await?;
    let ids = context.store.segment_spaces(segment.id, caller.scope()).await?;
    Ok(related(
        &context,
        segment.id,
        ids.iter().map(ToString::to_string),
        "spaces",
    ))
}

async fn entitle(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<ToMany<String>>,
) -> Answer<Json<Value>> {
    let segment = segment_for(&context, &caller, &guid).await?;
    caller.operator()?;
    let guids: Vec<String> = body.data.into_iter().map(|one| one.guid).collect();
    actions::entitle(&context, &segment, &guids).await?;
    let ids = context.store.segment_orgs(segment.id, Scope::All).await?;
    Ok(related(
        &context,
        segment.id,
        ids.iter().map(ToString::to_string),
        "organizations",
    ))
}

async fn revoke(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, org)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let segment = segment_for(&context, &caller, &guid).await?;
    caller.operator()?;
    let org = org_for(&context.store, &caller, id(&org, "Organization")?, Need::Read).await?;
    actions::revoke(&context, &segment, &org).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which segment something has, if any.
fn one(context: &Context, own: String, segment: Option<SegmentId>) -> Json<Value> {
    let mut all = links(context, [("self", own)]);
    if let Some(segment) = segment {
        all.extend(links(
            context,
            [("related", format!("/v3/isolation_segments/{segment}"))],
        ));
    }
    Json(json!({"data": segment.map(|guid| json!({"guid": guid})), "links": all}))
}

fn path_of_org(org: OrgId) -> String {
    format!("/v3/organizations/{org}/relationships/default_isolation_segment")
}

async fn of_org(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<Value>> {
    let org = org_for(&context.store, &caller, id(&guid, "Organization")?, Need::Read).await?;
    let segment = context.store.org_segment(org.id).await?;
    Ok(one(&context, path_of_org(org.id), segment))
}

async fn set_of_org(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<ToOne<String>>,
) -> Answer<Json<Value>> {
    let org = org_for(&context.store, &caller, id(&guid, "Organization")?, Need::Manage).await?;
    let wanted = body.data.map(|one| one.guid);
    let segment = actions::set_of_org(&context, &org, wanted.as_deref()).await?;
    Ok(one(&context, path_of_org(org.id), segment))
}

async fn of_space(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<Value>> {
    let space = space_for(&context.store, &caller, id(&guid, "Space")?, Need::Read, "Space").await?;
    let segment = context.store.space_segment(space.id).await?;
    let own = format!("/v3/spaces/{}/relationships/isolation_segment", space.id);
    Ok(one(&context, own, segment))
}

async fn set_of_space(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<ToOne<String>>,
) -> Answer<Json<Value>> {
    let space = space_for(&context.store, &caller, id(&guid, "Space")?, Need::Read, "Space").await?;
    if !caller.manages_org(space.org) {
        return Err(Failure::forbidden());
    }
    let by = By::caller(&caller, &context);
    let wanted = body.data.map(|one| one.guid);
    let segment = actions::set_of_space(&context, &space, wanted.as_deref(), &by).await?;
    let own = format!("/v3/spaces/{}/relationships/isolation_segment", space.id);
    Ok(one(&context, own, segment))
}
