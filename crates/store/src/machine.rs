//! Machines that prove themselves by certificates: tokens to join with, who joined, and where controllers are.

use crate::engine::Db;
use crate::error::Result;
use crate::sql::{Query, Row};
use crate::tx::Tx;
use model::Timestamp;
use model::id::{AppId, CellId, WorkId};
use model::machine::{Machine, Role};
use std::collections::HashMap;
use uuid::Uuid;

/// A token that one machine joins with, once. Its secret is known by digest alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub id: Uuid,
    /// SHA-256 of its secret.
    pub digest: Vec<u8>,
    /// What joins with it.
    pub role: Role,
    /// What operators remember it by, and the machine after it.
    pub label: String,
    /// Most memory that a cell which joined with it may offer, in MiB.
    pub max_memory_mb: Option<u64>,
    pub created_at: Timestamp,
    pub valid_until: Timestamp,
    /// When it was used, and by whom.
    pub used: Option<(Timestamp, Uuid)>,
}

/// A machine that joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMachine {
    pub machine: Machine,
    /// Its host's name, for people.
    pub name: String,
    /// The label of the token that it joined with.
    pub label: String,
    /// Most memory that it may offer, in MiB.
    pub max_memory_mb: Option<u64>,
    /// SHA-256 of the public key in its newest certificate.
    pub key_digest: Vec<u8>,
    pub joined_at: Timestamp,
    /// End of its newest certificate.
    pub certificate_until: Timestamp,
    /// Since when its certificates count no more.
    pub revoked_at: Option<Timestamp>,
}

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is none with this id and secret.
    Unknown,
    /// It is another role's.
    Role(Role),
    /// It was used.
    Used,
    /// Its time is over.
    Expired,
}

const TOKEN: &str = "SELECT id, digest, role, label, max_memory_mb, created_at, valid_until, used_at, machine_id FROM \
                     join_tokens";
const MACHINE: &str = "SELECT id, role, name, label, max_memory_mb, key_digest, joined_at, certificate_until, revoked_at \
                       FROM machines";

fn token(_: &Db, row: &Row) -> Result<JoinToken> {
    let machine: Option<Uuid> = row.get("machine_id")?;
    Ok(JoinToken {
        id: row.get("id")?,
        digest: row.get("digest")?,
        role: row.parse("role")?,
        label: row.get("label")?,
        max_memory_mb: row.int_opt("max_memory_mb")?,
        created_at: row.time("created_at")?,
        valid_until: row.time("valid_until")?,
        used: row.time_opt("used_at")?.zip(machine),
    })
}

fn machine(_: &Db, row: &Row) -> Result<StoredMachine> {
    Ok(StoredMachine {
        machine: Machine {
            role: row.parse("role")?,
            id: row.get("id")?,
        },
        name: row.get("name")?,
        label: row.get("label")?,
        max_memory_mb: row.int_opt("max_memory_mb")?,
        key_digest: row.get("key_digest")?,
        joined_at: row.time("joined_at")?,
        certificate_until: row.time("certificate_until")?,
        revoked_at: row.time_opt("revoked_at")?,
    })
}

impl Db {
    /// Tokens that may still be used at `now`, and those that were, newest first; at most `most`.
    pub async fn join_token_list(&self, now: Timestamp, most: u32) -> Result<Vec<JoinToken>> {
        let query = Query::new("join_token_list", "all", TOKEN)
            .push(" WHERE used_at IS NOT NULL OR valid_until > ")
            .push_arg(now)
            .push(" ORDER BY created_at DESC, id LIMIT ")
            .push_arg(most);
        self.map(query, token).await
    }

    /// Why the token can't be used.
    pub async fn join_token_refusal(&self, id: Uuid, digest: &[u8], wanted: Role, now: Timestamp) -> Result<Refused> {
        let query = Query::new("join_token_refusal", id, TOKEN)
            .push(" WHERE id = ")
            .push_arg(id)
            .push(" AND digest = ")
            .push_arg(digest.to_vec());
        let Some(token) = self.find(query, token).await? else {
            return Ok(Refused::Unknown);
        };
        Ok(if token.used.is_some() {
            Refused::Used
        } else if token.valid_until <= now {
            Refused::Expired
        } else if token.role == wanted {
            // Another used it between the two questions, and gave it back.
            Refused::Unknown
        } else {
            Refused::Role(token.role)
        })
    }

    /// A machine that joined.
    pub async fn machine_fetch(&self, wanted: Machine) -> Result<Option<StoredMachine>> {
        let query = Query::new("machine_fetch", wanted, MACHINE)
            .push(" WHERE role = ")
            .push_arg(wanted.role.word())
            .push(" AND id = ")
            .push_arg(wanted.id);
        self.find(query, machine).await
    }

    /// All that joined, in the order of their joining.
    pub async fn machine_list(&self) -> Result<Vec<StoredMachine>> {
        let query = Query::new("machine_list", "all", MACHINE).push(" ORDER BY joined_at, id");
        self.map(query, machine).await
    }

    /// Addresses of the controllers that said since `since` that they are there.
    pub async fn controllers_seen(&self, since: Timestamp) -> Result<Vec<String>> {
        let query = Query::new(
            "controllers_seen",
            "all",
            "SELECT address FROM controllers WHERE seen_at >= $1 ORDER BY address",
        )
        .arg(since);
        self.map(query, |_, row| row.get("address")).await
    }

    /// Where work is and whose, by id, ended or not: what machines say of it is held against this.
    pub async fn work_owners(&self, ids: &[WorkId]) -> Result<HashMap<WorkId, (CellId, AppId)>> {
        let mut owners = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(self.batch(1)) {
            let query = Query::new(
                "work_owners",
                ids.len(),
                "SELECT id, cell_id, app_id FROM works WHERE 1 = 1",
            )
            .and_in("id", ids.iter().copied());
            let rows = self.map(query, |_, row| {
                Ok((row.id("id")?, (row.id("cell_id")?, row.id("app_id")?)))
            });
            owners.extend(rows.await?);
        }
        Ok(owners)
    }
}

impl Tx {
    /// Stores a token, and removes those that ended unused before its creation.
    pub async fn join_token_create(&self, token: &JoinToken) -> Result<()> {
        let prune = Query::new(
            "join_token_create",
            token.id,
            "DELETE FROM join_tokens WHERE used_at IS NULL AND valid_until <= $1",
        )
        .arg(token.created_at);
        self.execute(prune).await?;
        let query = Query::new(
            "join_token_create",
            token.id,
            "INSERT INTO join_tokens (id, digest, role, label, max_memory_mb, created_at, valid_until) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .arg(token.id)
        .arg(token.digest.clone())
        .arg(token.role.word())
        .arg(token.label.as_str())
        .arg(token.max_memory_mb.and_then(|memory| i64::try_from(memory).ok()))
        .arg(token.created_at)
        .arg(token.valid_until);
        self.execute(query).await.map(drop)
    }

    /// Removes a token. False where there is none.
    pub async fn join_token_delete(&self, id: Uuid) -> Result<bool> {
        let query = Query::new("join_token_delete", id, "DELETE FROM join_tokens WHERE id = $1").arg(id);
        Ok(self.execute(query).await? > 0)
    }

    /// Uses a token up for `machine`; `None` where it is not good, for which [`Db::join_token_refusal`] has the reason.
    /// Of two that come at once one gets it.
    pub async fn join_token_use(
        &self,
        id: Uuid,
        digest: &[u8],
        machine: Machine,
        now: Timestamp,
    ) -> Result<Option<JoinToken>> {
        let query = Query::new(
            "join_token_use",
            id,
            "UPDATE join_tokens SET used_at = $1, machine_id = $2 \
             WHERE id = $3 AND digest = $4 AND role = $5 AND used_at IS NULL AND valid_until > $6 \
             RETURNING id, digest, role, label, max_memory_mb, created_at, valid_until, used_at, machine_id",
        )
        .arg(now)
        .arg(machine.id)
        .arg(id)
        .arg(digest.to_vec())
        .arg(machine.role.word())
        .arg(now);
        self.find(query, token).await
    }

    /// Stores a machine that joined, or joined again. Whether it was revoked stays.
    pub async fn machine_put(&self, joined: &StoredMachine) -> Result<()> {
        let query = Query::new(
            "machine_put",
            joined.machine,
            "INSERT INTO machines (id, role, name, label, max_memory_mb, key_digest, joined_at, certificate_until) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (role, id) DO UPDATE SET name = excluded.name, \
             label = excluded.label, max_memory_mb = excluded.max_memory_mb, key_digest = excluded.key_digest, \
             certificate_until = excluded.certificate_until",
        )
        .arg(joined.machine.id)
        .arg(joined.machine.role.word())
        .arg(joined.name.as_str())
        .arg(joined.label.as_str())
        .arg(joined.max_memory_mb.and_then(|memory| i64::try_from(memory).ok()))
        .arg(joined.key_digest.clone())
        .arg(joined.joined_at)
        .arg(joined.certificate_until);
        self.execute(query).await.map(drop)
    }

    /// A machine got its next certificate. False where it is not known, or was revoked.
    pub async fn machine_renewed(&self, machine: Machine, key_digest: &[u8], until: Timestamp) -> Result<bool> {
        let query = Query::new(
            "machine_renewed",
            machine,
            "UPDATE machines SET key_digest = $1, certificate_until = $2 \
             WHERE role = $3 AND id = $4 AND revoked_at IS NULL",
        )
        .arg(key_digest.to_vec())
        .arg(until)
        .arg(machine.role.word())
        .arg(machine.id);
        Ok(self.execute(query).await? > 0)
    }

    /// Ends a machine's certificates. False where there is no such machine.
    pub async fn machine_revoke(&self, machine: Machine, now: Timestamp) -> Result<bool> {
        let query = Query::new(
            "machine_revoke",
            machine,
            "UPDATE machines SET revoked_at = COALESCE(revoked_at, $1) WHERE role = $2 AND id = $3",
        )
        .arg(now)
        .arg(machine.role.word())
        .arg(machine.id);
        Ok(self.execute(query).await? > 0)
    }

    /// A controller says that it is there.
    pub async fn controller_seen(&self, address: &str, now: Timestamp) -> Result<()> {
        let query = Query::new(
            "controller_seen",
            address,
            "INSERT INTO controllers (address, seen_at) VALUES ($1, $2) \
             ON CONFLICT (address) DO UPDATE SET seen_at = excluded.seen_at",
        )
        .arg(address)
        .arg(now);
        self.execute(query).await.map(drop)
    }
}
