//! Which controller schedules: the holder of a lease in the database. Every plan renews it in its own transaction, so
//! that one that was deposed can't write.

use super::{CycleError, failed};
use crate::{Context, Database};
use std::time::{Duration, Instant};
use store::Tx;
use uuid::Uuid;

/// Name of the lease.
const LEASE: &str = "scheduler";
/// How long it holds after its last renewal.
const HOLD: Duration = Duration::from_secs(6);
/// How often it is renewed where nothing else does.
const RENEW: Duration = Duration::from_secs(2);

/// This controller's candidacy.
pub(super) struct Election {
    holder: String,
    /// Other controllers may want it too.
    contested: bool,
    renewed: Option<Instant>,
}

impl Election {
    /// On the embedded database there is one controller at a time, and it goes on at once after a crash.
    pub(super) fn new(context: &Context) -> Self {
        let contested = matches!(context.config.database, Database::Postgres(_));
        let holder = if contested {
            Uuid::new_v4().to_string()
        } else {
            "embedded".to_owned()
        };
        Self {
            holder,
            contested,
            renewed: None,
        }
    }

    /// Takes or renews the lease where due. `Some`: another holds it; when to try again.
    pub(super) async fn hold(&mut self, context: &Context) -> Result<Option<Duration>, CycleError> {
        if self.renewed.is_some_and(|at| !self.contested || at.elapsed() < RENEW) {
            return Ok(None);
        }
        let tx = context.store.begin().await.map_err(failed("begin the election"))?;
        match self.renew(&tx, context).await {
            Ok(()) => {}
            Err(CycleError::Deposed) => return Ok(Some(RENEW)),
            Err(error) => return Err(error),
        }
        tx.commit().await.map_err(failed("commit the election"))?;
        if self.renewed.replace(Instant::now()).is_none() {
            tracing::info!(holder = self.holder, "elected to schedule");
        }
        Ok(None)
    }

    /// Renews the lease within `tx`.
    pub(super) async fn renew(&mut self, tx: &Tx, context: &Context) -> Result<(), CycleError> {
        let now = context.now();
        let taken = tx
            .lease_take(LEASE, &self.holder, now, now + HOLD)
            .await
            .map_err(failed("renew the scheduler's lease"))?;
        if taken.is_none() {
            self.renewed = None;
            return Err(CycleError::Deposed);
        }
        Ok(())
    }

    /// Time until the lease has to be renewed.
    pub(super) fn renewal(&self) -> Option<Duration> {
        let renewed = self.renewed.filter(|_| self.contested)?;
        Some(RENEW.saturating_sub(renewed.elapsed()))
    }

    /// Gives it up, so that another need not wait.
    pub(super) async fn resign(&self, context: &Context) {
        let resigned = async {
            let tx = context.store.begin().await?;
            tx.lease_drop(LEASE, &self.holder).await?;
            tx.commit().await
        };
        if let Err(error) = resigned.await {
            tracing::debug!(
                cause = telemetry::chain(&error),
                "the scheduler's lease runs out by itself"
            );
        }
    }
}
