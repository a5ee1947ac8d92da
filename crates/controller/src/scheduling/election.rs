//! Which controller schedules: the holder of a lease in the database. Every plan renews it in its own transaction, so
//! that one that was deposed can't write.

use super::{CycleError, failed};
use crate::{Context, Control, Database};
use std::time::{Duration, Instant};
use store::Tx;
use uuid::Uuid;

/// Name of the lease.
const LEASE: &str = "scheduler";
/// Between the address of a holder and what tells its lives apart.
const SEPARATOR: char = '#';
/// How long it holds after its last renewal.
const HOLD: Duration = Duration::from_secs(4);
/// How often it is renewed where nothing else does.
const RENEW: Duration = Duration::from_secs(1);

/// This controller's candidacy.
pub(super) struct Election {
    holder: String,
    /// Other controllers may want it too.
    contested: bool,
    renewed: Option<Instant>,
    /// When it was last refused: what wakes the loop is no reason to ask again at once.
    refused: Option<Instant>,
}

/// What came of a candidacy.
pub(super) enum Held {
    /// This controller schedules.
    Here,
    /// Another does, or did; when to try again.
    Not(Duration),
}

impl Election {
    /// On the embedded database there is one controller at a time, and it goes on at once after a crash.
    pub(super) fn new(context: &Context) -> Self {
        let contested = matches!(context.config.database, Database::Postgres(_));
        let holder = if contested {
            // Others find this controller by it.
            format!("{}{SEPARATOR}{}", context.config.advertise, Uuid::new_v4())
        } else {
            "embedded".to_owned()
        };
        Self {
            holder,
            contested,
            renewed: None,
            refused: None,
        }
    }

    /// Takes or renews the lease where due, and tells `control.lead` who has it.
    pub(super) async fn hold(&mut self, control: &Control) -> Result<Held, CycleError> {
        let context = &control.context;
        if self.renewed.is_some_and(|at| !self.contested || at.elapsed() < RENEW) {
            return Ok(Held::Here);
        }
        if let Some(wait) = self.refused.and_then(|at| RENEW.checked_sub(at.elapsed())) {
            return Ok(Held::Not(wait));
        }
        let begun = Instant::now();
        let tx = context.store.begin().await.map_err(failed("begin the election"))?;
        match self.renew(&tx, context).await {
            Ok(()) => {}
            Err(CycleError::Deposed) => return self.refused(control, &tx).await,
            Err(error) => return Err(error),
        }
        tx.commit().await.map_err(failed("commit the election"))?;
        if self.renewed.replace(begun).is_none() {
            tracing::info!(holder = self.holder, "elected to schedule");
        }
        // From before it was asked for: others count from later.
        let until = self.contested.then(|| begun + HOLD);
        if !control.lead.is_here() {
            // A lease that ran out is another term, also where nobody else took it.
            control.lead.lose(None);
            control.begin_term();
        }
        control.lead.hold(until, &control.shutdown);
        Ok(Held::Here)
    }

    /// Finds out who has the lease.
    async fn refused(&mut self, control: &Control, tx: &Tx) -> Result<Held, CycleError> {
        self.refused = Some(Instant::now());
        let holder = tx.lease_holder(LEASE, control.context.now()).await;
        let holder = holder.map_err(failed("read who is elected"))?;
        let address = holder.and_then(|holder| Some(holder.split_once(SEPARATOR)?.0.to_owned()));
        control.lead.lose(address);
        Ok(Held::Not(RENEW))
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
