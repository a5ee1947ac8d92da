//! The keys that sign access tokens: published for whoever verifies them, and replaced by operators.

use crate::actions::By;
use crate::auth::Caller;
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use model::resource::Target;
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/token_keys", get(published))
        .route("/admin/v1/token_keys/rotate", post(rotate))
}

async fn published(State(context): State<Context>) -> Json<Value> {
    Json(json!({"keys": context.tokens.public()}))
}

#[derive(Deserialize)]
struct Rotate {
    /// Tokens by earlier keys are over at once, not when they would be by themselves.
    #[serde(default)]
    revoke: bool,
}

/// A new key signs from now on.
async fn rotate(State(context): State<Context>, caller: Caller, Body(body): Body<Rotate>) -> Answer<StatusCode> {
    caller.operator()?;
    let by = By::caller(&caller, &context);
    let rotated = context.tokens.rotate(&context.store, by.now, body.revoke).await;
    rotated.map_err(Failure::internal)?;
    let target = Target {
        guid: String::new(),
        kind: "token_keys".to_owned(),
        name: String::new(),
    };
    let tx = context.store.begin().await?;
    tx.event(by.event("audit.token_keys.rotate", target, None, json!({"revoke": body.revoke})));
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
