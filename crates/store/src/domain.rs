//! Domains.

use crate::common::{Carrier, Has, NamedFilter};
use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row};
use crate::tx::Tx;
use model::id::DomainId;
use model::resource::Domain;

/// Which domains a list holds.
pub type DomainFilter = NamedFilter<DomainId>;

const DOMAIN: &str = "t.id, t.name, t.org_id, t.internal, t.metadata, t.created_at, t.updated_at";

fn domain(_: &Db, row: &Row) -> Result<Domain> {
    Ok(Domain {
        id: row.id("id")?,
        name: row.parse("name")?,
        org: row.id_opt("org_id")?,
        internal: row.get("internal")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

impl Db {
    /// A domain by id.
    pub async fn domain_fetch(&self, id: DomainId) -> Result<Option<Domain>> {
        let query = Query::new("domain_fetch", id, "")
            .push(&format!("SELECT {DOMAIN} FROM domains t WHERE t.id = "))
            .push_arg(id);
        self.find(query, domain).await
    }

    /// Shared domains, and private ones of organisations within `scope`.
    pub async fn domain_list(
        &self,
        filter: &DomainFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Domain>> {
        let mut query = Query::new("domain_list", "a list", "FROM domains t WHERE 1 = 1")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.name", filter.names.as_deref())
            .and_in_some("t.org_id", filter.orgs.as_deref());
        if scope != Scope::All {
            query = scope
                .orgs(query.push(" AND (t.org_id IS NULL OR (1 = 1"), "t.org_id")
                .push("))");
        }
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(DOMAIN, query, &order.sql(Some("t.name"), true), page, domain)
            .await
    }

    /// The shared domain that routes get where none is named: the oldest.
    pub async fn domain_default(&self) -> Result<Option<Domain>> {
        let query = Query::new("domain_default", "shared domains", "").push(&format!(
            "SELECT {DOMAIN} FROM domains t WHERE t.org_id IS NULL ORDER BY t.created_at, t.id LIMIT 1"
        ));
        self.find(query, domain).await
    }
}

impl Tx {
    /// A new domain. Taken: `domain name`.
    pub async fn domain_create(&self, domain: &Domain) -> Result<()> {
        let query = Query::new(
            "domain_create",
            domain.id,
            "INSERT INTO domains (id, name, org_id, internal, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .taken("domain name")
        .arg(domain.id)
        .arg(domain.name.as_str())
        .arg(domain.org)
        .arg(domain.internal)
        .arg(domain.created_at)
        .arg(domain.updated_at);
        self.execute(query).await?;
        self.metadata_keep(Carrier::Domain, domain.id.0, &domain.metadata).await
    }

    /// Removes a domain without routes; else `Dangling`.
    pub async fn domain_delete(&self, id: DomainId) -> Result<bool> {
        let query = Query::new("domain_delete", id, "DELETE FROM domains WHERE id = $1").arg(id);
        self.touch(Topic::Routes);
        Ok(self.execute(query).await? > 0)
    }
}
