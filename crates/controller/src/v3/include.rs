//! What comes along with resources when it is asked for (`include=space,space.organization`): what they refer to, in
//! full, as far as the caller may see it; one query for each kind, however many resources there are.

use super::{apps, domains, orgs, services, spaces, users};
use crate::auth::Caller;
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::Query;
use model::id::{AppId, DomainId, OrgId, ServiceInstanceId, SpaceId, UserId};
use serde::Serialize;
use serde_json::{Map, Value};
use store::{AppFilter, DomainFilter, Order, OrgFilter, Page, ServiceFilter, SpaceFilter};

/// What resources refer to, by kind. Ids may be there several times.
#[derive(Default)]
pub(super) struct Related {
    pub apps: Vec<AppId>,
    pub domains: Vec<DomainId>,
    pub orgs: Vec<OrgId>,
    pub service_instances: Vec<ServiceInstanceId>,
    pub spaces: Vec<SpaceId>,
    pub users: Vec<UserId>,
}

fn unique<T: Ord>(mut ids: Vec<T>) -> Option<Vec<T>> {
    ids.sort_unstable();
    ids.dedup();
    Some(ids)
}

fn value<T: Serialize>(items: Vec<T>) -> Answer<Value> {
    serde_json::to_value(items).map_err(Failure::internal)
}

/// What the query asks for of `related`; `None` where it asks for nothing.
pub(super) async fn included(
    context: &Context,
    caller: &Caller,
    query: &Query,
    mut related: Related,
) -> Answer<Option<Value>> {
    let wanted: Vec<&str> = query.wanted("include").collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let mut included = Map::new();
    if wanted.iter().any(|what| what.starts_with("space")) {
        let spaces = spaces_of(context, caller, related.spaces).await?;
        if wanted.contains(&"space.organization") {
            let orgs = spaces.iter().filter_map(|space| space.relationships.organization.id());
            related.orgs = orgs.collect();
        }
        included.insert("spaces".to_owned(), value(spaces)?);
    }
    if wanted.iter().any(|what| what.ends_with("organization")) {
        included.insert(
            "organizations".to_owned(),
            orgs_of(context, caller, related.orgs).await?,
        );
    }
    if wanted.contains(&"user") {
        let ids = unique(related.users).unwrap_or_default();
        let found = context.store.users_by_ids(&ids).await?;
        let found = found.into_iter().map(|user| users::present(context, user)).collect();
        included.insert("users".to_owned(), value(found)?);
    }
    if wanted.contains(&"domain") {
        included.insert(
            "domains".to_owned(),
            domains_of(context, caller, related.domains).await?,
        );
    }
    if wanted.contains(&"app") {
        included.insert("apps".to_owned(), apps_of(context, caller, related.apps).await?);
    }
    if wanted.contains(&"service_instance") {
        let instances = instances_of(context, caller, related.service_instances).await?;
        included.insert("service_instances".to_owned(), instances);
    }
    Ok(Some(Value::Object(included)))
}

async fn spaces_of(context: &Context, caller: &Caller, ids: Vec<SpaceId>) -> Answer<Vec<api::v3::Space>> {
    let filter = SpaceFilter {
        ids: unique(ids),
        ..SpaceFilter::default()
    };
    let store = &context.store;
    let found = store.space_list(&filter, caller.scope(), Order::default(), Page::ALL);
    spaces::presented(context, found.await?.items).await
}

async fn orgs_of(context: &Context, caller: &Caller, ids: Vec<OrgId>) -> Answer<Value> {
    let filter = OrgFilter {
        ids: unique(ids),
        ..OrgFilter::default()
    };
    let store = &context.store;
    let found = store.org_list(&filter, caller.scope(), Order::default(), Page::ALL);
    value(orgs::presented(context, found.await?.items).await?)
}

async fn domains_of(context: &Context, caller: &Caller, ids: Vec<DomainId>) -> Answer<Value> {
    let filter = DomainFilter {
        ids: unique(ids),
        ..DomainFilter::default()
    };
    let store = &context.store;
    let found = store.domain_list(&filter, caller.scope(), Order::default(), Page::ALL);
    let found = found.await?.items.into_iter();
    value(found.map(|domain| domains::present(context, domain)).collect())
}

async fn apps_of(context: &Context, caller: &Caller, ids: Vec<AppId>) -> Answer<Value> {
    let filter = AppFilter {
        ids: unique(ids),
        ..AppFilter::default()
    };
    let store = &context.store;
    let found = store.app_list(&filter, caller.scope(), Order::default(), Page::ALL);
    let found = found.await?.items.into_iter();
    value(found.map(|app| apps::present(context, app)).collect())
}

async fn instances_of(context: &Context, caller: &Caller, ids: Vec<ServiceInstanceId>) -> Answer<Value> {
    let filter = ServiceFilter {
        ids: unique(ids),
        ..ServiceFilter::default()
    };
    let store = &context.store;
    let found = store.service_list(&filter, caller.scope(), Order::default(), Page::ALL);
    let found = found.await?.items.into_iter();
    value(found.map(|instance| services::present(context, instance)).collect())
}
