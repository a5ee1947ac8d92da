//! `/v3/spaces`.

use super::links::{accepted, links};
use crate::actions::{By, fresh, manifest::merge};
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
use model::id::SpaceId;
use model::resource::{Metadata, Space, Target};
use serde_json::json;
use store::SpaceFilter;

const WHAT: &str = "Space";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/spaces", get(list).post(create))
        .route("/v3/spaces/{guid}", get(fetch).patch(update).delete(delete))
}

fn present(context: &Context, space: Space) -> v3::Space {
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
        },
        metadata: space.metadata,
    }
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

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::Space>>> {
    query.only(&["names", "guids", "organization_guids"])?;
    let filter = SpaceFilter {
        ids: query.ids("guids"),
        names: query.texts("names"),
        orgs: query.ids("organization_guids"),
    };
    let listed = context
        .store
        .space_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    query.list(&context, listed, |space| present(&context, space)).map(Json)
}

async fn fetch(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::Space>> {
    let space = space_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    Ok(Json(present(&context, space)))
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
    merge(&mut metadata, &body.metadata.unwrap_or_default());
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
    Ok((StatusCode::CREATED, Json(present(&context, space))))
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
    merge(&mut space.metadata, &body.metadata.unwrap_or_default());
    space.updated_at = by.now;
    tx.space_update(&space).await.map_err(taken)?;
    tx.event(by.event("audit.space.update", target(&space), Some(&space), json!({})));
    tx.commit().await?;
    Ok(Json(present(&context, space)))
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
    match tx.space_delete(space.id).await {
        Err(store::StoreError::Dangling { .. }) => {
            return Err(Failure::refused("The space still has apps or routes").hint("Delete its apps and routes first"));
        }
        other => other?,
    };
    tx.event(by.event("audit.space.delete-request", target(&space), Some(&space), json!({})));
    tx.job_create(&job).await?;
    tx.commit().await?;
    Ok(accepted(&context, job.id))
}
