//! What makes no sense, on every route of the table: tokens, bodies, ids and pages that are wrong in every way we could
//! think of. Each is refused in CF's words, changes nothing, and tells nothing about other tenants.
//!
//! The cases are made from the route table and from the bodies that the test of roles sends, so that a new route is
//! asked too. What big and slow bodies do is in `heavy`.

mod bodies;
mod ids;
mod lists;
mod tokens;

pub use lists::parameters;

use crate::client::*;
use crate::oauth::PUBLIC;
use crate::roles;
use crate::world::World;
use api::Route;
use api::v3::ROUTES;
use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

/// An id of nothing.
const NOBODY: &str = "6f3a1c5e-0000-4000-8000-000000000000";
/// Actions that read no body, as they need none.
const BODILESS: [&str; 8] = [
    "/v3/apps/{guid}/actions/start",
    "/v3/apps/{guid}/actions/stop",
    "/v3/apps/{guid}/actions/restart",
    "/v3/apps/{guid}/actions/clear_buildpack_cache",
    "/v3/deployments/{guid}/actions/cancel",
    "/v3/deployments/{guid}/actions/continue",
    "/v3/tasks/{guid}/cancel",
    "/v3/tasks/{guid}/actions/cancel",
];

pub fn guarded() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| !PUBLIC.contains(&route.path))
}

pub fn with_body() -> impl Iterator<Item = &'static Route> {
    guarded().filter(|route| {
        ["POST", "PATCH", "PUT"].contains(&route.method)
            && !BODILESS.contains(&route.path)
            && !route.path.ends_with("/upload")
    })
}

pub fn is_manifest(route: &Route) -> bool {
    route.path.ends_with("/manifest_diff") || route.path.ends_with("/apply_manifest")
}

pub fn request(token: &str, method: &str, path: &str, kind: &str, body: impl Into<Body>) -> Request<Body> {
    let method: Method = method.parse().expect("a method");
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("bearer {token}"))
        .header("content-type", kind);
    request
        .body(body.into())
        .unwrap_or_else(|_| panic!("{path:?} is no path"))
}

/// What was answered otherwise than it should be: all of it is told at once, at the end.
#[derive(Default)]
pub struct Wrong(Vec<String>);

impl Wrong {
    /// Notes an answer that is no error in the shape that clients of this route read, or has another status than these.
    pub fn unless_refused(&mut self, answer: &Answer, statuses: &[u16], case: &str) {
        let status = answer.status.as_u16();
        let kind = answer.headers.get("content-type").and_then(|kind| kind.to_str().ok());
        let error = &answer.body["errors"][0];
        let of_cf = error["code"].is_u64()
            && error["title"].as_str().is_some_and(|title| title.starts_with("CF-"))
            && error["detail"].as_str().is_some_and(|detail| !detail.is_empty());
        let of_oauth = answer.body["error"].is_string() && answer.body["error_description"].is_string();
        let shaped = kind.is_some_and(|kind| kind.starts_with("application/json")) && (of_cf || of_oauth);
        let fits = (400..500).contains(&status) && (statuses.is_empty() || statuses.contains(&status));
        self.unless(fits && shaped, || {
            format!("{case}: {status} {kind:?} {:.400}", answer.text)
        });
    }

    /// Notes `what` unless all is well.
    pub fn unless(&mut self, well: bool, what: impl FnOnce() -> String) {
        if !well {
            self.0.push(what());
        }
    }

    /// Fails the test where anything was noted.
    pub fn none(self) {
        assert!(
            self.0.is_empty(),
            "{} wrong answers:\n{}",
            self.0.len(),
            self.0[..self.0.len().min(60)].join("\n")
        );
    }
}

/// What is there, as an administrator sees it, without what passes by itself.
async fn state(admin: &Client<'_>) -> String {
    let lists = ROUTES.iter().filter(|route| {
        route.method == "GET" && !route.path.contains('{') && route.path.starts_with("/v3/") && route.path != "/v3/info"
    });
    let mut state = String::new();
    for list in lists {
        let answer = admin.get(&format!("{}?per_page=5000", list.path)).await.expect(200);
        state.push_str(&answer.text);
    }
    state
}

/// The number of the newest event: every change makes one.
async fn newest(platform: &Platform) -> i64 {
    platform.context.store.event_newest().await.expect("read")
}

/// A body that would be taken, with more in it than the least.
fn whole(route: &Route, world: &World) -> Value {
    let mut body = roles::body(route.method, route.path, world);
    let more = match (route.method, route.path) {
        ("POST", "/v3/apps") => json!({"environment_variables": {"A": "1"},
            "lifecycle": {"type": "buildpack", "data": {"buildpacks": ["nodejs_buildpack"], "stack": "host"}}}),
        ("PATCH", "/v3/apps/{guid}") => json!({"name": "renamed",
            "lifecycle": {"type": "buildpack", "data": {"buildpacks": ["nodejs_buildpack"], "stack": "host"}}}),
        ("PATCH", "/v3/processes/{guid}" | "/v3/apps/{guid}/processes/{type}") => json!({"command": "true",
            "health_check": {"type": "http", "data": {"timeout": 5, "endpoint": "/"}}}),
        ("POST", path) if path.ends_with("/actions/scale") => json!({"instances": 1, "memory_in_mb": 64,
            "disk_in_mb": 64, "log_rate_limit_in_bytes_per_second": 1000}),
        ("PATCH", "/v3/organizations/{guid}") => json!({"name": "renamed", "suspended": false}),
        ("PATCH", "/v3/spaces/{guid}") => json!({"name": "renamed"}),
        ("POST", "/v3/organization_quotas") | ("PATCH", "/v3/organization_quotas/{guid}") => json!({"name": "new",
            "apps": {"total_memory_in_mb": 1, "total_instances": 1}, "routes": {"total_routes": 1},
            "services": {"total_service_instances": 1}, "domains": {"total_domains": 1}}),
        ("POST", "/v3/space_quotas") | ("PATCH", "/v3/space_quotas/{guid}") => json!({"name": "new",
            "apps": {"total_memory_in_mb": 1, "total_instances": 1}, "routes": {"total_routes": 1},
            "services": {"total_service_instances": 1}}),
        ("POST", "/v3/security_groups") | ("PATCH", "/v3/security_groups/{guid}") => json!({"name": "new",
            "globally_enabled": {"running": false},
            "rules": [{"protocol": "tcp", "destination": "10.0.0.0/8", "ports": "80"}]}),
        ("POST", "/v3/service_instances") | ("PATCH", "/v3/service_instances/{guid}") => json!({"name": "new",
            "credentials": {"a": "b"}, "tags": ["one"], "syslog_drain_url": "syslog://example.com"}),
        ("POST", "/v3/apps/{guid}/tasks") => json!({"name": "new", "memory_in_mb": 64, "disk_in_mb": 64}),
        ("POST", "/v3/buildpacks") | ("PATCH", "/v3/buildpacks/{guid}") => json!({"position": 1, "enabled": true,
            "locked": false, "stack": "host"}),
        ("POST", "/v3/deployments") => json!({"strategy": "canary", "options": {"max_in_flight": 1,
            "canary": {"steps": [{"instance_weight": 10}]}}, "droplet": {"guid": world["droplet"]}}),
        ("POST", "/v3/resource_matches") => json!({"resources": [resource("a", "b")]}),
        _ => json!({}),
    };
    for (name, value) in more.as_object().expect("a map") {
        body[name] = value.clone();
    }
    let plain = [
        "feature_flags",
        "variable_groups",
        "quotas",
        "security_groups",
        "revisions/{guid}/",
    ];
    let own = route.method == "PATCH" && route.path.matches('/').count() == 3 && route.path.ends_with("{guid}");
    if own && !plain.iter().any(|plain| route.path.contains(plain)) {
        body["metadata"] = json!({"labels": {"a": "b"}, "annotations": {"c": "d"}});
    }
    body
}

/// The places of a document, as JSON pointers, the root left out.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    if !at.is_empty() {
        found.push(at.to_owned());
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                places(
                    value,
                    &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                    found,
                );
            }
        }
        Value::Array(items) => {
            for (n, value) in items.iter().enumerate() {
                places(value, &format!("{at}/{n}"), found);
            }
        }
        _ => {}
    }
}

fn with(body: &Value, place: &str, value: Value) -> Value {
    let mut body = body.clone();
    *body.pointer_mut(place).expect("a place of it") = value;
    body
}
