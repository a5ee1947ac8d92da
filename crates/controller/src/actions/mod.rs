//! Use cases: each is one transaction over desired state, audit event and job, after which the scheduler wakes.
//!
//! Whether the caller may is decided before; what the answer looks like, after. Nothing slow happens inside a
//! transaction.

pub mod app;
pub mod build;
pub mod buildpack;
pub mod droplet;
pub mod isolation;
pub mod manifest;
pub mod package;
pub mod quota;
pub mod revision;
pub mod rollout;
pub mod route;
pub mod security_group;
pub mod service;
pub mod sidecar;
pub mod task;
pub mod tenant;
pub mod user;

use crate::context::Context;
use model::Timestamp;
use model::id::{EventId, JobId};
use model::resource::{Actor, App, Job, JobState, Space, Target};
use store::NewEvent;
use uuid::Uuid;

/// A fresh id, ordered by time so that indexes grow at their end.
pub(crate) fn fresh<T: From<Uuid>>() -> T {
    T::from(Uuid::now_v7())
}

/// Who acts, and when.
#[derive(Debug, Clone)]
pub struct By {
    pub actor: Actor,
    pub user: model::id::UserId,
    pub now: Timestamp,
}

impl By {
    /// This caller, now.
    #[must_use]
    pub fn caller(caller: &crate::auth::Caller, context: &Context) -> Self {
        Self {
            actor: caller.actor(),
            user: caller.id,
            now: context.now(),
        }
    }

    /// An event about an app.
    #[must_use]
    pub fn app_event(&self, kind: &str, app: &App, space: &Space, data: serde_json::Value) -> NewEvent {
        let target = Target {
            guid: app.id.to_string(),
            kind: "app".to_owned(),
            name: app.name.to_string(),
        };
        self.event(kind, target, Some(space), data)
    }

    /// An event about anything.
    #[must_use]
    pub fn event(&self, kind: &str, target: Target, space: Option<&Space>, data: serde_json::Value) -> NewEvent {
        NewEvent {
            id: fresh::<EventId>(),
            kind: kind.to_owned(),
            actor: self.actor.clone(),
            target,
            org: space.map(|space| space.org),
            space: space.map(|space| space.id),
            data,
            created_at: self.now,
        }
    }

    /// A job that was done in the transaction which records it.
    #[must_use]
    pub fn done_job(&self, operation: &str) -> Job {
        Job {
            id: fresh::<JobId>(),
            operation: operation.to_owned(),
            state: JobState::Complete,
            error: None,
            created_at: self.now,
            updated_at: self.now,
        }
    }
}
