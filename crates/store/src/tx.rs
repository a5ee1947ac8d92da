//! A transaction: reads, writes, and what is to be said once it is committed.
//!
//! Events, changes of cells' assignment sets and topics are gathered while it is open and written in one fixed order
//! at its end, so that no two transactions can wait for each other over the shared counters.

use crate::engine::{Conn, Db};
use crate::error::{Result, StoreError};
use crate::event::NewEvent;
use crate::notify::{Bus, CHANNEL, Topic};
use crate::sql::Query;
use crate::usage::NewUsage;
use model::Timestamp;
use model::id::{AppId, CellId};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ops::Deref;

#[derive(Default)]
struct Gathered {
    events: Vec<NewEvent>,
    cells: BTreeSet<CellId>,
    topics: BTreeSet<Topic>,
    usage: Vec<NewUsage>,
    /// Apps whose processes may take something else than before.
    apps: BTreeSet<AppId>,
}

impl Gathered {
    /// When it happens: when its last event does. What is told without one is told as of the beginning of time, which
    /// no transaction of a user's is.
    fn at(&self) -> Timestamp {
        let newest = self.events.iter().map(|event| event.created_at).max();
        newest.unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// An open transaction. Dropped without [`Tx::commit`] it is rolled back.
///
/// On SQLite it holds the only write lock: nothing slow (network, files, hashing) belongs between its begin and commit.
/// After an error nothing more may be done in it but to drop it.
pub struct Tx {
    db: Db,
    bus: Bus,
    gathered: Mutex<Gathered>,
}

impl Deref for Tx {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}

impl Tx {
    pub(crate) fn new(db: Db, bus: Bus) -> Self {
        Self {
            db,
            bus,
            gathered: Mutex::default(),
        }
    }

    /// Counts rows and values anew, by which the engine chooses how to read. PostgreSQL does so by itself; SQLite does not.
    pub async fn analyze(&self) -> Result<()> {
        self.execute(Query::new("analyze", "all tables", "ANALYZE"))
            .await
            .map(drop)
    }

    /// Writes `event` with this transaction; it gets its sequence at commit.
    pub fn event(&self, event: NewEvent) {
        let mut gathered = self.gathered.lock();
        gathered.events.push(event);
        gathered.topics.insert(Topic::Events);
    }

    /// Holds what the app takes against what was told of it, at commit.
    pub(crate) fn touch_usage(&self, app: AppId) {
        self.gathered.lock().apps.insert(app);
    }

    /// Writes a usage event with this transaction; it gets its sequence at commit.
    pub(crate) fn usage(&self, usage: NewUsage) {
        self.gathered.lock().usage.push(usage);
    }

    /// Says at commit that `topic` changed.
    pub fn touch(&self, topic: Topic) {
        self.gathered.lock().topics.insert(topic);
    }

    /// Bumps the revision of the cell's assignment set with this transaction.
    pub fn touch_cell(&self, cell: CellId) {
        let mut gathered = self.gathered.lock();
        gathered.cells.insert(cell);
        gathered.topics.insert(Topic::Work(cell));
    }

    /// Makes everything durable and visible, then tells subscribers.
    ///
    /// # Errors
    /// Nothing of the transaction was done.
    pub async fn commit(self) -> Result<()> {
        let mut gathered = self.gathered.into_inner();
        let at = gathered.at();
        gathered.usage.extend(self.db.usage_news(&gathered.apps).await?);
        for cell in &gathered.cells {
            let query = Query::new(
                "cell_touch",
                cell,
                "UPDATE cells SET revision = revision + 1 WHERE id = $1",
            )
            .arg(*cell);
            self.db.execute(query).await?;
        }
        self.db.events_insert(&gathered.events).await?;
        self.db.usage_insert(&gathered.usage, at).await?;
        let failed = |source| StoreError::Failed {
            operation: "commit",
            subject: "transaction".into(),
            source,
        };
        match self.db.conn {
            Conn::SqliteTx(guard) => guard.into_inner().commit().await.map_err(failed)?,
            Conn::PostgresTx(tx) => {
                let mut tx = tx.into_inner();
                for topic in &gathered.topics {
                    sqlx::query("SELECT pg_notify($1, $2)")
                        .bind(CHANNEL)
                        .bind(topic.encode())
                        .execute(&mut *tx)
                        .await
                        .map_err(failed)?;
                }
                tx.commit().await.map_err(failed)?;
            }
            Conn::SqlitePool(_) | Conn::PostgresPool(_) => {
                return Err(StoreError::corrupt("transaction", "commit on a pool"));
            }
        }
        for topic in gathered.topics {
            self.bus.publish(topic);
        }
        Ok(())
    }
}
