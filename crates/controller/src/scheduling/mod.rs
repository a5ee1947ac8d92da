//! The control loop: loads what is desired and observed, asks `scheduler::plan`, executes the answer.
//!
//! One task of the elected controller, woken by writes, reports, routers and the plan's own timer; never by a poll.
//! It keeps in memory only what can be had again: crash counts (from ended work), since when something is wanted, and
//! the last plan's explanations. Everything it decides is written in one transaction with its events.

mod announce;
mod election;
mod execute;
mod history;
mod load;
mod settle;
mod spec;
mod step;

use crate::Control;
use election::{Election, Held};
pub(crate) use execute::ended;
use history::Histories;
pub(crate) use history::{crash_of, crashes_in_row};
use model::Timestamp;
use model::id::WorkId;
use model::work::Wanted;
use scheduler::{Plan, Policy, Slot};
use std::collections::HashMap;
use std::time::Duration;
use store::Topic;
use tokio_util::sync::CancellationToken;

/// Activations that come within this time are planned for together.
const DEBOUNCE: Duration = Duration::from_millis(2);
/// First and longest pause after a failed cycle.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Longest sleep: ended work is pruned, and nothing depends on it.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);
/// Plans that may follow each other at once: what one executes may make another possible, but not without end.
const ROUNDS: usize = 32;

/// Why a cycle came to nothing; the next tries again.
#[derive(Debug, thiserror::Error)]
pub enum CycleError {
    /// The database failed.
    #[error("failed to {operation}")]
    Store {
        /// What was being done.
        operation: &'static str,
        #[source]
        source: store::StoreError,
    },
    /// Another controller was elected.
    #[error("another controller holds the scheduler's lease")]
    Deposed,
}

fn failed(operation: &'static str) -> impl FnOnce(store::StoreError) -> CycleError {
    move |source| CycleError::Store { operation, source }
}

/// State of the loop between two cycles.
struct Loop {
    control: Control,
    policy: Policy,
    election: Election,
    histories: Histories,
    /// Work that was live at the last look, and versions that were wanted: what of them never changes is not read again.
    seen: load::Seen,
    /// What was last wanted of live work, and since when.
    wanted: HashMap<WorkId, (Wanted, Timestamp)>,
    /// What was last said of work that no cell takes.
    unplaced: HashMap<Slot, String>,
}

/// How long nothing has to be planned if nothing happens.
struct Rest {
    sleep: Duration,
    /// Until a lease ends, unless it is renewed before.
    lease: Option<Duration>,
}

impl Rest {
    const fn of(sleep: Duration) -> Self {
        Self { sleep, lease: None }
    }
}

/// Runs the loop until `shutdown`.
pub async fn run(control: Control, shutdown: CancellationToken) {
    let election = Election::new(&control.context);
    let mut state = Loop {
        policy: control.policy.clone(),
        control,
        election,
        histories: Histories::default(),
        seen: load::Seen::default(),
        wanted: HashMap::new(),
        unplaced: HashMap::new(),
    };
    let mut topics = state.control.context.store.subscribe();
    let mut pause = RETRY.0;
    loop {
        let rest = match state.cycle().await {
            Ok(rest) => {
                pause = RETRY.0;
                rest
            }
            Err(error) => {
                let cause = telemetry::chain(&error);
                tracing::warn!(cause, retry_ms = pause.as_millis(), "a scheduling cycle failed");
                let rest = Rest::of(pause);
                pause = (pause * 2).min(RETRY.1);
                rest
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = state.rest(rest) => {}
            () = state.control.context.wake.scheduler_woken() => tokio::time::sleep(DEBOUNCE).await,
            () = relevant(&mut topics) => tokio::time::sleep(DEBOUNCE).await,
        }
    }
    state.election.resign(&state.control.context).await;
}

/// Waits for a change that the planner looks at.
async fn relevant(topics: &mut store::Subscription) {
    loop {
        match topics.next().await {
            Some(Topic::Desired | Topic::Routes | Topic::Resync) => return,
            Some(Topic::Work(_) | Topic::Events | Topic::Security) => {}
            // The store is gone, and with it this process's work.
            None => std::future::pending().await,
        }
    }
}

impl Loop {
    /// Plans and executes until there is nothing to execute; how long to rest then.
    async fn cycle(&mut self) -> Result<Rest, CycleError> {
        if let Held::Not(wait) = self.election.hold(&self.control).await? {
            self.histories.forget();
            self.seen = load::Seen::default();
            self.wanted.clear();
            self.unplaced.clear();
            return Ok(Rest::of(wait));
        }
        for _ in 0..ROUNDS {
            let loaded = self.load().await?;
            let now = loaded.now;
            self.policy.draining.clone_from(&loaded.draining);
            let plan = scheduler::plan(&loaded.desired, &loaded.observed, &loaded.cells, &self.policy, now);
            self.control.explain(&plan, &loaded.observed.history);
            self.announce(&plan, &loaded).await?;
            if plan.is_idle() {
                return Ok(self.rest_of(&plan, now));
            }
            self.execute(plan, &loaded).await?;
        }
        tracing::warn!(rounds = ROUNDS, "plans follow each other without coming to rest");
        Ok(Rest::of(RETRY.0))
    }

    /// Until the plan's next instant, a lease's end or a router's.
    fn rest_of(&self, plan: &Plan, now: Timestamp) -> Rest {
        // A millisecond later, so that what is due then is due for sure.
        let until = |at: Timestamp| Duration::try_from(at - now).unwrap_or_default() + Duration::from_millis(1);
        let soonest = [
            plan.next.map(until),
            self.control.edge.next_deadline(),
            self.election.renewal(),
        ];
        let soonest = soonest.into_iter().flatten().min();
        Rest {
            sleep: soonest.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP),
            lease: plan.lease_watch.map(until),
        }
    }

    /// Rests. The end of a lease that was renewed meanwhile is no reason to plan.
    async fn rest(&self, rest: Rest) {
        let whole = tokio::time::sleep(rest.sleep);
        tokio::pin!(whole);
        let mut lease = rest.lease;
        loop {
            tokio::select! {
                () = &mut whole => return,
                () = tokio::time::sleep(lease.unwrap_or(LONGEST_SLEEP)) => {
                    let now = self.control.context.now();
                    match self.control.cells.next_expiry(now) {
                        Some(at) => lease = Duration::try_from(at - now).ok().map(|time| time + Duration::from_millis(1)),
                        None => return,
                    }
                }
            }
        }
    }
}
