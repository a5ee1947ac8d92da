//! Roles of users in organisations and spaces.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, word};
use crate::tx::Tx;
use model::id::{OrgId, RoleId, SpaceId, UserId};
use model::resource::{Role, RoleType};

/// Which roles a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct RoleFilter {
    pub ids: Option<Vec<RoleId>>,
    pub types: Option<Vec<RoleType>>,
    pub orgs: Option<Vec<OrgId>>,
    pub spaces: Option<Vec<SpaceId>>,
    pub users: Option<Vec<UserId>>,
    pub common: Common,
}

const ROLE: &str = "t.id, t.user_id, t.role, t.org_id, t.space_id, t.created_at";

fn role(_: &Db, row: &Row) -> Result<Role> {
    Ok(Role {
        id: row.id("id")?,
        user: row.id("user_id")?,
        role: row.word("role")?,
        org: row.id("org_id")?,
        space: row.id_opt("space_id")?,
        created_at: row.time("created_at")?,
    })
}

impl Db {
    /// A role by id.
    pub async fn role_fetch(&self, id: RoleId) -> Result<Option<Role>> {
        let query = Query::new("role_fetch", id, "")
            .push(&format!("SELECT {ROLE} FROM roles t WHERE t.id = "))
            .push_arg(id);
        self.find(query, role).await
    }

    /// Roles of organisations within `scope`.
    pub async fn role_list(&self, filter: &RoleFilter, scope: Scope, order: Order, page: Page) -> Result<Paged<Role>> {
        let query = Query::new("role_list", "a list", "FROM roles t WHERE 1 = 1");
        // A space role counts as its own type for the space, not for its organisation.
        let query = scope
            .orgs(query, "t.org_id")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_words_some("t.role", filter.types.as_deref())?
            .and_in_some("t.space_id", filter.spaces.as_deref())
            .and_in_some("t.user_id", filter.users.as_deref());
        let query = match &filter.orgs {
            Some(orgs) => query
                .and_in("t.org_id", orgs.iter().copied())
                .push(" AND t.space_id IS NULL"),
            None => query,
        };
        let query = self.narrowed(query, &filter.common, Has::OnlyCreation);
        self.list(ROLE, query, &order.sql(None, false), page, role).await
    }

    /// All roles of a user: what the user may do is decided from these.
    pub async fn roles_of_user(&self, user: UserId) -> Result<Vec<Role>> {
        let query = Query::new("roles_of_user", user, "")
            .push(&format!("SELECT {ROLE} FROM roles t WHERE t.user_id = "))
            .push_arg(user);
        self.map(query, role).await
    }
}

impl Tx {
    /// A new role. Taken: `role`.
    pub async fn role_create(&self, role: &Role) -> Result<()> {
        let query = Query::new(
            "role_create",
            role.id,
            "INSERT INTO roles (id, user_id, role, org_id, space_id, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .taken("role")
        .arg(role.id)
        .arg(role.user)
        .arg(word(&role.role)?)
        .arg(role.org)
        .arg(role.space)
        .arg(role.created_at);
        self.execute(query).await.map(drop)
    }

    /// Removes a role.
    pub async fn role_delete(&self, id: RoleId) -> Result<bool> {
        let query = Query::new("role_delete", id, "DELETE FROM roles WHERE id = $1").arg(id);
        Ok(self.execute(query).await? > 0)
    }
}
