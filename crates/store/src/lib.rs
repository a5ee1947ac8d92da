//! The only SQL of the platform: resources, transactions, change notification; on SQLite and on PostgreSQL.
//!
//! Reading functions are methods of [`Db`], to which both [`Store`] (reads the last committed state) and [`Tx`] (reads
//! its own writes) dereference. Writing functions are methods of [`Tx`] alone, so that whoever writes decides what
//! belongs together: `let tx = store.begin().await?; tx.app_create(&app).await?; tx.event(…); tx.commit().await?`.
//! Names say the resource first. Ids and `now` are arguments. What users may do is not decided here.

mod app;
mod build;
mod buildpack;
mod cell;
mod code;
mod common;
mod deployment;
mod desired;
mod domain;
mod droplet;
mod dump;
mod engine;
mod error;
mod event;
mod isolation;
mod job;
mod machine;
mod migrate;
mod notify;
mod org;
mod package;
mod page;
mod process;
mod quota;
mod retention;
mod revision;
mod role;
mod route;
mod seal;
mod security_group;
mod service;
mod setting;
mod sidecar;
mod sql;
mod ssh;
mod stack;
mod task;
#[cfg(feature = "testing")]
pub mod testing;
mod token;
mod tx;
mod usage;
mod user;
mod work;
mod writer;

pub use app::AppFilter;
pub use build::BuildFilter;
pub use code::{CodeKind, DeviceLogin, OneTimeCode};
pub use common::{Carrier, Common, Moment, NamedFilter};
pub use deployment::DeploymentFilter;
pub use desired::{DesiredProcess, DesiredVersion, KnownVersions, PendingBuild};
pub use domain::DomainFilter;
pub use droplet::DropletFilter;
pub use dump::DumpError;
pub use engine::Db;
pub use error::{Result, StoreError};
pub use event::{EventFilter, NewEvent};
pub use isolation::SegmentFilter;
pub use machine::{JoinToken, Refused, StoredMachine};
pub use notify::{Subscription, Topic};
pub use org::{OrgFilter, SpaceFilter};
pub use package::{PackageFile, PackageFilter};
pub use page::{Order, OrderBy, Page, Paged, Scope};
pub use process::ProcessFilter;
pub use quota::{DEFAULT_QUOTA, QuotaFilter};
pub use retention::Retention;
pub use revision::RevisionFilter;
pub use role::RoleFilter;
pub use route::{RouteEndpoint, RouteFilter, RouteTarget};
pub use seal::Keys;
pub use security_group::{BoundSpaces, SecurityGroupFilter};
pub use service::{BindingFilter, ServiceFilter};
pub use ssh::SshSwitches;
pub use task::TaskFilter;
pub use token::RefreshToken;
pub use tx::Tx;
pub use usage::{UsageEvent, UsageFilter, UsageKind};
pub use user::{StoredUser, UserFilter, UserKind};
pub use work::{Observed, Placement};

use engine::Conn;
use notify::Bus;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use std::ops::Deref;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a turn to write, or for a connection.
const LOCK_WAIT: Duration = Duration::from_secs(15);
/// Connections that read side by side on SQLite.
const SQLITE_READERS: u32 = 4;

/// Which database to open.
#[derive(Clone)]
pub enum Location {
    /// An embedded database in this file, made where it is missing.
    Sqlite(PathBuf),
    /// A server, by `postgres://` URL. At most `connections` are kept.
    Postgres { url: model::Secret, connections: u32 },
}

/// The store. Clones share everything.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    writer: Option<writer::Writer>,
    bus: Bus,
    listener: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

impl Deref for Store {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.inner.db
    }
}

impl Store {
    /// Opens the database and brings it to the current schema.
    ///
    /// # Errors
    /// Where it can't be reached, or its schema is of a newer program.
    pub async fn open(location: Location, keys: Keys) -> Result<Self> {
        match location {
            Location::Sqlite(path) => Self::open_sqlite(path, keys).await,
            Location::Postgres { url, connections } => Self::open_postgres(&url, connections, keys).await,
        }
    }

    async fn open_sqlite(path: PathBuf, keys: Keys) -> Result<Self> {
        let failed = |source| StoreError::Open {
            place: path.display().to_string(),
            source,
        };
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(256)
            .pragma("journal_size_limit", "67108864")
            .disable_statement_logging();
        let mut conn = sqlx::SqliteConnection::connect_with(&options).await.map_err(failed)?;
        migrate::sqlite_up(&mut conn).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .acquire_timeout(LOCK_WAIT)
            .connect_with(options.create_if_missing(false).read_only(true))
            .await
            .map_err(failed)?;
        Ok(Self::assemble(
            Conn::SqlitePool(readers),
            Some(writer::Writer::new(conn)),
            Bus::new(),
            None,
            keys,
        ))
    }

    async fn open_postgres(url: &model::Secret, connections: u32, keys: Keys) -> Result<Self> {
        let options = PgConnectOptions::from_str(url.expose()).map_err(|source| StoreError::Open {
            place: "postgres".into(),
            source,
        })?;
        let place = format!(
            "{} on {}",
            options.get_database().unwrap_or("postgres"),
            options.get_host()
        );
        let failed = |source| StoreError::Open {
            place: place.clone(),
            source,
        };
        let pool = PgPoolOptions::new()
            .max_connections(connections.max(2))
            .acquire_timeout(LOCK_WAIT)
            .connect_with(options.statement_cache_capacity(256).disable_statement_logging())
            .await
            .map_err(failed)?;
        migrate::postgres_up(&mut *pool.acquire().await.map_err(failed)?).await?;
        let bus = Bus::new();
        let listener = tokio::spawn(notify::listen(pool.clone(), bus.clone()));
        Ok(Self::assemble(
            Conn::PostgresPool(pool),
            None,
            bus,
            Some(listener),
            keys,
        ))
    }

    fn assemble(
        conn: Conn,
        writer: Option<writer::Writer>,
        bus: Bus,
        listener: Option<tokio::task::JoinHandle<()>>,
        keys: Keys,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                db: Db {
                    conn,
                    keys: Arc::new(keys),
                },
                writer,
                bus,
                listener,
            }),
        }
    }

    /// Begins a transaction. On SQLite transactions take turns: see [`Tx`].
    ///
    /// # Errors
    /// [`StoreError::Busy`] where the turn did not come in time.
    pub async fn begin(&self) -> Result<Tx> {
        let busy = |_| StoreError::Busy { operation: "begin" };
        let failed = |source| StoreError::Failed {
            operation: "begin",
            subject: "transaction".into(),
            source,
        };
        let conn = match (&self.inner.db.conn, &self.inner.writer) {
            (Conn::PostgresPool(pool), _) => {
                Conn::PostgresTx(tokio::sync::Mutex::new(pool.begin().await.map_err(failed)?))
            }
            (_, Some(writer)) => Conn::SqliteTx(tokio::sync::Mutex::new(
                tokio::time::timeout(LOCK_WAIT, writer.begin())
                    .await
                    .map_err(busy)?
                    .map_err(failed)?,
            )),
            _ => return Err(StoreError::corrupt("store", "no writer")),
        };
        let db = Db {
            conn,
            keys: self.inner.db.keys.clone(),
        };
        Ok(Tx::new(db, self.inner.bus.clone()))
    }

    /// What changes from now on, by this process and by others on the same database.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.inner.bus.subscribe()
    }

    /// Ends all connections. Later calls fail.
    pub async fn close(&self) {
        if let Some(listener) = &self.inner.listener {
            listener.abort();
        }
        match &self.inner.db.conn {
            Conn::SqlitePool(pool) => pool.close().await,
            Conn::PostgresPool(pool) => pool.close().await,
            Conn::SqliteTx(_) | Conn::PostgresTx(_) => {}
        }
        if let Some(writer) = &self.inner.writer {
            writer.close().await;
        }
    }
}
