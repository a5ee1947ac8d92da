//! The platform's own settings, encrypted: token signing keys and the like. And leases, by which one of several
//! controllers is elected.

use crate::engine::Db;
use crate::error::Result;
use crate::sql::Query;
use crate::tx::Tx;
use model::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

impl Db {
    /// A setting, decrypted.
    pub async fn setting_fetch<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let query = Query::new(
            "setting_fetch",
            name,
            "SELECT value_sealed FROM settings WHERE name = $1",
        )
        .arg(name);
        let Some(row) = self.optional(query).await? else {
            return Ok(None);
        };
        let plain = self.keys.open(name.as_bytes(), &row.get::<Vec<u8>>("value_sealed")?)?;
        serde_json::from_slice(&plain)
            .map(Some)
            .map_err(|error| crate::StoreError::corrupt(name, error))
    }
}

impl Tx {
    /// Sets a setting, encrypted.
    pub async fn setting_set<T: Serialize + ?Sized>(&self, name: &str, value: &T, now: Timestamp) -> Result<()> {
        let plain = serde_json::to_vec(value).map_err(|error| crate::StoreError::corrupt(name, error))?;
        let query = Query::new(
            "setting_set",
            name,
            "INSERT INTO settings (name, value_sealed, updated_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET value_sealed = excluded.value_sealed, updated_at = excluded.updated_at",
        )
        .arg(name)
        .arg(self.keys.seal(name.as_bytes(), &plain)?)
        .arg(now);
        self.execute(query).await.map(drop)
    }

    /// Takes or renews the lease `name` for `holder` until `until`, where nobody else holds it at `now`.
    ///
    /// Returns its epoch, which grows with each change of holder; `None` where another holds it.
    pub async fn lease_take(&self, name: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<Option<u64>> {
        let query = Query::new(
            "lease_take",
            name,
            "INSERT INTO leases (name, holder, epoch, held_until) VALUES ($1, $2, 1, $3) \
             ON CONFLICT (name) DO UPDATE SET \
             epoch = CASE WHEN leases.holder = excluded.holder THEN leases.epoch ELSE leases.epoch + 1 END, \
             holder = excluded.holder, held_until = excluded.held_until \
             WHERE leases.holder = excluded.holder OR leases.held_until <= $4 RETURNING epoch",
        )
        .arg(name)
        .arg(holder)
        .arg(until)
        .arg(now);
        self.find(query, |_, row| row.int("epoch")).await
    }

    /// Who holds the lease `name` at `now`.
    pub async fn lease_holder(&self, name: &str, now: Timestamp) -> Result<Option<String>> {
        let query = Query::new(
            "lease_holder",
            name,
            "SELECT holder FROM leases WHERE name = $1 AND held_until > $2",
        )
        .arg(name)
        .arg(now);
        self.find(query, |_, row| row.get("holder")).await
    }

    /// Gives the lease up, where `holder` holds it.
    pub async fn lease_drop(&self, name: &str, holder: &str) -> Result<()> {
        let query = Query::new(
            "lease_drop",
            name,
            "UPDATE leases SET held_until = 0 WHERE name = $1 AND holder = $2",
        )
        .arg(name)
        .arg(holder);
        self.execute(query).await.map(drop)
    }
}
