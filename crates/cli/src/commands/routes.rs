//! `paas routes`, `paas map-route` and `paas unmap-route`.

use super::show_list;
use crate::actor::{Cx, missing, routes as actor};
use crate::args::app::{MapRoute, Routes, UnmapRoute};
use crate::client::wire::Route;
use crate::errors::Error;
use crate::ui::table::Table;
use serde_json::json;
use std::collections::HashMap;

/// Lists the routes of the space with the apps that they lead to.
pub async fn list(cx: &Cx, args: Routes) -> Result<(), Error> {
    cx.ui.doing(&format!("Getting routes in {}", cx.place()));
    let target = cx.target().await?;
    let client = &target.client;
    let (routes, apps) = tokio::try_join!(client.routes(&target.space.guid), client.apps(&target.space.guid))?;
    let names: HashMap<&str, &str> = apps.iter().map(|app| (app.guid.as_str(), app.name.as_str())).collect();
    show_list(
        &cx.ui,
        &args.listing,
        &routes,
        |route| route.url.clone(),
        |_| table(&routes, &names),
        "no routes yet",
    );
    Ok(())
}

fn table(routes: &[Route], names: &HashMap<&str, &str>) -> Table {
    let mut table = Table::new(&["route", "apps"]);
    for route in routes {
        let apps: Vec<&str> = route
            .destinations
            .iter()
            .map(|destination| {
                *names
                    .get(destination.app.guid.as_str())
                    .unwrap_or(&"(an app of another space)")
            })
            .collect();
        table.row([route.url.clone(), apps.join(", ")]);
    }
    table
}

/// Leads a route to an app.
pub async fn map(cx: &Cx, args: MapRoute) -> Result<(), Error> {
    let args = args.route;
    cx.ui
        .doing(&format!("Mapping a route to {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let parts = actor::parse(&target, &args.domain, args.hostname.as_deref(), args.path.as_deref()).await?;
    let client = &target.client;
    let route = match client.find_route(&parts.domain.0, &parts.host, &parts.path).await? {
        Some(route) => route,
        None => {
            client
                .create_route(&target.space.guid, &parts.domain.0, &parts.host, &parts.path)
                .await?
        }
    };
    client.map_route(&route.guid, &app.guid).await?;
    let url = actor::url(&route, client.platform().await?, client.api());
    if cx.ui.json() {
        cx.ui.document(&json!({"route": route, "url": url}));
    } else {
        cx.ui.out_line(&format!("{url} leads to {}", app.name));
    }
    Ok(())
}

/// Takes a route from an app.
pub async fn unmap(cx: &Cx, args: UnmapRoute) -> Result<(), Error> {
    let args = args.route;
    cx.ui
        .doing(&format!("Taking a route from {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let parts = actor::parse(&target, &args.domain, args.hostname.as_deref(), args.path.as_deref()).await?;
    let routes = target.client.app_routes(&app.guid).await?;
    let Some(route) = routes.iter().find(|route| route.url == parts.name()) else {
        let urls: Vec<String> = routes.iter().map(|route| route.url.clone()).collect();
        return Err(missing("route", &parts.name(), &format!("app {}", app.name), &urls));
    };
    for destination in route
        .destinations
        .iter()
        .filter(|destination| destination.app.guid == app.guid)
    {
        target.client.unmap_route(&route.guid, &destination.guid).await?;
    }
    if cx.ui.json() {
        cx.ui.document(&json!({"route": route}));
    } else {
        cx.ui
            .out_line(&format!("{} no longer leads to {}", route.url, app.name));
    }
    Ok(())
}
