//! `/v3/organization_quotas` and `/v3/space_quotas`. What they refuse is in `actions::quota`.

use super::links::{accepted, links};
use crate::actions::{By, fresh};
use crate::auth::{Caller, Need, org_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, Query, id};
use api::error::Code;
use api::v3;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::StatusCode;
use model::id::{OrgId, QuotaId, SpaceId};
use model::quota::QuotaLimits;
use model::resource::{Quota, Target};
use serde_json::json;
use store::{DEFAULT_QUOTA, Order, Page, Paged, QuotaFilter, Tx};

const ORG_QUOTA: &str = "Organization quota";
const SPACE_QUOTA: &str = "Space quota";
/// Longest name of a quota, in bytes.
const MAX_NAME_BYTES: usize = 250;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/organization_quotas", get(org_list).post(org_create))
        .route(
            "/v3/organization_quotas/{guid}",
            get(org_fetch).patch(org_update).delete(org_delete),
        )
        .route(
            "/v3/organization_quotas/{guid}/relationships/organizations",
            post(org_apply),
        )
        .route("/v3/space_quotas", get(space_list).post(space_create))
        .route(
            "/v3/space_quotas/{guid}",
            get(space_fetch).patch(space_update).delete(space_delete),
        )
        .route("/v3/space_quotas/{guid}/relationships/spaces", post(space_apply))
        .route(
            "/v3/space_quotas/{guid}/relationships/spaces/{space}",
            delete(space_remove),
        )
}

fn many<I: Copy>(pairs: &[(QuotaId, I)], quota: QuotaId) -> v3::ToMany<I> {
    let of = pairs.iter().filter(|(of, _)| *of == quota);
    v3::ToMany {
        data: of.map(|(_, guid)| v3::Guid { guid: *guid }).collect(),
    }
}

fn present_org(context: &Context, quota: Quota, orgs: &[(QuotaId, OrgId)]) -> v3::OrganizationQuota {
    v3::OrganizationQuota {
        links: links(context, [("self", format!("/v3/organization_quotas/{}", quota.id))]),
        guid: quota.id,
        created_at: quota.created_at,
        updated_at: quota.updated_at,
        apps: (&quota.limits).into(),
        services: (&quota.limits).into(),
        routes: (&quota.limits).into(),
        domains: v3::DomainsQuota {
            total_domains: quota.limits.total_domains,
        },
        relationships: v3::OrganizationQuotaRelationships {
            organizations: many(orgs, quota.id),
        },
        name: quota.name,
    }
}

fn present_space(context: &Context, quota: Quota, spaces: &[(QuotaId, SpaceId)]) -> v3::SpaceQuota {
    v3::SpaceQuota {
        links: links(context, [("self", format!("/v3/space_quotas/{}", quota.id))]),
        guid: quota.id,
        created_at: quota.created_at,
        updated_at: quota.updated_at,
        apps: (&quota.limits).into(),
        services: (&quota.limits).into(),
        routes: (&quota.limits).into(),
        relationships: v3::SpaceQuotaRelationships {
            organization: v3::ToOne {
                data: quota.org.map(|guid| v3::Guid { guid }),
            },
            spaces: many(spaces, quota.id),
        },
        name: quota.name,
    }
}

fn filter(query: &Query) -> Answer<QuotaFilter> {
    Ok(QuotaFilter {
        ids: query.ids("guids"),
        names: query.texts("names"),
        orgs: query.ids("organization_guids"),
        spaces: query.ids("space_guids"),
        common: query.common()?,
    })
}

async fn org_page(
    context: &Context,
    query: &Query,
    page: Paged<Quota>,
    caller: &Caller,
) -> Answer<v3::List<v3::OrganizationQuota>> {
    let ids: Vec<QuotaId> = page.items.iter().map(|quota| quota.id).collect();
    let mut orgs = context.store.orgs_of_quotas(&ids).await?;
    orgs.retain(|(_, org)| caller.reads_org(*org));
    query.list(context, page, |quota| present_org(context, quota, &orgs))
}

async fn space_page(context: &Context, query: &Query, page: Paged<Quota>) -> Answer<v3::List<v3::SpaceQuota>> {
    let ids: Vec<QuotaId> = page.items.iter().map(|quota| quota.id).collect();
    let spaces = context.store.spaces_of_quotas(&ids).await?;
    query.list(context, page, |quota| present_space(context, quota, &spaces))
}

async fn org_list(
    State(context): State<Context>,
    caller: Caller,
    query: Query,
) -> Answer<Json<v3::List<v3::OrganizationQuota>>> {
    let listed = context
        .store
        .org_quota_list(&filter(&query)?, caller.scope(), query.order()?, query.page()?)
        .await?;
    org_page(&context, &query, listed, &caller).await.map(Json)
}

async fn space_list(
    State(context): State<Context>,
    caller: Caller,
    query: Query,
) -> Answer<Json<v3::List<v3::SpaceQuota>>> {
    let listed = context
        .store
        .space_quota_list(&filter(&query)?, caller.scope(), query.order()?, query.page()?)
        .await?;
    space_page(&context, &query, listed).await.map(Json)
}

/// A quota that the caller may see.
async fn quota_for(context: &Context, caller: &Caller, guid: &str, what: &str) -> Answer<Quota> {
    let filter = QuotaFilter {
        ids: Some(vec![id(guid, what)?]),
        ..QuotaFilter::default()
    };
    let (scope, order, page) = (caller.scope(), Order::default(), Page::ONE);
    let found = if what == ORG_QUOTA {
        context.store.org_quota_list(&filter, scope, order, page).await?
    } else {
        context.store.space_quota_list(&filter, scope, order, page).await?
    };
    found.items.into_iter().next().ok_or_else(|| Failure::not_found(what))
}

async fn one_org(context: &Context, caller: &Caller, quota: Quota) -> Answer<Json<v3::OrganizationQuota>> {
    let mut orgs = context.store.orgs_of_quotas(&[quota.id]).await?;
    orgs.retain(|(_, org)| caller.reads_org(*org));
    Ok(Json(present_org(context, quota, &orgs)))
}

async fn one_space(context: &Context, quota: Quota) -> Answer<Json<v3::SpaceQuota>> {
    let spaces = context.store.spaces_of_quotas(&[quota.id]).await?;
    Ok(Json(present_space(context, quota, &spaces)))
}

async fn org_fetch(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::OrganizationQuota>> {
    let quota = quota_for(&context, &caller, &guid, ORG_QUOTA).await?;
    one_org(&context, &caller, quota).await
}

async fn space_fetch(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::SpaceQuota>> {
    one_space(&context, quota_for(&context, &caller, &guid, SPACE_QUOTA).await?).await
}

fn checked_name(name: Option<&str>) -> Answer<String> {
    let name = name.map(str::trim).unwrap_or_default();
    if name.is_empty() {
        return Err(Failure::refused("Name can't be blank"));
    }
    if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(Failure::refused(format!(
            "Name is too long (maximum is {MAX_NAME_BYTES} characters)"
        )));
    }
    Ok(name.to_owned())
}

fn taken(quota: &Quota) -> Failure {
    let kind = if quota.org.is_some() { "Space" } else { "Organization" };
    Failure::new(
        Code::UniquenessError,
        format!("{kind} Quota '{}' already exists.", quota.name),
    )
}

fn new(body: &v3::QuotaWrite, org: Option<OrgId>, by: &By) -> Answer<Quota> {
    let mut limits = QuotaLimits::NONE;
    body.apply(&mut limits);
    Ok(Quota {
        id: fresh::<QuotaId>(),
        name: checked_name(body.name.as_deref())?,
        org,
        limits,
        created_at: by.now,
        updated_at: by.now,
    })
}

fn event(tx: &Tx, by: &By, kind: &str, quota: &Quota) {
    let target = Target {
        guid: quota.id.to_string(),
        kind: if quota.org.is_some() {
            "space_quota"
        } else {
            "organization_quota"
        }
        .to_owned(),
        name: quota.name.clone(),
    };
    let mut event = by.event(kind, target, None, json!({"limits": quota.limits}));
    event.org = quota.org;
    tx.event(event);
}

async fn org_create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::QuotaWrite>,
) -> Answer<(StatusCode, Json<v3::OrganizationQuota>)> {
    caller.operator()?;
    let by = By::caller(&caller, &context);
    let quota = new(&body, None, &by)?;
    let tx = context.store.begin().await?;
    let created = tx.quota_create(&quota).await;
    created.map_err(|error| Failure::or_taken(error, || taken(&quota)))?;
    if let Some(orgs) = &body.relationships.organizations {
        bind_orgs(&tx, &quota, orgs).await?;
    }
    event(&tx, &by, "audit.organization_quota.create", &quota);
    tx.commit().await?;
    Ok((StatusCode::CREATED, one_org(&context, &caller, quota).await?))
}

async fn bind_orgs(tx: &Tx, quota: &Quota, orgs: &v3::ToMany<OrgId>) -> Answer<()> {
    for org in &orgs.data {
        if tx.org_fetch(org.guid).await?.is_none() {
            return Err(Failure::refused(format!(
                "Organizations with guids [\"{}\"] do not exist, or you do not have access to them.",
                org.guid
            )));
        }
        tx.org_quota_set(org.guid, quota.id).await?;
    }
    Ok(())
}

async fn org_update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::QuotaWrite>,
) -> Answer<Json<v3::OrganizationQuota>> {
    let quota = quota_for(&context, &caller, &guid, ORG_QUOTA).await?;
    caller.operator()?;
    let quota = change(&context, &caller, quota, &body, "audit.organization_quota.update").await?;
    one_org(&context, &caller, quota).await
}

async fn change(
    context: &Context,
    caller: &Caller,
    mut quota: Quota,
    body: &v3::QuotaWrite,
    kind: &str,
) -> Answer<Quota> {
    let by = By::caller(caller, context);
    if body.name.is_some() {
        quota.name = checked_name(body.name.as_deref())?;
    }
    body.apply(&mut quota.limits);
    quota.updated_at = by.now;
    let tx = context.store.begin().await?;
    let updated = tx.quota_update(&quota).await;
    updated.map_err(|error| Failure::or_taken(error, || taken(&quota)))?;
    event(&tx, &by, kind, &quota);
    tx.commit().await?;
    Ok(quota)
}

async fn org_delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let quota = quota_for(&context, &caller, &guid, ORG_QUOTA).await?;
    caller.operator()?;
    if quota.id == DEFAULT_QUOTA {
        return Err(Failure::refused("The default quota can't be deleted").hint("Change its limits instead"));
    }
    remove(&context, &caller, &quota, "organization_quota").await
}

async fn remove(context: &Context, caller: &Caller, quota: &Quota, what: &str) -> Answer<Response> {
    let by = By::caller(caller, context);
    let job = by.done_job(&format!("{what}.delete"));
    let tx = context.store.begin().await?;
    match tx.quota_delete(quota.id).await {
        Err(store::StoreError::Dangling { .. }) => {
            return Err(Failure::refused(
                "This quota is applied to one or more organizations. Remove this quota from all organizations before \
                 deleting.",
            ));
        }
        other => other?,
    };
    event(&tx, &by, &format!("audit.{what}.delete"), quota);
    tx.job_create(&job).await?;
    tx.commit().await?;
    Ok(accepted(context, job.id))
}

async fn org_apply(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::ToMany<OrgId>>,
) -> Answer<(StatusCode, Json<serde_json::Value>)> {
    let quota = quota_for(&context, &caller, &guid, ORG_QUOTA).await?;
    caller.operator()?;
    let tx = context.store.begin().await?;
    bind_orgs(&tx, &quota, &body).await?;
    event(
        &tx,
        &By::caller(&caller, &context),
        "audit.organization_quota.apply",
        &quota,
    );
    tx.commit().await?;
    let orgs = context.store.orgs_of_quotas(&[quota.id]).await?;
    let own = links(
        &context,
        [(
            "self",
            format!("/v3/organization_quotas/{}/relationships/organizations", quota.id),
        )],
    );
    let data = many(&orgs, quota.id).data;
    Ok((StatusCode::CREATED, Json(json!({"data": data, "links": own}))))
}

/// A space quota that the caller may change: as a manager of its organisation.
async fn space_quota_for(context: &Context, caller: &Caller, guid: &str) -> Answer<(Quota, OrgId)> {
    let quota = quota_for(context, caller, guid, SPACE_QUOTA).await?;
    let org = quota.org.ok_or_else(|| Failure::not_found(SPACE_QUOTA))?;
    if !caller.manages_org(org) {
        return Err(Failure::forbidden());
    }
    Ok((quota, org))
}

async fn space_create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::QuotaWrite>,
) -> Answer<(StatusCode, Json<v3::SpaceQuota>)> {
    let invalid = |org: OrgId| {
        Failure::refused(format!(
            "Organization with guid '{org}' does not exist, or you do not have access to it."
        ))
    };
    let org = body.relationships.organization.as_ref().map(|org| org.data.guid);
    let org = org.ok_or_else(|| Failure::refused("Relationships Organization can't be blank"))?;
    match org_for(&context.store, &caller, org, Need::Manage).await {
        Err(failure) if failure.status() == StatusCode::NOT_FOUND => return Err(invalid(org)),
        other => drop(other?),
    }
    let by = By::caller(&caller, &context);
    let quota = new(&body, Some(org), &by)?;
    let tx = context.store.begin().await?;
    let created = tx.quota_create(&quota).await;
    created.map_err(|error| Failure::or_taken(error, || taken(&quota)))?;
    if let Some(spaces) = &body.relationships.spaces {
        bind_spaces(&tx, &quota, org, spaces).await?;
    }
    event(&tx, &by, "audit.space_quota.create", &quota);
    tx.commit().await?;
    Ok((StatusCode::CREATED, one_space(&context, quota).await?))
}

async fn bind_spaces(tx: &Tx, quota: &Quota, org: OrgId, spaces: &v3::ToMany<SpaceId>) -> Answer<()> {
    for space in &spaces.data {
        let found = tx.space_fetch(space.guid).await?;
        if found.is_none_or(|found| found.org != org) {
            return Err(Failure::refused(format!(
                "Spaces with guids [\"{}\"] do not exist within the organization specified, or you do not have access \
                 to them.",
                space.guid
            )));
        }
        tx.space_quota_set(space.guid, Some(quota.id)).await?;
    }
    Ok(())
}

async fn space_update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::QuotaWrite>,
) -> Answer<Json<v3::SpaceQuota>> {
    let (quota, _) = space_quota_for(&context, &caller, &guid).await?;
    let quota = change(&context, &caller, quota, &body, "audit.space_quota.update").await?;
    one_space(&context, quota).await
}

async fn space_delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let (quota, _) = space_quota_for(&context, &caller, &guid).await?;
    remove(&context, &caller, &quota, "space_quota").await
}

async fn space_apply(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::ToMany<SpaceId>>,
) -> Answer<(StatusCode, Json<serde_json::Value>)> {
    let (quota, org) = space_quota_for(&context, &caller, &guid).await?;
    let tx = context.store.begin().await?;
    bind_spaces(&tx, &quota, org, &body).await?;
    event(&tx, &By::caller(&caller, &context), "audit.space_quota.apply", &quota);
    tx.commit().await?;
    let spaces = context.store.spaces_of_quotas(&[quota.id]).await?;
    let own = links(
        &context,
        [("self", format!("/v3/space_quotas/{}/relationships/spaces", quota.id))],
    );
    let data = many(&spaces, quota.id).data;
    Ok((StatusCode::CREATED, Json(json!({"data": data, "links": own}))))
}

async fn space_remove(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, space)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let (quota, _) = space_quota_for(&context, &caller, &guid).await?;
    let space: SpaceId = id(&space, "Space")?;
    let bound = context.store.quotas_of_spaces(&[space]).await?;
    if bound.get(&space) != Some(&quota.id) {
        return Err(Failure::refused(format!(
            "Unable to remove quota from space with guid '{space}'. Ensure the space quota is applied to this space."
        )));
    }
    let tx = context.store.begin().await?;
    tx.space_quota_set(space, None).await?;
    event(&tx, &By::caller(&caller, &context), "audit.space_quota.remove", &quota);
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
