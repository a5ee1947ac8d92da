//! The whole database as lines of JSON, the same for both engines: for backups, and to move from one engine to the other.
//!
//! ```text
//! {"format":1,"schema":24}
//! {"table":"orgs","columns":["id","name",…]}
//! [{"b":"0190…"},"shop",…]
//! {"rows":17}
//! ```
//! Bytes and ids are `{"b": hex}`. What is encrypted stays so, under the same key. Leases are left out, and where
//! controllers are: they are of a running platform, not of its state.

use crate::engine::{Conn, Db};
use crate::error::{Result, StoreError};
use crate::migrate;
use crate::sql::{Arg, Query, Row};
use crate::tx::Tx;
use crate::{Store, Topic};
use serde_json::{Value, json};
use uuid::Uuid;

const FORMAT: u64 = 1;
/// Rows that are read at once.
const PAGE: i64 = 1000;
/// Longest line of a backup.
const MAX_LINE: usize = 256 << 20;

/// Tables in an order in which each refers to earlier ones alone.
const TABLES: [&str; 45] = [
    "counters",
    "settings",
    "users",
    "refresh_tokens",
    "orgs",
    "spaces",
    "roles",
    "stacks",
    "domains",
    "apps",
    "processes",
    "process_versions",
    "packages",
    "package_files",
    "builds",
    "droplets",
    "build_caches",
    "deployments",
    "tasks",
    "routes",
    "destinations",
    "jobs",
    "events",
    "cells",
    "works",
    "service_instances",
    "service_bindings",
    "buildpacks",
    "revisions",
    "security_groups",
    "security_group_spaces",
    "quotas",
    "org_quotas",
    "space_quotas",
    "sidecars",
    "usage_events",
    "process_usage",
    "isolation_segments",
    "entitled_orgs",
    "org_segments",
    "space_segments",
    "one_time_codes",
    "device_logins",
    "join_tokens",
    "machines",
];
/// Tables that are not a part of it.
const LEFT_OUT: [&str; 3] = ["schema_migrations", "leases", "controllers"];

/// Why a database could not be written down, or read back.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The database failed.
    #[error("the database could not be read or written")]
    Store(#[from] StoreError),
    /// A line could not be written or read.
    #[error("line {number} could not be written or read")]
    Line {
        /// From 1.
        number: u64,
        #[source]
        source: std::io::Error,
    },
    /// A line is not what it should be.
    #[error("line {number} is no part of a backup: {detail}")]
    Malformed {
        /// From 1.
        number: u64,
        /// What is wrong.
        detail: String,
    },
    /// It was made with another schema.
    #[error(
        "it was made by a program with schema {theirs}, and this one has {ours}: restore it with that program, then upgrade"
    )]
    Schema {
        /// Of the backup.
        theirs: u64,
        /// Of this program.
        ours: i64,
    },
    /// The database is in use.
    #[error("the database is not empty; nothing was changed")]
    NotEmpty,
    /// The end is missing.
    #[error("the backup has no end: it was cut off after {rows} rows; nothing was changed")]
    CutOff {
        /// Rows that were there.
        rows: u64,
    },
}

/// A column, with its type as the engine names it.
struct Column {
    name: String,
    kind: String,
}

impl Store {
    /// Writes everything down as it is at one moment; `line` takes one line after the other, without its end. The number of
    /// rows.
    ///
    /// # Errors
    /// The database's, and those of `line`.
    pub async fn dump(&self, mut line: impl FnMut(&str) -> std::io::Result<()>) -> Result<u64, DumpError> {
        let (mut number, mut rows) = (0_u64, 0_u64);
        let mut write = |value: &Value| {
            number += 1;
            line(&value.to_string()).map_err(|source| DumpError::Line { number, source })
        };
        let tx = self.begin().await?;
        tx.one_moment().await?;
        write(&json!({"format": FORMAT, "schema": migrate::newest()}))?;
        for table in TABLES {
            let columns = tx.dump_columns(table).await?;
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            write(&json!({"table": table, "columns": names}))?;
            let mut offset = 0;
            loop {
                let page = tx.dump_page(table, &columns, offset).await?;
                for row in &page {
                    write(row)?;
                }
                let got = i64::try_from(page.len()).unwrap_or(i64::MAX);
                rows += page.len() as u64;
                offset += got;
                if got < PAGE {
                    break;
                }
            }
        }
        write(&json!({"rows": rows}))?;
        Ok(rows)
    }

    /// Reads what [`Store::dump`] wrote into an empty database, in one transaction; the number of rows.
    ///
    /// # Errors
    /// Where the database is not empty, or the lines are no whole backup of this schema: then nothing is changed.
    pub async fn restore(&self, lines: impl Iterator<Item = std::io::Result<String>>) -> Result<u64, DumpError> {
        let tx = self.begin().await?;
        tx.empty_out().await?;
        let mut reading = Reading::default();
        for line in lines {
            reading.number += 1;
            let number = reading.number;
            let line = line.map_err(|source| DumpError::Line { number, source })?;
            if reading.ended {
                return Err(reading.malformed("something follows the end"));
            }
            reading.line(&tx, &line).await?;
        }
        if !reading.ended {
            return Err(DumpError::CutOff { rows: reading.rows });
        }
        tx.touch(Topic::Desired);
        tx.commit().await?;
        Ok(reading.rows)
    }
}

/// A backup as far as it was read.
#[derive(Default)]
struct Reading {
    number: u64,
    rows: u64,
    table: Option<(&'static str, Vec<Column>)>,
    begun: bool,
    ended: bool,
}

impl Reading {
    fn malformed(&self, detail: impl Into<String>) -> DumpError {
        DumpError::Malformed {
            number: self.number,
            detail: detail.into(),
        }
    }

    async fn line(&mut self, tx: &Tx, line: &str) -> Result<(), DumpError> {
        if line.len() > MAX_LINE {
            return Err(self.malformed("it is too long"));
        }
        let value: Value = serde_json::from_str(line).map_err(|error| self.malformed(error.to_string()))?;
        match value {
            Value::Array(row) => self.row(tx, &row).await,
            Value::Object(head) if !self.begun => {
                let (format, schema) = (head.get("format"), head.get("schema").and_then(Value::as_u64));
                if format.and_then(Value::as_u64) != Some(FORMAT) {
                    return Err(self.malformed("it has another format"));
                }
                let (theirs, ours) = (schema.unwrap_or(0), migrate::newest());
                if i64::try_from(theirs) != Ok(ours) {
                    return Err(DumpError::Schema { theirs, ours });
                }
                self.begun = true;
                Ok(())
            }
            Value::Object(head) if head.contains_key("rows") => {
                if head.get("rows").and_then(Value::as_u64) != Some(self.rows) {
                    return Err(self.malformed(format!("it says another number than {}", self.rows)));
                }
                self.ended = true;
                Ok(())
            }
            Value::Object(head) => {
                let name = head.get("table").and_then(Value::as_str).unwrap_or_default();
                let table = TABLES.into_iter().find(|table| *table == name);
                let table = table.ok_or_else(|| self.malformed("it names no table"))?;
                let columns = tx.dump_columns(table).await?;
                let ours: Vec<Value> = columns.iter().map(|column| json!(column.name)).collect();
                self.table = Some((
                    table,
                    sorted(columns, head.get("columns"), &ours)
                        .ok_or_else(|| self.malformed(format!("table {table} has other columns")))?,
                ));
                Ok(())
            }
            _ => Err(self.malformed("it is neither a row nor a head")),
        }
    }

    async fn row(&mut self, tx: &Tx, row: &[Value]) -> Result<(), DumpError> {
        let Some((table, columns)) = self.table.as_ref().filter(|(_, columns)| columns.len() == row.len()) else {
            return Err(self.malformed("it belongs to no table, or has another number of values"));
        };
        let values = columns.iter().zip(row).map(|(column, value)| arg(column, value));
        let values = values.collect::<Result<Vec<Arg>>>()?;
        let names = names(columns);
        let head = format!("INSERT INTO {table} ({names}) VALUES ");
        tx.execute(Query::new("restore", table, "").push(&head).push_rows([values]))
            .await?;
        self.rows += 1;
        Ok(())
    }
}

/// Our columns in the order of theirs: engines may have them in another. `None` where they are not the same.
fn sorted(mut columns: Vec<Column>, theirs: Option<&Value>, ours: &[Value]) -> Option<Vec<Column>> {
    let theirs = theirs?.as_array()?;
    if theirs.len() != ours.len() || !theirs.iter().all(|name| ours.contains(name)) {
        return None;
    }
    columns.sort_by_key(|column| theirs.iter().position(|name| name.as_str() == Some(&column.name)));
    Some(columns)
}

impl Tx {
    /// All that is read from now on is of one moment. SQLite has that anyway.
    async fn one_moment(&self) -> Result<()> {
        if self.is_postgres() {
            let sql = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
            self.execute(Query::new("dump", "transaction", sql)).await?;
        }
        Ok(())
    }

    /// Removes what migrations put there, from a database that nobody has used.
    async fn empty_out(&self) -> Result<(), DumpError> {
        for table in ["users", "apps", "cells"] {
            let query = Query::new("restore", table, "SELECT count(*) AS count FROM ").push(table);
            if self.one(query).await?.int::<i64>("count")? > 0 {
                return Err(DumpError::NotEmpty);
            }
        }
        for table in TABLES.into_iter().rev() {
            self.execute(Query::new("restore", table, "DELETE FROM ").push(table))
                .await?;
        }
        Ok(())
    }
}

impl Db {
    fn is_postgres(&self) -> bool {
        matches!(self.conn, Conn::PostgresPool(_) | Conn::PostgresTx(_))
    }

    async fn dump_columns(&self, table: &'static str) -> Result<Vec<Column>> {
        let query = if self.is_postgres() {
            Query::new(
                "dump_columns",
                table,
                "SELECT column_name::text AS name, data_type::text AS kind FROM information_schema.columns \
                 WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position",
            )
        } else {
            Query::new(
                "dump_columns",
                table,
                "SELECT name, type AS kind FROM pragma_table_info($1) ORDER BY cid",
            )
        };
        self.map(query.arg(table), |_, row| {
            Ok(Column {
                name: row.text("name")?,
                kind: row.text("kind")?.to_lowercase(),
            })
        })
        .await
    }

    async fn dump_page(&self, table: &'static str, columns: &[Column], offset: i64) -> Result<Vec<Value>> {
        let names = names(columns);
        let place = if self.is_postgres() { "ctid" } else { "rowid" };
        let query = Query::new("dump", table, "SELECT ")
            .push(&names)
            .push(&format!(" FROM {table} ORDER BY {place} LIMIT "))
            .push_arg(PAGE)
            .push(" OFFSET ")
            .push_arg(offset);
        self.map(query, |_, row| {
            let values = columns.iter().map(|column| value(row, column));
            Ok(Value::Array(values.collect::<Result<_>>()?))
        })
        .await
    }

    /// Tables of the schema that are neither written down nor left out, or the other way round. For tests.
    pub async fn dump_gaps(&self) -> Result<Vec<String>> {
        let query = if self.is_postgres() {
            "SELECT tablename::text AS name FROM pg_tables WHERE schemaname = current_schema()"
        } else {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        };
        let there = self.map(Query::new("dump_gaps", "all", query), |_, row| row.text("name"));
        let there = there.await?;
        let known: Vec<&str> = TABLES.into_iter().chain(LEFT_OUT).collect();
        let missing = there.iter().filter(|name| !known.contains(&name.as_str())).cloned();
        let gone = known.iter().filter(|name| !there.iter().any(|there| there == *name));
        Ok(missing.chain(gone.map(|name| (*name).to_owned())).collect())
    }
}

/// Columns as a statement names them.
fn names(columns: &[Column]) -> String {
    let names: Vec<String> = columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
    names.join(", ")
}

fn value(row: &Row, column: &Column) -> Result<Value> {
    let name = column.name.as_str();
    let bytes = |bytes: Option<Vec<u8>>| bytes.map_or(Value::Null, |bytes| json!({"b": hex::encode(bytes)}));
    Ok(match column.kind.as_str() {
        "uuid" => bytes(row.get::<Option<Uuid>>(name)?.map(|id| id.as_bytes().to_vec())),
        "bytea" | "blob" => bytes(row.get(name)?),
        "bigint" | "integer" => json!(row.get::<Option<i64>>(name)?),
        "boolean" => json!(row.get::<Option<bool>>(name)?),
        "text" => json!(row.get::<Option<String>>(name)?),
        other => {
            return Err(StoreError::corrupt(
                name,
                format!("no backup has columns of type {other}"),
            ));
        }
    })
}

fn arg(column: &Column, value: &Value) -> Result<Arg> {
    let wrong = || StoreError::corrupt(&column.name, "the backup has a value of another type");
    let bytes = || {
        let text = value.get("b").and_then(Value::as_str).ok_or_else(wrong)?;
        hex::decode(text).map_err(|_| wrong())
    };
    let null = value.is_null();
    Ok(match column.kind.as_str() {
        "uuid" if null => Arg::Uuid(None),
        "uuid" => Arg::Uuid(Some(Uuid::from_slice(&bytes()?).map_err(|_| wrong())?)),
        "bytea" | "blob" if null => Arg::Bytes(None),
        "bytea" | "blob" => Arg::Bytes(Some(bytes()?)),
        "bigint" | "integer" if null => Arg::Int(None),
        "bigint" | "integer" => Arg::Int(Some(value.as_i64().ok_or_else(wrong)?)),
        "boolean" => Arg::Bool(value.as_bool().ok_or_else(wrong)?),
        "text" if null => Arg::Text(None),
        "text" => Arg::Text(Some(value.as_str().ok_or_else(wrong)?.to_owned())),
        other => {
            return Err(StoreError::corrupt(
                &column.name,
                format!("no backup has columns of type {other}"),
            ));
        }
    })
}
