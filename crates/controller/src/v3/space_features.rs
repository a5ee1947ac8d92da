//! `/v3/spaces/{guid}/features`: what can be switched for all apps of a space, which is whether people may have sessions
//! in them.

use crate::actions::By;
use crate::auth::{Caller, Need, space_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, id};
use crate::sessions;
use api::v3;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

const WHAT: &str = "Space";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/spaces/{guid}/features", get(list))
        .route("/v3/spaces/{guid}/features/{name}", get(fetch).patch(update))
}

fn present(enabled: bool) -> v3::AppFeature {
    v3::AppFeature {
        name: sessions::FEATURE.to_owned(),
        description: "Enable SSHing into apps in the space.".to_owned(),
        enabled,
    }
}

fn known(name: &str) -> Answer<()> {
    if name == sessions::FEATURE {
        Ok(())
    } else {
        Err(Failure::not_found("Feature"))
    }
}

async fn list(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<Value>> {
    let space = space_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    let enabled = context.store.ssh_of_space(space.id).await?;
    Ok(Json(json!({"resources": [present(enabled)]})))
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, name)): Path<(String, String)>,
) -> Answer<Json<v3::AppFeature>> {
    let space = space_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    known(&name)?;
    Ok(Json(present(context.store.ssh_of_space(space.id).await?)))
}

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, name)): Path<(String, String)>,
    Body(body): Body<v3::FeatureUpdate>,
) -> Answer<Json<v3::AppFeature>> {
    let space = space_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    known(&name)?;
    if !caller.manages_space(&space) {
        return Err(Failure::forbidden());
    }
    sessions::switch_space(&context, &space, body.enabled, &By::caller(&caller, &context)).await?;
    Ok(Json(present(body.enabled)))
}
