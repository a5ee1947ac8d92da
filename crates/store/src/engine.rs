//! Where the two engines are told apart: one statement, run on whichever is behind a [`Db`].

use crate::error::{Result, StoreError};
use crate::page::{Page, Paged};
use crate::seal::Keys;
use crate::sql::{Arg, Query, Row};
use crate::writer;
use sqlx::postgres::{PgPool, Postgres};
use sqlx::sqlite::{Sqlite, SqlitePool};
use sqlx::{AssertSqlSafe, Transaction};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Something that statements run on: the pool of readers, or an open transaction.
///
/// All reading functions of the resource modules are methods of this type; [`crate::Store`] and [`crate::Tx`]
/// dereference to it.
pub struct Db {
    pub(crate) conn: Conn,
    pub(crate) keys: Arc<Keys>,
}

pub(crate) enum Conn {
    SqlitePool(SqlitePool),
    PostgresPool(PgPool),
    SqliteTx(Mutex<writer::Guard>),
    PostgresTx(Mutex<Transaction<'static, Postgres>>),
}

macro_rules! bound {
    ($query:expr, $engine:ty) => {{
        let query = $query;
        let mut bound = sqlx::query::<$engine>(AssertSqlSafe(query.sql.clone()));
        for arg in &query.args {
            bound = match arg {
                Arg::Uuid(value) => bound.bind(*value),
                Arg::Text(value) => bound.bind(value.clone()),
                Arg::Int(value) => bound.bind(*value),
                Arg::Bool(value) => bound.bind(*value),
                Arg::Bytes(value) => bound.bind(value.clone()),
            };
        }
        bound
    }};
}

/// The one dispatch: `$method` of the bound statement on the engine's executor, its result through `$sqlite` or
/// `$postgres`.
macro_rules! dispatch {
    ($db:expr, $query:expr, $method:ident, $sqlite:expr, $postgres:expr) => {
        match &$db.conn {
            Conn::SqlitePool(pool) => bound!($query, Sqlite).$method(pool).await.map($sqlite),
            Conn::PostgresPool(pool) => bound!($query, Postgres).$method(pool).await.map($postgres),
            Conn::SqliteTx(guard) => {
                let mut guard = guard.lock().await;
                bound!($query, Sqlite).$method(guard.conn()).await.map($sqlite)
            }
            Conn::PostgresTx(tx) => {
                let mut tx = tx.lock().await;
                bound!($query, Postgres).$method(&mut **tx).await.map($postgres)
            }
        }
    };
}

impl Db {
    /// All rows of a statement.
    pub(crate) async fn all(&self, query: Query) -> Result<Vec<Row>> {
        dispatch!(
            self,
            &query,
            fetch_all,
            |rows| rows.into_iter().map(Row::Sqlite).collect(),
            |rows| rows.into_iter().map(Row::Postgres).collect()
        )
        .map_err(|error| query.failed(error))
    }

    /// The row of a statement that gives one at most.
    pub(crate) async fn optional(&self, query: Query) -> Result<Option<Row>> {
        dispatch!(self, &query, fetch_optional, |row| row.map(Row::Sqlite), |row| row
            .map(Row::Postgres))
        .map_err(|error| query.failed(error))
    }

    /// The row of a statement that always gives one.
    pub(crate) async fn one(&self, query: Query) -> Result<Row> {
        let operation = query.operation;
        self.optional(query)
            .await?
            .ok_or_else(|| StoreError::corrupt(operation, "no row where there is always one"))
    }

    /// Runs a statement; the number of rows that it changed.
    pub(crate) async fn execute(&self, query: Query) -> Result<u64> {
        dispatch!(self, &query, execute, |done| done.rows_affected(), |done| done
            .rows_affected())
        .map_err(|error| query.failed(error))
    }

    /// All rows, converted.
    pub(crate) async fn map<T>(&self, query: Query, convert: impl Fn(&Db, &Row) -> Result<T>) -> Result<Vec<T>> {
        self.all(query).await?.iter().map(|row| convert(self, row)).collect()
    }

    /// The row, if there is one, converted.
    pub(crate) async fn find<T>(&self, query: Query, convert: impl Fn(&Db, &Row) -> Result<T>) -> Result<Option<T>> {
        self.optional(query).await?.map(|row| convert(self, &row)).transpose()
    }

    /// One page of `filter` (`FROM … WHERE …`), and how many rows there are in all.
    pub(crate) async fn list<T>(
        &self,
        columns: &str,
        filter: Query,
        order: &str,
        page: Page,
        convert: impl Fn(&Db, &Row) -> Result<T>,
    ) -> Result<Paged<T>> {
        let rows = filter
            .headed(&format!("SELECT {columns} "))
            .push(" ORDER BY ")
            .push(order)
            .push(" LIMIT ")
            .push_arg(i64::from(page.per_page))
            .push(" OFFSET ")
            .push_arg(page.offset());
        let items = self.map(rows, convert).await?;
        let here = u64::try_from(items.len()).unwrap_or(u64::MAX);
        let whole = here < u64::from(page.per_page) && (page.number <= 1 || here > 0);
        let total = if whole {
            u64::try_from(page.offset()).unwrap_or(0) + here
        } else {
            self.one(filter.headed("SELECT count(*) AS total "))
                .await?
                .int("total")?
        };
        Ok(Paged { items, total })
    }

    /// Rows of `columns` values that go into one statement. SQLite looks each numbered parameter up in a list, so many
    /// cost their square; PostgreSQL counts them in 16 bits.
    pub(crate) fn batch(&self, columns: usize) -> usize {
        let values = match self.conn {
            Conn::SqlitePool(_) | Conn::SqliteTx(_) => 1000,
            Conn::PostgresPool(_) | Conn::PostgresTx(_) => 30_000,
        };
        (values / columns.max(1)).max(1)
    }

    /// As [`Self::for_update`], of rows that others may go on to refer to.
    pub(crate) fn for_no_key_update(&self) -> &'static str {
        match self.conn {
            Conn::PostgresTx(_) => " FOR NO KEY UPDATE",
            _ => "",
        }
    }

    /// Appended to a SELECT in a transaction to keep its rows from others; SQLite has one writer anyway.
    pub(crate) fn for_update(&self) -> &'static str {
        match self.conn {
            Conn::PostgresTx(_) => " FOR UPDATE",
            _ => "",
        }
    }
}
