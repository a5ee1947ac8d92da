//! Organisations and spaces that go with all that is in them.

use super::By;
use crate::context::Context;
use crate::error::Answer;
use model::id::{JobId, RouteId};
use model::resource::{Org, Space, Target};
use serde_json::json;
use std::collections::HashSet;
use store::{AppFilter, DomainFilter, Order, Page, RouteFilter, Scope, ServiceFilter, SpaceFilter, Tx};

/// Deletes a space with its apps, routes and service instances.
pub async fn delete_space(tx: &Tx, space: &Space, by: &By) -> Answer<()> {
    let spaces = Some(vec![space.id]);
    let filter = AppFilter {
        spaces: spaces.clone(),
        ..AppFilter::default()
    };
    while let Some(apps) = some(tx.app_list(&filter, Scope::All, Order::default(), Page::ALL).await?) {
        for app in apps {
            tx.event(by.app_event("audit.app.delete-request", &app, space, json!({"with": "space"})));
            tx.app_delete(app.id).await?;
        }
    }
    let filter = RouteFilter {
        spaces: spaces.clone(),
        ..RouteFilter::default()
    };
    while let Some(routes) = some(tx.route_list(&filter, Scope::All, Order::default(), Page::ALL).await?) {
        for route in routes {
            tx.route_delete(route.id).await?;
        }
    }
    let filter = ServiceFilter {
        spaces,
        ..ServiceFilter::default()
    };
    while let Some(instances) = some(
        tx.service_list(&filter, Scope::All, Order::default(), Page::ALL)
            .await?,
    ) {
        for instance in instances {
            tx.service_delete(instance.id).await?;
        }
    }
    tx.space_delete(space.id).await?;
    Ok(())
}

/// Deletes the routes of a space that lead nowhere.
pub async fn delete_unmapped_routes(context: &Context, space: &Space, by: &By) -> Answer<JobId> {
    let job = by.done_job("space.delete_unmapped_routes");
    let filter = RouteFilter {
        spaces: Some(vec![space.id]),
        ..RouteFilter::default()
    };
    let tx = context.store.begin().await?;
    let mut number = 1;
    let mut unmapped = Vec::new();
    loop {
        let page = Page { number, ..Page::ALL };
        let routes = tx.route_list(&filter, Scope::All, Order::default(), page).await?.items;
        if routes.is_empty() {
            break;
        }
        let ids: Vec<RouteId> = routes.iter().map(|route| route.id).collect();
        let mapped: HashSet<RouteId> = tx
            .destinations_of_routes(&ids)
            .await?
            .into_iter()
            .map(|destination| destination.route)
            .collect();
        unmapped.extend(ids.into_iter().filter(|id| !mapped.contains(id)));
        number += 1;
    }
    for route in &unmapped {
        tx.route_delete(*route).await?;
    }
    let target = Target {
        guid: space.id.to_string(),
        kind: "space".to_owned(),
        name: space.name.to_string(),
    };
    let data = json!({"routes": unmapped.len()});
    tx.event(by.event("audit.space.delete-unmapped-routes", target, Some(space), data));
    tx.job_create(&job).await?;
    tx.commit().await?;
    Ok(job.id)
}

/// Deletes an organisation with its spaces, what is in them, and its private domains.
pub async fn delete_org(tx: &Tx, org: &Org, by: &By) -> Answer<()> {
    let filter = SpaceFilter {
        orgs: Some(vec![org.id]),
        ..SpaceFilter::default()
    };
    while let Some(spaces) = some(tx.space_list(&filter, Scope::All, Order::default(), Page::ALL).await?) {
        for space in spaces {
            delete_space(tx, &space, by).await?;
        }
    }
    let filter = DomainFilter {
        orgs: Some(vec![org.id]),
        ..DomainFilter::default()
    };
    while let Some(domains) = some(tx.domain_list(&filter, Scope::All, Order::default(), Page::ALL).await?) {
        for domain in domains {
            tx.domain_delete(domain.id).await?;
        }
    }
    tx.org_delete(org.id).await?;
    Ok(())
}

fn some<T>(page: store::Paged<T>) -> Option<Vec<T>> {
    Some(page.items).filter(|items| !items.is_empty())
}
