//! Brings a database to the schema of this program. Migrations are embedded; each runs in one transaction.

use crate::error::{Result, StoreError};
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, Row as _};

/// A step of the schema, for both engines.
pub(crate) struct Migration {
    version: i64,
    sqlite: [&'static str; 2],
    postgres: [&'static str; 2],
}

macro_rules! migration {
    ($version:literal, $name:literal) => {
        Migration {
            version: $version,
            sqlite: [
                include_str!(concat!("../../../migrations/sqlite/", $name, ".up.sql")),
                include_str!(concat!("../../../migrations/sqlite/", $name, ".down.sql")),
            ],
            postgres: [
                include_str!(concat!("../../../migrations/postgres/", $name, ".up.sql")),
                include_str!(concat!("../../../migrations/postgres/", $name, ".down.sql")),
            ],
        }
    };
}

const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_first"),
    migration!(2, "0002_services"),
    migration!(3, "0003_buildpacks"),
    migration!(4, "0004_revisions"),
    migration!(5, "0005_security_groups"),
    migration!(6, "0006_canary"),
    migration!(7, "0007_metadata"),
    migration!(8, "0008_quotas"),
    migration!(9, "0009_sidecars"),
    migration!(10, "0010_own_sidecars"),
    migration!(15, "0015_images"),
    migration!(17, "0017_usage_events"),
    migration!(18, "0018_isolation_segments"),
    migration!(19, "0019_logins"),
    migration!(20, "0020_origins"),
    migration!(21, "0021_route_options"),
    migration!(23, "0023_machines"),
    migration!(24, "0024_draining"),
];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (version BIGINT PRIMARY KEY, checksum TEXT NOT NULL)";
/// Keeps two controllers that start at once from migrating side by side (PostgreSQL; SQLite has its own lock).
const LOCK: &str = "SELECT pg_advisory_xact_lock(7077431)";

/// The newest step that this program knows.
pub(crate) fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

fn checksum(sql: &str) -> String {
    hex::encode(Sha256::digest(sql.as_bytes()))
}

macro_rules! runner {
    ($up:ident, $down:ident, $connection:ty, $side:ident, $lock:expr) => {
        /// Applies what is missing.
        pub(crate) async fn $up(conn: &mut $connection) -> Result<()> {
            let failed = |version: i64| {
                move |source| StoreError::Failed {
                    operation: "migrate",
                    subject: format!("schema version {version}"),
                    source,
                }
            };
            let mut tx = conn.begin().await.map_err(failed(0))?;
            for statement in $lock {
                sqlx::raw_sql(statement)
                    .execute(&mut *tx)
                    .await
                    .map_err(failed(0))?;
            }
            sqlx::raw_sql(TABLE).execute(&mut *tx).await.map_err(failed(0))?;
            let rows = sqlx::query("SELECT version, checksum FROM schema_migrations ORDER BY version")
                .fetch_all(&mut *tx)
                .await
                .map_err(failed(0))?;
            let applied = rows
                .iter()
                .map(|row| Ok((row.try_get("version")?, row.try_get("checksum")?)))
                .collect::<Result<Vec<(i64, String)>, sqlx::Error>>()
                .map_err(failed(0))?;
            for (n, migration) in MIGRATIONS.iter().enumerate() {
                let sum = checksum(migration.$side[0]);
                match applied.get(n) {
                    Some((version, there)) if *version == migration.version && *there == sum => {}
                    Some((version, _)) => {
                        return Err(StoreError::Schema {
                            detail: format!(
                                "version {version} in the database differs from {}",
                                migration.version
                            ),
                        });
                    }
                    None => {
                        sqlx::raw_sql(migration.$side[0])
                            .execute(&mut *tx)
                            .await
                            .map_err(failed(migration.version))?;
                        sqlx::query("INSERT INTO schema_migrations (version, checksum) VALUES ($1, $2)")
                            .bind(migration.version)
                            .bind(sum)
                            .execute(&mut *tx)
                            .await
                            .map_err(failed(migration.version))?;
                    }
                }
            }
            if applied.len() > MIGRATIONS.len() {
                return Err(StoreError::Schema {
                    detail: format!(
                        "it has {} steps, this program knows {}",
                        applied.len(),
                        MIGRATIONS.len()
                    ),
                });
            }
            tx.commit().await.map_err(failed(0))
        }

        /// Takes every step back.
        #[cfg(feature = "testing")]
        pub(crate) async fn $down(conn: &mut $connection) -> Result<(), sqlx::Error> {
            let mut tx = conn.begin().await?;
            for migration in MIGRATIONS.iter().rev() {
                sqlx::raw_sql(migration.$side[1]).execute(&mut *tx).await?;
                sqlx::query("DELETE FROM schema_migrations WHERE version = $1")
                    .bind(migration.version)
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await
        }
    };
}

const NOTHING: [&str; 0] = [];

runner!(sqlite_up, sqlite_down, sqlx::SqliteConnection, sqlite, NOTHING);
runner!(postgres_up, postgres_down, sqlx::PgConnection, postgres, [LOCK]);
