//! Organisations and spaces.

use crate::common::{Common, Has, NamedFilter};
use crate::engine::Db;
use crate::error::Result;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, json};
use crate::tx::Tx;
use model::id::{OrgId, SpaceId};
use model::resource::{Org, Space};

/// Which organisations a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct OrgFilter {
    pub ids: Option<Vec<OrgId>>,
    pub names: Option<Vec<String>>,
    pub common: Common,
}

/// Which spaces a list holds.
pub type SpaceFilter = NamedFilter<SpaceId>;

const ORG: &str = "t.id, t.name, t.suspended, t.metadata, t.created_at, t.updated_at";
const SPACE: &str = "t.id, t.org_id, t.name, t.metadata, t.created_at, t.updated_at";

fn org(_: &Db, row: &Row) -> Result<Org> {
    Ok(Org {
        id: row.id("id")?,
        name: row.parse("name")?,
        suspended: row.get("suspended")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn space(_: &Db, row: &Row) -> Result<Space> {
    Ok(Space {
        id: row.id("id")?,
        org: row.id("org_id")?,
        name: row.parse("name")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

impl Db {
    /// An organisation by id.
    pub async fn org_fetch(&self, id: OrgId) -> Result<Option<Org>> {
        let query = Query::new("org_fetch", id, "")
            .push(&format!("SELECT {ORG} FROM orgs t WHERE t.id = "))
            .push_arg(id);
        self.find(query, org).await
    }

    /// Organisations within `scope`.
    pub async fn org_list(&self, filter: &OrgFilter, scope: Scope, order: Order, page: Page) -> Result<Paged<Org>> {
        let query = Query::new("org_list", "a list", "FROM orgs t WHERE 1 = 1");
        let query = scope
            .orgs(query, "t.id")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.name", filter.names.as_deref());
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(ORG, query, &order.sql(Some("t.name"), true), page, org).await
    }

    /// A space by id.
    pub async fn space_fetch(&self, id: SpaceId) -> Result<Option<Space>> {
        let query = Query::new("space_fetch", id, "")
            .push(&format!("SELECT {SPACE} FROM spaces t WHERE t.id = "))
            .push_arg(id);
        self.find(query, space).await
    }

    /// Spaces within `scope`.
    pub async fn space_list(
        &self,
        filter: &SpaceFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Space>> {
        let query = Query::new("space_list", "a list", "FROM spaces t WHERE 1 = 1");
        let query = scope
            .spaces(query, "t.id")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.name", filter.names.as_deref())
            .and_in_some("t.org_id", filter.orgs.as_deref());
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(SPACE, query, &order.sql(Some("t.name"), true), page, space)
            .await
    }
}

impl Tx {
    /// A new organisation. Taken: `organization name`.
    pub async fn org_create(&self, org: &Org) -> Result<()> {
        let query = Query::new(
            "org_create",
            org.id,
            "INSERT INTO orgs (id, name, suspended, metadata, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .taken("organization name")
        .arg(org.id)
        .arg(org.name.as_str())
        .arg(org.suspended)
        .arg(json(&org.metadata)?)
        .arg(org.created_at)
        .arg(org.updated_at);
        self.execute(query).await.map(drop)
    }

    /// Name, suspension and metadata as given. Taken: `organization name`.
    pub async fn org_update(&self, org: &Org) -> Result<bool> {
        let query = Query::new(
            "org_update",
            org.id,
            "UPDATE orgs SET name = $1, suspended = $2, metadata = $3, updated_at = $4 WHERE id = $5",
        )
        .taken("organization name")
        .arg(org.name.as_str())
        .arg(org.suspended)
        .arg(json(&org.metadata)?)
        .arg(org.updated_at)
        .arg(org.id);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes an organisation without spaces; else `Dangling`.
    pub async fn org_delete(&self, id: OrgId) -> Result<bool> {
        let query = Query::new("org_delete", id, "DELETE FROM orgs WHERE id = $1").arg(id);
        Ok(self.execute(query).await? > 0)
    }

    /// A new space. Taken: `space name`.
    pub async fn space_create(&self, space: &Space) -> Result<()> {
        let query = Query::new(
            "space_create",
            space.id,
            "INSERT INTO spaces (id, org_id, name, metadata, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .taken("space name")
        .arg(space.id)
        .arg(space.org)
        .arg(space.name.as_str())
        .arg(json(&space.metadata)?)
        .arg(space.created_at)
        .arg(space.updated_at);
        self.execute(query).await.map(drop)
    }

    /// Name and metadata as given. Taken: `space name`.
    pub async fn space_update(&self, space: &Space) -> Result<bool> {
        let query = Query::new(
            "space_update",
            space.id,
            "UPDATE spaces SET name = $1, metadata = $2, updated_at = $3 WHERE id = $4",
        )
        .taken("space name")
        .arg(space.name.as_str())
        .arg(json(&space.metadata)?)
        .arg(space.updated_at)
        .arg(space.id);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes a space without apps and routes; else `Dangling`.
    pub async fn space_delete(&self, id: SpaceId) -> Result<bool> {
        let query = Query::new("space_delete", id, "DELETE FROM spaces WHERE id = $1").arg(id);
        Ok(self.execute(query).await? > 0)
    }
}
