//! Apps, their processes and variables.

use super::super::http::{Call, Client};
use super::super::wire::{App, AuditEvent, Droplet, Instance, Page, Process};
use crate::errors::Error;
use ::http::Method;
use serde_json::{Value, json};

impl Client {
    /// The apps of a space.
    pub async fn apps(&self, space: &str) -> Result<Vec<App>, Error> {
        self.list(
            Call::new(Method::GET, "/v3/apps")
                .query("order_by", "name")
                .query("space_guids", space),
        )
        .await
    }

    /// An app by name.
    pub async fn app(&self, space: &str, name: &str) -> Result<Option<App>, Error> {
        self.by_name(Call::new(Method::GET, "/v3/apps").query("space_guids", space), name)
            .await
    }

    /// An app by guid.
    pub async fn app_by_guid(&self, guid: &str) -> Result<App, Error> {
        self.get(Call::new(Method::GET, format!("/v3/apps/{guid}"))).await
    }

    /// The processes of all apps of a space, each with the state of its instances.
    pub async fn space_processes(&self, space: &str) -> Result<Vec<Process>, Error> {
        let call = Call::new(Method::GET, "/v3/processes")
            .query("embed", "process_instances")
            .query("space_guids", space);
        self.list(call).await
    }

    /// The processes of an app.
    pub async fn processes(&self, app: &str) -> Result<Vec<Process>, Error> {
        self.list(Call::new(Method::GET, format!("/v3/apps/{app}/processes")))
            .await
    }

    /// State and use of the instances of a process.
    pub async fn stats(&self, process: &str) -> Result<Vec<Instance>, Error> {
        let page: Page<Instance> = self
            .get(Call::new(Method::GET, format!("/v3/processes/{process}/stats")))
            .await?;
        Ok(page.resources)
    }

    /// Changes the size of a process.
    pub async fn scale(&self, app: &str, process: &str, body: Value) -> Result<Process, Error> {
        let path = format!("/v3/apps/{app}/processes/{process}/actions/scale");
        self.get(Call::new(Method::POST, path).json(body)).await
    }

    /// `start` or `stop`.
    pub async fn app_action(&self, app: &str, action: &str) -> Result<App, Error> {
        self.get(Call::new(Method::POST, format!("/v3/apps/{app}/actions/{action}")))
            .await
    }

    /// Deletes an app and waits until it is gone.
    pub async fn delete_app(&self, app: &str) -> Result<(), Error> {
        let answer = self.send(Call::new(Method::DELETE, format!("/v3/apps/{app}"))).await?;
        self.job(&answer, "deleting the app").await
    }

    /// The variables of an app and what the platform adds.
    pub async fn env(&self, app: &str) -> Result<Value, Error> {
        self.get(Call::new(Method::GET, format!("/v3/apps/{app}/env"))).await
    }

    /// Sets variables; null removes one.
    pub async fn set_env(&self, app: &str, vars: Value) -> Result<Value, Error> {
        let path = format!("/v3/apps/{app}/environment_variables");
        self.get(Call::new(Method::PATCH, path).json(json!({"var": vars})))
            .await
    }

    /// The droplet that an app runs; `None` where it has none.
    pub async fn current_droplet(&self, app: &str) -> Result<Option<Droplet>, Error> {
        match self
            .get(Call::new(Method::GET, format!("/v3/apps/{app}/droplets/current")))
            .await
        {
            Err(error) if error.is_missing() => Ok(None),
            other => other.map(Some),
        }
    }

    /// Makes a droplet the one that an app runs from its next start on.
    pub async fn set_droplet(&self, app: &str, droplet: &str) -> Result<(), Error> {
        let path = format!("/v3/apps/{app}/relationships/current_droplet");
        self.send(Call::new(Method::PATCH, path).json(json!({"data": {"guid": droplet}})))
            .await
            .map(drop)
    }

    /// What happened to an app, the newest first.
    pub async fn events(&self, app: &str, limit: u32) -> Result<Vec<AuditEvent>, Error> {
        let call = Call::new(Method::GET, "/v3/audit_events")
            .query("target_guids", app)
            .query("order_by", "-created_at")
            .query("per_page", limit.to_string());
        let page: Page<AuditEvent> = self.get(call).await?;
        Ok(page.resources)
    }

    /// Why an app is as it is.
    pub async fn why(&self, app: &str) -> Result<Value, Error> {
        self.get(Call::new(Method::GET, format!("/paas/v1/apps/{app}/why")))
            .await
    }
}
