//! Routes and where they lead.

use super::{By, fresh};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use api::error::Code;
use model::id::{DestinationId, JobId, RouteId};
use model::name::{Hostname, ProcessType, host_label};
use model::resource::{App, Destination, Domain, Metadata, Route, Space, Target};
use model::routing::{LoadBalancing, OptionsChange, Protocol, RouteOptions};
use rand::RngCore as _;
use serde_json::json;
use store::{DomainFilter, Order, Page, Scope, Tx};

/// Longest path of a route.
pub const MAX_PATH: usize = 128;
/// Destinations of a route.
pub const MAX_DESTINATIONS: usize = 100;
/// Tries of a random host name.
const RANDOM_TRIES: usize = 8;

/// A route that is to be.
#[derive(Debug, Clone)]
pub struct NewRoute {
    pub host: Option<Hostname>,
    pub path: String,
    pub options: RouteOptions,
    pub metadata: Metadata,
}

/// Refuses a path that no route can have.
pub fn check_path(path: &str) -> Answer<()> {
    let wrong = |detail: &str| Err(Failure::refused(detail.to_owned()));
    if path.is_empty() {
        Ok(())
    } else if !path.starts_with('/') {
        wrong("Path must begin with /")
    } else if path == "/" {
        wrong("Path cannot be exactly '/'")
    } else if path.len() > MAX_PATH {
        wrong("Path must be at most 128 characters")
    } else if path.contains(['?', '#', '%']) || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        wrong("Path cannot contain '?', '#', '%' or spaces")
    } else {
        Ok(())
    }
}

fn target(route: &Route) -> Target {
    Target {
        guid: route.id.to_string(),
        kind: "route".to_owned(),
        name: route.url(),
    }
}

fn taken(new: &NewRoute, domain: &Domain) -> Failure {
    let host = new.host.as_ref().map_or("", Hostname::as_str);
    let with_path = if new.path.is_empty() {
        String::new()
    } else {
        format!(" and path '{}'", new.path)
    };
    Failure::new(
        Code::UniquenessError,
        format!(
            "Route already exists with host '{host}'{with_path} for domain '{}'.",
            domain.name
        ),
    )
}

/// Writes a new route.
pub async fn create_on(tx: &Tx, new: NewRoute, domain: &Domain, space: &Space, by: &By) -> Answer<Route> {
    check_path(&new.path)?;
    if new.host.is_none() && domain.org.is_none() {
        return Err(Failure::refused(
            "Missing host. Routes in shared domains must have a host defined.",
        ));
    }
    if domain.org.is_some_and(|org| org != space.org) {
        return Err(Failure::refused(format!(
            "Invalid domain. Domain '{}' is not available in this organization.",
            domain.name
        )));
    }
    let route = Route {
        id: fresh::<RouteId>(),
        space: space.id,
        domain: domain.id,
        domain_name: domain.name.clone(),
        host: new.host.clone(),
        path: new.path.clone(),
        options: new.options.clone(),
        metadata: new.metadata.clone(),
        created_at: by.now,
        updated_at: by.now,
    };
    let created = tx.route_create(&route).await;
    created.map_err(|error| Failure::or_taken(error, || taken(&new, domain)))?;
    tx.event(by.event(
        "audit.route.create",
        target(&route),
        Some(space),
        json!({"url": route.url()}),
    ));
    Ok(route)
}

/// Changes how requests of a route are spread.
pub async fn set_options_on(tx: &Tx, route: &mut Route, change: &OptionsChange, space: &Space, by: &By) -> Answer<()> {
    let options = options_of(tx, &route.options, change).await?;
    if options == route.options {
        return Ok(());
    }
    (route.options, route.updated_at) = (options, by.now);
    tx.route_update(route).await?;
    let told: serde_json::Map<_, _> = (route.options.told().into_iter())
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    tx.event(by.event(
        "audit.route.update",
        target(route),
        Some(space),
        json!({"request": {"options": told}}),
    ));
    Ok(())
}

/// Options changed, if the platform has what they ask for switched on.
pub async fn options_of(tx: &Tx, options: &RouteOptions, change: &OptionsChange) -> Answer<RouteOptions> {
    let changed = options.changed(change).map_err(Failure::refused)?;
    if changed.loadbalancing == Some(LoadBalancing::Hash) && options.loadbalancing != changed.loadbalancing {
        Flag::HashBasedRouting.require_on(tx).await?;
    }
    Ok(changed)
}

/// Where in an app a route is to lead.
pub struct Door {
    pub process_type: ProcessType,
    /// `None` for the app's own port.
    pub port: Option<u16>,
    /// `None` leaves it as it is, at first the default.
    pub protocol: Option<Protocol>,
}

/// Lets a route lead to an app; where it does, only what the app speaks may change.
pub async fn map_on(tx: &Tx, route: &Route, app: &App, door: Door, space: &Space, by: &By) -> Answer<()> {
    let Door {
        process_type,
        port,
        protocol,
    } = door;
    if route.space != app.space {
        return Err(Failure::refused(
            "Routes cannot be mapped to destinations in different spaces.",
        ));
    }
    let destinations = tx.destinations_of_routes(&[route.id]).await?;
    let same = |other: &Destination| other.app == app.id && other.process_type == process_type && other.port == port;
    if let Some(there) = destinations.iter().find(|other| same(other)) {
        if let Some(protocol) = protocol.filter(|protocol| *protocol != there.protocol) {
            tx.destination_set_protocol(there.id, protocol).await?;
        }
        return Ok(());
    }
    if destinations.len() >= MAX_DESTINATIONS {
        return Err(Failure::refused(format!(
            "Routes can be mapped to at most {MAX_DESTINATIONS} destinations."
        )));
    }
    let destination = Destination {
        id: fresh::<DestinationId>(),
        route: route.id,
        app: app.id,
        process_type,
        port,
        protocol: protocol.unwrap_or_default(),
        created_at: by.now,
    };
    tx.destination_create(&destination).await?;
    let data = json!({"route": route.id, "url": route.url()});
    tx.event(by.app_event("audit.app.map-route", app, space, data));
    Ok(())
}

/// Lets a route lead no longer to an app.
pub async fn unmap_on(
    tx: &Tx,
    route: &Route,
    destination: &Destination,
    app: &App,
    space: &Space,
    by: &By,
) -> Answer<()> {
    tx.destination_delete(route.id, destination.id).await?;
    let data = json!({"route": route.id, "url": route.url()});
    tx.event(by.app_event("audit.app.unmap-route", app, space, data));
    Ok(())
}

/// Deletes a route with its destinations.
pub async fn delete(context: &Context, route: &Route, space: &Space, by: &By) -> Answer<JobId> {
    let job = by.done_job("route.delete");
    let tx = context.store.begin().await?;
    tx.route_delete(route.id).await?;
    tx.event(by.event(
        "audit.route.delete-request",
        target(route),
        Some(space),
        json!({"url": route.url()}),
    ));
    tx.job_create(&job).await?;
    tx.commit().await?;
    context.wake.scheduler();
    Ok(job.id)
}

/// The address that a manifest names, with or without a route there yet.
pub struct Address {
    pub domain: Domain,
    pub host: Option<Hostname>,
    pub path: String,
}

/// Splits `host.domain/path` by the domains of the platform; the longest wins.
pub async fn address(tx: &Tx, text: &str, space: &Space) -> Answer<Address> {
    let (name, path) = match text.find('/') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    check_path(path)?;
    let name = name.to_lowercase();
    let mut suffixes: Vec<String> = name
        .match_indices('.')
        .map(|(at, _)| name[at + 1..].to_owned())
        .collect();
    suffixes.insert(0, name.clone());
    let filter = DomainFilter {
        names: Some(suffixes),
        ..DomainFilter::default()
    };
    let found = tx
        .domain_list(&filter, Scope::All, Order::default(), Page::ALL)
        .await?
        .items;
    let usable = found
        .into_iter()
        .filter(|domain| domain.org.is_none_or(|org| org == space.org));
    let domain = usable
        .max_by_key(|domain| domain.name.as_str().len())
        .ok_or_else(|| Failure::refused(format!("The route '{text}' did not match any existing domains.")))?;
    let host = name[..name.len() - domain.name.as_str().len()].trim_end_matches('.');
    let host = match host {
        "" => None,
        host => Some(
            host.parse()
                .map_err(|error| Failure::refused(format!("The route '{text}' is not possible: {error}")))?,
        ),
    };
    Ok(Address {
        domain,
        host,
        path: path.to_owned(),
    })
}

/// The route at an address, made where there is none; refused where it is another space's.
pub async fn obtain_on(tx: &Tx, address: Address, space: &Space, by: &By) -> Answer<Route> {
    let host = address.host.as_ref().map_or("", Hostname::as_str);
    match tx.route_by_address(address.domain.id, host, &address.path).await? {
        Some(route) if route.space == space.id => Ok(route),
        Some(route) => Err(
            Failure::refused(format!("The route {} is in use in another space.", route.url()))
                .hint("Choose another host, or use random-route"),
        ),
        None => {
            let new = NewRoute {
                host: address.host,
                path: address.path,
                options: RouteOptions::default(),
                metadata: Metadata::default(),
            };
            create_on(tx, new, &address.domain, space, by).await
        }
    }
}

/// The address that an app gets where nothing is said: its name as a label, with a random end if so wanted.
pub async fn default_address(tx: &Tx, app: &App, random: bool) -> Answer<Address> {
    let domain = tx
        .domain_default()
        .await?
        .ok_or_else(|| Failure::refused("The platform has no shared domain"))?;
    let label = host_label(app.name.as_str()).ok_or_else(|| {
        Failure::refused(format!("The name {:?} gives no host name", app.name.as_str()))
            .hint("Name a route in the manifest")
    })?;
    let mut host = label.clone();
    for _ in 0..RANDOM_TRIES {
        if !random {
            break;
        }
        let end = hex::encode(rand::rng().next_u32().to_be_bytes());
        let short: String = label.as_str().chars().take(54).collect();
        host = format!("{}-{end}", short.trim_end_matches('-'))
            .parse()
            .map_err(Failure::internal)?;
        if tx.route_by_address(domain.id, host.as_str(), "").await?.is_none() {
            break;
        }
    }
    Ok(Address {
        domain,
        host: Some(host),
        path: String::new(),
    })
}
