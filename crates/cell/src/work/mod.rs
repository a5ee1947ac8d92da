//! One actor per piece of work: it alone owns the sandbox, decides what happens next, and tells the agent.
//!
//! ```text
//!  agent ──Message──▶ actor ──▶ prepare ─▶ create ─▶ supervise ─▶ collect (builds) ─▶ clean ─▶ until forgotten
//!        ◀──Update──    └─ every state goes through `model::work::WorkState::step`
//! ```
//! What is about to be done is in the ledger before it is done; what is merely seen is told first and written after.

mod actor;
mod outcome;
mod supervise;

use crate::core::Core;
use crate::ledger::Record;
use api::cell::Exec;
use futures_util::FutureExt as _;
use model::id::WorkId;
use model::work::{Observation, Wanted};
use sandbox::Sandbox;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages that wait for one actor.
const INBOX: usize = 64;

/// Time until work whose actor broke gets a new one.
const MEND: Duration = Duration::from_secs(1);

/// To the actor of a piece of work.
#[derive(Debug)]
pub(crate) enum Message {
    /// What the controller wants now.
    Want {
        /// Of the piece of work.
        wanted: Wanted,
        /// Under this lease epoch.
        epoch: u64,
    },
    /// Run a command in it.
    Exec(Exec),
    /// The controller knows how it ended: nothing of it is needed any more.
    Forget,
}

/// From the actor of a piece of work.
#[derive(Debug)]
pub(crate) enum Update {
    /// It changed.
    Observed(Observation),
    /// Nothing of its sandbox is left.
    Cleaned(WorkId),
    /// It was forgotten; the actor is gone.
    Forgotten(WorkId),
    /// Its actor broke: a fault of this program. The sandbox is as it was.
    Broken(WorkId),
}

/// The way to an actor.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    inbox: mpsc::Sender<Message>,
}

impl Handle {
    /// Sends a message; `false` where the actor has too many waiting, or is gone.
    pub(crate) fn tell(&self, message: Message) -> bool {
        self.inbox.try_send(message).is_ok()
    }
}

/// Starts the actor of a piece of work, with the sandbox that an earlier agent made for it.
pub(crate) fn spawn(core: Arc<Core>, record: Record, adopted: Option<Sandbox>) -> Handle {
    let (sender, inbox) = mpsc::channel(INBOX);
    let (work, updates, tasks) = (record.work, core.updates.clone(), core.tasks.clone());
    let running = AssertUnwindSafe(actor::Actor::new(core, record, inbox).run(adopted)).catch_unwind();
    tasks.spawn(async move {
        if running.await.is_err() {
            // What breaks at once breaks again: not in a tight loop.
            tokio::time::sleep(MEND).await;
            let _ = updates.send(Update::Broken(work)).await;
        }
    });
    Handle { inbox: sender }
}
