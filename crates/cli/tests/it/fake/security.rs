//! The fake's security groups: two that there are, and an answer to every change.

use super::{FakeController, Params, document, list};
use axum::Json;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::{delete, get, post};
use serde_json::{Value, json};

const SPACE: &str = "00000000-0000-0000-0000-0000000000d0";

fn group(name: &str, rules: &Value, running: bool, spaces: &[&str]) -> Value {
    let data: Vec<Value> = spaces.iter().map(|guid| json!({"guid": guid})).collect();
    json!({"guid": "00000000-0000-0000-0000-0000000000e0", "name": name, "rules": rules,
        "globally_enabled": {"running": running, "staging": false},
        "relationships": {"running_spaces": {"data": []}, "staging_spaces": {"data": data}},
        "created_at": "2026-03-01T12:00:00Z", "updated_at": "2026-03-01T12:00:00Z"})
}

fn known() -> [Value; 2] {
    let rules = json!([{"protocol": "tcp", "destination": "10.0.0.0/8", "ports": "443"}]);
    [
        group("public", &json!([]), true, &[]),
        group("db", &rules, false, &[SPACE]),
    ]
}

pub(super) fn routes() -> Router<FakeController> {
    let of = "/v3/security_groups/{guid}/relationships";
    Router::new()
        .route(
            "/v3/security_groups",
            get(async |query: Params| {
                let wanted = |group: &Value| match query.get("names") {
                    Some(name) => group["name"] == *name,
                    None => {
                        query.get("globally_enabled_running").is_none() || group["globally_enabled"]["running"] == true
                    }
                };
                list(known().into_iter().filter(wanted))
            })
            .post(async |Json(body): Json<Value>| {
                let name = body["name"].as_str().unwrap_or_default();
                document(group(name, &body["rules"], false, &[]))
            }),
        )
        .route(
            "/v3/security_groups/{guid}",
            delete(async || (StatusCode::ACCEPTED, [(header::LOCATION, "/v3/jobs/job")])).patch(
                async |Json(body): Json<Value>| {
                    let running = body["globally_enabled"]["running"] == true;
                    let rules = body["rules"].as_array().cloned().unwrap_or_default();
                    document(group("db", &rules.into(), running, &[]))
                },
            ),
        )
        .route(
            &format!("{of}/running_spaces"),
            post(async || document(json!({"data": []}))),
        )
        .route(
            &format!("{of}/staging_spaces"),
            post(async || document(json!({"data": []}))),
        )
        .route(
            &format!("{of}/running_spaces/{{space}}"),
            delete(async || StatusCode::NO_CONTENT),
        )
}
