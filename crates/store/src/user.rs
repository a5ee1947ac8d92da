//! Users and clients.

use crate::engine::Db;
use crate::error::Result;
use crate::sql::{Query, Row, word};
use crate::tx::Tx;
use model::id::UserId;
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

const COLUMNS: &str = "SELECT id, name, kind, admin, password_hash, created_at FROM users WHERE ";

fn stored(_: &Db, row: &Row) -> Result<StoredUser> {
    Ok(StoredUser {
        user: User {
            id: row.id("id")?,
            name: row.text("name")?,
            admin: row.get("admin")?,
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

    /// A user or client by name, whatever its case.
    pub async fn user_by_name(&self, kind: UserKind, name: &str) -> Result<Option<StoredUser>> {
        let query = Query::new("user_by_name", name, COLUMNS)
            .push("kind = ")
            .push_arg(word(&kind)?)
            .push(" AND lower(name) = lower(")
            .push_arg(name)
            .push(")");
        self.find(query, stored).await
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
            "INSERT INTO users (id, name, kind, admin, password_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .taken("user name")
        .arg(new.user.id)
        .arg(new.user.name.as_str())
        .arg(word(&new.kind)?)
        .arg(new.user.admin)
        .arg(new.password_hash.clone())
        .arg(new.user.created_at);
        self.execute(query).await.map(drop)
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
