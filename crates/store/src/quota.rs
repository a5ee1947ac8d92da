//! Quotas, whom they bind, and what is in use.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, json};
use crate::tx::Tx;
use model::id::{AppId, OrgId, QuotaId, SpaceId};
use model::limits::Limits;
use model::quota::Usage;
use model::resource::Quota;
use std::collections::HashMap;
use uuid::Uuid;

/// The quota of organisations that have no other.
pub const DEFAULT_QUOTA: QuotaId = QuotaId(Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0001));

/// Which quotas a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct QuotaFilter {
    pub ids: Option<Vec<QuotaId>>,
    pub names: Option<Vec<String>>,
    /// Of quotas of organisations: those of these. Of quotas of spaces: those that were made in these.
    pub orgs: Option<Vec<OrgId>>,
    /// Of quotas of spaces: those of these.
    pub spaces: Option<Vec<SpaceId>>,
    pub common: Common,
}

const QUOTA: &str = "t.id, t.name, t.org_id, t.limits, t.created_at, t.updated_at";

fn quota(_: &Db, row: &Row) -> Result<Quota> {
    Ok(Quota {
        id: row.id("id")?,
        name: row.text("name")?,
        org: row.id_opt("org_id")?,
        limits: row.json("limits")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

impl Db {
    /// A quota by id.
    pub async fn quota_fetch(&self, id: QuotaId) -> Result<Option<Quota>> {
        let query = Query::new("quota_fetch", id, "")
            .push(&format!("SELECT {QUOTA} FROM quotas t WHERE t.id = "))
            .push_arg(id);
        self.find(query, quota).await
    }

    /// Quotas of organisations within `scope`.
    pub async fn org_quota_list(
        &self,
        filter: &QuotaFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Quota>> {
        let mut query = Query::new("org_quota_list", "a list", "FROM quotas t WHERE t.org_id IS NULL")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.name", filter.names.as_deref());
        if let Some(orgs) = &filter.orgs {
            query = of_orgs(query).and_in("o.id", orgs.iter().copied()).push(")");
        }
        if scope != Scope::All {
            query = scope.orgs(of_orgs(query), "o.id").push(")");
        }
        let query = self.narrowed(query, &filter.common, Has::OnlyTimes);
        self.list(QUOTA, query, &order.sql(Some("t.name"), true), page, quota)
            .await
    }

    /// Quotas of spaces: for a user those of organisations that they manage, and of spaces that they may read.
    pub async fn space_quota_list(
        &self,
        filter: &QuotaFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Quota>> {
        const OF_SPACES: &str = " AND t.id IN (SELECT quota_id FROM space_quotas WHERE 1 = 1";
        let mut query = Query::new("space_quota_list", "a list", "FROM quotas t WHERE t.org_id IS NOT NULL")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.name", filter.names.as_deref())
            .and_in_some("t.org_id", filter.orgs.as_deref());
        if let Some(spaces) = &filter.spaces {
            query = query
                .push(OF_SPACES)
                .and_in("space_id", spaces.iter().copied())
                .push(")");
        }
        if let Scope::User(user) = scope {
            query = query
                .push(" AND (t.org_id IN (SELECT org_id FROM roles WHERE role = 'organization_manager' AND user_id = ")
                .push_arg(user)
                .push(") OR t.id IN (SELECT quota_id FROM space_quotas WHERE 1 = 1");
            query = scope.spaces(query, "space_id").push("))");
        }
        let query = self.narrowed(query, &filter.common, Has::OnlyTimes);
        self.list(QUOTA, query, &order.sql(Some("t.name"), true), page, quota)
            .await
    }

    /// The quota of each of these organisations that has another than the default.
    pub async fn quotas_of_orgs(&self, orgs: &[OrgId]) -> Result<HashMap<OrgId, QuotaId>> {
        let query = Query::new(
            "quotas_of_orgs",
            orgs.len(),
            "SELECT org_id, quota_id FROM org_quotas WHERE 1 = 1",
        )
        .and_in("org_id", orgs.iter().copied());
        let pairs = self
            .map(query, |_, row| Ok((row.id("org_id")?, row.id("quota_id")?)))
            .await?;
        Ok(pairs.into_iter().collect())
    }

    /// The quota of each of these spaces that has one.
    pub async fn quotas_of_spaces(&self, spaces: &[SpaceId]) -> Result<HashMap<SpaceId, QuotaId>> {
        let query = Query::new(
            "quotas_of_spaces",
            spaces.len(),
            "SELECT space_id, quota_id FROM space_quotas WHERE 1 = 1",
        )
        .and_in("space_id", spaces.iter().copied());
        let pairs = self
            .map(query, |_, row| Ok((row.id("space_id")?, row.id("quota_id")?)))
            .await?;
        Ok(pairs.into_iter().collect())
    }

    /// The organisations that these quotas bind by name: not those that have the default because they have no other.
    pub async fn orgs_of_quotas(&self, quotas: &[QuotaId]) -> Result<Vec<(QuotaId, OrgId)>> {
        let query = Query::new(
            "orgs_of_quotas",
            quotas.len(),
            "SELECT quota_id, org_id FROM org_quotas WHERE 1 = 1",
        )
        .and_in("quota_id", quotas.iter().copied())
        .push(" ORDER BY org_id");
        self.map(query, |_, row| Ok((row.id("quota_id")?, row.id("org_id")?)))
            .await
    }

    /// The spaces that these quotas bind.
    pub async fn spaces_of_quotas(&self, quotas: &[QuotaId]) -> Result<Vec<(QuotaId, SpaceId)>> {
        let query = Query::new(
            "spaces_of_quotas",
            quotas.len(),
            "SELECT quota_id, space_id FROM space_quotas WHERE 1 = 1",
        )
        .and_in("quota_id", quotas.iter().copied())
        .push(" ORDER BY space_id");
        self.map(query, |_, row| Ok((row.id("quota_id")?, row.id("space_id")?)))
            .await
    }

    /// The quotas that bind a space: of its organisation, and its own. In a transaction nobody else changes what is in
    /// use of them until its end, where they bind anything at all.
    pub async fn quotas_binding(&self, org: OrgId, space: SpaceId) -> Result<Vec<Quota>> {
        let query = Query::new("quotas_binding", space, "")
            .push(&format!(
                "SELECT {QUOTA} FROM quotas t WHERE t.id = coalesce((SELECT quota_id FROM org_quotas WHERE org_id = "
            ))
            .push_arg(org)
            .push("), ")
            .push_arg(DEFAULT_QUOTA)
            .push(") OR t.id = (SELECT quota_id FROM space_quotas WHERE space_id = ")
            .push_arg(space)
            .push(") ORDER BY t.org_id NULLS FIRST");
        let quotas = self.map(query, quota).await?;
        if quotas.iter().any(|quota| quota.limits.bounds_anything()) {
            let lock = Query::new("quotas_binding", org, "SELECT id FROM orgs WHERE id = $1")
                .arg(org)
                .push(self.for_no_key_update());
            self.optional(lock).await?;
        }
        Ok(quotas)
    }

    /// What is in use in an organisation, or in one space of it.
    pub async fn usage(&self, org: OrgId, space: Option<SpaceId>) -> Result<Usage> {
        self.usage_within(Some(org), space).await
    }

    /// What is in use on the whole platform.
    pub async fn usage_of_all(&self) -> Result<Usage> {
        self.usage_within(None, None).await
    }

    async fn usage_within(&self, org: Option<OrgId>, space: Option<SpaceId>) -> Result<Usage> {
        let of = org.map_or_else(|| "the platform".to_owned(), |org| org.to_string());
        let within = |query: Query| {
            let query = match org {
                Some(org) => query.push(" AND s.org_id = ").push_arg(org),
                None => query,
            };
            match space {
                Some(space) => query.push(" AND s.id = ").push_arg(space),
                None => query,
            }
        };
        let started = within(Query::new(
            "usage",
            &of,
            "SELECT t.limits, t.instances FROM processes t JOIN apps a ON a.id = t.app_id \
             JOIN spaces s ON s.id = a.space_id WHERE a.state = 'STARTED' AND t.instances > 0",
        ));
        let mut usage = Usage::none();
        for (limits, instances) in self
            .map(started, |_, row| {
                Ok((row.json::<Limits>("limits")?, row.int("instances")?))
            })
            .await?
        {
            usage = usage.with(&limits, instances, true);
        }
        let tasks = within(Query::new(
            "usage",
            &of,
            "SELECT t.limits FROM tasks t JOIN apps a ON a.id = t.app_id JOIN spaces s ON s.id = a.space_id \
             WHERE t.state IN ('PENDING', 'RUNNING', 'CANCELING')",
        ));
        for limits in self.map(tasks, |_, row| row.json::<Limits>("limits")).await? {
            let memory = usage.with(&limits, 1, false).memory_mb;
            usage.memory_mb = memory;
        }
        let routes = within(Query::new(
            "usage",
            &of,
            "SELECT count(*) AS total FROM routes t JOIN spaces s ON s.id = t.space_id WHERE 1 = 1",
        ));
        usage.routes = self.one(routes).await?.int("total")?;
        let domains = Query::new(
            "usage",
            &of,
            "SELECT count(*) AS total FROM domains WHERE org_id IS NOT NULL",
        );
        let domains = match org {
            Some(org) => domains.push(" AND org_id = ").push_arg(org),
            None => domains,
        };
        usage.domains = self.one(domains).await?.int("total")?;
        Ok(usage)
    }

    /// Tasks of an app that are not over.
    pub async fn tasks_live_of(&self, app: AppId) -> Result<u64> {
        let query = Query::new(
            "tasks_live_of",
            app,
            "SELECT count(*) AS total FROM tasks WHERE app_id = $1 AND state IN ('PENDING', 'RUNNING', 'CANCELING')",
        )
        .arg(app);
        self.one(query).await?.int("total")
    }
}

/// Appends ` AND t.id IN (quotas of organisations o that …`: the default is that of all without another.
fn of_orgs(query: Query) -> Query {
    query
        .push(" AND t.id IN (SELECT coalesce(q.quota_id, ")
        .push_arg(DEFAULT_QUOTA)
        .push(") FROM orgs o LEFT JOIN org_quotas q ON q.org_id = o.id WHERE 1 = 1")
}

impl Tx {
    /// A new quota. Taken: `quota name`.
    pub async fn quota_create(&self, quota: &Quota) -> Result<()> {
        let query = Query::new(
            "quota_create",
            quota.id,
            "INSERT INTO quotas (id, name, org_id, limits, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .taken("quota name")
        .arg(quota.id)
        .arg(quota.name.as_str())
        .arg(quota.org)
        .arg(json(&quota.limits)?)
        .arg(quota.created_at)
        .arg(quota.updated_at);
        self.execute(query).await.map(drop)
    }

    /// Name and limits as given. Taken: `quota name`.
    pub async fn quota_update(&self, quota: &Quota) -> Result<bool> {
        let query = Query::new(
            "quota_update",
            quota.id,
            "UPDATE quotas SET name = $1, limits = $2, updated_at = $3 WHERE id = $4",
        )
        .taken("quota name")
        .arg(quota.name.as_str())
        .arg(json(&quota.limits)?)
        .arg(quota.updated_at)
        .arg(quota.id);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes a quota; `Dangling` where it binds organisations. Spaces have none then.
    pub async fn quota_delete(&self, id: QuotaId) -> Result<bool> {
        let query = Query::new("quota_delete", id, "DELETE FROM quotas WHERE id = $1").arg(id);
        Ok(self.execute(query).await? > 0)
    }

    /// Binds an organisation by a quota instead of the one that it has.
    pub async fn org_quota_set(&self, org: OrgId, quota: QuotaId) -> Result<()> {
        let query = Query::new(
            "org_quota_set",
            org,
            "INSERT INTO org_quotas (org_id, quota_id) VALUES ($1, $2) \
             ON CONFLICT (org_id) DO UPDATE SET quota_id = excluded.quota_id",
        )
        .arg(org)
        .arg(quota);
        self.execute(query).await.map(drop)
    }

    /// Binds a space by a quota instead of the one that it has, or by none.
    pub async fn space_quota_set(&self, space: SpaceId, quota: Option<QuotaId>) -> Result<()> {
        let query = match quota {
            Some(quota) => Query::new(
                "space_quota_set",
                space,
                "INSERT INTO space_quotas (space_id, quota_id) VALUES ($1, $2) \
                 ON CONFLICT (space_id) DO UPDATE SET quota_id = excluded.quota_id",
            )
            .arg(space)
            .arg(quota),
            None => Query::new("space_quota_set", space, "DELETE FROM space_quotas WHERE space_id = $1").arg(space),
        };
        self.execute(query).await.map(drop)
    }
}
