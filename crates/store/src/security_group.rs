//! Security groups, the spaces that they are bound to, and what of it holds on one cell.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Arg, Query, Row, json, word};
use crate::tx::Tx;
use model::id::{CellId, SecurityGroupId, SpaceId};
use model::security::{GroupsByUse, Policies, SecurityGroup, Use, Uses};
use std::collections::{BTreeMap, BTreeSet};

/// Which security groups a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct SecurityGroupFilter {
    pub common: Common,
    pub ids: Option<Vec<SecurityGroupId>>,
    pub names: Option<Vec<String>>,
    /// In force everywhere, for what runs.
    pub globally_running: Option<bool>,
    /// In force everywhere, for what is staged.
    pub globally_staging: Option<bool>,
    /// Bound to any of these spaces, for what runs.
    pub running_spaces: Option<Vec<SpaceId>>,
    /// Bound to any of these spaces, for what is staged.
    pub staging_spaces: Option<Vec<SpaceId>>,
    /// In force in this space for this use, by a binding or everywhere.
    pub in_force: Option<(SpaceId, Use)>,
}

/// Spaces that a group is bound to, by use, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BoundSpaces {
    pub running: Vec<SpaceId>,
    pub staging: Vec<SpaceId>,
}

impl BoundSpaces {
    /// Those for one use.
    #[must_use]
    pub fn of(&self, use_: Use) -> &[SpaceId] {
        match use_ {
            Use::Running => &self.running,
            Use::Staging => &self.staging,
        }
    }
}

const GROUP: &str = "t.id, t.name, t.rules, t.running, t.staging, t.created_at, t.updated_at";

fn group(_: &Db, row: &Row) -> Result<SecurityGroup> {
    Ok(SecurityGroup {
        id: row.id("id")?,
        name: row.text("name")?,
        rules: row.json("rules")?,
        globally: Uses {
            running: row.get("running")?,
            staging: row.get("staging")?,
        },
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

/// Appends ` AND t.id IN (groups that the user may read)`: those in force everywhere, and in spaces that they may read.
fn readable(scope: Scope, query: Query) -> Query {
    if scope == Scope::All {
        return query;
    }
    let query = query.push(" AND (t.running = ").push_arg(true);
    let query = query.push(" OR t.staging = ").push_arg(true);
    let query = query.push(" OR t.id IN (SELECT b.group_id FROM security_group_spaces b WHERE 1 = 1");
    scope.spaces(query, "b.space_id").push("))")
}

fn bound(query: Query, spaces: Option<&[SpaceId]>, use_: Use) -> Query {
    let Some(spaces) = spaces else { return query };
    query
        .push(" AND t.id IN (SELECT b.group_id FROM security_group_spaces b WHERE b.purpose = ")
        .push_arg(use_.name())
        .and_in("b.space_id", spaces.iter().copied())
        .push(")")
}

impl Db {
    /// A security group by id, if it is within `scope`.
    pub async fn security_group_fetch(&self, id: SecurityGroupId, scope: Scope) -> Result<Option<SecurityGroup>> {
        let query = Query::new("security_group_fetch", id, "")
            .push(&format!("SELECT {GROUP} FROM security_groups t WHERE t.id = "))
            .push_arg(id);
        self.find(readable(scope, query), group).await
    }

    /// Security groups within `scope`.
    pub async fn security_group_list(
        &self,
        filter: &SecurityGroupFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<SecurityGroup>> {
        let query = Query::new("security_group_list", "a list", "FROM security_groups t WHERE 1 = 1");
        let mut query = readable(scope, query)
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.name", filter.names.as_deref());
        if let Some(wanted) = filter.globally_running {
            query = query.push(" AND t.running = ").push_arg(wanted);
        }
        if let Some(wanted) = filter.globally_staging {
            query = query.push(" AND t.staging = ").push_arg(wanted);
        }
        query = bound(query, filter.running_spaces.as_deref(), Use::Running);
        query = bound(query, filter.staging_spaces.as_deref(), Use::Staging);
        if let Some((space, use_)) = filter.in_force {
            query = query
                .push(&format!(" AND (t.{} = ", use_.name()))
                .push_arg(true)
                .push(" OR t.id IN (SELECT b.group_id FROM security_group_spaces b WHERE b.space_id = ")
                .push_arg(space)
                .push(" AND b.purpose = ")
                .push_arg(use_.name())
                .push("))");
        }
        let query = self.narrowed(query, &filter.common, Has::OnlyTimes);
        self.list(GROUP, query, &order.sql(Some("t.name"), true), page, group)
            .await
    }

    /// The spaces that groups are bound to, as far as they are within `scope`. Groups without any are left out.
    pub async fn security_group_spaces(
        &self,
        groups: &[SecurityGroupId],
        scope: Scope,
    ) -> Result<BTreeMap<SecurityGroupId, BoundSpaces>> {
        let mut found: BTreeMap<SecurityGroupId, BoundSpaces> = BTreeMap::new();
        for groups in groups.chunks(self.batch(1)) {
            let query = Query::new(
                "security_group_spaces",
                groups.len(),
                "SELECT b.group_id, b.space_id, b.purpose FROM security_group_spaces b WHERE 1 = 1",
            )
            .and_in("b.group_id", groups.iter().copied());
            let query = scope.spaces(query, "b.space_id").push(" ORDER BY b.space_id");
            for row in self.all(query).await? {
                let spaces = found.entry(row.id("group_id")?).or_default();
                match row.word("purpose")? {
                    Use::Running => spaces.running.push(row.id("space_id")?),
                    Use::Staging => spaces.staging.push(row.id("space_id")?),
                }
            }
        }
        Ok(found)
    }

    /// What holds for the work of a cell that has not ended: groups that are in force everywhere, and those bound to
    /// the spaces of that work.
    pub async fn security_policies(&self, cell: CellId) -> Result<Policies> {
        let mut policies = Policies::default();
        let query = Query::new(
            "security_policies",
            cell,
            "SELECT b.group_id, b.space_id, b.purpose FROM security_group_spaces b WHERE b.space_id IN \
             (SELECT a.space_id FROM works w JOIN apps a ON a.id = w.app_id WHERE w.rank < 5 AND w.cell_id = $1)",
        )
        .arg(cell);
        let mut named: BTreeSet<SecurityGroupId> = BTreeSet::new();
        for row in self.all(query).await? {
            let group = row.id("group_id")?;
            let groups: &mut GroupsByUse = policies.spaces.entry(row.id("space_id")?).or_default();
            groups.of_mut(row.word("purpose")?).insert(group);
            named.insert(group);
        }
        let query = Query::new("security_policies", cell, "").push(&format!("SELECT {GROUP} FROM security_groups t"));
        for group in self.map(query, group).await? {
            for (use_, holds) in [
                (Use::Running, group.globally.running),
                (Use::Staging, group.globally.staging),
            ] {
                if holds {
                    policies.everywhere.of_mut(use_).insert(group.id);
                    named.insert(group.id);
                }
            }
            if named.contains(&group.id) {
                policies.groups.insert(group.id, group.rules);
            }
        }
        Ok(policies)
    }
}

impl Tx {
    /// A new security group. Taken: `security group name`.
    pub async fn security_group_create(&self, group: &SecurityGroup) -> Result<()> {
        let query = Query::new(
            "security_group_create",
            group.id,
            "INSERT INTO security_groups (id, name, rules, running, staging, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .taken("security group name")
        .arg(group.id)
        .arg(group.name.as_str())
        .arg(json(&group.rules)?)
        .arg(group.globally.running)
        .arg(group.globally.staging)
        .arg(group.created_at)
        .arg(group.updated_at);
        self.touch(Topic::Security);
        self.execute(query).await.map(drop)
    }

    /// Everything as given. Cells learn of it with the commit. Taken: `security group name`.
    pub async fn security_group_update(&self, group: &SecurityGroup) -> Result<bool> {
        let query = Query::new(
            "security_group_update",
            group.id,
            "UPDATE security_groups SET name = $1, rules = $2, running = $3, staging = $4, updated_at = $5 \
             WHERE id = $6",
        )
        .taken("security group name")
        .arg(group.name.as_str())
        .arg(json(&group.rules)?)
        .arg(group.globally.running)
        .arg(group.globally.staging)
        .arg(group.updated_at)
        .arg(group.id);
        self.touch(Topic::Security);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes a security group with its bindings. Cells learn of it with the commit.
    pub async fn security_group_delete(&self, id: SecurityGroupId) -> Result<bool> {
        let query = Query::new("security_group_delete", id, "DELETE FROM security_groups WHERE id = $1").arg(id);
        self.touch(Topic::Security);
        Ok(self.execute(query).await? > 0)
    }

    /// Binds a group to spaces; those that it is bound to already stay. Cells learn of it with the commit.
    pub async fn security_group_bind(&self, id: SecurityGroupId, spaces: &[SpaceId], use_: Use) -> Result<()> {
        for spaces in spaces.chunks(self.batch(3)) {
            let rows = spaces
                .iter()
                .map(|space| Ok(vec![Arg::from(id), Arg::from(*space), word(&use_)?.into()]))
                .collect::<Result<Vec<_>>>()?;
            let query = Query::new(
                "security_group_bind",
                id,
                "INSERT INTO security_group_spaces (group_id, space_id, purpose) VALUES ",
            )
            .push_rows(rows)
            .push(" ON CONFLICT DO NOTHING");
            self.execute(query).await?;
        }
        self.touch(Topic::Security);
        Ok(())
    }

    /// Takes a group off a space; whether it was bound to it. Cells learn of it with the commit.
    pub async fn security_group_unbind(&self, id: SecurityGroupId, space: SpaceId, use_: Use) -> Result<bool> {
        let query = Query::new(
            "security_group_unbind",
            id,
            "DELETE FROM security_group_spaces WHERE group_id = $1 AND space_id = $2 AND purpose = $3",
        )
        .arg(id)
        .arg(space)
        .arg(word(&use_)?);
        self.touch(Topic::Security);
        Ok(self.execute(query).await? > 0)
    }
}
