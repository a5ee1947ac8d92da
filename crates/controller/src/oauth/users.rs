//! Users as the token server has them (SCIM): what `cf create-user`, `delete-user` and `passwd` need, and the one
//! group that matters here, administrators. Errors have the token server's own shape.

use super::Refusal;
use crate::actions::{By, fresh};
use crate::auth::{Caller, hash, verify};
use crate::context::Context;
use crate::error::Failure;
use crate::feeds::rfc3339;
use crate::request::Body;
use axum::extract::{Path, Query, State};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use model::Secret;
use model::id::UserId;
use model::resource::{Target, User};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store::{Order, Page, Scope, StoredUser, UserFilter, UserKind};

/// The group of administrators.
const ADMINS: &str = "cloud_controller.admin";
/// Longest name of a user, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Longest password, in bytes: hashing takes longer for longer ones.
const MAX_PASSWORD_BYTES: usize = 1024;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/Users", get(list).post(create))
        .route("/Users/{guid}", get(fetch).delete(remove))
        .route("/Users/{guid}/password", put(password))
        .route("/Groups", get(groups))
        .route("/Groups/{group}/members", post(join))
        .route("/Groups/{group}/members/{guid}", delete(leave))
        .route("/userinfo", get(userinfo))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewUser {
    user_name: String,
    #[serde(default)]
    password: Option<Secret>,
    #[serde(default)]
    origin: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewPassword {
    #[serde(default)]
    old_password: Option<Secret>,
    password: Secret,
}

#[derive(Deserialize)]
struct Member {
    value: String,
}

fn present(user: &User) -> Value {
    let groups: &[&str] = if user.admin { &[ADMINS] } else { &[] };
    json!({
        "id": user.id,
        "userName": user.name,
        "name": {"familyName": user.name, "givenName": user.name},
        "emails": [{"value": user.name, "primary": true}],
        "groups": groups.iter().map(|group| json!({"value": group, "display": group})).collect::<Vec<_>>(),
        "origin": user.origin,
        "active": true,
        "verified": true,
        "zoneId": "uaa",
        "meta": {"created": rfc3339(user.created_at), "version": 0},
        "schemas": ["urn:scim:schemas:core:1.0"],
    })
}

fn listed(users: &[Value], total: u64) -> Json<Value> {
    Json(json!({
        "resources": users,
        "startIndex": 1,
        "itemsPerPage": 100,
        "totalResults": total,
        "schemas": ["urn:scim:schemas:core:1.0"],
    }))
}

pub(super) fn admins_only(caller: &Caller) -> Result<(), Refusal> {
    if caller.admin { Ok(()) } else { Err(Refusal::Forbidden) }
}

fn missing(guid: &str) -> Refusal {
    Refusal::Scim(
        StatusCode::NOT_FOUND,
        "scim_resource_not_found",
        format!("User {guid} does not exist"),
    )
}

/// `attribute eq "value"`, joined by `and`: what clients filter by.
fn filters(text: &str) -> Result<BTreeMap<String, String>, Refusal> {
    let invalid = || {
        Refusal::Scim(
            StatusCode::BAD_REQUEST,
            "scim",
            "Invalid filter expression: use attribute eq \"value\", joined by and".to_owned(),
        )
    };
    let mut found = BTreeMap::new();
    for part in text.split(" and ").filter(|part| !part.trim().is_empty()) {
        let (attribute, value) = part
            .split_once(" eq ")
            .or_else(|| part.split_once(" Eq "))
            .ok_or_else(invalid)?;
        let value = value.trim().strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        found.insert(attribute.trim().to_lowercase(), value.ok_or_else(invalid)?.to_owned());
    }
    Ok(found)
}

async fn list(
    State(context): State<Context>,
    caller: Caller,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<Value>, Refusal> {
    admins_only(&caller)?;
    let filters = filters(query.get("filter").map_or("", String::as_str))?;
    let filter = UserFilter {
        ids: filters.get("id").map(|id| id.parse().into_iter().collect()),
        names: filters.get("username").map(|name| vec![name.clone()]),
        origins: filters.get("origin").map(|origin| vec![origin.clone()]),
        ..UserFilter::default()
    };
    let page = Page {
        number: 1,
        per_page: 100,
    };
    let users = context
        .store
        .user_list(&filter, Scope::All, Order::default(), page)
        .await?;
    let presented: Vec<Value> = users.items.iter().map(present).collect();
    Ok(listed(&presented, users.total))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    admins_only(&caller)?;
    let origin = origin(&context, new.origin)?;
    let name = new.user_name.trim().to_owned();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(invalid(format!("A username has 1 to {MAX_NAME_BYTES} bytes")));
    }
    // Who signs in elsewhere has the password there; clients send one all the same.
    let hashed = match new.password.filter(|_| origin == User::HERE) {
        Some(password) => Some(hashed(password).await?),
        None if origin == User::HERE => return Err(invalid("A password is required")),
        None => None,
    };
    let by = By::caller(&caller, &context);
    let user = User {
        origin,
        id: fresh::<UserId>(),
        name,
        admin: false,
        metadata: model::resource::Metadata::default(),
        created_at: by.now,
    };
    let tx = context.store.begin().await?;
    let created = tx
        .user_create(&StoredUser {
            user: user.clone(),
            kind: UserKind::User,
            password_hash: hashed,
        })
        .await;
    match created {
        Err(store::StoreError::Taken { .. }) => {
            return Err(Refusal::Scim(
                StatusCode::CONFLICT,
                "scim_resource_already_exists",
                format!("Username already in use: {}", user.name),
            ));
        }
        other => other?,
    }
    tx.event(by.event("audit.user.create", target(&user), None, json!({})));
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(present(&user))))
}

/// Where a new user signs in: here, unless it is the identity provider.
fn origin(context: &Context, wanted: Option<String>) -> Result<String, Refusal> {
    let wanted = wanted.filter(|origin| !origin.is_empty());
    let origin = wanted.unwrap_or_else(|| User::HERE.to_owned());
    let outside = context.oidc.as_ref().map(|provider| &provider.config().origin);
    if origin == User::HERE || Some(&origin) == outside {
        return Ok(origin);
    }
    Err(invalid(format!("There is no identity provider {origin:?}")))
}

fn invalid(description: impl Into<String>) -> Refusal {
    Refusal::Scim(StatusCode::BAD_REQUEST, "invalid_scim_resource", description.into())
}

async fn hashed(password: Secret) -> Result<String, Refusal> {
    if !(1..=MAX_PASSWORD_BYTES).contains(&password.expose().len()) {
        return Err(Refusal::Scim(
            StatusCode::BAD_REQUEST,
            "invalid_password",
            format!("A password has 1 to {MAX_PASSWORD_BYTES} bytes"),
        ));
    }
    Ok(hash(password)
        .await
        .map_err(|error| Failure::internal(error.to_string()))?)
}

fn target(user: &User) -> Target {
    Target {
        guid: user.id.to_string(),
        kind: "user".to_owned(),
        name: user.name.clone(),
    }
}

async fn user(context: &Context, guid: &str) -> Result<User, Refusal> {
    let id = guid.parse::<UserId>().map_err(|_| missing(guid))?;
    context.store.user_fetch(id).await?.ok_or_else(|| missing(guid))
}

/// Oneself, or anyone for an administrator.
async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Result<Json<Value>, Refusal> {
    if caller.id.to_string() != guid {
        admins_only(&caller)?;
    }
    Ok(Json(present(&user(&context, &guid).await?)))
}

/// Clients remove a user first from the API and then here, where it is gone by then: that counts as removed.
async fn remove(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Result<Json<Value>, Refusal> {
    admins_only(&caller)?;
    let id = guid.parse::<UserId>().map_err(|_| missing(&guid))?;
    let Some(user) = context.store.user_fetch(id).await? else {
        return Ok(Json(json!({"id": id, "active": false})));
    };
    crate::actions::user::delete(&context, &caller, &user).await?;
    Ok(Json(present(&user)))
}

/// One's own password, with the old one; anyone's, for an administrator.
async fn password(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<NewPassword>,
) -> Result<Json<Value>, Refusal> {
    let own = caller.id.to_string() == guid;
    if !own {
        admins_only(&caller)?;
    }
    let user = user(&context, &guid).await?;
    if user.origin != User::HERE {
        return Err(invalid("This user's password is the identity provider's"));
    }
    if own {
        let known = context.store.user_by_name(UserKind::User, &user.name).await?;
        let old = body.old_password.unwrap_or_default();
        if !verify(old, known.and_then(|known| known.password_hash)).await {
            return Err(Refusal::Unauthorized("unauthorized"));
        }
    }
    let hashed = hashed(body.password).await?;
    let by = By::caller(&caller, &context);
    let tx = context.store.begin().await?;
    tx.user_set_password(user.id, &hashed).await?;
    // Whoever had the old password may have tokens by it.
    tx.refresh_tokens_revoke(user.id).await?;
    tx.codes_revoke(user.id).await?;
    tx.event(by.event("audit.user.password", target(&user), None, json!({})));
    tx.commit().await?;
    Ok(Json(json!({"status": "ok", "message": "password updated"})))
}

/// There is one group.
async fn groups(caller: Caller) -> Result<Json<Value>, Refusal> {
    admins_only(&caller)?;
    Ok(listed(&[json!({"id": ADMINS, "displayName": ADMINS})], 1))
}

async fn join(
    State(context): State<Context>,
    caller: Caller,
    Path(group): Path<String>,
    Body(member): Body<Member>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    set_admin(&context, &caller, &group, &member.value, true).await?;
    let body = json!({"value": member.value, "type": "USER", "origin": "uaa"});
    Ok((StatusCode::CREATED, Json(body)))
}

async fn leave(
    State(context): State<Context>,
    caller: Caller,
    Path((group, guid)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    if caller.id.to_string() == guid {
        return Err(invalid(
            "An administrator can't take this from themselves: another one has to",
        ));
    }
    set_admin(&context, &caller, &group, &guid, false).await?;
    Ok(Json(json!({"value": guid, "type": "USER", "origin": "uaa"})))
}

async fn set_admin(context: &Context, caller: &Caller, group: &str, guid: &str, admin: bool) -> Result<(), Refusal> {
    admins_only(caller)?;
    if group != ADMINS {
        return Err(Refusal::Scim(
            StatusCode::NOT_FOUND,
            "scim_resource_not_found",
            format!("Group {group} does not exist: the only one is {ADMINS}"),
        ));
    }
    let user = user(context, guid).await?;
    let by = By::caller(caller, context);
    let tx = context.store.begin().await?;
    tx.user_set_admin(user.id, admin).await?;
    tx.event(by.event("audit.user.admin", target(&user), None, json!({"admin": admin})));
    tx.commit().await?;
    Ok(())
}

async fn userinfo(State(context): State<Context>, caller: Caller) -> Result<Json<Value>, Refusal> {
    let user = user(&context, &caller.id.to_string()).await?;
    Ok(Json(json!({
        "sub": user.id,
        "user_id": user.id,
        "user_name": user.name,
        "name": user.name,
        "email": user.name,
        "origin": user.origin,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_as_clients_write_them() {
        let found = filters("userName eq \"bob\" and origin eq \"uaa\"")
            .ok()
            .expect("reads");
        assert_eq!((found["username"].as_str(), found["origin"].as_str()), ("bob", "uaa"));
        assert!(filters("").ok().expect("reads").is_empty());
        for bad in ["userName", "userName eq bob", "userName co \"b\""] {
            assert!(filters(bad).is_err(), "{bad}");
        }
    }
}
