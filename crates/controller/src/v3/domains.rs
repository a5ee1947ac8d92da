//! `/v3/domains`.

use super::links::{accepted, links};
use crate::actions::manifest::new_metadata;
use crate::actions::{By, fresh, quota};
use crate::auth::{Caller, Need, org_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use crate::request::{Body, Facts, Query, id};
use api::error::Code;
use api::v3;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use model::id::{DomainId, OrgId};
use model::name::DomainName;
use model::resource::{Domain, Target};
use serde_json::json;
use store::{DomainFilter, Order, Page};

pub(super) const WHAT: &str = "Domain";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/domains", get(list).post(create))
        .route("/v3/domains/{guid}", get(fetch).delete(delete))
        .route("/v3/domains/{guid}/route_reservations", get(reservations))
        .route("/v3/organizations/{guid}/domains", get(of_org))
        .route("/v3/organizations/{guid}/domains/default", get(default_of_org))
}

pub(super) fn present(context: &Context, domain: Domain) -> v3::Domain {
    let own = format!("/v3/domains/{}", domain.id);
    v3::Domain {
        links: links(
            context,
            [
                ("self", own.clone()),
                ("route_reservations", format!("{own}/route_reservations")),
            ],
        ),
        guid: domain.id,
        created_at: domain.created_at,
        updated_at: domain.updated_at,
        name: domain.name.into(),
        internal: domain.internal,
        router_group: None,
        supported_protocols: vec!["http".to_owned()],
        relationships: v3::DomainRelationships {
            organization: v3::ToOne {
                data: domain.org.map(|guid| v3::Guid { guid }),
            },
        },
        metadata: domain.metadata,
    }
}

fn target(domain: &Domain) -> Target {
    Target {
        guid: domain.id.to_string(),
        kind: "domain".to_owned(),
        name: domain.name.to_string(),
    }
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::Domain>>> {
    let listed = context
        .store
        .domain_list(&query.named()?, caller.scope(), query.order()?, query.page()?)
        .await?;
    query
        .list(&context, listed, |domain| present(&context, domain))
        .map(Json)
}

/// Shared domains, and the organisation's own.
async fn of_org(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Domain>>> {
    let org = org_for(&context.store, &caller, id(&guid, "Organization")?, Need::Read).await?;
    let filter = DomainFilter {
        ids: query.ids("guids"),
        names: query.texts("names"),
        ..DomainFilter::default()
    };
    let all = context
        .store
        .domain_list(&filter, caller.scope(), Order::default(), Page::ALL)
        .await?;
    let items = all.items.into_iter();
    let items = items
        .filter(|domain| domain.org.is_none_or(|of| of == org.id))
        .collect();
    fn facts(domain: &Domain) -> Facts<'_> {
        Facts {
            name: domain.name.as_str(),
            created_at: domain.created_at,
            updated_at: domain.updated_at,
            metadata: Some(&domain.metadata),
        }
    }
    query
        .few(&context, items, facts, |domain| present(&context, domain))
        .map(Json)
}

async fn default_of_org(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::Domain>> {
    org_for(&context.store, &caller, id(&guid, "Organization")?, Need::Read).await?;
    let domain = context
        .store
        .domain_default()
        .await?
        .ok_or_else(|| Failure::not_found(WHAT))?;
    Ok(Json(present(&context, domain)))
}

pub(super) async fn visible(context: &Context, caller: &Caller, id: DomainId) -> Answer<Option<Domain>> {
    let domain = context.store.domain_fetch(id).await?;
    Ok(domain.filter(|domain| domain.org.is_none_or(|org| caller.reads_org(org))))
}

async fn fetch(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::Domain>> {
    let domain = visible(&context, &caller, id(&guid, WHAT)?)
        .await?
        .ok_or_else(|| Failure::not_found(WHAT))?;
    Ok(Json(present(&context, domain)))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::DomainCreate>,
) -> Answer<(StatusCode, Json<v3::Domain>)> {
    let org: Option<OrgId> = body
        .relationships
        .and_then(|relationships| relationships.organization.id());
    let owner = match org {
        None if !caller.admin => return Err(Failure::forbidden()),
        None => None,
        Some(org) => Some(org_for(&context.store, &caller, org, Need::Manage).await?),
    };
    if owner.is_some() {
        Flag::PrivateDomainCreation.require(&context.store, &caller).await?;
    }
    if body.internal {
        return Err(Failure::new(
            Code::NotImplemented,
            "Internal domains are not available yet",
        ));
    }
    let name: DomainName = body
        .name
        .to_lowercase()
        .parse()
        .map_err(|error| Failure::refused(format!("{error}")))?;
    let by = By::caller(&caller, &context);
    let domain = Domain {
        id: fresh::<DomainId>(),
        name,
        org,
        internal: false,
        metadata: new_metadata(body.metadata.as_ref())?,
        created_at: by.now,
        updated_at: by.now,
    };
    let tx = context.store.begin().await?;
    tx.domain_create(&domain).await.map_err(|error| {
        Failure::or_taken(error, || {
            Failure::new(
                Code::UniquenessError,
                format!("The domain name \"{}\" is already in use", domain.name),
            )
        })
    })?;
    if let Some(org) = &owner {
        quota::domain(&tx, org.id, org.name.as_str()).await?;
    }
    let mut event = by.event("audit.domain.create", target(&domain), None, json!({}));
    event.org = org;
    tx.event(event);
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(present(&context, domain))))
}

async fn delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let domain = visible(&context, &caller, id(&guid, WHAT)?)
        .await?
        .ok_or_else(|| Failure::not_found(WHAT))?;
    if !domain.org.map_or(caller.admin, |org| caller.manages_org(org)) {
        return Err(Failure::forbidden());
    }
    let by = By::caller(&caller, &context);
    let job = by.done_job("domain.delete");
    let tx = context.store.begin().await?;
    match tx.domain_delete(domain.id).await {
        Err(store::StoreError::Dangling { .. }) => {
            return Err(Failure::refused("The domain still has routes").hint("Delete its routes first"));
        }
        other => other?,
    };
    tx.event(by.event("audit.domain.delete-request", target(&domain), None, json!({})));
    tx.job_create(&job).await?;
    tx.commit().await?;
    Ok(accepted(&context, job.id))
}

/// Whether a route is taken, by anyone.
async fn reservations(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::RouteReservation>> {
    let domain = visible(&context, &caller, id(&guid, WHAT)?)
        .await?
        .ok_or_else(|| Failure::not_found(WHAT))?;
    let (host, path) = (
        query.get("host").unwrap_or_default(),
        query.get("path").unwrap_or_default(),
    );
    let route = context.store.route_by_address(domain.id, host, path).await?;
    Ok(Json(v3::RouteReservation {
        matching_route: route.is_some(),
    }))
}
