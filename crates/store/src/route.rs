//! Routes, their destinations, and the table that routers get.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, json, word};
use crate::tx::Tx;
use model::id::{AppId, DestinationId, DomainId, OrgId, ProcessId, RouteId, SpaceId, WorkId};
use model::name::Hostname;
use model::resource::{Destination, Route};
use model::routing::{Protocol, RouteOptions};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use uuid::Uuid;

/// Which routes a list holds; `None` does not filter. A host `""` is that of the domain itself.
#[derive(Debug, Clone, Default)]
pub struct RouteFilter {
    pub ids: Option<Vec<RouteId>>,
    pub hosts: Option<Vec<String>>,
    pub paths: Option<Vec<String>>,
    pub domains: Option<Vec<DomainId>>,
    pub spaces: Option<Vec<SpaceId>>,
    pub orgs: Option<Vec<OrgId>>,
    /// Routes that lead to one of these.
    pub apps: Option<Vec<AppId>>,
    pub common: Common,
}

/// A route as routers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTarget {
    pub route: RouteId,
    /// Lower-case host name; its first label may be `*`.
    pub host: String,
    /// Empty, or beginning with `/`.
    pub path: String,
    pub options: RouteOptions,
    /// Instances that requests may go to; may be empty.
    pub endpoints: Vec<RouteEndpoint>,
}

/// An instance that requests may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEndpoint {
    pub work: WorkId,
    pub app: AppId,
    /// The process that it is an instance of, if that is still there.
    pub process: Option<ProcessId>,
    /// What it speaks there.
    pub protocol: Protocol,
    pub index: u32,
    pub address: Ipv4Addr,
    pub port: u16,
}

const ROUTE: &str = "t.id, t.space_id, t.domain_id, d.name AS domain_name, t.host, t.path, t.options, t.metadata, \
                     t.created_at, t.updated_at";
const DESTINATION: &str = "t.id, t.route_id, t.app_id, t.process_type, t.port, t.protocol, t.created_at";

fn route(_: &Db, row: &Row) -> Result<Route> {
    let host = row.text("host")?;
    Ok(Route {
        id: row.id("id")?,
        space: row.id("space_id")?,
        domain: row.id("domain_id")?,
        domain_name: row.parse("domain_name")?,
        host: if host.is_empty() {
            None
        } else {
            Some(row.parse("host")?)
        },
        path: row.text("path")?,
        options: row.json("options")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn destination(_: &Db, row: &Row) -> Result<Destination> {
    Ok(Destination {
        id: row.id("id")?,
        route: row.id("route_id")?,
        app: row.id("app_id")?,
        process_type: row.parse("process_type")?,
        port: row.int_opt("port")?,
        protocol: row.word("protocol")?,
        created_at: row.time("created_at")?,
    })
}

fn host(route: &Route) -> &str {
    route.host.as_ref().map_or("", Hostname::as_str)
}

impl Db {
    /// A route by id.
    pub async fn route_fetch(&self, id: RouteId) -> Result<Option<Route>> {
        let query = Query::new("route_fetch", id, "")
            .push(&format!(
                "SELECT {ROUTE} FROM routes t JOIN domains d ON d.id = t.domain_id WHERE t.id = "
            ))
            .push_arg(id);
        self.find(query, route).await
    }

    /// The route of this address, whoever's it is.
    pub async fn route_by_address(&self, domain: DomainId, host: &str, path: &str) -> Result<Option<Route>> {
        let query = Query::new("route_by_address", host, "")
            .push(&format!(
                "SELECT {ROUTE} FROM routes t JOIN domains d ON d.id = t.domain_id WHERE t.domain_id = "
            ))
            .push_arg(domain)
            .push(" AND lower(t.host) = lower(")
            .push_arg(host)
            .push(") AND t.path = ")
            .push_arg(path);
        self.find(query, route).await
    }

    /// Routes of spaces within `scope`.
    pub async fn route_list(
        &self,
        filter: &RouteFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Route>> {
        let query = Query::new(
            "route_list",
            "a list",
            "FROM routes t JOIN domains d ON d.id = t.domain_id WHERE 1 = 1",
        );
        let mut query = scope
            .spaces(query, "t.space_id")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.host", filter.hosts.as_deref())
            .and_in_some("t.path", filter.paths.as_deref())
            .and_in_some("t.domain_id", filter.domains.as_deref())
            .and_in_some("t.space_id", filter.spaces.as_deref());
        if let Some(orgs) = &filter.orgs {
            query = query
                .push(" AND t.space_id IN (SELECT id FROM spaces WHERE 1 = 1")
                .and_in("org_id", orgs.iter().copied())
                .push(")");
        }
        if let Some(apps) = &filter.apps {
            query = query
                .push(" AND t.id IN (SELECT route_id FROM destinations WHERE 1 = 1")
                .and_in("app_id", apps.iter().copied())
                .push(")");
        }
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(ROUTE, query, &order.sql(None, true), page, route).await
    }

    /// Destinations of routes, in the order in which they were made.
    pub async fn destinations_of_routes(&self, routes: &[RouteId]) -> Result<Vec<Destination>> {
        let mut found = Vec::new();
        for batch in routes.chunks(self.batch(1)) {
            let query = Query::new("destinations_of_routes", routes.len(), "")
                .push(&format!("SELECT {DESTINATION} FROM destinations t WHERE 1 = 1"))
                .and_in("t.route_id", batch.iter().copied());
            found.extend(self.map(query, destination).await?);
        }
        found.sort_by_key(|destination| (destination.created_at, destination.id));
        Ok(found)
    }

    /// Addresses (`host.domain/path`) that lead to each app.
    pub(crate) async fn uris_by_app(&self) -> Result<HashMap<AppId, Vec<String>>> {
        let query = Query::new(
            "uris_by_app",
            "all",
            "SELECT DISTINCT x.app_id, r.host, d.name, r.path FROM destinations x JOIN routes r ON r.id = x.route_id \
             JOIN domains d ON d.id = r.domain_id ORDER BY d.name, r.host, r.path",
        );
        let mut uris: HashMap<AppId, Vec<String>> = HashMap::new();
        for row in self.all(query).await? {
            uris.entry(row.id("app_id")?)
                .or_default()
                .push(format!("{}{}", full_host(&row)?, row.text("path")?));
        }
        Ok(uris)
    }

    /// Every route that leads somewhere, with the instances that requests may go to now.
    pub async fn route_table(&self) -> Result<Vec<RouteTarget>> {
        let query = Query::new(
            "route_table",
            "all",
            "SELECT r.id, r.host, d.name, r.path, r.options, x.protocol, w.id AS work_id, w.app_id, p.id AS process_id, \
             w.instance, w.address, w.version_id, coalesce(x.port, w.port) AS port \
             FROM destinations x JOIN routes r ON r.id = x.route_id JOIN domains d ON d.id = r.domain_id \
             LEFT JOIN works w ON w.app_id = x.app_id AND w.process_type = x.process_type AND w.rank = 3 \
             AND w.wanted = 'run' AND w.routable AND w.address IS NOT NULL AND w.kind = 'instance' \
             LEFT JOIN processes p ON p.app_id = w.app_id AND p.type = w.process_type \
             ORDER BY d.name, r.host, r.path, r.id, w.instance, w.created_at, w.id",
        );
        let mut table: Vec<RouteTarget> = Vec::new();
        // An instance that moves is there twice for a moment: the first serves until it leaves, then the second.
        let mut serving: HashMap<(AppId, Uuid, u32), WorkId> = HashMap::new();
        for row in self.all(query).await? {
            let route: RouteId = row.id("id")?;
            if table.last().is_none_or(|last| last.route != route) {
                table.push(RouteTarget {
                    route,
                    host: full_host(&row)?.to_lowercase(),
                    path: row.text("path")?,
                    options: row.json("options")?,
                    endpoints: Vec::new(),
                });
            }
            let Some(endpoint) = endpoint(&row)? else { continue };
            if let Some(version) = row.get::<Option<Uuid>>("version_id")? {
                let first = serving.entry((endpoint.app, version, endpoint.index));
                if *first.or_insert(endpoint.work) != endpoint.work {
                    continue;
                }
            }
            if let Some(target) = table.last_mut()
                && !target.endpoints.contains(&endpoint)
            {
                target.endpoints.push(endpoint);
            }
        }
        Ok(table)
    }
}

fn full_host(row: &Row) -> Result<String> {
    let (host, domain) = (row.text("host")?, row.text("name")?);
    Ok(if host.is_empty() {
        domain
    } else {
        format!("{host}.{domain}")
    })
}

fn endpoint(row: &Row) -> Result<Option<RouteEndpoint>> {
    let (Some(work), Some(port)) = (row.id_opt("work_id")?, row.int_opt("port")?) else {
        return Ok(None);
    };
    Ok(Some(RouteEndpoint {
        work,
        app: row.id("app_id")?,
        process: row.id_opt("process_id")?,
        protocol: row.word("protocol")?,
        index: row.int("instance")?,
        address: row.parse("address")?,
        port,
    }))
}

impl Tx {
    /// A new route. Taken: `route`.
    pub async fn route_create(&self, route: &Route) -> Result<()> {
        let query = Query::new(
            "route_create",
            route.id,
            "INSERT INTO routes (id, space_id, domain_id, host, path, metadata, created_at, updated_at, options) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .taken("route")
        .arg(route.id)
        .arg(route.space)
        .arg(route.domain)
        .arg(host(route))
        .arg(route.path.as_str())
        .arg(json(&route.metadata)?)
        .arg(route.created_at)
        .arg(route.updated_at)
        .arg(json(&route.options)?);
        self.touch(Topic::Routes);
        self.execute(query).await.map(drop)
    }

    /// Metadata and options as given.
    pub async fn route_update(&self, route: &Route) -> Result<bool> {
        let query = Query::new(
            "route_update",
            route.id,
            "UPDATE routes SET metadata = $1, updated_at = $2, options = $4 WHERE id = $3",
        )
        .arg(json(&route.metadata)?)
        .arg(route.updated_at)
        .arg(route.id)
        .arg(json(&route.options)?);
        self.touch(Topic::Routes);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes a route with its destinations.
    pub async fn route_delete(&self, id: RouteId) -> Result<bool> {
        let query = Query::new("route_delete", id, "DELETE FROM routes WHERE id = $1").arg(id);
        self.touch(Topic::Routes);
        Ok(self.execute(query).await? > 0)
    }

    /// A new destination; nothing happens where the route leads there already.
    pub async fn destination_create(&self, destination: &Destination) -> Result<()> {
        let query = Query::new(
            "destination_create",
            destination.id,
            "INSERT INTO destinations (id, route_id, app_id, process_type, port, created_at, protocol) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .arg(destination.id)
        .arg(destination.route)
        .arg(destination.app)
        .arg(destination.process_type.as_str())
        .arg(destination.port)
        .arg(destination.created_at)
        .arg(word(&destination.protocol)?);
        self.touch(Topic::Routes);
        self.execute(query).await.map(drop)
    }

    /// What the instances of a destination speak. False where there is none.
    pub async fn destination_set_protocol(&self, id: DestinationId, protocol: Protocol) -> Result<bool> {
        let query = Query::new(
            "destination_set_protocol",
            id,
            "UPDATE destinations SET protocol = $1 WHERE id = $2",
        )
        .arg(word(&protocol)?)
        .arg(id);
        self.touch(Topic::Routes);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes a destination of this route.
    pub async fn destination_delete(&self, route: RouteId, id: DestinationId) -> Result<bool> {
        let query = Query::new(
            "destination_delete",
            id,
            "DELETE FROM destinations WHERE id = $1 AND route_id = $2",
        )
        .arg(id)
        .arg(route);
        self.touch(Topic::Routes);
        Ok(self.execute(query).await? > 0)
    }
}
