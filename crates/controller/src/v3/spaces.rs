//! `/v3/spaces`.

use super::include::{Related, included};
use super::links::{accepted, links};
use crate::actions::{By, fresh, manifest::merge, tenant};
use crate::auth::{Caller, Need, space_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, Query, id};
use api::v3;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use model::id::{QuotaId, SpaceId};
use model::resource::{Metadata, Space, Target};
use serde_json::json;
use store::Paged;

const WHAT: &str = "Space";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/spaces", get(list).post(create))
        .route("/v3/spaces/{guid}", get(fetch).patch(update).delete(delete))
        .route("/v3/spaces/{guid}/routes", axum::routing::delete(delete_unmapped))
}

/// `quota`: its own, where it has one.
fn present(context: &Context, space: Space, quota: Option<QuotaId>) -> v3::Space {
    let own = format!("/v3/spaces/{}", space.id);
    v3::Space {
        links: links(
            context,
            [
                ("self", own.clone()),
                ("organization", format!("/v3/organizations/{}", space.org)),
                ("apply_manifest", format!("{own}/actions/apply_manifest")),
            ],
        ),
        guid: space.id,
        created_at: space.created_at,
        updated_at: space.updated_at,
        name: space.name.into(),
        relationships: v3::SpaceRelationships {
            organization: v3::ToOne::to(space.org),
            quota: Some(v3::ToOne {
                data: quota.map(|guid| v3::Guid { guid }),
            }),
        },
        metadata: space.metadata,
    }
}

async fn in_full(context: &Context, space: Space) -> Answer<Json<v3::Space>> {
    let quota = context.store.quotas_of_spaces(&[space.id]).await?.remove(&space.id);
    Ok(Json(present(context, space, quota)))
}

fn target(space: &Space) -> Target {
    Target {
        guid: space.id.to_string(),
        kind: "space".to_owned(),
        name: space.name.to_string(),
    }
}

fn taken(error: store::StoreError) -> Failure {
    Failure::or_taken(error, || Failure::refused("Name must be unique per organization"))
}

/// Deletes the routes of a space that lead nowhere.
async fn delete_unmapped(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Response> {
    let space = space_for(&context.store, &caller, id(&guid, WHAT)?, Need::Operate, WHAT).await?;
    if query.get("unmapped") != Some("true") {
        return Err(Failure::refused(
            "Mass delete not supported for routes. Use 'unmapped=true' parameter to delete all unmapped routes.",
        ));
    }
    let job = tenant::delete_unmapped_routes(&context, &space, &By::caller(&caller, &context)).await?;
    Ok(accepted(&context, job))
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::Space>>> {
    let listed = context
        .store
        .space_list(&query.named()?, caller.scope(), query.order()?, query.page()?)
        .await?;
    let orgs = listed.items.iter().map(|space| space.org).collect();
    let total = listed.total;
    let items = presented(&context, listed.items).await?;
    let mut list = query.list(&context, Paged { items, total }, |space| space)?;
    let related = Related {
        orgs,
        ..Related::default()
    };
    list.included = included(&context, &caller, &query, related).await?;
    Ok(Json(list))
}

/// Spaces as they travel.
pub(super) async fn presented(context: &Context, spaces: Vec<Space>) -> Answer<Vec<v3::Space>> {
    let ids: Vec<SpaceId> = spaces.iter().map(|space| space.id).collect();
    let quotas = context.store.quotas_of_spaces(&ids).await?;
    let one = |space: Space| {
        let quota = quotas.get(&space.id).copied();
        present(context, space, quota)
    };
    Ok(spaces.into_iter().map(one).collect())
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::Shown<v3::Space>>> {
    let space = space_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    let related = Related {
        orgs: vec![space.org],
        ..Related::default()
    };
    let included = included(&context, &caller, &query, related).await?;
    let Json(resource) = in_full(&context, space).await?;
    Ok(Json(v3::Shown { resource, included }))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::SpaceCreate>,
) -> Answer<(StatusCode, Json<v3::Space>)> {
    let org = body.relationships.organization.id();
    let invalid =
        || Failure::refused("Invalid organization. Ensure the organization exists and you have access to it.");
    let org = org.ok_or_else(invalid)?;
    if !caller.reads_org(org) || context.store.org_fetch(org).await?.is_none() {
        return Err(invalid());
    }
    if !caller.manages_org(org) {
        return Err(Failure::forbidden());
    }
    let by = By::caller(&caller, &context);
    let mut metadata = Metadata::default();
    merge(&mut metadata, &body.metadata.unwrap_or_default())?;
    let space = Space {
        id: fresh::<SpaceId>(),
        org,
        name: super::orgs::name(&body.name)?,
        metadata,
        created_at: by.now,
        updated_at: by.now,
    };
    let tx = context.store.begin().await?;
    tx.space_create(&space).await.map_err(taken)?;
    tx.event(by.event("audit.space.create", target(&space), Some(&space), json!({})));
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(present(&context, space, None))))
}

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::SpaceUpdate>,
) -> Answer<Json<v3::Space>> {
    let by = By::caller(&caller, &context);
    let tx = context.store.begin().await?;
    let mut space = space_for(&tx, &caller, id(&guid, WHAT)?, Need::Manage, WHAT).await?;
    if let Some(name) = &body.name {
        space.name = super::orgs::name(name)?;
    }
    merge(&mut space.metadata, &body.metadata.unwrap_or_default())?;
    space.updated_at = by.now;
    tx.space_update(&space).await.map_err(taken)?;
    tx.event(by.event("audit.space.update", target(&space), Some(&space), json!({})));
    tx.commit().await?;
    in_full(&context, space).await
}

/// Only an empty space can be deleted.
async fn delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let by = By::caller(&caller, &context);
    let space = space_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    if !caller.manages_org(space.org) {
        return Err(Failure::forbidden());
    }
    let job = by.done_job("space.delete");
    let tx = context.store.begin().await?;
    tenant::delete_space(&tx, &space, &by).await?;
    tx.event(by.event("audit.space.delete-request", target(&space), Some(&space), json!({})));
    tx.job_create(&job).await?;
    tx.commit().await?;
    context.wake.scheduler();
    Ok(accepted(&context, job.id))
}
