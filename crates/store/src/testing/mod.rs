//! Stores for tests, each empty and its own: SQLite in a temporary file, PostgreSQL in a database of its own.
//!
//! Behind the feature `testing`; no daemon has it.

mod server;

use crate::{Keys, Location, Store};
use model::Secret;
use std::sync::atomic::{AtomicU32, Ordering};

/// The two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// A store that is removed when it is dropped.
pub struct TestStore {
    pub store: Store,
    location: Location,
    _directory: Option<tempfile::TempDir>,
    database: Option<server::TestDatabase>,
}

impl std::ops::Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl TestStore {
    /// An empty store of this engine.
    ///
    /// # Panics
    /// Where PostgreSQL is neither running at `PAAS_TEST_POSTGRES_URL` nor installed: the message says what to do.
    pub async fn open(engine: Engine) -> Self {
        let (location, directory, database) = match engine {
            Engine::Sqlite => {
                let directory = tempfile::tempdir().expect("a temporary folder can be made");
                let location = Location::Sqlite(directory.path().join("paas.db"));
                (location, Some(directory), None)
            }
            Engine::Postgres => {
                let database = server::TestDatabase::create().await;
                let location = Location::Postgres {
                    url: Secret::new(database.url()),
                    connections: 8,
                };
                (location, None, Some(database))
            }
        };
        let store = Store::open(location.clone(), keys())
            .await
            .expect("an empty store opens");
        Self {
            store,
            location,
            _directory: directory,
            database,
        }
    }

    /// Another handle on the same database, as a second process would have.
    ///
    /// # Panics
    /// Where it does not open.
    pub async fn again(&self) -> Store {
        Store::open(self.location.clone(), keys())
            .await
            .expect("the store opens again")
    }

    /// Where it is.
    #[must_use]
    pub fn location(&self) -> Location {
        self.location.clone()
    }

    /// Ends it and removes what it left. Without this a PostgreSQL database goes with its server.
    pub async fn remove(self) {
        self.store.close().await;
        if let Some(database) = self.database {
            database.remove().await;
        }
    }
}

/// Takes every migration of the database back, as far as before the first.
///
/// # Panics
/// Where a step back fails.
pub async fn schema_down(location: &Location) {
    use sqlx::Connection as _;
    match location {
        Location::Sqlite(path) => {
            let options = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(path)
                .foreign_keys(true);
            let mut conn = sqlx::SqliteConnection::connect_with(&options).await.expect("connects");
            crate::migrate::sqlite_down(&mut conn).await.expect("goes back");
        }
        Location::Postgres { url, .. } => {
            let mut conn = sqlx::PgConnection::connect(url.expose()).await.expect("connects");
            crate::migrate::postgres_down(&mut conn).await.expect("goes back");
        }
    }
}

/// The key that test stores are encrypted with.
#[must_use]
pub fn keys() -> Keys {
    Keys::new(1, &[42; 32])
}

/// Names that no other test of this process uses.
#[must_use]
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// One test body per behaviour, run on each engine: `on_both_engines!(a, b)` makes `sqlite::a`, `postgres::a`, ... of
/// `async fn a(store: &TestStore)`.
#[macro_export]
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let store = $crate::testing::TestStore::open($crate::testing::Engine::Sqlite).await;
                super::$name(&store).await;
                store.remove().await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let store = $crate::testing::TestStore::open($crate::testing::Engine::Postgres).await;
                super::$name(&store).await;
                store.remove().await;
            })+
        }
    };
}
