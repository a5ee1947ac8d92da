//! SQLite's one writer. Transactions take turns on its connection; those that queue up share one COMMIT.
//!
//! Each transaction is a savepoint inside an outer one. Whoever finds nobody waiting commits the outer one at once;
//! otherwise it gives its turn to the next and queues again, so the first in the group commits for all that came in
//! between. None is told "done" before the COMMIT that holds it. Engine details stay in here.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Executor as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

/// Most transactions that share a COMMIT.
const GROUP_MAX: usize = 128;

/// The writer. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Writer {
    state: Arc<Mutex<State>>,
    waiting: Arc<AtomicUsize>,
}

struct State {
    conn: SqliteConnection,
    group: Option<Group>,
    /// A savepoint is open: somebody's transaction, finished or not.
    savepoint: bool,
}

#[derive(Clone)]
struct Group {
    members: usize,
    /// `None` while open, then whether its COMMIT succeeded.
    done: Arc<watch::Sender<Option<bool>>>,
}

impl State {
    /// Undoes what an abandoned transaction left.
    async fn clean(&mut self) -> Result<(), sqlx::Error> {
        if self.savepoint {
            self.conn.execute("ROLLBACK TO s").await?;
            self.conn.execute("RELEASE s").await?;
            self.savepoint = false;
        }
        Ok(())
    }

    /// Drops everything that is not committed; members of the group hear that they failed.
    async fn reset(&mut self) {
        // May fail where SQLite has rolled back by itself; then there is nothing to undo.
        if let Err(error) = self.conn.execute("ROLLBACK").await {
            tracing::debug!(%error, "nothing to roll back");
        }
        self.savepoint = false;
        if let Some(group) = self.group.take() {
            group.done.send_replace(Some(false));
        }
    }

    async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.clean().await?;
        if self.group.is_none() {
            self.conn.execute("BEGIN IMMEDIATE").await?;
            self.group = Some(Group {
                members: 0,
                done: Arc::new(watch::Sender::new(None)),
            });
        }
        self.conn.execute("SAVEPOINT s").await?;
        self.savepoint = true;
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.clean().await?;
        match self.conn.execute("COMMIT").await {
            Ok(_) => {
                if let Some(group) = self.group.take() {
                    group.done.send_replace(Some(true));
                }
                Ok(())
            }
            Err(error) => {
                self.reset().await;
                Err(error)
            }
        }
    }
}

struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Writer {
    pub(crate) fn new(conn: SqliteConnection) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                conn,
                group: None,
                savepoint: false,
            })),
            waiting: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Takes a turn. Runs in its own task, so that a caller that goes away leaves no half-made state.
    pub(crate) async fn begin(&self) -> Result<Guard, sqlx::Error> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(self.waiting.clone());
        let writer = self.clone();
        let task = tokio::spawn(async move {
            let mut state = writer.state.clone().lock_owned().await;
            drop(waiting);
            if let Err(first) = state.begin().await {
                tracing::debug!(error = %first, "writer starts over");
                state.reset().await;
                state.begin().await?;
            }
            Ok(Guard {
                state: Some(state),
                writer,
            })
        });
        task.await
            .map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?
    }

    /// Closes the connection, and with it the log file.
    pub(crate) async fn close(&self) {
        let mut state = self.state.lock().await;
        state.reset().await;
        if let Err(error) = state.conn.clear_cached_statements().await {
            tracing::debug!(%error, "statements were not cleared");
        }
        if let Err(error) = state.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").await {
            tracing::debug!(%error, "no checkpoint at close");
        }
    }
}

/// An open transaction. Dropped without [`Guard::commit`] it is rolled back.
pub(crate) struct Guard {
    state: Option<OwnedMutexGuard<State>>,
    writer: Writer,
}

impl Guard {
    pub(crate) fn conn(&mut self) -> &mut SqliteConnection {
        &mut self
            .state
            .as_mut()
            .expect("the state is only taken by commit and drop, which consume the guard")
            .conn
    }

    /// Returns once the transaction is durable. Goes on to the end also where the caller does not wait for it.
    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        let Some(state) = self.state.take() else { return Ok(()) };
        let writer = self.writer.clone();
        tokio::spawn(commit(state, writer))
            .await
            .map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?
    }
}

async fn commit(mut state: OwnedMutexGuard<State>, writer: Writer) -> Result<(), sqlx::Error> {
    state.conn.execute("RELEASE s").await?;
    state.savepoint = false;
    let Some(group) = state.group.as_mut() else {
        return Err(sqlx::Error::Protocol("the transaction's group is gone".into()));
    };
    group.members += 1;
    let group = group.clone();
    if group.members >= GROUP_MAX || writer.waiting.load(Ordering::Relaxed) == 0 {
        return state.commit().await;
    }
    drop(state);
    let mut done = group.done.subscribe();
    tokio::select! {
        biased;
        outcome = async { done.wait_for(Option::is_some).await.ok().and_then(|outcome| *outcome) } => outcome_of(outcome),
        mut state = writer.state.clone().lock_owned() => {
            let open = state.group.as_ref().is_some_and(|now| Arc::ptr_eq(&now.done, &group.done));
            if open { state.commit().await } else { outcome_of(*group.done.borrow()) }
        }
    }
}

fn outcome_of(outcome: Option<bool>) -> Result<(), sqlx::Error> {
    if outcome == Some(true) {
        Ok(())
    } else {
        Err(sqlx::Error::Protocol("the group's commit failed".into()))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else { return };
        // Without a runtime the next to take a turn cleans up.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let members = state.group.as_ref().map_or(0, |group| group.members);
                if members == 0 || state.clean().await.is_err() {
                    state.reset().await;
                }
            });
        }
    }
}
