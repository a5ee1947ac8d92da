//! Organisations, spaces and cells.

use super::super::http::{Call, Client};
use super::super::wire::{Cell, Named};
use crate::errors::Error;
use ::http::Method;
use serde_json::{Value, json};

impl Client {
    /// All organisations that the user may see.
    pub async fn orgs(&self) -> Result<Vec<Named>, Error> {
        self.list(Call::new(Method::GET, "/v3/organizations").query("order_by", "name"))
            .await
    }

    /// An organisation by name.
    pub async fn org(&self, name: &str) -> Result<Option<Named>, Error> {
        self.by_name(Call::new(Method::GET, "/v3/organizations"), name).await
    }

    /// Makes an organisation.
    pub async fn create_org(&self, name: &str) -> Result<Named, Error> {
        let body = json!({"name": name, "suspended": false});
        self.get(Call::new(Method::POST, "/v3/organizations").json(body)).await
    }

    /// The spaces of an organisation.
    pub async fn spaces(&self, org: &str) -> Result<Vec<Named>, Error> {
        let call = Call::new(Method::GET, "/v3/spaces")
            .query("order_by", "name")
            .query("organization_guids", org);
        self.list(call).await
    }

    /// A space by name.
    pub async fn space(&self, org: &str, name: &str) -> Result<Option<Named>, Error> {
        self.by_name(
            Call::new(Method::GET, "/v3/spaces").query("organization_guids", org),
            name,
        )
        .await
    }

    /// Makes a space.
    pub async fn create_space(&self, org: &str, name: &str) -> Result<Named, Error> {
        let body = json!({"name": name, "relationships": {"organization": {"data": {"guid": org}}}});
        self.get(Call::new(Method::POST, "/v3/spaces").json(body)).await
    }

    /// The cells.
    pub async fn cells(&self) -> Result<Vec<Cell>, Error> {
        let value: Value = self.get(Call::new(Method::GET, "/admin/v1/cells")).await?;
        let cells = ["resources", "cells"]
            .iter()
            .find_map(|name| value.get(*name).cloned())
            .unwrap_or(value);
        serde_json::from_value(cells).map_err(|error| Error::Protocol {
            request: "GET /admin/v1/cells".into(),
            detail: error.to_string(),
        })
    }

    /// Makes a new key for access tokens.
    pub async fn rotate_keys(&self, revoke: bool) -> Result<(), Error> {
        let call = Call::new(Method::POST, "/admin/v1/token_keys/rotate").json(json!({"revoke": revoke}));
        self.send(call).await.map(drop)
    }

    /// `cordon` or `uncordon`.
    pub async fn cell_action(&self, cell: &str, action: &str) -> Result<(), Error> {
        self.send(Call::new(Method::POST, format!("/admin/v1/cells/{cell}/{action}")))
            .await
            .map(drop)
    }
}
