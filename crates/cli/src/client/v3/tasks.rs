//! Tasks and revisions of an app.

use super::super::http::{Call, Client};
use super::super::wire::{Page, Revision, Task};
use crate::errors::Error;
use ::http::Method;
use serde_json::Value;

impl Client {
    /// Begins a task.
    pub async fn create_task(&self, app: &str, body: Value) -> Result<Task, Error> {
        self.get(Call::new(Method::POST, format!("/v3/apps/{app}/tasks")).json(body))
            .await
    }

    /// A task.
    pub async fn task(&self, guid: &str) -> Result<Task, Error> {
        self.send_patiently(Call::new(Method::GET, format!("/v3/tasks/{guid}")))
            .await?
            .json()
    }

    /// The tasks of an app, the newest first.
    pub async fn tasks(&self, app: &str) -> Result<Vec<Task>, Error> {
        let call = Call::new(Method::GET, format!("/v3/apps/{app}/tasks")).query("order_by", "-created_at");
        self.list(call).await
    }

    /// Ends a task that is not over.
    pub async fn cancel_task(&self, guid: &str) -> Result<Task, Error> {
        self.get(Call::new(Method::POST, format!("/v3/tasks/{guid}/actions/cancel")))
            .await
    }

    /// What an app ran, the newest first.
    pub async fn revisions(&self, app: &str) -> Result<Vec<Revision>, Error> {
        let call = Call::new(Method::GET, format!("/v3/apps/{app}/revisions")).query("order_by", "-created_at");
        self.list(call).await
    }

    /// What its instances run.
    pub async fn deployed_revisions(&self, app: &str) -> Result<Vec<Revision>, Error> {
        let page: Page<Revision> = self
            .get(Call::new(Method::GET, format!("/v3/apps/{app}/revisions/deployed")))
            .await?;
        Ok(page.resources)
    }
}
