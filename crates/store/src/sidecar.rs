//! What runs beside the processes of apps.

use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::sql::{Query, Row, json, word};
use crate::tx::Tx;
use model::id::{AppId, SidecarId};
use model::sidecar::{Origin, Sidecar};

const SIDECAR: &str = "t.id, t.app_id, t.what, t.origin, t.created_at, t.updated_at";

fn sidecar(_: &Db, row: &Row) -> Result<Sidecar> {
    Ok(Sidecar {
        id: row.id("id")?,
        app: row.id("app_id")?,
        what: row.json("what")?,
        origin: row.word("origin")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

impl Db {
    /// A sidecar by id.
    pub async fn sidecar_fetch(&self, id: SidecarId) -> Result<Option<Sidecar>> {
        let query = Query::new("sidecar_fetch", id, "")
            .push(&format!("SELECT {SIDECAR} FROM sidecars t WHERE t.id = "))
            .push_arg(id);
        self.find(query, sidecar).await
    }

    /// All of an app, oldest first.
    pub async fn sidecars_of_app(&self, app: AppId) -> Result<Vec<Sidecar>> {
        let query = Query::new("sidecars_of_app", app, "")
            .push(&format!("SELECT {SIDECAR} FROM sidecars t WHERE t.app_id = "))
            .push_arg(app)
            .push(" ORDER BY t.created_at, t.id");
        self.map(query, sidecar).await
    }
}

impl Tx {
    /// A new one. Taken: `sidecar name`.
    pub async fn sidecar_create(&self, sidecar: &Sidecar) -> Result<()> {
        let query = Query::new(
            "sidecar_create",
            sidecar.id,
            "INSERT INTO sidecars (id, app_id, name, what, origin, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .taken("sidecar name")
        .arg(sidecar.id)
        .arg(sidecar.app)
        .arg(sidecar.what.name.as_str())
        .arg(json(&sidecar.what)?)
        .arg(word(&sidecar.origin)?)
        .arg(sidecar.created_at)
        .arg(sidecar.updated_at);
        self.touch(Topic::Desired);
        self.execute(query).await.map(drop)
    }

    /// Everything that can change as given. Taken: `sidecar name`.
    pub async fn sidecar_update(&self, sidecar: &Sidecar) -> Result<bool> {
        let query = Query::new(
            "sidecar_update",
            sidecar.id,
            "UPDATE sidecars SET name = $1, what = $2, updated_at = $3 WHERE id = $4",
        )
        .taken("sidecar name")
        .arg(sidecar.what.name.as_str())
        .arg(json(&sidecar.what)?)
        .arg(sidecar.updated_at)
        .arg(sidecar.id);
        self.touch(Topic::Desired);
        Ok(self.execute(query).await? > 0)
    }

    /// One goes.
    pub async fn sidecar_delete(&self, id: SidecarId) -> Result<bool> {
        let query = Query::new("sidecar_delete", id, "DELETE FROM sidecars WHERE id = $1").arg(id);
        self.touch(Topic::Desired);
        Ok(self.execute(query).await? > 0)
    }

    /// All of an app that are of this origin go.
    pub async fn sidecars_delete(&self, app: AppId, origin: Origin) -> Result<()> {
        let query = Query::new(
            "sidecars_delete",
            app,
            "DELETE FROM sidecars WHERE app_id = $1 AND origin = $2",
        )
        .arg(app)
        .arg(word(&origin)?);
        self.touch(Topic::Desired);
        self.execute(query).await.map(drop)
    }
}
