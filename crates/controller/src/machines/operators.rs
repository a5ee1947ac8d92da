//! What operators do about machines: tokens to join with, and who has joined.

use super::{addresses, join};
use crate::actions::By;
use crate::auth::Caller;
use crate::error::{Answer, Failure};
use crate::feeds::rfc3339;
use crate::request::Body;
use crate::{Context, Control};
use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router, middleware};
use http::StatusCode;
use model::id::CellId;
use model::machine::{Machine, Role};
use model::resource::Target;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// How long a token is good where nothing else is asked for, and at most.
const EXPIRES: u64 = 3600;
const MAX_EXPIRES: u64 = 30 * 24 * 3600;
const MAX_LABEL: usize = 255;
/// Tokens that are listed.
const MOST: u32 = 500;

/// The routes, to be merged into those of the public API.
pub(crate) fn routes(control: Control) -> Router<Context> {
    Router::new()
        .route("/admin/v1/join_tokens", get(tokens).post(create))
        .route("/admin/v1/join_tokens/{id}", delete(remove))
        .route("/admin/v1/machines", get(machines))
        .route("/admin/v1/machines/{role}/{id}/revoke", post(revoke))
        .layer(middleware::from_fn_with_state(control.clone(), crate::lead::elected))
        .layer(Extension(control))
}

#[derive(Deserialize)]
struct Create {
    role: Role,
    #[serde(default)]
    label: String,
    /// How long it is good.
    expires_seconds: Option<u64>,
    /// Most memory that a cell may offer.
    max_memory_mb: Option<u64>,
}

async fn create(
    State(context): State<Context>,
    Extension(control): Extension<Control>,
    caller: Caller,
    Body(body): Body<Create>,
) -> Answer<(StatusCode, Json<Value>)> {
    caller.operator()?;
    let machines = join::machines(&context)?;
    let expires = body.expires_seconds.unwrap_or(EXPIRES);
    if body.role == Role::Controller {
        return Err(Failure::refused("There are tokens for cells and routers"));
    }
    if expires == 0 || expires > MAX_EXPIRES || body.label.len() > MAX_LABEL {
        return Err(Failure::refused(format!(
            "A token is good for 1 to {MAX_EXPIRES} seconds, and its label has at most {MAX_LABEL} bytes"
        )));
    }
    let by = By::caller(&caller, &context);
    let controllers = addresses(&control).await?;
    let fingerprint = machines.authority().fingerprint();
    let token = identity::JoinToken::create(Uuid::now_v7(), fingerprint, controllers);
    let stored = store::JoinToken {
        id: token.id,
        digest: identity::JoinToken::digest(&token.secret).to_vec(),
        role: body.role,
        label: body.label,
        max_memory_mb: body.max_memory_mb,
        created_at: by.now,
        valid_until: by.now + Duration::from_secs(expires),
        used: None,
    };
    let tx = context.store.begin().await?;
    tx.join_token_create(&stored).await?;
    tx.event(by.event(
        "audit.join_token.create",
        target("join_token", token.id.to_string(), &stored.label),
        None,
        json!({"role": stored.role}),
    ));
    tx.commit().await?;
    let mut shown = token_json(&stored);
    shown["token"] = json!(token.text().expose());
    Ok((StatusCode::CREATED, Json(shown)))
}

fn token_json(token: &store::JoinToken) -> Value {
    json!({
        "id": token.id,
        "role": token.role,
        "label": token.label,
        "max_memory_mb": token.max_memory_mb,
        "created_at": rfc3339(token.created_at),
        "valid_until": rfc3339(token.valid_until),
        "used_at": token.used.map(|(at, _)| rfc3339(at)),
        "machine": token.used.map(|(_, machine)| machine),
    })
}

fn target(kind: &str, guid: String, name: &str) -> Target {
    Target {
        guid,
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

async fn tokens(State(context): State<Context>, caller: Caller) -> Answer<Json<Value>> {
    caller.operator()?;
    let tokens = context.store.join_token_list(context.now(), MOST).await?;
    let tokens: Vec<Value> = tokens.iter().map(token_json).collect();
    Ok(Json(json!({"tokens": tokens})))
}

async fn remove(State(context): State<Context>, caller: Caller, Path(id): Path<Uuid>) -> Answer<StatusCode> {
    caller.operator()?;
    let by = By::caller(&caller, &context);
    let tx = context.store.begin().await?;
    if !tx.join_token_delete(id).await? {
        return Err(Failure::not_found("Token"));
    }
    let about = target("join_token", id.to_string(), "");
    tx.event(by.event("audit.join_token.delete", about, None, json!({})));
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn machines(State(context): State<Context>, caller: Caller) -> Answer<Json<Value>> {
    caller.operator()?;
    let machines = context.store.machine_list().await?;
    let shown = machines.iter().map(|known| {
        json!({
            "id": known.machine.id,
            "role": known.machine.role,
            "name": known.name,
            "label": known.label,
            "max_memory_mb": known.max_memory_mb,
            "joined_at": rfc3339(known.joined_at),
            "certificate_until": rfc3339(known.certificate_until),
            "revoked_at": known.revoked_at.map(rfc3339),
        })
    });
    Ok(Json(json!({"machines": shown.collect::<Vec<Value>>()})))
}

/// Ends a machine's certificates and its open feed. What runs on a cell is placed elsewhere once its lease has ended.
async fn revoke(
    State(context): State<Context>,
    Extension(control): Extension<Control>,
    caller: Caller,
    Path((role, id)): Path<(Role, Uuid)>,
) -> Answer<StatusCode> {
    caller.operator()?;
    let machine = Machine { role, id };
    let by = By::caller(&caller, &context);
    let tx = context.store.begin().await?;
    if !tx.machine_revoke(machine, by.now).await? {
        return Err(Failure::not_found("Machine"));
    }
    let about = target("machine", id.to_string(), role.word());
    tx.event(by.event("audit.machine.revoke", about, None, json!({"role": role})));
    tx.commit().await?;
    match role {
        Role::Cell => control.cells.cut(CellId(id)),
        Role::Router => control.edge.cut(&id.to_string()),
        Role::Controller => {}
    }
    tracing::info!(%machine, "a machine was revoked");
    Ok(StatusCode::NO_CONTENT)
}
