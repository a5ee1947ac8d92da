//! `/v3/users`. Users are made at the token server; here they are found, and removed with their roles.

use super::links::{accepted, links};
use crate::actions::user as actions;
use crate::auth::{Caller, Need, org_for, space_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, Query, id};
use api::error::Code;
use api::v3;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use model::id::{OrgId, SpaceId, UserId};
use model::resource::User;
use store::{Scope, UserFilter};

const WHAT: &str = "User";
/// Parts of names that can be asked for at once: each is a comparison with every name.
const MAX_PARTS: usize = 100;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/users", get(list).post(create))
        .route("/v3/users/{guid}", get(fetch).delete(delete))
        .route("/v3/organizations/{guid}/users", get(of_org))
        .route("/v3/spaces/{guid}/users", get(of_space))
}

pub(super) fn present(context: &Context, user: User) -> v3::User {
    v3::User {
        links: links(context, [("self", format!("/v3/users/{}", user.id))]),
        guid: user.id,
        created_at: user.created_at,
        updated_at: user.created_at,
        username: Some(user.name.clone()),
        presentation_name: user.name,
        origin: Some(user.origin),
        metadata: user.metadata,
    }
}

fn filter(query: &Query) -> Answer<UserFilter> {
    let parts = query.texts("partial_usernames");
    if parts.as_ref().is_some_and(|parts| parts.len() > MAX_PARTS) {
        let detail = format!("The query parameter is invalid: at most {MAX_PARTS} partial_usernames");
        return Err(Failure::new(Code::BadQueryParameter, detail));
    }
    Ok(UserFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        origins: query.texts("origins"),
        names: query.texts("usernames"),
        parts,
        ..UserFilter::default()
    })
}

async fn listed(
    context: &Context,
    query: &Query,
    filter: &UserFilter,
    scope: Scope,
) -> Answer<Json<v3::List<v3::User>>> {
    let users = context
        .store
        .user_list(filter, scope, query.order()?, query.page()?)
        .await?;
    query.list(context, users, |user| present(context, user)).map(Json)
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::User>>> {
    listed(&context, &query, &filter(&query)?, caller.scope()).await
}

async fn of_org(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::User>>> {
    let org = org_for(&context.store, &caller, id::<OrgId>(&guid, "Organization")?, Need::Read).await?;
    let filter = UserFilter {
        org: Some(org.id),
        ..filter(&query)?
    };
    listed(&context, &query, &filter, Scope::All).await
}

async fn of_space(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::User>>> {
    const SPACE: &str = "Space";
    let space = space_for(&context.store, &caller, id::<SpaceId>(&guid, SPACE)?, Need::Read, SPACE).await?;
    let filter = UserFilter {
        space: Some(space.id),
        ..filter(&query)?
    };
    listed(&context, &query, &filter, Scope::All).await
}

/// Whoever shares an organisation with the caller, or anyone for an administrator.
pub(super) async fn user_for(context: &Context, caller: &Caller, guid: &str) -> Answer<User> {
    let id: UserId = id(guid, WHAT)?;
    let filter = UserFilter {
        ids: Some(vec![id]),
        ..UserFilter::default()
    };
    let found = context
        .store
        .user_list(&filter, caller.scope(), store::Order::default(), store::Page::ONE)
        .await?;
    found.items.into_iter().next().ok_or_else(|| Failure::not_found(WHAT))
}

async fn fetch(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::User>> {
    Ok(Json(present(&context, user_for(&context, &caller, &guid).await?)))
}

/// Makes a user of the token server known to the API: here it is known with its creation, so this only shows it.
async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::UserCreate>,
) -> Answer<(StatusCode, Json<v3::User>)> {
    caller.operator()?;
    let guid = body.guid.ok_or_else(|| {
        Failure::refused("Guid can't be blank").hint("Create the user at the token server (POST /Users) first")
    })?;
    let user = context.store.user_fetch(guid).await?;
    let user = user.ok_or_else(|| {
        Failure::refused(format!("User with guid '{guid}' does not exist at the token server"))
            .hint("Create the user there (POST /Users) first")
    })?;
    Ok((StatusCode::CREATED, Json(present(&context, user))))
}

async fn delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let user = user_for(&context, &caller, &guid).await?;
    caller.operator()?;
    let job = actions::delete(&context, &caller, &user).await?;
    Ok(accepted(&context, job))
}
