//! `/v3/roles`.

use super::include::{Related, included};
use super::links::{accepted, links};
use crate::actions::{By, fresh};
use crate::auth::{Caller, Need, org_for, space_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use crate::request::{Body, Query, id};
use api::v3;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use model::id::{OrgId, RoleId, SpaceId};
use model::resource::{Role, RoleType, Target, User};
use serde_json::json;
use store::{RoleFilter, UserKind};

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/roles", get(list).post(create))
        .route("/v3/roles/{guid}", get(fetch).delete(delete))
}

fn present(context: &Context, role: Role) -> v3::Role {
    let of_space = role.space.is_some();
    v3::Role {
        links: links(
            context,
            [
                ("self", format!("/v3/roles/{}", role.id)),
                ("user", format!("/v3/users/{}", role.user)),
            ],
        ),
        guid: role.id,
        created_at: role.created_at,
        updated_at: role.created_at,
        role: role.role,
        relationships: v3::RoleRelationships {
            user: v3::ToOne::to(role.user),
            organization: if of_space {
                v3::ToOne { data: None }
            } else {
                v3::ToOne::to(role.org)
            },
            space: v3::ToOne {
                data: role.space.map(|guid| v3::Guid { guid }),
            },
        },
    }
}

/// Whether the type is one of a space.
const fn is_of_space(role: RoleType) -> bool {
    match role {
        RoleType::SpaceAuditor | RoleType::SpaceDeveloper | RoleType::SpaceManager | RoleType::SpaceSupporter => true,
        RoleType::OrganizationUser
        | RoleType::OrganizationAuditor
        | RoleType::OrganizationManager
        | RoleType::OrganizationBillingManager => false,
    }
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::Role>>> {
    let filter = RoleFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        types: query.words("types")?,
        orgs: query.ids("organization_guids"),
        spaces: query.ids("space_guids"),
        users: query.ids("user_guids"),
    };
    let listed = context
        .store
        .role_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    let related = related(&listed.items);
    let mut list = query.list(&context, listed, |role| present(&context, role))?;
    list.included = included(&context, &caller, &query, related).await?;
    Ok(Json(list))
}

fn related(roles: &[Role]) -> Related {
    Related {
        users: roles.iter().map(|role| role.user).collect(),
        spaces: roles.iter().filter_map(|role| role.space).collect(),
        // A role in a space says nothing of the organisation.
        orgs: (roles.iter().filter(|role| role.space.is_none()))
            .map(|role| role.org)
            .collect(),
        ..Related::default()
    }
}

/// A role with its space or organisation, if the caller may see it (`manage`: change it).
async fn role_for(context: &Context, caller: &Caller, guid: &str, manage: bool) -> Answer<Role> {
    const WHAT: &str = "Role";
    let role = context.store.role_fetch(id::<RoleId>(guid, WHAT)?).await?;
    let role = role.ok_or_else(|| Failure::not_found(WHAT))?;
    let need = if manage { Need::Manage } else { Need::Read };
    match role.space {
        Some(space) => drop(space_for(&context.store, caller, space, need, WHAT).await?),
        None if !caller.reads_org(role.org) => return Err(Failure::not_found(WHAT)),
        None if manage && !caller.manages_org(role.org) => return Err(Failure::forbidden()),
        None => {}
    }
    Ok(role)
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::Shown<v3::Role>>> {
    let role = role_for(&context, &caller, &guid, false).await?;
    let related = related(std::slice::from_ref(&role));
    let included = included(&context, &caller, &query, related).await?;
    let resource = present(&context, role);
    Ok(Json(v3::Shown { resource, included }))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::RoleCreate>,
) -> Answer<(StatusCode, Json<v3::Role>)> {
    let by = By::caller(&caller, &context);
    let to = body.relationships;
    let (org, space) = place(&context, &caller, body.role, to.organization.id(), to.space.id()).await?;
    let user = grantee(&context, &caller, &to.user.data).await?;
    let role = Role {
        id: fresh::<RoleId>(),
        user: user.id,
        role: body.role,
        org,
        space,
        created_at: by.now,
    };
    let kind = serde_json::to_value(role.role).map_err(Failure::internal)?;
    let kind = kind.as_str().unwrap_or_default().to_owned();
    let tx = context.store.begin().await?;
    tx.role_create(&role).await.map_err(|error| {
        Failure::or_taken(error, || {
            let place = if space.is_some() {
                "in this space"
            } else {
                "in this organization"
            };
            Failure::refused(format!("User '{}' already has '{kind}' role {place}.", user.name))
        })
    })?;
    let target = Target {
        guid: user.id.to_string(),
        kind: "user".to_owned(),
        name: user.name,
    };
    let mut event = by.event(
        &format!("audit.user.{kind}_add"),
        target,
        None,
        json!({"role": role.id}),
    );
    (event.org, event.space) = (Some(org), space);
    tx.event(event);
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(present(&context, role))))
}

/// Where the role is to be, if the caller may give it.
async fn place(
    context: &Context,
    caller: &Caller,
    role: RoleType,
    org: Option<OrgId>,
    space: Option<SpaceId>,
) -> Answer<(OrgId, Option<SpaceId>)> {
    match (is_of_space(role), org, space) {
        (true, None, Some(space)) => {
            let space = space_for(&context.store, caller, space, Need::Manage, "Space").await;
            let space = space.map_err(|failure| match failure.status() {
                StatusCode::NOT_FOUND => {
                    Failure::refused("Invalid space. Ensure that the space exists and you have access to it.")
                }
                _ => failure,
            })?;
            Ok((space.org, Some(space.id)))
        }
        (false, Some(org), None) => {
            let org = org_for(&context.store, caller, org, Need::Manage).await;
            let org = org.map_err(|failure| match failure.status() {
                StatusCode::NOT_FOUND => Failure::refused(
                    "Invalid organization. Ensure that the organization exists and you have access to it.",
                ),
                _ => failure,
            })?;
            Ok((org.id, None))
        }
        _ => Err(Failure::refused(
            "Relationships: a space role needs a space, an organization role an organization",
        )),
    }
}

async fn grantee(context: &Context, caller: &Caller, data: &v3::RoleUserData) -> Answer<User> {
    let origin = data.origin.as_deref().unwrap_or(User::HERE);
    if data.guid.is_none() {
        Flag::SetRolesByUsername.require(&context.store, caller).await?;
    }
    let found = match (data.guid, data.username.as_deref()) {
        (Some(id), _) => context.store.user_fetch(id).await?,
        (None, Some(name)) => {
            let found = context.store.user_by_name_at(UserKind::User, origin, name).await?;
            found.map(|found| found.user)
        }
        (None, None) => None,
    };
    found.ok_or_else(|| {
        let detail = match data.username.as_deref() {
            Some(name) => format!("No user exists with the username '{name}' and origin '{origin}'."),
            None => "Invalid user. Ensure that the user exists and you have access to it.".to_owned(),
        };
        Failure::refused(detail)
    })
}

async fn delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let by = By::caller(&caller, &context);
    let role = role_for(&context, &caller, &guid, true).await?;
    let job = by.done_job("role.delete");
    let tx = context.store.begin().await?;
    tx.role_delete(role.id).await?;
    let target = Target {
        guid: role.user.to_string(),
        kind: "user".to_owned(),
        name: String::new(),
    };
    let mut event = by.event(
        "audit.user.role_remove",
        target,
        None,
        json!({"role": role.id, "type": role.role}),
    );
    (event.org, event.space) = (Some(role.org), role.space);
    tx.event(event);
    tx.job_create(&job).await?;
    tx.commit().await?;
    Ok(accepted(&context, job.id))
}
