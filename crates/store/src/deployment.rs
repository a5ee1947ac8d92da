//! Deployments: rollouts from one version of a process to the next.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, json, word};
use crate::tx::Tx;
use model::id::{AppId, DeploymentId, ProcessId};
use model::resource::{Deployment, DeploymentState};

/// Which deployments a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct DeploymentFilter {
    pub apps: Option<Vec<AppId>>,
    pub states: Option<Vec<DeploymentState>>,
    pub common: Common,
}

/// The states of deployments under way, as the index of them has it.
pub(crate) const ACTIVE: &str = "('DEPLOYING', 'PAUSED', 'CANCELING')";

const DEPLOYMENT: &str = "t.id, t.app_id, t.state, t.droplet_id, t.previous_droplet_id, t.process_id, t.version_id, \
                          t.previous_version_id, t.max_in_flight, t.canary, t.revision_id, t.revision_version, \
                          t.metadata, t.error, t.created_by, t.created_at, t.updated_at";

fn deployment(_: &Db, row: &Row) -> Result<Deployment> {
    Ok(Deployment {
        id: row.id("id")?,
        app: row.id("app_id")?,
        state: row.word("state")?,
        droplet: row.id("droplet_id")?,
        previous_droplet: row.id_opt("previous_droplet_id")?,
        process: row.id("process_id")?,
        version: row.id("version_id")?,
        previous_version: row.id_opt("previous_version_id")?,
        max_in_flight: row.int("max_in_flight")?,
        canary: row.json_opt("canary")?,
        revision: row.id_opt("revision_id")?.zip(row.int_opt("revision_version")?),
        metadata: row.json("metadata")?,
        error: row.text_opt("error")?,
        created_by: row.id("created_by")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

impl Db {
    /// A deployment by id.
    pub async fn deployment_fetch(&self, id: DeploymentId) -> Result<Option<Deployment>> {
        let query = Query::new("deployment_fetch", id, "")
            .push(&format!("SELECT {DEPLOYMENT} FROM deployments t WHERE t.id = "))
            .push_arg(id);
        self.find(query, deployment).await
    }

    /// The deployment of a process that is under way : at most one.
    pub async fn deployment_active(&self, process: ProcessId) -> Result<Option<Deployment>> {
        let query = Query::new("deployment_active", process, "")
            .push(&format!(
                "SELECT {DEPLOYMENT} FROM deployments t WHERE t.state IN {ACTIVE} AND t.process_id = "
            ))
            .push_arg(process);
        self.find(query, deployment).await
    }

    /// All deployments under way, oldest first.
    pub async fn deployments_active(&self) -> Result<Vec<Deployment>> {
        let query = Query::new("deployments_active", "all", "").push(&format!(
            "SELECT {DEPLOYMENT} FROM deployments t WHERE t.state IN {ACTIVE} ORDER BY t.created_at"
        ));
        self.map(query, deployment).await
    }

    /// Deployments of apps within `scope`.
    pub async fn deployment_list(
        &self,
        filter: &DeploymentFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Deployment>> {
        let query = Query::new(
            "deployment_list",
            "a list",
            "FROM deployments t JOIN apps a ON a.id = t.app_id WHERE 1 = 1",
        );
        let query = scope
            .spaces(query, "a.space_id")
            .and_in_some("t.app_id", filter.apps.as_deref())
            .and_words_some("t.state", filter.states.as_deref())?;
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(DEPLOYMENT, query, &order.sql(None, true), page, deployment)
            .await
    }
}

impl Tx {
    /// A new deployment. Taken: `active deployment` (end the one under way first).
    pub async fn deployment_create(&self, deployment: &Deployment) -> Result<()> {
        let query = Query::new(
            "deployment_create",
            deployment.id,
            "INSERT INTO deployments (id, app_id, state, droplet_id, previous_droplet_id, process_id, version_id, \
             previous_version_id, max_in_flight, error, created_by, created_at, updated_at, canary, revision_id, \
             revision_version, metadata) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        )
        .taken("active deployment")
        .arg(deployment.id)
        .arg(deployment.app)
        .arg(word(&deployment.state)?)
        .arg(deployment.droplet)
        .arg(deployment.previous_droplet)
        .arg(deployment.process)
        .arg(deployment.version)
        .arg(deployment.previous_version)
        .arg(deployment.max_in_flight)
        .arg(deployment.error.clone())
        .arg(deployment.created_by)
        .arg(deployment.created_at)
        .arg(deployment.updated_at)
        .arg(deployment.canary.as_ref().map(json).transpose()?)
        .arg(deployment.revision.map(|(id, _)| id))
        .arg(deployment.revision.map(|(_, version)| i64::from(version)))
        .arg(json(&deployment.metadata)?);
        self.touch(Topic::Desired);
        self.execute(query).await.map(drop)
    }

    /// State, step and error as given, where the deployment is still in state `from`.
    pub async fn deployment_step(&self, deployment: &Deployment, from: DeploymentState) -> Result<bool> {
        let query = Query::new(
            "deployment_step",
            deployment.id,
            "UPDATE deployments SET state = $1, error = $2, updated_at = $3, canary = $4 WHERE id = $5 AND state = $6",
        )
        .arg(word(&deployment.state)?)
        .arg(deployment.error.clone())
        .arg(deployment.updated_at)
        .arg(deployment.canary.as_ref().map(json).transpose()?)
        .arg(deployment.id)
        .arg(word(&from)?);
        self.touch(Topic::Desired);
        Ok(self.execute(query).await? > 0)
    }
}
