//! Revisions: what an app ran. Their environment is encrypted.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::page::{Order, Page, Paged};
use crate::sql::{Query, Row, json};
use crate::tx::Tx;
use model::Timestamp;
use model::id::{AppId, RevisionId};
use model::resource::Revision;

/// Which revisions of an app a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct RevisionFilter {
    pub versions: Option<Vec<u32>>,
    /// Whether the droplet is still kept.
    pub deployable: Option<bool>,
    pub common: Common,
}

const REVISION: &str = "t.id, t.app_id, t.version, t.droplet_id, t.env_sealed, t.commands, t.sidecars, t.description, t.metadata, \
                        t.created_at, t.updated_at";

fn revision(db: &Db, row: &Row) -> Result<Revision> {
    let id: RevisionId = row.id("id")?;
    Ok(Revision {
        id,
        app: row.id("app_id")?,
        version: row.int("version")?,
        droplet: row.id("droplet_id")?,
        env: db.keys.open_json(id.0, &row.get::<Vec<u8>>("env_sealed")?)?,
        commands: row.json("commands")?,
        sidecars: row.json("sidecars")?,
        description: row.text("description")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

impl Db {
    /// A revision by id.
    pub async fn revision_fetch(&self, id: RevisionId) -> Result<Option<Revision>> {
        let query = Query::new("revision_fetch", id, "")
            .push(&format!("SELECT {REVISION} FROM revisions t WHERE t.id = "))
            .push_arg(id);
        self.find(query, revision).await
    }

    /// Revisions of an app.
    pub async fn revision_list(
        &self,
        app: AppId,
        filter: &RevisionFilter,
        order: Order,
        page: Page,
    ) -> Result<Paged<Revision>> {
        let mut query = Query::new("revision_list", app, "FROM revisions t WHERE t.app_id = $1")
            .arg(app)
            .and_in_some("t.version", filter.versions.as_deref());
        if let Some(deployable) = filter.deployable {
            query = query
                .push(if deployable { " AND " } else { " AND NOT " })
                .push("EXISTS (SELECT 1 FROM droplets d WHERE d.id = t.droplet_id)");
        }
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(REVISION, query, &order.sql(None, true), page, revision).await
    }

    /// The newest revision of an app that was there at `at`.
    pub async fn revision_at(&self, app: AppId, at: Timestamp) -> Result<Option<Revision>> {
        let query = Query::new("revision_at", app, "")
            .push(&format!("SELECT {REVISION} FROM revisions t WHERE t.app_id = "))
            .push_arg(app)
            .push(" AND t.created_at <= ")
            .push_arg(at)
            .push(" ORDER BY t.version DESC LIMIT 1");
        self.find(query, revision).await
    }
}

impl Tx {
    /// A new revision; of the app's only the newest `keep` stay. Taken: `revision version`.
    pub async fn revision_create(&self, revision: &Revision, keep: u32) -> Result<()> {
        let query = Query::new(
            "revision_create",
            revision.id,
            "INSERT INTO revisions (id, app_id, version, droplet_id, env_sealed, commands, sidecars, description, \
             metadata, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .taken("revision version")
        .arg(revision.id)
        .arg(revision.app)
        .arg(revision.version)
        .arg(revision.droplet)
        .arg(self.keys.seal_json(revision.id.0, &revision.env)?)
        .arg(json(&revision.commands)?)
        .arg(json(&revision.sidecars)?)
        .arg(revision.description.as_str())
        .arg(json(&revision.metadata)?)
        .arg(revision.created_at)
        .arg(revision.updated_at);
        self.execute(query).await?;
        let query = Query::new(
            "revision_create",
            revision.id,
            "DELETE FROM revisions WHERE app_id = $1 AND version <= $2",
        )
        .arg(revision.app)
        .arg(i64::from(revision.version) - i64::from(keep));
        self.execute(query).await.map(drop)
    }
}
