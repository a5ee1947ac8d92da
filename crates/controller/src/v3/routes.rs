//! `/v3/routes` and their destinations.

use super::include::{Related, included};
use super::links::{accepted, links};
use crate::actions::quota::Guard;
use crate::actions::{By, route as actions};
use crate::auth::{Caller, Need, app_for, space_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use crate::request::{Body, Query, id};
use api::error::Code;
use api::v3;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, patch};
use axum::{Json, Router};
use http::StatusCode;
use model::id::{DestinationId, RouteId};
use model::name::Hostname;
use model::resource::{Destination, Metadata, Route, Space};
use model::routing::{OptionsChange, Protocol, RouteOptions};
use std::collections::HashMap;
use store::{Paged, RouteFilter, Tx};

pub(super) const WHAT: &str = "Route";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/routes", get(list).post(create))
        .route("/v3/routes/{guid}", get(fetch).delete(delete))
        .route(
            "/v3/routes/{guid}/destinations",
            get(destinations).post(add).patch(replace),
        )
        .route(
            "/v3/routes/{guid}/destinations/{destination}",
            patch(set_protocol).delete(remove),
        )
}

fn present_destination(destination: &Destination) -> v3::Destination {
    v3::Destination {
        guid: Some(destination.id),
        app: v3::DestinationApp {
            guid: destination.app,
            process: Some(v3::DestinationProcess {
                process_type: destination.process_type.to_string(),
            }),
        },
        weight: None,
        port: destination.port.or(Some(8080)),
        protocol: Some(destination.protocol.name().to_owned()),
    }
}

pub(super) fn present(context: &Context, route: Route, destinations: &[Destination]) -> v3::Route {
    let own = format!("/v3/routes/{}", route.id);
    v3::Route {
        links: links(
            context,
            [
                ("self", own.clone()),
                ("space", format!("/v3/spaces/{}", route.space)),
                ("domain", format!("/v3/domains/{}", route.domain)),
                ("destinations", format!("{own}/destinations")),
            ],
        ),
        url: route.url(),
        guid: route.id,
        created_at: route.created_at,
        updated_at: route.updated_at,
        protocol: "http".to_owned(),
        host: route.host.map(String::from).unwrap_or_default(),
        path: route.path,
        port: None,
        destinations: destinations.iter().map(present_destination).collect(),
        options: (route.options.told().into_iter())
            .map(|(name, value)| (name.to_owned(), serde_json::Value::String(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        relationships: v3::RouteRelationships {
            space: v3::ToOne::to(route.space),
            domain: v3::ToOne::to(route.domain),
        },
        metadata: route.metadata,
    }
}

/// A page of routes with their destinations.
pub(super) async fn present_list(
    context: &Context,
    query: &Query,
    routes: Paged<Route>,
) -> Answer<v3::List<v3::Route>> {
    let ids: Vec<RouteId> = routes.items.iter().map(|route| route.id).collect();
    let mut by_route: HashMap<RouteId, Vec<Destination>> = HashMap::new();
    for destination in context.store.destinations_of_routes(&ids).await? {
        by_route.entry(destination.route).or_default().push(destination);
    }
    query.list(context, routes, |route| {
        let destinations = by_route.remove(&route.id).unwrap_or_default();
        present(context, route, &destinations)
    })
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::Route>>> {
    let filter = RouteFilter {
        common: query.common()?,
        // No route has a port.
        ids: query.ids_unless("guids", &["ports"]),
        hosts: query.texts("hosts"),
        paths: query.texts("paths"),
        domains: query.ids("domain_guids"),
        spaces: query.ids("space_guids"),
        orgs: query.ids("organization_guids"),
        apps: query.ids("app_guids"),
    };
    let listed = context
        .store
        .route_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    let related = Related {
        spaces: listed.items.iter().map(|route| route.space).collect(),
        domains: listed.items.iter().map(|route| route.domain).collect(),
        ..Related::default()
    };
    let mut list = present_list(&context, &query, listed).await?;
    list.included = included(&context, &caller, &query, related).await?;
    Ok(Json(list))
}

async fn route_for(db: &store::Db, caller: &Caller, guid: &str, need: Need) -> Answer<(Route, Space)> {
    let route = db
        .route_fetch(id(guid, WHAT)?)
        .await?
        .ok_or_else(|| Failure::not_found(WHAT))?;
    let space = space_for(db, caller, route.space, need, WHAT).await?;
    Ok((route, space))
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::Shown<v3::Route>>> {
    let (route, _) = route_for(&context.store, &caller, &guid, Need::Read).await?;
    let destinations = context.store.destinations_of_routes(&[route.id]).await?;
    let related = Related {
        spaces: vec![route.space],
        domains: vec![route.domain],
        ..Related::default()
    };
    let included = included(&context, &caller, &query, related).await?;
    let resource = present(&context, route, &destinations);
    Ok(Json(v3::Shown { resource, included }))
}

/// What a body says of options: texts, and numbers as texts.
pub(super) fn options_change(options: Option<serde_json::Map<String, serde_json::Value>>) -> Answer<OptionsChange> {
    let one = |(name, value): (String, serde_json::Value)| match value {
        serde_json::Value::Null => Ok((name, None)),
        serde_json::Value::String(text) => Ok((name, Some(text))),
        serde_json::Value::Number(number) => Ok((name, Some(number.to_string()))),
        _ => Err(Failure::refused(format!("Options {name} must be a string"))),
    };
    options.into_iter().flatten().map(one).collect()
}

fn protocol(name: &str) -> Answer<Protocol> {
    Protocol::by_name(name).ok_or_else(|| {
        Failure::refused("Destination protocol must be 'http1', 'http2' or 'tcp', and 'tcp' is for TCP routes")
    })
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::RouteCreate>,
) -> Answer<(StatusCode, Json<v3::Route>)> {
    let invalid = |what: &str| {
        Failure::refused(format!(
            "Invalid {what}. Ensure that the {what} exists and you have access to it."
        ))
    };
    let space = body.relationships.space.id().ok_or_else(|| invalid("space"))?;
    let domain = body.relationships.domain.id().ok_or_else(|| invalid("domain"))?;
    let space = match space_for(&context.store, &caller, space, Need::Operate, "Space").await {
        Err(failure) if failure.status() == StatusCode::NOT_FOUND => return Err(invalid("space")),
        other => other?,
    };
    let domain = super::domains::visible(&context, &caller, domain)
        .await?
        .ok_or_else(|| invalid("domain"))?;
    if body.port.is_some() {
        return Err(Failure::refused("Routes with protocol 'http' do not support ports."));
    }
    let host: Option<Hostname> = match body.host.as_deref() {
        None | Some("") => None,
        Some(host) => Some(
            host.to_lowercase()
                .parse()
                .map_err(|error| Failure::refused(format!("{error}")))?,
        ),
    };
    Flag::RouteCreation.require(&context.store, &caller).await?;
    let mut metadata = Metadata::default();
    crate::actions::manifest::merge(&mut metadata, &body.metadata.unwrap_or_default())?;
    let change = options_change(body.options)?;
    let tx = context.store.begin().await?;
    let new = actions::NewRoute {
        options: actions::options_of(&tx, &RouteOptions::default(), &change).await?,
        host,
        path: body.path.unwrap_or_default(),
        metadata,
    };
    let guard = Guard::before(&tx, &space).await?;
    let route = actions::create_on(&tx, new, &domain, &space, &By::caller(&caller, &context)).await?;
    guard.after(&tx).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(present(&context, route, &[]))))
}

async fn delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let (route, space) = route_for(&context.store, &caller, &guid, Need::Operate).await?;
    let job = actions::delete(&context, &route, &space, &By::caller(&caller, &context)).await?;
    Ok(accepted(&context, job))
}

fn present_destinations(context: &Context, route: RouteId, destinations: &[Destination]) -> v3::Destinations {
    let own = format!("/v3/routes/{route}");
    v3::Destinations {
        destinations: destinations.iter().map(present_destination).collect(),
        links: links(context, [("self", format!("{own}/destinations")), ("route", own)]),
    }
}

async fn destinations(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::Destinations>> {
    let (route, _) = route_for(&context.store, &caller, &guid, Need::Read).await?;
    let destinations = context.store.destinations_of_routes(&[route.id]).await?;
    Ok(Json(present_destinations(&context, route.id, &destinations)))
}

async fn map(
    tx: &Tx,
    caller: &Caller,
    route: &Route,
    space: &Space,
    wanted: &[v3::Destination],
    by: &By,
) -> Answer<()> {
    if wanted.len() > actions::MAX_DESTINATIONS {
        return Err(Failure::refused(format!(
            "At most {} destinations",
            actions::MAX_DESTINATIONS
        )));
    }
    for wanted in wanted {
        if wanted.weight.is_some() {
            return Err(Failure::new(
                Code::NotImplemented,
                "Weighted destinations are not available",
            ));
        }
        let protocol = wanted.protocol.as_deref().map(protocol).transpose()?;
        let (app, _) = match app_for(tx, caller, wanted.app.guid, Need::Operate, "App").await {
            Err(failure) if failure.status() == StatusCode::NOT_FOUND => {
                let detail = format!(
                    "App(s) with guid(s) \"{}\" do not exist or you do not have access.",
                    wanted.app.guid
                );
                return Err(Failure::refused(detail));
            }
            other => other?,
        };
        let process_type = wanted
            .app
            .process
            .as_ref()
            .map_or("web", |process| process.process_type.as_str());
        let process_type = process_type
            .parse()
            .map_err(|error| Failure::refused(format!("{error}")))?;
        // CF's clients name the default port.
        let port = wanted.port.filter(|port| *port != 8080);
        let door = actions::Door {
            process_type,
            port,
            protocol,
        };
        actions::map_on(tx, route, &app, door, space, by).await?;
    }
    Ok(())
}

async fn add(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::Destinations>,
) -> Answer<Json<v3::Destinations>> {
    change(&context, &caller, &guid, body, false).await
}

async fn replace(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::Destinations>,
) -> Answer<Json<v3::Destinations>> {
    change(&context, &caller, &guid, body, true).await
}

async fn change(
    context: &Context,
    caller: &Caller,
    guid: &str,
    body: v3::Destinations,
    whole: bool,
) -> Answer<Json<v3::Destinations>> {
    let by = By::caller(caller, context);
    let tx = context.store.begin().await?;
    let (route, space) = route_for(&tx, caller, guid, Need::Operate).await?;
    if whole {
        for destination in tx.destinations_of_routes(&[route.id]).await? {
            tx.destination_delete(route.id, destination.id).await?;
        }
    }
    map(&tx, caller, &route, &space, &body.destinations, &by).await?;
    let destinations = tx.destinations_of_routes(&[route.id]).await?;
    tx.commit().await?;
    context.wake.scheduler();
    Ok(Json(present_destinations(context, route.id, &destinations)))
}

async fn destination_of(tx: &Tx, route: &Route, guid: &str) -> Answer<Option<Destination>> {
    let wanted: DestinationId = id(guid, "Destination")?;
    let there = tx.destinations_of_routes(&[route.id]).await?;
    Ok(there.into_iter().find(|destination| destination.id == wanted))
}

/// What the app speaks there.
async fn set_protocol(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, destination)): Path<(String, String)>,
    Body(body): Body<v3::DestinationUpdate>,
) -> Answer<Json<v3::Destination>> {
    let wanted = body.protocol.as_deref().map(protocol).transpose()?.unwrap_or_default();
    let tx = context.store.begin().await?;
    let (route, space) = route_for(&tx, &caller, &guid, Need::Operate).await?;
    let found = destination_of(&tx, &route, &destination).await?;
    let mut destination = found.ok_or_else(|| Failure::not_found("Destination"))?;
    let app = tx.app_fetch(destination.app).await?;
    let app = app.ok_or_else(|| Failure::not_found("App"))?;
    tx.destination_set_protocol(destination.id, wanted).await?;
    destination.protocol = wanted;
    let by = By::caller(&caller, &context);
    let data = serde_json::json!({"route": route.id, "request": {"protocol": wanted.name()}});
    tx.event(by.app_event("audit.app.map-route", &app, &space, data));
    tx.commit().await?;
    context.wake.scheduler();
    Ok(Json(present_destination(&destination)))
}

async fn remove(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, destination)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let by = By::caller(&caller, &context);
    let tx = context.store.begin().await?;
    let (route, space) = route_for(&tx, &caller, &guid, Need::Operate).await?;
    let destination = destination_of(&tx, &route, &destination).await?.ok_or_else(|| {
        Failure::refused("Unable to unmap route from destination. Ensure the route has a destination with this guid.")
    })?;
    let app = tx
        .app_fetch(destination.app)
        .await?
        .ok_or_else(|| Failure::not_found("App"))?;
    actions::unmap_on(&tx, &route, &destination, &app, &space, &by).await?;
    tx.commit().await?;
    context.wake.scheduler();
    Ok(StatusCode::NO_CONTENT)
}
