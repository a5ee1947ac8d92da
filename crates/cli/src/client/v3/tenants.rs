//! Organisations, spaces and cells.

use super::super::http::{Call, Client};
use super::super::wire::{Cell, Named};
use super::super::wire_machines::{JoinToken, JoinTokens, Machine, Machines};
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

    /// Makes a token to join with.
    pub async fn create_join_token(&self, body: Value) -> Result<JoinToken, Error> {
        self.get(Call::new(Method::POST, "/admin/v1/join_tokens").json(body))
            .await
    }

    /// Tokens to join with.
    pub async fn join_tokens(&self) -> Result<Vec<JoinToken>, Error> {
        let tokens: JoinTokens = self.get(Call::new(Method::GET, "/admin/v1/join_tokens")).await?;
        Ok(tokens.tokens)
    }

    /// Deletes one.
    pub async fn delete_join_token(&self, id: &str) -> Result<(), Error> {
        let call = Call::new(Method::DELETE, format!("/admin/v1/join_tokens/{id}"));
        self.send(call).await.map(drop)
    }

    /// Hosts that joined.
    pub async fn machines(&self) -> Result<Vec<Machine>, Error> {
        let machines: Machines = self.get(Call::new(Method::GET, "/admin/v1/machines")).await?;
        Ok(machines.machines)
    }

    /// Ends a host's certificates.
    pub async fn revoke_machine(&self, role: &str, id: &str) -> Result<(), Error> {
        let call = Call::new(Method::POST, format!("/admin/v1/machines/{role}/{id}/revoke"));
        self.send(call).await.map(drop)
    }

    /// A cell with its work.
    pub async fn cell(&self, cell: &str) -> Result<Value, Error> {
        self.get(Call::new(Method::GET, format!("/admin/v1/cells/{cell}")))
            .await
    }

    /// Begins to move a cell's instances away.
    pub async fn drain_cell(&self, cell: &str, at_once: u32) -> Result<(), Error> {
        let call = Call::new(Method::POST, format!("/admin/v1/cells/{cell}/drain"));
        self.send(call.json(json!({"at_once": at_once}))).await.map(drop)
    }

    /// Forgets a cell.
    pub async fn remove_cell(&self, cell: &str) -> Result<(), Error> {
        self.send(Call::new(Method::DELETE, format!("/admin/v1/cells/{cell}")))
            .await
            .map(drop)
    }

    /// `cordon` or `uncordon`.
    pub async fn cell_action(&self, cell: &str, action: &str) -> Result<(), Error> {
        self.send(Call::new(Method::POST, format!("/admin/v1/cells/{cell}/{action}")))
            .await
            .map(drop)
    }
}
