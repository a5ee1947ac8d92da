//! What is in use in an organisation or a space, as quotas count it.

use super::links::links;
use crate::auth::{Caller, Need, org_for, space_for};
use crate::context::Context;
use crate::error::Answer;
use crate::request::id;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use model::quota::Usage;
use serde_json::json;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/info/usage_summary", get(all_usage))
        .route("/v3/organizations/{guid}/usage_summary", get(org_usage))
        .route("/v3/spaces/{guid}/usage_summary", get(space_usage))
}

fn summary(context: &Context, own: &str, usage: &Usage) -> Json<serde_json::Value> {
    Json(json!({
        "usage_summary": {
            "started_instances": usage.instances,
            "memory_in_mb": usage.memory_mb,
            "routes": usage.routes,
            "domains": usage.domains,
        },
        "links": links(context, [("self", format!("{own}/usage_summary"))]),
    }))
}

/// Of the whole platform, for who sees all of it.
async fn all_usage(State(context): State<Context>, caller: Caller) -> Answer<Json<serde_json::Value>> {
    caller.operator()?;
    Ok(summary(&context, "/v3/info", &context.store.usage_of_all().await?))
}

async fn org_usage(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<serde_json::Value>> {
    let org = org_for(&context.store, &caller, id(&guid, "Organization")?, Need::Read).await?;
    let usage = context.store.usage(org.id, None).await?;
    Ok(summary(&context, &format!("/v3/organizations/{}", org.id), &usage))
}

async fn space_usage(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<serde_json::Value>> {
    let space = space_for(&context.store, &caller, id(&guid, "Space")?, Need::Read, "Space").await?;
    let usage = context.store.usage(space.org, Some(space.id)).await?;
    Ok(summary(&context, &format!("/v3/spaces/{}", space.id), &usage))
}
