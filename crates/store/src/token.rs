//! Refresh tokens, by the digest of their text: the text itself is never stored.

use crate::engine::Db;
use crate::error::Result;
use crate::sql::Query;
use crate::tx::Tx;
use model::Timestamp;
use model::id::UserId;

/// A refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshToken {
    /// SHA-256 of its text.
    pub digest: Vec<u8>,
    pub user: UserId,
    /// The client it was given to, such as `cf`.
    pub client: String,
    pub created_at: Timestamp,
    pub valid_until: Timestamp,
}

impl Db {
    /// The token with this digest, if it is valid at `now`.
    pub async fn refresh_token_fetch(&self, digest: &[u8], now: Timestamp) -> Result<Option<RefreshToken>> {
        let query = Query::new(
            "refresh_token_fetch",
            "a token",
            "SELECT digest, user_id, client, created_at, valid_until FROM refresh_tokens \
             WHERE digest = $1 AND valid_until > $2",
        )
        .arg(digest.to_vec())
        .arg(now);
        self.find(query, |_, row| {
            Ok(RefreshToken {
                digest: row.get("digest")?,
                user: row.id("user_id")?,
                client: row.text("client")?,
                created_at: row.time("created_at")?,
                valid_until: row.time("valid_until")?,
            })
        })
        .await
    }
}

impl Tx {
    /// Stores a token, and removes those that ended before its creation.
    pub async fn refresh_token_create(&self, token: &RefreshToken) -> Result<()> {
        let prune = Query::new(
            "refresh_token_create",
            token.user,
            "DELETE FROM refresh_tokens WHERE valid_until <= $1",
        )
        .arg(token.created_at);
        self.execute(prune).await?;
        let query = Query::new(
            "refresh_token_create",
            token.user,
            "INSERT INTO refresh_tokens (digest, user_id, client, created_at, valid_until) VALUES ($1, $2, $3, $4, $5)",
        )
        .arg(token.digest.clone())
        .arg(token.user)
        .arg(token.client.as_str())
        .arg(token.created_at)
        .arg(token.valid_until);
        self.execute(query).await.map(drop)
    }

    /// Ends all tokens of a user, as when the password changes.
    pub async fn refresh_tokens_revoke(&self, user: UserId) -> Result<u64> {
        let query = Query::new(
            "refresh_tokens_revoke",
            user,
            "DELETE FROM refresh_tokens WHERE user_id = $1",
        )
        .arg(user);
        self.execute(query).await
    }
}
