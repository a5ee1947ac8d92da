//! Apps. Their environment is encrypted.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, json, word};
use crate::tx::Tx;
use model::id::{AppId, OrgId, SpaceId};
use model::resource::{App, AppLifecycle};
use model::work::Owner;

/// Which apps a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct AppFilter {
    pub ids: Option<Vec<AppId>>,
    pub names: Option<Vec<String>>,
    pub spaces: Option<Vec<SpaceId>>,
    pub orgs: Option<Vec<OrgId>>,
    pub stacks: Option<Vec<String>>,
    pub lifecycles: Option<Vec<AppLifecycle>>,
    pub common: Common,
}

pub(crate) const APP: &str = "t.id, t.space_id, t.name, t.state, t.lifecycle, t.buildpacks, t.stack, t.env_sealed, t.droplet_id, \
                              t.metadata, t.created_at, t.updated_at";

pub(crate) fn app(db: &Db, row: &Row) -> Result<App> {
    let id: AppId = row.id("id")?;
    Ok(App {
        id,
        space: row.id("space_id")?,
        name: row.parse("name")?,
        state: row.word("state")?,
        lifecycle: row.word("lifecycle")?,
        buildpacks: row.json("buildpacks")?,
        stack: row.parse("stack")?,
        env: db.keys.open_json(id.0, &row.get::<Vec<u8>>("env_sealed")?)?,
        droplet: row.id_opt("droplet_id")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

impl Db {
    /// An app by id.
    pub async fn app_fetch(&self, id: AppId) -> Result<Option<App>> {
        let query = Query::new("app_fetch", id, "")
            .push(&format!("SELECT {APP} FROM apps t WHERE t.id = "))
            .push_arg(id);
        self.find(query, app).await
    }

    /// Like [`Db::app_fetch`]; in a transaction nobody else changes the app until its end.
    pub async fn app_fetch_locked(&self, id: AppId) -> Result<Option<App>> {
        let query = Query::new("app_fetch_locked", id, "")
            .push(&format!("SELECT {APP} FROM apps t WHERE t.id = "))
            .push_arg(id)
            .push(self.for_update());
        self.find(query, app).await
    }

    /// The app of this name, whatever its case, in a space.
    pub async fn app_by_name(&self, space: SpaceId, name: &str) -> Result<Option<App>> {
        let query = Query::new("app_by_name", name, "")
            .push(&format!("SELECT {APP} FROM apps t WHERE t.space_id = "))
            .push_arg(space)
            .push(" AND lower(t.name) = lower(")
            .push_arg(name)
            .push(")");
        self.find(query, app).await
    }

    /// Apps within `scope`.
    pub async fn app_list(&self, filter: &AppFilter, scope: Scope, order: Order, page: Page) -> Result<Paged<App>> {
        let query = Query::new("app_list", "a list", "FROM apps t WHERE 1 = 1");
        let mut query = scope
            .spaces(query, "t.space_id")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.name", filter.names.as_deref())
            .and_in_some("t.space_id", filter.spaces.as_deref())
            .and_in_some("t.stack", filter.stacks.as_deref())
            .and_words_some("t.lifecycle", filter.lifecycles.as_deref())?;
        if let Some(orgs) = &filter.orgs {
            query = query
                .push(" AND t.space_id IN (SELECT id FROM spaces WHERE 1 = 1")
                .and_in("org_id", orgs.iter().copied())
                .push(")");
        }
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(APP, query, &order.sql(Some("t.name"), true), page, app).await
    }

    /// Whose work the app's is.
    pub async fn app_owner(&self, id: AppId) -> Result<Option<Owner>> {
        let query = Query::new(
            "app_owner",
            id,
            "SELECT a.id, a.name, s.id AS space_id, s.name AS space_name, o.id AS org_id, o.name AS org_name \
             FROM apps a JOIN spaces s ON s.id = a.space_id JOIN orgs o ON o.id = s.org_id WHERE a.id = $1",
        )
        .arg(id);
        self.find(query, crate::desired::owner).await
    }
}

impl Tx {
    /// A new app. Taken: `app name`.
    pub async fn app_create(&self, app: &App) -> Result<()> {
        let query = Query::new(
            "app_create",
            app.id,
            "INSERT INTO apps (id, space_id, name, state, buildpacks, stack, env_sealed, droplet_id, metadata, \
             created_at, updated_at, lifecycle) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .taken("app name")
        .arg(app.id)
        .arg(app.space)
        .arg(app.name.as_str())
        .arg(word(&app.state)?)
        .arg(json(&app.buildpacks)?)
        .arg(app.stack.as_str())
        .arg(self.keys.seal_json(app.id.0, &app.env)?)
        .arg(app.droplet)
        .arg(json(&app.metadata)?)
        .arg(app.created_at)
        .arg(app.updated_at)
        .arg(word(&app.lifecycle)?);
        self.touch(Topic::Desired);
        self.execute(query).await.map(drop)
    }

    /// Everything but its space as given. Taken: `app name`.
    pub async fn app_update(&self, app: &App) -> Result<bool> {
        let query = Query::new(
            "app_update",
            app.id,
            "UPDATE apps SET name = $1, state = $2, buildpacks = $3, stack = $4, env_sealed = $5, droplet_id = $6, \
             metadata = $7, updated_at = $8, lifecycle = $9 WHERE id = $10",
        )
        .taken("app name")
        .arg(app.name.as_str())
        .arg(word(&app.state)?)
        .arg(json(&app.buildpacks)?)
        .arg(app.stack.as_str())
        .arg(self.keys.seal_json(app.id.0, &app.env)?)
        .arg(app.droplet)
        .arg(json(&app.metadata)?)
        .arg(app.updated_at)
        .arg(word(&app.lifecycle)?)
        .arg(app.id);
        self.touch(Topic::Desired);
        self.touch_usage(app.id);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes an app with its processes, packages, builds, droplets and destinations. Its work goes on until the
    /// scheduler sees that nothing wants it.
    pub async fn app_delete(&self, id: AppId) -> Result<bool> {
        self.usage_of_leaving(id).await?;
        let query = Query::new("app_delete", id, "DELETE FROM apps WHERE id = $1").arg(id);
        self.touch(Topic::Desired);
        self.touch_usage(id);
        self.touch(Topic::Routes);
        Ok(self.execute(query).await? > 0)
    }
}
