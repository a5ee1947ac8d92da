//! Users and clients.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, word};
use crate::tx::Tx;
use model::id::{OrgId, SpaceId, UserId};
use model::resource::User;
use serde::{Deserialize, Serialize};

/// Who can log in how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserKind {
    /// A person, by password.
    User,
    /// A program, by client credentials; its name is the client id.
    Client,
}

/// A user with what its login is checked by.
#[derive(Debug, Clone)]
pub struct StoredUser {
    pub user: User,
    pub kind: UserKind,
    /// In PHC form. `None`: can't log in by password.
    pub password_hash: Option<String>,
}

/// Which people a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    pub ids: Option<Vec<UserId>>,
    /// Whatever their case.
    pub names: Option<Vec<String>>,
    /// Where they sign in.
    pub origins: Option<Vec<String>>,
    /// Parts of names, one of which has to be in it.
    pub parts: Option<Vec<String>>,
    /// Who has a role in this organisation.
    pub org: Option<OrgId>,
    /// Who has a role in this space.
    pub space: Option<SpaceId>,
    pub common: Common,
}

const USER: &str = "t.id, t.name, t.origin, t.kind, t.admin, t.password_hash, t.metadata, t.created_at";
const COLUMNS: &str = "SELECT id, name, origin, kind, admin, password_hash, metadata, created_at FROM users WHERE ";

fn stored(_: &Db, row: &Row) -> Result<StoredUser> {
    Ok(StoredUser {
        user: User {
            id: row.id("id")?,
            name: row.text("name")?,
            origin: row.text("origin")?,
            admin: row.get("admin")?,
            metadata: row.json("metadata")?,
            created_at: row.time("created_at")?,
        },
        kind: row.word("kind")?,
        password_hash: row.text_opt("password_hash")?,
    })
}

impl Db {
    /// A user by id.
    pub async fn user_fetch(&self, id: UserId) -> Result<Option<User>> {
        let query = Query::new("user_fetch", id, COLUMNS).push("id = ").push_arg(id);
        Ok(self.find(query, stored).await?.map(|stored| stored.user))
    }

    /// A user or client by name, whatever its case, who signs in here.
    pub async fn user_by_name(&self, kind: UserKind, name: &str) -> Result<Option<StoredUser>> {
        self.user_by_name_at(kind, User::HERE, name).await
    }

    /// The user that an identity provider knows by this id.
    pub async fn user_by_identity(&self, origin: &str, external_id: &str) -> Result<Option<User>> {
        let query = Query::new("user_by_identity", external_id, COLUMNS)
            .push("origin = ")
            .push_arg(origin)
            .push(" AND external_id = ")
            .push_arg(external_id);
        Ok(self.find(query, stored).await?.map(|stored| stored.user))
    }

    /// A user or client by origin and name, whatever its case.
    pub async fn user_by_name_at(&self, kind: UserKind, origin: &str, name: &str) -> Result<Option<StoredUser>> {
        let query = Query::new("user_by_name", name, COLUMNS)
            .push("kind = ")
            .push_arg(word(&kind)?)
            .push(" AND origin = ")
            .push_arg(origin)
            .push(" AND lower(name) = lower(")
            .push_arg(name)
            .push(")");
        self.find(query, stored).await
    }

    /// People; for a user's scope those who have a role in an organisation of theirs, and themselves.
    pub async fn user_list(&self, filter: &UserFilter, scope: Scope, order: Order, page: Page) -> Result<Paged<User>> {
        let lower = |texts: &Vec<String>| texts.iter().map(|text| text.to_lowercase()).collect::<Vec<_>>();
        let mut query = Query::new("user_list", "a list", "FROM users t WHERE t.kind = 'user'")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.origin", filter.origins.as_deref())
            .and_in_some("lower(t.name)", filter.names.as_ref().map(lower).as_deref());
        for (n, part) in filter.parts.iter().flatten().enumerate() {
            query = query
                .push(if n == 0 { " AND (" } else { " OR " })
                .push("lower(t.name) LIKE ")
                .push_arg(format!("%{}%", escaped(&part.to_lowercase())))
                .push(" ESCAPE '!'");
        }
        if filter.parts.as_ref().is_some_and(|parts| !parts.is_empty()) {
            query = query.push(")");
        }
        if let Some(org) = filter.org {
            query = query
                .push(" AND t.id IN (SELECT user_id FROM roles WHERE org_id = ")
                .push_arg(org)
                .push(")");
        }
        if let Some(space) = filter.space {
            query = query
                .push(" AND t.id IN (SELECT user_id FROM roles WHERE space_id = ")
                .push_arg(space)
                .push(")");
        }
        if let Scope::User(user) = scope {
            query = query
                .push(" AND (t.id = ")
                .push_arg(user)
                .push(
                    " OR t.id IN (SELECT user_id FROM roles WHERE org_id IN (SELECT org_id FROM roles WHERE user_id = ",
                )
                .push_arg(user)
                .push(")))");
        }
        let query = self.narrowed(query, &filter.common, Has::NoUpdate);
        let listed = self
            .list(USER, query, &order.sql(Some("t.name"), false), page, stored)
            .await?;
        Ok(Paged {
            items: listed.items.into_iter().map(|stored| stored.user).collect(),
            total: listed.total,
        })
    }

    /// Every client, by name.
    pub async fn client_list(&self) -> Result<Vec<StoredUser>> {
        let query = Query::new("client_list", "all clients", COLUMNS).push("kind = 'client' ORDER BY name");
        self.map(query, stored).await
    }

    /// Users by ids, in no order.
    pub async fn users_by_ids(&self, ids: &[UserId]) -> Result<Vec<User>> {
        let query = Query::new("users_by_ids", ids.len(), COLUMNS)
            .push("1 = 1")
            .and_in("id", ids.iter().copied());
        Ok(self
            .map(query, stored)
            .await?
            .into_iter()
            .map(|stored| stored.user)
            .collect())
    }
}

impl Tx {
    /// A new user or client. Taken: `user name`.
    pub async fn user_create(&self, new: &StoredUser) -> Result<()> {
        let query = Query::new(
            "user_create",
            new.user.id,
            "INSERT INTO users (id, name, kind, admin, password_hash, created_at, origin) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .taken("user name")
        .arg(new.user.id)
        .arg(new.user.name.as_str())
        .arg(word(&new.kind)?)
        .arg(new.user.admin)
        .arg(new.password_hash.clone())
        .arg(new.user.created_at)
        .arg(new.user.origin.as_str());
        self.execute(query).await.map(drop)
    }

    /// Binds a user to what an identity provider knows them by. False where they are bound already. Taken: `user`.
    pub async fn user_identify(&self, id: UserId, external_id: &str) -> Result<bool> {
        let query = Query::new(
            "user_identify",
            id,
            "UPDATE users SET external_id = $1 WHERE id = $2 AND external_id IS NULL",
        )
        .taken("user")
        .arg(external_id)
        .arg(id);
        Ok(self.execute(query).await? > 0)
    }

    /// Whether it is an administrator. False where there is no such user.
    pub async fn user_set_admin(&self, id: UserId, admin: bool) -> Result<bool> {
        let query = Query::new("user_set_admin", id, "UPDATE users SET admin = $1 WHERE id = $2")
            .arg(admin)
            .arg(id);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes a user with its roles and tokens. False where there is none.
    pub async fn user_delete(&self, id: UserId) -> Result<bool> {
        let query = Query::new("user_delete", id, "DELETE FROM users WHERE id = $1").arg(id);
        Ok(self.execute(query).await? > 0)
    }

    /// Another password, as its hash in PHC form. False where there is no such user.
    pub async fn user_set_password(&self, id: UserId, hash: &str) -> Result<bool> {
        let query = Query::new(
            "user_set_password",
            id,
            "UPDATE users SET password_hash = $1 WHERE id = $2",
        )
        .arg(hash)
        .arg(id);
        Ok(self.execute(query).await? > 0)
    }
}

/// A text in which nothing is a placeholder of LIKE.
fn escaped(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}
