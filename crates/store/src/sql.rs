//! Statements, their arguments and rows, without an engine. `engine` is what knows that there are two.

use crate::error::{Result, StoreError};
use model::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;
use uuid::Uuid;

/// A bound value. NULLs are typed, as PostgreSQL wants them.
#[derive(Debug, Clone)]
pub(crate) enum Arg {
    Uuid(Option<Uuid>),
    Text(Option<String>),
    Int(Option<i64>),
    Bool(bool),
    Bytes(Option<Vec<u8>>),
}

macro_rules! args {
    ($($from:ty => |$value:ident| $arg:expr;)+) => {$(
        impl From<$from> for Arg {
            fn from($value: $from) -> Self {
                $arg
            }
        }
    )+};
}

args! {
    Uuid => |v| Arg::Uuid(Some(v));
    Option<Uuid> => |v| Arg::Uuid(v);
    &str => |v| Arg::Text(Some(v.to_owned()));
    String => |v| Arg::Text(Some(v));
    Option<String> => |v| Arg::Text(v);
    bool => |v| Arg::Bool(v);
    i64 => |v| Arg::Int(Some(v));
    u32 => |v| Arg::Int(Some(i64::from(v)));
    u8 => |v| Arg::Int(Some(i64::from(v)));
    u64 => |v| Arg::Int(Some(i64::try_from(v).unwrap_or(i64::MAX)));
    Option<i64> => |v| Arg::Int(v);
    Option<u16> => |v| Arg::Int(v.map(i64::from));
    Vec<u8> => |v| Arg::Bytes(Some(v));
    Option<Vec<u8>> => |v| Arg::Bytes(v);
    Timestamp => |v| Arg::Int(Some(micros(v)));
    &model::Digest => |v| Arg::Text(Some(v.to_string()));
}

macro_rules! id_args {
    ($($id:ident),+ $(,)?) => {$(
        impl From<model::id::$id> for Arg {
            fn from(id: model::id::$id) -> Self {
                Self::Uuid(Some(id.0))
            }
        }

        impl From<Option<model::id::$id>> for Arg {
            fn from(id: Option<model::id::$id>) -> Self {
                Self::Uuid(id.map(|id| id.0))
            }
        }
    )+};
}

id_args!(
    OrgId,
    SpaceId,
    UserId,
    RoleId,
    AppId,
    ProcessId,
    VersionId,
    PackageId,
    BuildId,
    BuildpackId,
    DropletId,
    DeploymentId,
    RevisionId,
    QuotaId,
    SegmentId,
    SidecarId,
    TaskId,
    RouteId,
    DestinationId,
    DomainId,
    JobId,
    ServiceInstanceId,
    BindingId,
    SecurityGroupId,
    EventId,
    StackId,
    CellId,
    WorkId,
);

/// Microseconds since 1970: what instants are stored as, so that both engines order them alike.
pub(crate) fn micros(at: Timestamp) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

/// The text of a value that serialises as one, such as an enum of states.
pub(crate) fn word<T: Serialize>(value: &T) -> Result<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => Ok(text),
        Ok(other) => Err(StoreError::corrupt("word", format!("{other} is no text"))),
        Err(error) => Err(StoreError::corrupt("word", error)),
    }
}

/// A value as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::corrupt("json", error))
}

/// A statement with its arguments, and what to say if it fails.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) sql: Cow<'static, str>,
    pub(crate) args: Vec<Arg>,
    pub(crate) operation: &'static str,
    pub(crate) subject: String,
    pub(crate) taken: Option<&'static str>,
}

impl Query {
    /// `operation` is the public function's name; `subject` the ids that it is about.
    pub(crate) fn new(operation: &'static str, subject: impl Display, sql: &'static str) -> Self {
        Self {
            sql: Cow::Borrowed(sql),
            args: Vec::new(),
            operation,
            subject: subject.to_string(),
            taken: None,
        }
    }

    /// Binds the next `$n`.
    pub(crate) fn arg(mut self, value: impl Into<Arg>) -> Self {
        self.args.push(value.into());
        self
    }

    /// Names what is taken if a unique index refuses the statement.
    pub(crate) fn taken(mut self, what: &'static str) -> Self {
        self.taken = Some(what);
        self
    }

    /// Appends text of the program's own; values go through the other methods.
    pub(crate) fn push(mut self, sql: &str) -> Self {
        self.sql.to_mut().push_str(sql);
        self
    }

    /// Appends `$n` bound to `value`.
    pub(crate) fn push_arg(mut self, value: impl Into<Arg>) -> Self {
        self.args.push(value.into());
        let placeholder = format!("${}", self.args.len());
        self.push(&placeholder)
    }

    /// Appends `AND column IN (...)`.
    pub(crate) fn and_in<A: Into<Arg>>(mut self, column: &str, values: impl IntoIterator<Item = A>) -> Self {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return self.push(" AND 1 = 0");
        }
        self = self.push(" AND ").push(column).push(" IN (");
        let mut first = true;
        for value in values {
            if !first {
                self = self.push(", ");
            }
            first = false;
            self = self.push_arg(value);
        }
        self.push(")")
    }

    /// Like [`Self::and_in`], where there is a filter at all.
    pub(crate) fn and_in_some<A: Into<Arg> + Clone>(self, column: &str, values: Option<&[A]>) -> Self {
        match values {
            Some(values) => self.and_in(column, values.iter().cloned()),
            None => self,
        }
    }

    /// Like [`Self::and_in_some`], for values that are stored as [`word`]s.
    pub(crate) fn and_words_some<T: Serialize>(self, column: &str, values: Option<&[T]>) -> Result<Self> {
        match values {
            Some(values) => Ok(self.and_in(column, values.iter().map(word).collect::<Result<Vec<_>>>()?)),
            None => Ok(self),
        }
    }

    /// Appends `(a, b, …), (…)` for rows of arguments.
    pub(crate) fn push_rows(mut self, rows: impl IntoIterator<Item = Vec<Arg>>) -> Self {
        for (n, row) in rows.into_iter().enumerate() {
            self = self.push(if n == 0 { "(" } else { ", (" });
            for (n, value) in row.into_iter().enumerate() {
                if n > 0 {
                    self = self.push(", ");
                }
                self = self.push_arg(value);
            }
            self = self.push(")");
        }
        self
    }

    /// The same arguments and text behind another head: `SELECT …` or `SELECT count(*)` of one filter.
    pub(crate) fn headed(&self, head: &str) -> Self {
        let mut query = self.clone();
        query.sql = Cow::Owned(format!("{head}{}", self.sql));
        query
    }

    pub(crate) fn failed(&self, source: sqlx::Error) -> StoreError {
        if let sqlx::Error::Database(error) = &source {
            if let (true, Some(what)) = (error.is_unique_violation(), self.taken) {
                return StoreError::Taken { what };
            }
            // A deadlock or a lost race between transactions: nothing was done, and it may succeed next time.
            if matches!(error.code().as_deref(), Some("40P01" | "40001")) {
                return StoreError::Busy {
                    operation: self.operation,
                };
            }
            if error.is_foreign_key_violation() {
                return StoreError::Dangling {
                    operation: self.operation,
                    subject: self.subject.clone(),
                };
            }
        }
        StoreError::Failed {
            operation: self.operation,
            subject: self.subject.clone(),
            source,
        }
    }
}

/// A row of either engine.
pub(crate) enum Row {
    Sqlite(sqlx::sqlite::SqliteRow),
    Postgres(sqlx::postgres::PgRow),
}

impl Row {
    /// A column of a type that both engines know.
    pub(crate) fn get<T>(&self, column: &str) -> Result<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite>
            + sqlx::Type<sqlx::Sqlite>
            + for<'r> sqlx::Decode<'r, sqlx::Postgres>
            + sqlx::Type<sqlx::Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| StoreError::corrupt(column, error))
    }

    pub(crate) fn id<T: From<Uuid>>(&self, column: &str) -> Result<T> {
        self.get::<Uuid>(column).map(T::from)
    }

    pub(crate) fn id_opt<T: From<Uuid>>(&self, column: &str) -> Result<Option<T>> {
        Ok(self.get::<Option<Uuid>>(column)?.map(T::from))
    }

    pub(crate) fn text(&self, column: &str) -> Result<String> {
        self.get(column)
    }

    pub(crate) fn text_opt(&self, column: &str) -> Result<Option<String>> {
        self.get(column)
    }

    /// An integer of a narrower or unsigned type.
    pub(crate) fn int<T: TryFrom<i64>>(&self, column: &str) -> Result<T> {
        let value: i64 = self.get(column)?;
        T::try_from(value).map_err(|_| StoreError::corrupt(column, format!("{value} is out of range")))
    }

    pub(crate) fn int_opt<T: TryFrom<i64>>(&self, column: &str) -> Result<Option<T>> {
        let value: Option<i64> = self.get(column)?;
        value
            .map(|value| T::try_from(value).map_err(|_| StoreError::corrupt(column, "out of range")))
            .transpose()
    }

    pub(crate) fn time(&self, column: &str) -> Result<Timestamp> {
        let value: i64 = self.get(column)?;
        Timestamp::from_unix_timestamp_nanos(i128::from(value) * 1000)
            .map_err(|error| StoreError::corrupt(column, error))
    }

    pub(crate) fn time_opt(&self, column: &str) -> Result<Option<Timestamp>> {
        let value: Option<i64> = self.get(column)?;
        value.map(|_| self.time(column)).transpose()
    }

    /// A text that parses as `T`.
    pub(crate) fn parse<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T> {
        self.text(column)?
            .parse()
            .map_err(|error| StoreError::corrupt(column, error))
    }

    pub(crate) fn parse_opt<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>> {
        self.text_opt(column)?
            .map(|text| text.parse().map_err(|error| StoreError::corrupt(column, error)))
            .transpose()
    }

    /// What [`word`] wrote.
    pub(crate) fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_value(serde_json::Value::String(self.text(column)?))
            .map_err(|error| StoreError::corrupt(column, error))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(|error| StoreError::corrupt(column, error))
    }

    pub(crate) fn json_opt<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        self.text_opt(column)?
            .map(|text| serde_json::from_str(&text).map_err(|error| StoreError::corrupt(column, error)))
            .transpose()
    }
}
