//! Processes and their immutable versions.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, json};
use crate::tx::Tx;
use model::id::{AppId, OrgId, ProcessId, SpaceId, VersionId};
use model::resource::{Process, ProcessVersion};

/// Which processes a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct ProcessFilter {
    pub ids: Option<Vec<ProcessId>>,
    pub types: Option<Vec<String>>,
    pub apps: Option<Vec<AppId>>,
    pub spaces: Option<Vec<SpaceId>>,
    pub orgs: Option<Vec<OrgId>>,
    pub common: Common,
}

pub(crate) const PROCESS: &str = "t.id, t.app_id, t.type, t.instances, t.limits, t.health, t.command, t.version_id, \
                                  t.metadata, t.created_at, t.updated_at";
pub(crate) const VERSION: &str = "t.id, t.process_id, t.app_id, t.droplet_id, t.command, t.env_sealed, t.limits, \
                                  t.health, t.sidecars, t.grace_seconds, t.created_at";

pub(crate) fn process(_: &Db, row: &Row) -> Result<Process> {
    Ok(Process {
        id: row.id("id")?,
        app: row.id("app_id")?,
        process_type: row.parse("type")?,
        instances: row.int("instances")?,
        limits: row.json("limits")?,
        health: row.json("health")?,
        command: row.text_opt("command")?,
        version: row.id_opt("version_id")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

pub(crate) fn version(db: &Db, row: &Row) -> Result<ProcessVersion> {
    let id: VersionId = row.id("id")?;
    Ok(ProcessVersion {
        id,
        process: row.id("process_id")?,
        app: row.id("app_id")?,
        droplet: row.id("droplet_id")?,
        command: row.text_opt("command")?,
        env: db.keys.open_json(id.0, &row.get::<Vec<u8>>("env_sealed")?)?,
        limits: row.json("limits")?,
        health: row.json("health")?,
        sidecars: row.json("sidecars")?,
        grace_seconds: row.int("grace_seconds")?,
        created_at: row.time("created_at")?,
    })
}

impl Db {
    /// A process by id.
    pub async fn process_fetch(&self, id: ProcessId) -> Result<Option<Process>> {
        let query = Query::new("process_fetch", id, "")
            .push(&format!("SELECT {PROCESS} FROM processes t WHERE t.id = "))
            .push_arg(id);
        self.find(query, process).await
    }

    /// The process of this type of an app.
    pub async fn process_by_type(&self, app: AppId, process_type: &str) -> Result<Option<Process>> {
        let query = Query::new("process_by_type", app, "")
            .push(&format!("SELECT {PROCESS} FROM processes t WHERE t.app_id = "))
            .push_arg(app)
            .push(" AND t.type = ")
            .push_arg(process_type);
        self.find(query, process).await
    }

    /// All processes of an app, `web` first.
    pub async fn processes_of_app(&self, app: AppId) -> Result<Vec<Process>> {
        let query = Query::new("processes_of_app", app, "")
            .push(&format!("SELECT {PROCESS} FROM processes t WHERE t.app_id = "))
            .push_arg(app)
            .push(" ORDER BY CASE WHEN t.type = 'web' THEN 0 ELSE 1 END, t.type");
        self.map(query, process).await
    }

    /// Processes of apps within `scope`.
    pub async fn process_list(
        &self,
        filter: &ProcessFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Process>> {
        let query = Query::new(
            "process_list",
            "a list",
            "FROM processes t JOIN apps a ON a.id = t.app_id WHERE 1 = 1",
        );
        let query = scope
            .spaces(query, "a.space_id")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.type", filter.types.as_deref())
            .and_in_some("t.app_id", filter.apps.as_deref())
            .and_in_some("a.space_id", filter.spaces.as_deref())
            .and_in_orgs("a.space_id", filter.orgs.as_deref());
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(PROCESS, query, &order.sql(None, true), page, process).await
    }

    /// A version by id.
    pub async fn version_fetch(&self, id: VersionId) -> Result<Option<ProcessVersion>> {
        let query = Query::new("version_fetch", id, "")
            .push(&format!("SELECT {VERSION} FROM process_versions t WHERE t.id = "))
            .push_arg(id);
        self.find(query, version).await
    }

    /// Versions by ids, in no order.
    pub async fn versions_by_ids(&self, ids: &[VersionId]) -> Result<Vec<ProcessVersion>> {
        let mut versions = Vec::with_capacity(ids.len());
        for ids in ids.chunks(self.batch(1)) {
            let query = Query::new("versions_by_ids", ids.len(), "")
                .push(&format!("SELECT {VERSION} FROM process_versions t WHERE 1 = 1"))
                .and_in("t.id", ids.iter().copied());
            versions.extend(self.map(query, version).await?);
        }
        Ok(versions)
    }
}

impl Tx {
    /// A new process. Taken: `process type`.
    pub async fn process_create(&self, process: &Process) -> Result<()> {
        let query = Query::new(
            "process_create",
            process.id,
            "INSERT INTO processes (id, app_id, type, instances, limits, health, command, version_id, created_at, \
             updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .taken("process type")
        .arg(process.id)
        .arg(process.app)
        .arg(process.process_type.as_str())
        .arg(process.instances)
        .arg(json(&process.limits)?)
        .arg(json(&process.health)?)
        .arg(process.command.clone())
        .arg(process.version)
        .arg(process.created_at)
        .arg(process.updated_at);
        self.touch(Topic::Desired);
        self.touch_usage(process.app);
        self.execute(query).await.map(drop)
    }

    /// Everything that can change as given.
    pub async fn process_update(&self, process: &Process) -> Result<bool> {
        let query = Query::new(
            "process_update",
            process.id,
            "UPDATE processes SET instances = $1, limits = $2, health = $3, command = $4, version_id = $5, \
             updated_at = $6 WHERE id = $7",
        )
        .arg(process.instances)
        .arg(json(&process.limits)?)
        .arg(json(&process.health)?)
        .arg(process.command.clone())
        .arg(process.version)
        .arg(process.updated_at)
        .arg(process.id);
        self.touch(Topic::Desired);
        self.touch_usage(process.app);
        Ok(self.execute(query).await? > 0)
    }

    /// Makes `version` the one that the process's instances are to run.
    pub async fn process_set_version(&self, id: ProcessId, version: Option<VersionId>) -> Result<bool> {
        let query = Query::new(
            "process_set_version",
            id,
            "UPDATE processes SET version_id = $1 WHERE id = $2",
        )
        .arg(version)
        .arg(id);
        self.touch(Topic::Desired);
        Ok(self.execute(query).await? > 0)
    }

    /// A new version. It takes effect by [`Tx::process_set_version`] or a deployment.
    pub async fn version_create(&self, version: &ProcessVersion) -> Result<()> {
        let query = Query::new(
            "version_create",
            version.id,
            "INSERT INTO process_versions (id, process_id, app_id, droplet_id, command, env_sealed, limits, health, \
             sidecars, grace_seconds, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .arg(version.id)
        .arg(version.process)
        .arg(version.app)
        .arg(version.droplet)
        .arg(version.command.clone())
        .arg(self.keys.seal_json(version.id.0, &version.env)?)
        .arg(json(&version.limits)?)
        .arg(json(&version.health)?)
        .arg(json(&version.sidecars)?)
        .arg(version.grace_seconds)
        .arg(version.created_at);
        self.execute(query).await.map(drop)
    }
}
