//! What can go wrong with the store. Each variant names the operation and what it was about.

/// A failed operation of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened or brought to the current schema.
    #[error("can't open the database {place}")]
    Open {
        /// File or server, without credentials.
        place: String,
        #[source]
        source: sqlx::Error,
    },
    /// The database's schema was made by a newer program, or was changed by hand.
    #[error("the database's schema does not fit this program: {detail}")]
    Schema { detail: String },
    /// The database refused a statement or went away.
    #[error("{operation} failed for {subject}")]
    Failed {
        operation: &'static str,
        /// Ids of what the operation was about.
        subject: String,
        #[source]
        source: sqlx::Error,
    },
    /// A value that has to be unique is in use.
    #[error("{what} is taken")]
    Taken {
        /// Such as `app name` or `route`.
        what: &'static str,
    },
    /// What the operation refers to does not exist, or is still referred to.
    #[error("{operation} for {subject} refers to something that does not exist, or is still in use")]
    Dangling { operation: &'static str, subject: String },
    /// A stored value can't be read back.
    #[error("stored value {column} is not readable: {detail}")]
    Corrupt { column: String, detail: String },
    /// Other transactions were in the way; nothing was done, and it may succeed next time.
    #[error("{operation} was kept from its turn by other transactions")]
    Busy { operation: &'static str },
}

/// Result of the store's operations.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    pub(crate) fn corrupt(column: &str, detail: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            column: column.to_owned(),
            detail: detail.to_string(),
        }
    }
}
