//! What all lists have in common: labels, times of creation and change, organisations; and metadata changed by itself.

use crate::engine::{Conn, Db};
use crate::error::Result;
use crate::sql::{Query, json};
use crate::tx::Tx;
use model::Timestamp;
use model::id::OrgId;
use model::labels::{Requirement, Selector, Test};
use model::resource::Metadata;
use time::Duration;
use uuid::Uuid;

/// What narrows any list; nothing does by default.
#[derive(Debug, Clone, Default)]
pub struct Common {
    pub labels: Selector,
    pub created: Vec<Moment>,
    /// Where a resource has no time of change, that of its creation.
    pub updated: Vec<Moment>,
}

/// Which resources a list holds that have names and are of organisations; `None` does not filter.
#[derive(Debug, Clone)]
pub struct NamedFilter<I> {
    pub ids: Option<Vec<I>>,
    pub names: Option<Vec<String>>,
    /// Those of these organisations: private domains, spaces, or segments that any of them may use.
    pub orgs: Option<Vec<OrgId>>,
    pub common: Common,
}

impl<I> Default for NamedFilter<I> {
    fn default() -> Self {
        Self {
            ids: None,
            names: None,
            orgs: None,
            common: Common::default(),
        }
    }
}

/// A bound on a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    Before(Timestamp),
    NotAfter(Timestamp),
    After(Timestamp),
    NotBefore(Timestamp),
    /// Within the second of one of these.
    In(Vec<Timestamp>),
}

/// What columns a list has to be narrowed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Has {
    /// `metadata`, `created_at`, `updated_at`.
    All,
    /// `metadata`, `created_at`.
    NoUpdate,
    /// `created_at`, `updated_at`.
    OnlyTimes,
    /// `created_at`.
    OnlyCreation,
}

impl Moment {
    /// Whether a time is within the bound.
    #[must_use]
    pub fn holds(&self, time: Timestamp) -> bool {
        match self {
            Self::Before(at) => time < *at,
            Self::NotAfter(at) => time <= *at,
            Self::After(at) => time > *at,
            Self::NotBefore(at) => time >= *at,
            Self::In(all) => all.iter().any(|at| *at <= time && time < *at + Duration::SECOND),
        }
    }
}

fn moment(query: Query, column: &str, moment: &Moment) -> Query {
    let (sign, at) = match moment {
        Moment::Before(at) => ("<", at),
        Moment::NotAfter(at) => ("<=", at),
        Moment::After(at) => (">", at),
        Moment::NotBefore(at) => (">=", at),
        Moment::In(all) => {
            let mut query = query.push(" AND (1 = 0");
            for at in all {
                query = query
                    .push(&format!(" OR ({column} >= "))
                    .push_arg(*at)
                    .push(&format!(" AND {column} < "))
                    .push_arg(*at + Duration::SECOND)
                    .push(")");
            }
            return query.push(")");
        }
    };
    query.push(&format!(" AND {column} {sign} ")).push_arg(*at)
}

impl Db {
    /// `query` over rows `t`, narrowed.
    pub(crate) fn narrowed(&self, mut query: Query, by: &Common, has: Has) -> Query {
        for bound in &by.created {
            query = moment(query, "t.created_at", bound);
        }
        let updated = if matches!(has, Has::All | Has::OnlyTimes) {
            "t.updated_at"
        } else {
            "t.created_at"
        };
        for bound in &by.updated {
            query = moment(query, updated, bound);
        }
        if matches!(has, Has::OnlyTimes | Has::OnlyCreation) && !by.labels.is_empty() {
            return query.push(" AND 1 = 0");
        }
        for requirement in &by.labels.0 {
            query = self.labelled(query, requirement);
        }
        query
    }

    fn labelled(&self, query: Query, requirement: &Requirement) -> Query {
        let key = &requirement.key;
        match &requirement.test {
            Test::Present => self.label(query.push(" AND "), key).push(" IS NOT NULL"),
            Test::Absent => self.label(query.push(" AND "), key).push(" IS NULL"),
            Test::In(values) => values_of(self.label(query.push(" AND "), key).push(" IN ("), values).push(")"),
            Test::NotIn(values) => {
                let query = self.label(query.push(" AND ("), key).push(" IS NULL OR ");
                values_of(self.label(query, key).push(" NOT IN ("), values).push("))")
            }
        }
    }

    /// Appends the value of a label. Keys have no quotes: the selector was read by [`Selector::parse`].
    fn label(&self, query: Query, key: &str) -> Query {
        match self.conn {
            Conn::SqlitePool(_) | Conn::SqliteTx(_) => query
                .push("json_extract(t.metadata, ")
                .push_arg(format!("$.labels.\"{key}\""))
                .push(")"),
            Conn::PostgresPool(_) | Conn::PostgresTx(_) => query
                .push("(t.metadata::jsonb -> 'labels' ->> ")
                .push_arg(key)
                .push(")"),
        }
    }
}

fn values_of(mut query: Query, values: &[String]) -> Query {
    for (n, value) in values.iter().enumerate() {
        query = query.push(if n == 0 { "" } else { ", " }).push_arg(value.as_str());
    }
    query
}

impl Query {
    /// Appends `AND column IN (spaces of these organisations)`, where there is such a filter.
    pub(crate) fn and_in_orgs(self, column: &str, orgs: Option<&[OrgId]>) -> Self {
        match orgs {
            None => self,
            Some(orgs) => self
                .push(" AND ")
                .push(column)
                .push(" IN (SELECT id FROM spaces WHERE 1 = 1")
                .and_in("org_id", orgs.iter().copied())
                .push(")"),
        }
    }
}

/// A resource whose metadata is changed without the rest of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Build,
    Deployment,
    Domain,
    Droplet,
    Package,
    Process,
    Revision,
    Route,
    Stack,
    Task,
    User,
}

impl Carrier {
    const fn table(self) -> &'static str {
        match self {
            Self::Build => "builds",
            Self::Deployment => "deployments",
            Self::Domain => "domains",
            Self::Droplet => "droplets",
            Self::Package => "packages",
            Self::Process => "processes",
            Self::Revision => "revisions",
            Self::Route => "routes",
            Self::Stack => "stacks",
            Self::Task => "tasks",
            Self::User => "users",
        }
    }
}

impl Tx {
    /// Labels and annotations as given. False where there is no such resource.
    pub async fn metadata_set(&self, of: Carrier, id: Uuid, metadata: &Metadata) -> Result<bool> {
        let query = Query::new("metadata_set", id, "")
            .push(&format!("UPDATE {} SET metadata = ", of.table()))
            .push_arg(json(metadata)?)
            .push(" WHERE id = ")
            .push_arg(id);
        Ok(self.execute(query).await? > 0)
    }

    /// As [`Tx::metadata_set`], of what was just made: nothing is written where there is nothing to keep.
    pub(crate) async fn metadata_keep(&self, of: Carrier, id: Uuid, metadata: &Metadata) -> Result<()> {
        if *metadata != Metadata::default() {
            self.metadata_set(of, id, metadata).await?;
        }
        Ok(())
    }
}
