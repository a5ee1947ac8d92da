//! The fake's buildpacks, builds and droplets: a few that there are, and an answer to every change.

use super::{FakeController, document, list};
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

const ACCEPTED: (StatusCode, [(header::HeaderName, &str); 1]) =
    (StatusCode::ACCEPTED, [(header::LOCATION, "/v3/jobs/job")]);

fn accepted(of: Value) -> Response {
    let (status, location) = ACCEPTED;
    (status, location, Json(of)).into_response()
}

fn buildpack(guid: &str, name: &str, stack: Option<&str>, locked: bool) -> Value {
    json!({"guid": guid, "name": name, "stack": stack, "position": 1, "enabled": true, "locked": locked, "state": "READY",
        "filename": format!("{name}.zip")})
}

fn known() -> [Value; 3] {
    [
        buildpack("made", "theirs", None, false),
        buildpack("one", "twice", Some("host"), false),
        buildpack("two", "twice", Some("debian12"), true),
    ]
}

fn build(guid: &str, state: &str, error: Option<&str>) -> Value {
    json!({"guid": guid, "state": state, "error": error, "created_at": "2026-03-01T12:00:00Z",
        "droplet": error.is_none().then(|| json!({"guid": "0000-droplet1"}))})
}

async fn history() -> Response {
    document(
        json!({"build": "b", "state": "STAGED", "duration_ms": 1500, "waiting": null,
        "phases": [{"name": "detect", "duration_ms": 20}, {"name": "build nodejs_buildpack", "duration_ms": 1200}],
        "lines": [{"at": "2026-03-01T12:00:00Z", "stream": "out", "text": "-----> npm ci"}]}),
    )
}

pub(super) fn routes() -> Router<FakeController> {
    Router::new()
        .route(
            "/v3/buildpacks",
            get(async || list(known())).post(async |Json(body): Json<Value>| {
                let name = body["name"].as_str().unwrap_or_default();
                document(buildpack("made", name, None, false))
            }),
        )
        .route(
            "/v3/buildpacks/{guid}",
            delete(async || ACCEPTED)
                .patch(async |Json(_): Json<Value>| document(buildpack("made", "theirs", None, false))),
        )
        .route(
            "/v3/buildpacks/{guid}/upload",
            post(async |body: Bytes| {
                // What a real one refuses: here, whatever is no zip.
                if body.windows(2).any(|pair| pair == b"PK") {
                    accepted(buildpack("made", "theirs", None, false))
                } else {
                    let error = json!({"code": 10008, "title": "CF-UnprocessableEntity", "detail": "it is no archive"});
                    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"errors": [error]}))).into_response()
                }
            }),
        )
        .route(
            "/v3/apps/{guid}/builds",
            get(async || {
                list([
                    build("0000-cccc3333", "STAGED", None),
                    build(
                        "0000-dddd4444",
                        "FAILED",
                        Some("StagingError - The build was cancelled"),
                    ),
                ])
            }),
        )
        .route("/paas/v1/builds/{guid}/history", get(history))
        .route("/paas/v1/builds/{guid}/cancel", post(async || StatusCode::NO_CONTENT))
        .route("/v3/apps/{guid}/actions/clear_buildpack_cache", post(async || ACCEPTED))
        .route("/v3/droplets", post(async || document(json!({"guid": "uploaded"}))))
        .route(
            "/v3/droplets/{guid}/upload",
            // Taken whole: who answers before it has read makes a client that still writes find a broken connection.
            post(async |_: Bytes| accepted(json!({"guid": "uploaded"}))),
        )
        .route("/v3/droplets/{guid}/download", get(async || "a droplet"))
        .route(
            "/v3/stacks",
            get(async || {
                list([
                    json!({"guid": "s1", "name": "debian12", "description": "Debian", "default": false}),
                    json!({"guid": "s2", "name": "host", "default": true}),
                ])
            }),
        )
}
