//! `/v3/organizations`.

use super::links::{accepted, links};
use crate::actions::{By, fresh, manifest::merge, tenant};
use crate::auth::{Caller, Need, org_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use crate::request::{Body, Query, id};
use api::error::Code;
use api::v3;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use model::id::{OrgId, QuotaId, RoleId};
use model::name::TenantName;
use model::resource::{Metadata, Org, Role, RoleType, Target};
use serde_json::json;
use store::{OrgFilter, Paged};

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/organizations", get(list).post(create))
        .route("/v3/organizations/{guid}", get(fetch).patch(update).delete(delete))
}

/// `quota`: the one that binds it, where that is not the default.
pub(super) fn present(context: &Context, org: Org, quota: Option<QuotaId>) -> v3::Organization {
    let quota = quota.unwrap_or(store::DEFAULT_QUOTA);
    let own = format!("/v3/organizations/{}", org.id);
    v3::Organization {
        links: links(
            context,
            [
                ("self", own.clone()),
                ("domains", format!("{own}/domains")),
                ("default_domain", format!("{own}/domains/default")),
                ("quota", format!("/v3/organization_quotas/{quota}")),
            ],
        ),
        guid: org.id,
        created_at: org.created_at,
        updated_at: org.updated_at,
        name: org.name.into(),
        suspended: org.suspended,
        relationships: v3::OrganizationRelationships {
            quota: Some(v3::ToOne::to(quota)),
        },
        metadata: org.metadata,
    }
}

async fn in_full(context: &Context, org: Org) -> Answer<Json<v3::Organization>> {
    let quota = context.store.quotas_of_orgs(&[org.id]).await?.remove(&org.id);
    Ok(Json(present(context, org, quota)))
}

fn target(org: &Org) -> Target {
    Target {
        guid: org.id.to_string(),
        kind: "organization".to_owned(),
        name: org.name.to_string(),
    }
}

pub(super) fn name(text: &str) -> Answer<TenantName> {
    text.parse().map_err(|error| Failure::refused(format!("{error}")))
}

fn taken(name: &TenantName) -> Failure {
    Failure::new(Code::UniquenessError, format!("Organization '{name}' already exists."))
}

async fn list(
    State(context): State<Context>,
    caller: Caller,
    query: Query,
) -> Answer<Json<v3::List<v3::Organization>>> {
    let filter = OrgFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        names: query.texts("names"),
    };
    let listed = context
        .store
        .org_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    self::listed(&context, &query, listed).await
}

/// A page of organisations as it travels.
pub(super) async fn listed(
    context: &Context,
    query: &Query,
    orgs: Paged<Org>,
) -> Answer<Json<v3::List<v3::Organization>>> {
    let total = orgs.total;
    let items = presented(context, orgs.items).await?;
    query.list(context, Paged { items, total }, |org| org).map(Json)
}

/// Organisations as they travel.
pub(super) async fn presented(context: &Context, orgs: Vec<Org>) -> Answer<Vec<v3::Organization>> {
    let ids: Vec<OrgId> = orgs.iter().map(|org| org.id).collect();
    let quotas = context.store.quotas_of_orgs(&ids).await?;
    let one = |org: Org| {
        let quota = quotas.get(&org.id).copied();
        present(context, org, quota)
    };
    Ok(orgs.into_iter().map(one).collect())
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::Organization>> {
    let org = org_for(&context.store, &caller, id(&guid, "Organization")?, Need::Read).await?;
    in_full(&context, org).await
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::OrganizationWrite>,
) -> Answer<(StatusCode, Json<v3::Organization>)> {
    if !caller.admin && !Flag::UserOrgCreation.read(&context.store).await?.enabled {
        return Err(Failure::forbidden());
    }
    let by = By::caller(&caller, &context);
    let mut metadata = Metadata::default();
    merge(&mut metadata, &body.metadata.unwrap_or_default())?;
    let org = Org {
        id: fresh::<OrgId>(),
        name: name(body.name.as_deref().unwrap_or_default())?,
        suspended: body.suspended.unwrap_or(false),
        metadata,
        created_at: by.now,
        updated_at: by.now,
    };
    let tx = context.store.begin().await?;
    tx.org_create(&org)
        .await
        .map_err(|error| Failure::or_taken(error, || taken(&org.name)))?;
    if !caller.admin {
        for role in [RoleType::OrganizationUser, RoleType::OrganizationManager] {
            let role = Role {
                id: fresh::<RoleId>(),
                user: caller.id,
                role,
                org: org.id,
                space: None,
                created_at: by.now,
            };
            tx.role_create(&role).await?;
        }
    }
    let mut event = by.event("audit.organization.create", target(&org), None, json!({}));
    event.org = Some(org.id);
    tx.event(event);
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(present(&context, org, None))))
}

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::OrganizationWrite>,
) -> Answer<Json<v3::Organization>> {
    let by = By::caller(&caller, &context);
    let tx = context.store.begin().await?;
    let mut org = org_for(&tx, &caller, id(&guid, "Organization")?, Need::Manage).await?;
    if let Some(text) = &body.name {
        org.name = name(text)?;
    }
    if let Some(suspended) = body.suspended {
        caller.operator()?;
        org.suspended = suspended;
    }
    merge(&mut org.metadata, &body.metadata.unwrap_or_default())?;
    org.updated_at = by.now;
    tx.org_update(&org)
        .await
        .map_err(|error| Failure::or_taken(error, || taken(&org.name)))?;
    let mut event = by.event("audit.organization.update", target(&org), None, json!({}));
    event.org = Some(org.id);
    tx.event(event);
    tx.commit().await?;
    in_full(&context, org).await
}

/// Its spaces go with it, and what is in them.
async fn delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let by = By::caller(&caller, &context);
    let org = org_for(&context.store, &caller, id(&guid, "Organization")?, Need::Read).await?;
    caller.operator()?;
    let job = by.done_job("organization.delete");
    let tx = context.store.begin().await?;
    tenant::delete_org(&tx, &org, &by).await?;
    tx.event(by.event("audit.organization.delete-request", target(&org), None, json!({})));
    tx.job_create(&job).await?;
    tx.commit().await?;
    context.wake.scheduler();
    Ok(accepted(&context, job.id))
}
