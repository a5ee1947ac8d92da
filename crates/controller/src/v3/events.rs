//! `/v3/audit_events`: CF's kinds of event. The phases that are ours are in the stream of an app.

use super::links::links;
use crate::auth::{Caller, Need, space_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Query, id};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use model::resource::Event;
use store::EventFilter;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/audit_events", get(list))
        .route("/v3/audit_events/{guid}", get(fetch))
}

fn present(context: &Context, event: Event) -> v3::AuditEvent {
    v3::AuditEvent {
        links: links(context, [("self", format!("/v3/audit_events/{}", event.id))]),
        guid: event.id,
        created_at: event.created_at,
        updated_at: event.created_at,
        kind: event.kind,
        actor: event.actor,
        target: event.target,
        data: event.data,
        space: event.space.map(|guid| v3::Guid { guid }),
        organization: event.org.map(|guid| v3::Guid { guid }),
        sequence: event.sequence,
    }
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::AuditEvent>>> {
    let filter = EventFilter {
        common: query.common()?,
        audit_only: query.get("types").is_none(),
        kinds: query.texts("types"),
        targets: query.texts("target_guids"),
        spaces: query.ids("space_guids"),
        orgs: query.ids("organization_guids"),
    };
    let listed = context
        .store
        .event_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    query.list(&context, listed, |event| present(&context, event)).map(Json)
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::AuditEvent>> {
    const WHAT: &str = "Event";
    let event = context
        .store
        .event_fetch(id(&guid, WHAT)?)
        .await?
        .ok_or_else(|| Failure::not_found(WHAT))?;
    match event.space {
        // A space that is gone is nobody's but the administrators'.
        Some(space) if !caller.admin => drop(space_for(&context.store, &caller, space, Need::Read, WHAT).await?),
        None if !caller.admin => return Err(Failure::not_found(WHAT)),
        _ => {}
    }
    Ok(Json(present(&context, event)))
}
