//! Routes and domains.

use super::super::http::{Call, Client};
use super::super::wire::{Named, Route};
use crate::errors::Error;
use ::http::Method;
use serde_json::json;

impl Client {
    /// The routes of a space.
    pub async fn routes(&self, space: &str) -> Result<Vec<Route>, Error> {
        self.list(Call::new(Method::GET, "/v3/routes").query("space_guids", space))
            .await
    }

    /// The routes of an app.
    pub async fn app_routes(&self, app: &str) -> Result<Vec<Route>, Error> {
        self.list(Call::new(Method::GET, format!("/v3/apps/{app}/routes")))
            .await
    }

    /// The domains with one of these names.
    pub async fn domains(&self, names: &[String]) -> Result<Vec<Named>, Error> {
        self.list(Call::new(Method::GET, "/v3/domains").query("names", names.join(",")))
            .await
    }

    /// A route by its parts.
    pub async fn find_route(&self, domain: &str, host: &str, path: &str) -> Result<Option<Route>, Error> {
        let call = Call::new(Method::GET, "/v3/routes")
            .query("domain_guids", domain)
            .query("hosts", host)
            .query("paths", path);
        let found: Vec<Route> = self.list(call).await?;
        // An empty filter may have been read as none.
        Ok(found.into_iter().find(|route| {
            route.host.as_deref().unwrap_or_default() == host && route.path.as_deref().unwrap_or_default() == path
        }))
    }

    /// Makes a route.
    pub async fn create_route(&self, space: &str, domain: &str, host: &str, path: &str) -> Result<Route, Error> {
        let mut body = json!({"relationships": {
            "space": {"data": {"guid": space}},
            "domain": {"data": {"guid": domain}},
        }});
        for (name, value) in [("host", host), ("path", path)] {
            if !value.is_empty() {
                body[name] = json!(value);
            }
        }
        self.get(Call::new(Method::POST, "/v3/routes").json(body)).await
    }

    /// Leads a route to an app, too.
    pub async fn map_route(&self, route: &str, app: &str) -> Result<(), Error> {
        let body = json!({"destinations": [{"app": {"guid": app}}]});
        self.send(Call::new(Method::POST, format!("/v3/routes/{route}/destinations")).json(body))
            .await
            .map(drop)
    }

    /// Takes a destination from a route.
    pub async fn unmap_route(&self, route: &str, destination: &str) -> Result<(), Error> {
        let path = format!("/v3/routes/{route}/destinations/{destination}");
        self.send(Call::new(Method::DELETE, path)).await.map(drop)
    }

    /// Deletes a route and waits until it is gone.
    pub async fn delete_route(&self, route: &str) -> Result<(), Error> {
        let answer = self
            .send(Call::new(Method::DELETE, format!("/v3/routes/{route}")))
            .await?;
        self.job(&answer, "deleting the route").await
    }
}
