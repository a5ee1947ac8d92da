//! The fake's log-ins without a password, its codes for SSH, and the switches of sessions.

use super::{FakeController, document};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

/// Requests that need no token.
pub const OPEN: [&str; 3] = ["/", "/oauth/token", "/oauth/device_authorization"];

pub(super) fn routes() -> Router<FakeController> {
    Router::new()
        .route("/oauth/authorize", get(authorize))
        .route("/oauth/device_authorization", post(device))
        .route("/v3/apps/{guid}/features/ssh", get(feature).patch(set_feature))
        .route("/v3/spaces/{guid}/features/ssh", get(feature).patch(set_feature))
        .route("/v3/apps/{guid}/ssh_enabled", get(enabled))
}

async fn authorize(State(fake): State<FakeController>) -> Response {
    let location = format!("{}/login?code=one-time", fake.api);
    (StatusCode::FOUND, [(header::LOCATION, location)]).into_response()
}

async fn device(State(fake): State<FakeController>) -> Response {
    document(
        json!({"device_code": "device", "user_code": "BCDF-GHJK", "interval": 1, "expires_in": 30,
        "verification_uri": format!("{}/device", fake.api)}),
    )
}

/// What a question of a waiting device comes to: it has to be asked twice.
pub(super) fn asked(fake: &FakeController, body: &str) -> Option<Response> {
    if !body.contains("device_code=device") {
        return None;
    }
    let before = fake.count("POST /oauth/token");
    let refused = json!({"error": "authorization_pending", "error_description": "wait"});
    (before < 2).then(|| (StatusCode::BAD_REQUEST, Json(refused)).into_response())
}

async fn feature(State(fake): State<FakeController>) -> Response {
    document(json!({"name": "ssh", "description": "", "enabled": fake.ssh(None)}))
}

async fn set_feature(State(fake): State<FakeController>, Json(body): Json<Value>) -> Response {
    let enabled = fake.ssh(body["enabled"].as_bool());
    document(json!({"name": "ssh", "description": "", "enabled": enabled}))
}

async fn enabled(State(fake): State<FakeController>, Path(_): Path<String>) -> Response {
    let enabled = fake.ssh(None);
    let reason = if enabled { "" } else { "ssh is disabled for app" };
    document(json!({"enabled": enabled, "reason": reason}))
}
