//! Isolation segments: there are none yet, and what asks which one applies is answered so.

use super::links::links;
use crate::auth::{Caller, Need, org_for, space_for};
use crate::context::Context;
use crate::error::Answer;
use crate::request::{Query, id};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use store::Paged;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/isolation_segments", get(list))
        .route(
            "/v3/organizations/{guid}/relationships/default_isolation_segment",
            get(of_org),
        )
        .route("/v3/spaces/{guid}/relationships/isolation_segment", get(of_space))
}

async fn list(State(context): State<Context>, _: Caller, query: Query) -> Answer<Json<v3::List<Value>>> {
    query.only(&["guids", "names", "organization_guids"])?;
    query.common()?;
    let none = Paged {
        items: Vec::new(),
        total: 0,
    };
    query.list(&context, none, |segment: Value| segment).map(Json)
}

async fn of_org(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<Value>> {
    let org = org_for(&context.store, &caller, id(&guid, "Organization")?, Need::Read).await?;
    let own = format!("/v3/organizations/{}/relationships/default_isolation_segment", org.id);
    Ok(Json(json!({"data": null, "links": links(&context, [("self", own)])})))
}

async fn of_space(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<Value>> {
    let space = space_for(&context.store, &caller, id(&guid, "Space")?, Need::Read, "Space").await?;
    let own = format!("/v3/spaces/{}/relationships/isolation_segment", space.id);
    Ok(Json(json!({"data": null, "links": links(&context, [("self", own)])})))
}
