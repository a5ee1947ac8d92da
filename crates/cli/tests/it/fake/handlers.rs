//! The fake's answers.

use super::stream::stream;
use super::{APP, FakeController, PROCESS, Params, World, app, deployment, document, list, not_found};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use serde_json::{Value, json};

/// What everybody asks first: who to be, and where to work.
fn entrance() -> Router<FakeController> {
    Router::new()
        .route("/", get(root))
        .route("/oauth/token", post(token))
        .route(
            "/v3/organizations",
            get(async || list([json!({"guid": "org", "name": "dev"})])),
        )
        .route("/v3/spaces", get(spaces))
}

pub(super) fn router(fake: FakeController) -> Router {
    entrance()
        .route("/v3/apps", get(apps))
        .route("/v3/apps/{guid}", get(app_by_guid).delete(delete_app))
        .route("/v3/apps/{guid}/processes", get(processes))
        .route("/v3/apps/{guid}/processes/web/actions/scale", post(scale))
        .route("/v3/apps/{guid}/routes", get(async || list([route()])))
        .route(
            "/v3/apps/{guid}/droplets/current",
            get(async || not_found("Droplet not found")),
        )
        .route("/v3/apps/{guid}/actions/stop", post(stop))
        .route(
            "/v3/apps/{guid}/relationships/current_droplet",
            patch(async || document(json!({"data": {"guid": "droplet"}}))),
        )
        .route("/v3/apps/{guid}/env", get(env))
        .route("/v3/apps/{guid}/environment_variables", patch(set_env))
        .route("/v3/processes", get(processes))
        .route("/v3/processes/{guid}/stats", get(stats))
        .route("/v3/routes", get(async || list([route()])).post(create_route))
        .route("/v3/audit_events", get(async || list([])))
        .route("/v3/spaces/{guid}/actions/apply_manifest", post(apply_manifest))
        .route("/v3/info", get(info))
        .route(
            "/v3/jobs/{guid}",
            get(async || document(json!({"guid": "job", "state": "COMPLETE", "errors": [], "warnings": []}))),
        )
        .merge(super::security::routes().merge(super::staging::routes()))
        .merge(super::logins::routes())
        .route("/v3/resource_matches", post(match_resources))
        .route("/v3/packages", post(create_package))
        .route("/v3/packages/{guid}", get(package))
        .route("/v3/packages/{guid}/upload", post(upload))
        .route("/v3/builds", post(create_build).get(builds))
        .route("/v3/builds/{guid}", get(build))
        .route("/v3/deployments", post(create_deployment).get(deployments))
        .route("/v3/deployments/{guid}", get(current_deployment))
        .route("/v3/deployments/{guid}/actions/continue", post(continue_deployment))
        .route("/v3/deployments/{guid}/actions/cancel", post(async || StatusCode::OK))
        .route("/v3/routes/{guid}", delete(async || StatusCode::NO_CONTENT))
        .route("/paas/v1/apps/{guid}/stream", get(stream))
        .route(
            "/paas/v1/apps/{guid}/why",
            get(async || document(json!({"findings": [], "processes": [], "deployment": null}))),
        )
        .route("/paas/v1/apps/{guid}/exec", get(exec))
        .route("/admin/v1/cells", get(cells))
        .route("/admin/v1/join_tokens", post(join_token))
        .route("/admin/v1/machines", get(machines))
        .route(
            "/admin/v1/machines/{role}/{id}/revoke",
            post(async || StatusCode::NO_CONTENT),
        )
        .route("/admin/v1/cells/{id}/cordon", post(async || StatusCode::NO_CONTENT))
        .route("/v3/apps/{guid}/actions/start", post(start))
        .route("/v3/domains", get(domains))
        .route(
            "/v3/routes/{guid}/destinations",
            post(async || document(json!({"destinations": []}))),
        )
        .route(
            "/v3/routes/{guid}/destinations/{destination}",
            delete(async || StatusCode::NO_CONTENT),
        )
        .route("/api/v1/read/{guid}", get(read_log))
        .fallback(async || not_found("Unknown request"))
        .layer(middleware::from_fn_with_state(fake.clone(), guard))
        .with_state(fake)
}

/// Notes the request, and answers it as the plan says.
async fn guard(State(fake): State<FakeController>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let call = format!("{} {path}", request.method());
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let refusal = fake.world(|world| {
        world.calls.push(call);
        if super::logins::OPEN.contains(&path.as_str()) {
            return None;
        }
        if let Some((status, body)) = world.plan.refuse.clone() {
            return Some((status, body));
        }
        let worn = world.plan.first_token_is_refused && given.as_deref() == Some("Bearer token-1");
        (worn || !given.is_some_and(|given| given.starts_with("Bearer token-"))).then(|| {
            (
                401,
                json!({"errors": [{"code": 1000, "title": "CF-InvalidAuthToken", "detail": "Invalid Auth Token"}]}),
            )
        })
    });
    match refusal {
        Some((status, body)) => {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, [("x-vcap-request-id", "request-7")], axum::Json(body)).into_response()
        }
        None => next.run(request).await,
    }
}

async fn root(State(fake): State<FakeController>) -> Response {
    document(json!({"links": {
        "self": {"href": fake.api},
        "cloud_controller_v3": {"href": format!("{}/v3", fake.api), "meta": {"version": "3.228.0"}},
        "uaa": {"href": fake.api}, "login": {"href": fake.api}, "log_cache": {"href": fake.api}, "network_policy_v1": null,
    }}))
}

async fn token(State(fake): State<FakeController>, body: String) -> Response {
    if let Some(answer) = super::logins::asked(&fake, &body) {
        return answer;
    }
    let known = ["password=right", "passcode=right", "device_code=device"];
    if !known.iter().any(|part| body.contains(part)) && !body.contains("grant_type=refresh_token") {
        let body = json!({"error": "unauthorized", "error_description": "Bad credentials"});
        return (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response();
    }
    let number = fake.world(|world| {
        world.tokens += 1;
        world.tokens
    });
    document(json!({"access_token": format!("token-{number}"), "refresh_token": "refresh", "token_type": "bearer"}))
}

async fn spaces(Query(query): Params) -> Response {
    // By ids they are asked for with where they belong.
    if let Some(ids) = query.get("guids") {
        let of = json!({"organization": {"data": {"guid": ids}}});
        return list([json!({"guid": ids, "name": "dev", "relationships": of})]);
    }
    let named = query.get("names").is_none_or(|name| name == "dev");
    list(named.then(|| json!({"guid": "space", "name": "dev"})))
}

async fn apps(State(fake): State<FakeController>, Query(query): Params) -> Response {
    let app = fake.world(|world| world.app.clone());
    list(app.filter(|app| query.get("names").is_none_or(|name| app["name"] == *name)))
}

async fn app_by_guid(State(fake): State<FakeController>) -> Response {
    fake.world(|world| world.app.clone())
        .map_or_else(|| not_found("App not found"), document)
}

async fn delete_app(State(fake): State<FakeController>) -> Response {
    fake.world(|world| world.app = None);
    (
        StatusCode::ACCEPTED,
        [(header::LOCATION, format!("{}/v3/jobs/job", fake.api))],
    )
        .into_response()
}

async fn stop(State(fake): State<FakeController>) -> Response {
    let app = fake.world(|world| {
        if let Some(app) = &mut world.app {
            app["state"] = json!("STOPPED");
        }
        world.app.clone()
    });
    app.map_or_else(|| not_found("App not found"), document)
}

async fn start(State(fake): State<FakeController>) -> Response {
    let app = fake.world(|world| {
        world.app.as_mut().map(|app| {
            app["state"] = json!("STARTED");
            app.clone()
        })
    });
    let later = fake.clone();
    tokio::spawn(async move { later.event("instance.running", json!({"index": 0})) });
    app.map_or_else(|| not_found("App not found"), document)
}

async fn domains(Query(query): Params) -> Response {
    let asked = query.get("names").cloned().unwrap_or_default();
    let known = ["localhost", "example.com"]
        .into_iter()
        .filter(|name| asked.split(',').any(|asked| asked == *name));
    list(known.map(|name| json!({"guid": format!("domain-{name}"), "name": name})))
}

async fn create_route(axum::Json(body): axum::Json<Value>) -> Response {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let domain = body["relationships"]["domain"]["data"]["guid"]
        .as_str()
        .unwrap_or_default()
        .trim_start_matches("domain-")
        .to_owned();
    let url = format!("{}.{domain}{}", text("host"), text("path"));
    let route = json!({"guid": "new", "url": url, "host": text("host"), "path": text("path"), "destinations": []});
    (StatusCode::CREATED, axum::Json(route)).into_response()
}

async fn join_token() -> Response {
    document(json!({"id": "1", "role": "cell", "token": "paasjoin_abc", "valid_until": "2026-01-01T00:00:00Z"}))
}

async fn machines() -> Response {
    document(json!({"machines": [
        {"id": "00000000-0000-0000-0000-0000000000d1", "role": "cell", "name": "host1", "label": "rack 1",
         "joined_at": "2026-01-01T00:00:00Z", "certificate_until": "2026-01-08T00:00:00Z", "revoked_at": null}]}))
}

async fn cells() -> Response {
    document(json!({"routers_connected": 1, "cells": [
        {"id": "00000000-0000-0000-0000-0000000000c1", "name": "cell-1", "zone": "z1", "alive": true, "cordoned": false,
         "work": 3, "memory_mb": 16384, "memory_used_mb": 768, "cpus": 8, "version": "0.1.0", "isolation": ["cgroup v2"]},
        {"id": "00000000-0000-0000-0000-0000000000c2", "name": "cell-2", "zone": "z2", "alive": false, "cordoned": false,
         "work": 0, "memory_mb": 16384, "memory_used_mb": 0, "cpus": 8, "version": "0.1.0", "isolation": []}]}))
}

/// Plays the cell's end of a session: says back what comes in, and ends with code 3 at the end of the input.
async fn exec(Query(query): Params, upgrade: WebSocketUpgrade) -> Response {
    let command = query.get("command").cloned().unwrap_or_default();
    let connect = query.contains_key("connect");
    upgrade.on_upgrade(move |mut socket| async move {
        let send = |text: String| Message::Text(text.into());
        if command == "[\"missing\"]" {
            let failed = json!({"type": "failed", "message": "missing: no such program"});
            socket.send(send(failed.to_string())).await.expect("open");
            return;
        }
        let greeting = if connect {
            "\u{1}+ready\n".to_owned()
        } else {
            format!("\u{1}ran {command}\n")
        };
        socket.send(Message::Binary(Bytes::from(greeting))).await.expect("open");
        while let Some(Ok(message)) = socket.recv().await {
            match message {
                Message::Binary(data) => {
                    let mut back = vec![if connect { 1 } else { 2 }];
                    back.extend_from_slice(&data[1..]);
                    socket.send(Message::Binary(back.into())).await.expect("open");
                }
                Message::Text(text) if text.contains("eof") => {
                    socket
                        .send(send(json!({"type": "exit", "code": 3}).to_string()))
                        .await
                        .expect("open");
                }
                _ => {}
            }
        }
    })
}

fn process(world: &World) -> Value {
    let instances: Vec<Value> = (0..world.instances)
        .map(|index| json!({"index": index, "state": "RUNNING"}))
        .collect();
    json!({"guid": PROCESS, "type": "web", "instances": world.instances, "memory_in_mb": 256, "disk_in_mb": 1024,
        "process_instances": instances, "relationships": {"app": {"data": {"guid": APP}}}})
}

fn route() -> Value {
    json!({"guid": "route", "url": "shop.localhost", "host": "shop",
        "destinations": [{"guid": "destination", "app": {"guid": APP, "process": {"type": "web"}}}]})
}

async fn processes(State(fake): State<FakeController>) -> Response {
    list([fake.world(|world| process(world))])
}

async fn stats(State(fake): State<FakeController>) -> Response {
    let count = fake.world(|world| world.instances);
    list((0..count).map(|index| {
        json!({"index": index, "state": "RUNNING", "uptime": 60, "usage": {"cpu": 0.01, "mem": 1_048_576, "disk": 4096},
            "mem_quota": 268_435_456, "disk_quota": 1_073_741_824})
    }))
}

async fn scale(State(fake): State<FakeController>, axum::Json(body): axum::Json<Value>) -> Response {
    let wanted = body["instances"].as_u64().unwrap_or(1);
    let later = fake.clone();
    // The instance comes up after the answer, as it does at a real controller.
    tokio::spawn(async move {
        later.world(|world| world.instances = usize::try_from(wanted).expect("small"));
        later.event("instance.running", json!({"index": wanted.saturating_sub(1)}));
    });
    let mut process = fake.world(|world| process(world));
    process["instances"] = json!(wanted);
    (StatusCode::ACCEPTED, axum::Json(process)).into_response()
}

async fn env(State(fake): State<FakeController>) -> Response {
    let env = fake.world(|world| world.env.clone());
    document(json!({"environment_variables": env, "system_env_json": {}, "application_env_json": {}}))
}

async fn set_env(State(fake): State<FakeController>, axum::Json(body): axum::Json<Value>) -> Response {
    fake.world(|world| {
        for (name, value) in body["var"].as_object().cloned().unwrap_or_default() {
            world.env.insert(name, value);
        }
    });
    document(json!({"var": body["var"]}))
}

async fn apply_manifest(State(fake): State<FakeController>, body: String) -> Response {
    let name = body
        .lines()
        .find_map(|line| line.split_once("name: "))
        .map_or("shop", |(_, name)| name)
        .to_owned();
    fake.world(|world| {
        world.manifest = body;
        let state = if world.app.is_some() { "STARTED" } else { "STOPPED" };
        world.app = Some(app(&name, state));
    });
    (
        StatusCode::ACCEPTED,
        [(header::LOCATION, format!("{}/v3/jobs/job", fake.api))],
    )
        .into_response()
}

async fn info() -> Response {
    document(
        json!({"name": "paas", "build": env!("CARGO_PKG_VERSION"), "version": 0, "description": "",
        "cli_version": {"minimum": "", "recommended": ""}, "custom": {"router_port": 8080}, "links": {}}),
    )
}

async fn match_resources(State(fake): State<FakeController>, axum::Json(body): axum::Json<Value>) -> Response {
    let resources = body["resources"].as_array().cloned().unwrap_or_default();
    let sha1 = |resource: &Value| resource["checksum"]["value"].as_str().unwrap_or_default().to_owned();
    let matched: Vec<Value> = fake.world(|world| {
        let matched = resources
            .iter()
            .filter(|resource| world.known.contains(&sha1(resource)))
            .cloned()
            .collect();
        world.known.extend(resources.iter().map(sha1));
        matched
    });
    document(json!({"resources": matched}))
}

async fn create_package(State(fake): State<FakeController>) -> Response {
    let number = fake.world(|world| {
        world.packages += 1;
        world.packages
    });
    (
        StatusCode::CREATED,
        axum::Json(json!({"guid": format!("package-{number}"), "state": "AWAITING_UPLOAD", "data": {}})),
    )
        .into_response()
}

async fn package(Path(guid): Path<String>) -> Response {
    document(json!({"guid": guid, "state": "AWAITING_UPLOAD", "data": {}}))
}

async fn upload(State(fake): State<FakeController>, Path(guid): Path<String>, request: Request) -> Response {
    let broken = fake.world(|world| std::mem::take(&mut world.plan.break_upload));
    if broken {
        // An answer whose body ends too early is what a dying server leaves.
        let cut = futures_util::stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("cut"))]);
        return Response::new(Body::from_stream(cut));
    }
    let body = axum::body::to_bytes(request.into_body(), 64 << 20)
        .await
        .expect("a body");
    fake.world(|world| world.uploads.push(body.to_vec()));
    fake.event("package.ready", json!({"package": guid}));
    document(json!({"guid": guid, "state": "READY", "data": {}}))
}

async fn create_build(State(fake): State<FakeController>) -> Response {
    let build = json!({"guid": "build", "state": "STAGING", "droplet": null});
    fake.world(|world| world.build = Some(build.clone()));
    let later = fake.clone();
    tokio::spawn(async move { later.stage() });
    (StatusCode::CREATED, axum::Json(build)).into_response()
}

async fn builds(State(fake): State<FakeController>) -> Response {
    list(fake.world(|world| world.build.clone()))
}

async fn build(State(fake): State<FakeController>) -> Response {
    fake.world(|world| world.build.clone())
        .map_or_else(|| not_found("Build not found"), document)
}

async fn create_deployment(State(fake): State<FakeController>, axum::Json(asked): axum::Json<Value>) -> Response {
    let begun = deployment("ACTIVE", "DEPLOYING", None);
    fake.world(|world| {
        world.deployment = Some(begun.clone());
        if let Some(app) = &mut world.app {
            app["state"] = json!("STARTED");
        }
    });
    let later = fake.clone();
    if asked["strategy"] == "canary" {
        tokio::spawn(async move { later.pause() });
    } else {
        tokio::spawn(async move { later.deploy() });
    }
    (StatusCode::CREATED, axum::Json(begun)).into_response()
}

async fn continue_deployment(State(fake): State<FakeController>) -> Response {
    let begun = deployment("ACTIVE", "DEPLOYING", None);
    fake.world(|world| world.deployment = Some(begun.clone()));
    let later = fake.clone();
    tokio::spawn(async move { later.deploy() });
    document(begun)
}

async fn deployments(State(fake): State<FakeController>) -> Response {
    list(fake.world(|world| world.deployment.clone()))
}

async fn current_deployment(State(fake): State<FakeController>) -> Response {
    fake.world(|world| world.deployment.clone())
        .map_or_else(|| not_found("Deployment not found"), document)
}

async fn read_log(State(fake): State<FakeController>) -> Response {
    use base64::Engine as _;
    let batch: Vec<Value> = fake.world(|world| {
        let lines = world.feed.iter().rev().filter(|(kind, ..)| *kind == "log");
        lines
            .map(|(_, ts, line)| {
                let payload =
                    base64::engine::general_purpose::STANDARD.encode(line["text"].as_str().unwrap_or_default());
                json!({"timestamp": ts.to_string(), "source_id": APP, "instance_id": "0",
                    "tags": {"source_type": line["source_type"]}, "log": {"payload": payload, "type": "OUT"}})
            })
            .collect()
    });
    document(json!({"envelopes": {"batch": batch}}))
}
