//! Codes that are good for one use, and log-ins that wait for somebody at another device. Both are known by the digest
//! of their text alone, so that whoever reads the database can't use them.

use crate::engine::Db;
use crate::error::Result;
use crate::sql::{Query, word};
use crate::tx::Tx;
use model::Timestamp;
use model::id::UserId;
use serde::Serialize;

/// What a code is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeKind {
    /// A connection to an instance.
    Ssh,
    /// A log-in at the command line.
    Passcode,
}

/// A code that is good for one use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneTimeCode {
    /// SHA-256 of its text.
    pub digest: Vec<u8>,
    pub kind: CodeKind,
    /// Whom it stands for.
    pub user: UserId,
    pub created_at: Timestamp,
    pub valid_until: Timestamp,
}

/// A log-in that waits for somebody at another device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLogin {
    /// SHA-256 of the code that the waiting program has.
    pub digest: Vec<u8>,
    /// SHA-256 of the code that the person types.
    pub user_code_digest: Vec<u8>,
    /// The program that waits, such as `paas`.
    pub client: String,
    /// Who allowed it.
    pub user: Option<UserId>,
    /// Whether somebody refused it.
    pub denied: bool,
    /// Least time between two questions, in seconds.
    pub interval_seconds: u32,
    /// When the program asked last.
    pub polled_at: Timestamp,
    pub valid_until: Timestamp,
}

impl Db {
    /// The log-in of a waiting program, also one whose time is over.
    pub async fn device_login_fetch(&self, digest: &[u8]) -> Result<Option<DeviceLogin>> {
        let query = Query::new(
            "device_login_fetch",
            "a device",
            "SELECT digest, user_code_digest, client, user_id, denied, interval_seconds, polled_at, valid_until \
             FROM device_logins WHERE digest = $1",
        )
        .arg(digest.to_vec());
        self.find(query, |_, row| {
            Ok(DeviceLogin {
                digest: row.get("digest")?,
                user_code_digest: row.get("user_code_digest")?,
                client: row.text("client")?,
                user: row.id_opt("user_id")?,
                denied: row.get("denied")?,
                interval_seconds: row.int("interval_seconds")?,
                polled_at: row.time("polled_at")?,
                valid_until: row.time("valid_until")?,
            })
        })
        .await
    }
}

impl Tx {
    /// Stores a code, and removes those whose time is over. False where the user has `most` of the kind already.
    pub async fn code_create(&self, code: &OneTimeCode, most: u64) -> Result<bool> {
        let prune = Query::new(
            "code_create",
            code.user,
            "DELETE FROM one_time_codes WHERE valid_until <= $1",
        )
        .arg(code.created_at);
        self.execute(prune).await?;
        let open = Query::new(
            "code_create",
            code.user,
            "SELECT count(*) AS open FROM one_time_codes WHERE user_id = $1 AND kind = $2",
        )
        .arg(code.user)
        .arg(word(&code.kind)?);
        let open: Option<u64> = self.find(open, |_, row| row.int("open")).await?;
        if open.unwrap_or(0) >= most {
            return Ok(false);
        }
        let query = Query::new(
            "code_create",
            code.user,
            "INSERT INTO one_time_codes (digest, kind, user_id, created_at, valid_until) VALUES ($1, $2, $3, $4, $5)",
        )
        .arg(code.digest.clone())
        .arg(word(&code.kind)?)
        .arg(code.user)
        .arg(code.created_at)
        .arg(code.valid_until);
        self.execute(query).await.map(|_| true)
    }

    /// Uses a code up: whom it stood for, if it was good for this at `now`. Of several that try at once one succeeds.
    pub async fn code_take(&self, digest: &[u8], kind: CodeKind, now: Timestamp) -> Result<Option<UserId>> {
        let query = Query::new(
            "code_take",
            "a code",
            "DELETE FROM one_time_codes WHERE digest = $1 AND kind = $2 AND valid_until > $3 RETURNING user_id",
        )
        .arg(digest.to_vec())
        .arg(word(&kind)?)
        .arg(now);
        self.find(query, |_, row| row.id("user_id")).await
    }

    /// Stores a log-in that waits, and removes those that were over at `over`. False where `most` wait already.
    pub async fn device_login_create(&self, new: &DeviceLogin, over: Timestamp, most: u64) -> Result<bool> {
        let prune = Query::new(
            "device_login_create",
            "a device",
            "DELETE FROM device_logins WHERE valid_until <= $1",
        )
        .arg(over);
        self.execute(prune).await?;
        let count = Query::new(
            "device_login_create",
            "a device",
            "SELECT count(*) AS open FROM device_logins",
        );
        let open: Option<u64> = self.find(count, |_, row| row.int("open")).await?;
        if open.unwrap_or(0) >= most {
            return Ok(false);
        }
        let query = Query::new(
            "device_login_create",
            "a device",
            "INSERT INTO device_logins \
             (digest, user_code_digest, client, user_id, denied, interval_seconds, polled_at, valid_until) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .taken("user code")
        .arg(new.digest.clone())
        .arg(new.user_code_digest.clone())
        .arg(new.client.as_str())
        .arg(new.user)
        .arg(new.denied)
        .arg(i64::from(new.interval_seconds))
        .arg(new.polled_at)
        .arg(new.valid_until);
        self.execute(query).await.map(|_| true)
    }

    /// The program asked: it is to ask again after `interval_seconds`.
    pub async fn device_login_polled(&self, digest: &[u8], interval_seconds: u32, now: Timestamp) -> Result<()> {
        let query = Query::new(
            "device_login_polled",
            "a device",
            "UPDATE device_logins SET interval_seconds = $1, polled_at = $2 WHERE digest = $3",
        )
        .arg(i64::from(interval_seconds))
        .arg(now)
        .arg(digest.to_vec());
        self.execute(query).await.map(drop)
    }

    /// Somebody allowed the log-in with this user code, or with `None` refused it. False where none waits for that.
    pub async fn device_login_answer(
        &self,
        user_code_digest: &[u8],
        user: Option<UserId>,
        now: Timestamp,
    ) -> Result<bool> {
        let query = Query::new(
            "device_login_answer",
            "a device",
            "UPDATE device_logins SET user_id = $1, denied = $2 \
             WHERE user_code_digest = $3 AND user_id IS NULL AND denied = FALSE AND valid_until > $4",
        )
        .arg(user)
        .arg(user.is_none())
        .arg(user_code_digest.to_vec())
        .arg(now);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes a log-in that came to its end. False where another was faster.
    pub async fn device_login_delete(&self, digest: &[u8]) -> Result<bool> {
        let query = Query::new(
            "device_login_delete",
            "a device",
            "DELETE FROM device_logins WHERE digest = $1",
        )
        .arg(digest.to_vec());
        Ok(self.execute(query).await? > 0)
    }

    /// Ends all codes of a user, as when the password changes.
    pub async fn codes_revoke(&self, user: UserId) -> Result<()> {
        for sql in [
            "DELETE FROM one_time_codes WHERE user_id = $1",
            "DELETE FROM device_logins WHERE user_id = $1",
        ] {
            self.execute(Query::new("codes_revoke", user, sql).arg(user)).await?;
        }
        Ok(())
    }
}
