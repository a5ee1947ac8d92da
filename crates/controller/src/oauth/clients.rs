//! `/oauth/clients`: programs that log in by a secret of their own, as administrators manage them.

use super::codes::SSH_CLIENT;
use super::users::admins_only;
use super::{PUBLIC_CLIENTS, Refusal};
use crate::actions::{By, fresh};
use crate::auth::{Caller, hash};
use crate::context::Context;
use crate::error::Failure;
use crate::request::Body;
use axum::extract::{Path, State};
use axum::routing::{get, put};
use axum::{Json, Router};
use http::StatusCode;
use model::Secret;
use model::id::UserId;
use model::resource::{Metadata, Target, User};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{StoredUser, UserKind};

const ADMIN: &str = "cloud_controller.admin";
/// The one grant that clients with a secret have.
const GRANT: &str = "client_credentials";
const MAX_NAME_BYTES: usize = 255;
const MAX_SECRET_BYTES: usize = 1024;
/// A secret is kept by a program: there is no reason for a short one.
const MIN_SECRET_BYTES: usize = 8;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/oauth/clients", get(list).post(create))
        .route("/oauth/clients/{client}", get(fetch).delete(remove))
        .route("/oauth/clients/{client}/secret", put(set_secret))
}

#[derive(Deserialize)]
struct NewClient {
    client_id: String,
    client_secret: Secret,
    #[serde(default)]
    authorities: Vec<String>,
    #[serde(default)]
    authorized_grant_types: Vec<String>,
}

#[derive(Deserialize)]
struct NewSecret {
    secret: Secret,
}

fn present(client: &User) -> Value {
    let mut authorities = vec!["cloud_controller.read", "cloud_controller.write"];
    if client.admin {
        authorities.push(ADMIN);
    }
    json!({
        "client_id": client.name,
        // Roles are given to this one, as to a user.
        "id": client.id,
        "authorized_grant_types": [GRANT],
        "authorities": authorities,
        "scope": ["uaa.none"],
        "resource_ids": ["none"],
        "autoapprove": [],
        "lastModified": client.created_at.unix_timestamp() * 1000,
    })
}

fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::Invalid("invalid_client", text.into())
}

async fn known(context: &Context, name: &str) -> Result<StoredUser, Refusal> {
    let known = context.store.user_by_name(UserKind::Client, name).await?;
    known.ok_or_else(|| {
        let text = format!("No client with requested id: {name}");
        Refusal::Scim(StatusCode::NOT_FOUND, "not_found", text)
    })
}

async fn hashed(secret: Secret) -> Result<String, Refusal> {
    if !(MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&secret.expose().len()) {
        let text = format!("a secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes");
        return Err(invalid(text));
    }
    hash(secret)
        .await
        .map_err(|_| Refusal::Failed(Failure::internal("a client's secret could not be hashed")))
}

fn target(client: &User) -> Target {
    Target {
        guid: client.id.to_string(),
        kind: "client".to_owned(),
        name: client.name.clone(),
    }
}

async fn list(State(context): State<Context>, caller: Caller) -> Result<Json<Value>, Refusal> {
    admins_only(&caller)?;
    let clients: Vec<Value> = context
        .store
        .client_list()
        .await?
        .iter()
        .map(|c| present(&c.user))
        .collect();
    let total = clients.len();
    Ok(Json(json!({
        "resources": clients, "startIndex": 1, "itemsPerPage": total, "totalResults": total,
        "schemas": ["http://cloudfoundry.org/schema/scim/oauth-clients-1.0"],
    })))
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    admins_only(&caller)?;
    Ok(Json(present(&known(&context, &name).await?.user)))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<NewClient>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    admins_only(&caller)?;
    let name = body.client_id.trim();
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"/:?#%".contains(&byte));
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !plain {
        return Err(invalid("a client's id is of printable letters, without / : ? # and %"));
    }
    if body.authorized_grant_types.iter().any(|grant| grant != GRANT) {
        return Err(invalid(format!("clients have the grant {GRANT} alone")));
    }
    let taken = || {
        let text = format!("Client already exists: {name}");
        Refusal::Scim(StatusCode::CONFLICT, "invalid_client", text)
    };
    if PUBLIC_CLIENTS.contains(&name) || name == SSH_CLIENT {
        return Err(taken());
    }
    let by = By::caller(&caller, &context);
    let client = StoredUser {
        user: User {
            origin: User::HERE.to_owned(),
            id: fresh::<UserId>(),
            name: name.to_owned(),
            admin: body.authorities.iter().any(|authority| authority == ADMIN),
            metadata: Metadata::default(),
            created_at: by.now,
        },
        kind: UserKind::Client,
        password_hash: Some(hashed(body.client_secret).await?),
    };
    let tx = context.store.begin().await?;
    tx.user_create(&client).await.map_err(|error| match error {
        store::StoreError::Taken { .. } => taken(),
        other => other.into(),
    })?;
    let data = json!({"admin": client.user.admin});
    tx.event(by.event("audit.client.create", target(&client.user), None, data));
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(present(&client.user))))
}

async fn remove(
    State(context): State<Context>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    admins_only(&caller)?;
    let client = known(&context, &name).await?.user;
    let by = By::caller(&caller, &context);
    let tx = context.store.begin().await?;
    tx.user_delete(client.id).await?;
    tx.event(by.event("audit.client.delete", target(&client), None, json!({})));
    tx.commit().await?;
    Ok(Json(present(&client)))
}

/// Administrators set a new secret without the old one.
async fn set_secret(
    State(context): State<Context>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<NewSecret>,
) -> Result<Json<Value>, Refusal> {
    admins_only(&caller)?;
    let client = known(&context, &name).await?.user;
    let hashed = hashed(body.secret).await?;
    let by = By::caller(&caller, &context);
    let tx = context.store.begin().await?;
    tx.user_set_password(client.id, &hashed).await?;
    tx.refresh_tokens_revoke(client.id).await?;
    tx.event(by.event("audit.client.secret", target(&client), None, json!({})));
    tx.commit().await?;
    Ok(Json(json!({"status": "ok", "message": "secret updated"})))
}
