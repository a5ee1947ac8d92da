//! Makes the events that the platform writes by itself. Their kinds and data are a contract with clients.

use model::Timestamp;
use model::id::EventId;
use model::resource::{Actor, Target};
use model::staging::PhaseTime;
use model::work::{Owner, Work, WorkKind};
use serde_json::{Value, json};
use store::NewEvent;
use uuid::Uuid;

/// An event of an app, by the platform.
pub(crate) fn event(owner: &Owner, kind: &str, data: Value, now: Timestamp) -> NewEvent {
    NewEvent {
        id: EventId(Uuid::now_v7()),
        kind: kind.to_owned(),
        actor: Actor {
            guid: "platform".to_owned(),
            kind: "process".to_owned(),
            name: "platform".to_owned(),
        },
        target: Target {
            guid: owner.app.to_string(),
            kind: "app".to_owned(),
            name: owner.app_name.to_string(),
        },
        org: Some(owner.org),
        space: Some(owner.space),
        data,
        created_at: now,
    }
}

/// Data of an `instance.*` event; `None` for builds and tasks.
pub(crate) fn about(work: &Work, phases: &[PhaseTime]) -> Option<Value> {
    let WorkKind::Instance(instance) = &work.spec.kind else {
        return None;
    };
    Some(json!({
        "process": instance.process,
        "type": instance.process_type,
        "version": instance.version,
        "index": instance.index,
        "work": work.id,
        "cell": work.cell,
        "phases": phases,
    }))
}
