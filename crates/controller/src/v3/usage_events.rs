//! `/v3/app_usage_events` and `/v3/service_usage_events`: what was in use when, for operators.

use super::links::links;
use crate::auth::Caller;
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, Query, id};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use store::{Paged, UsageEvent, UsageFilter, UsageKind};
use time::format_description::well_known::Rfc3339;

/// A body that is not needed is read all the same, so that one that makes no sense is refused.
type Nothing = Map<String, Value>;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/app_usage_events", get(apps))
        .route("/v3/app_usage_events/{guid}", get(app))
        .route(
            "/v3/app_usage_events/actions/destructively_purge_all_and_reseed",
            post(apps_anew),
        )
        .route("/v3/service_usage_events", get(services))
        .route("/v3/service_usage_events/{guid}", get(service))
        .route(
            "/v3/service_usage_events/actions/destructively_purge_all_and_reseed",
            post(services_anew),
        )
}

/// Part of the path, and how texts for people name it.
const fn words(kind: UsageKind) -> (&'static str, &'static str) {
    match kind {
        UsageKind::App => ("app_usage_events", "App usage event"),
        UsageKind::Service => ("service_usage_events", "Service usage event"),
    }
}

fn present(context: &Context, kind: UsageKind, event: UsageEvent) -> Value {
    let at = event.created_at.format(&Rfc3339).unwrap_or_default();
    let mut value = json!({"guid": event.id, "created_at": at, "updated_at": at});
    if let (Some(value), Value::Object(data)) = (value.as_object_mut(), event.data) {
        value.extend(data);
    }
    let own = format!("/v3/{}/{}", words(kind).0, event.id);
    value["links"] = json!(links(context, [("self", own)]));
    value
}

async fn list(context: &Context, caller: &Caller, query: &Query, kind: UsageKind) -> Answer<Json<v3::List<Value>>> {
    let (page, order) = (query.page()?, query.order()?);
    let mut filter = UsageFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        subjects: query.texts("service_instance_types"),
        after: None,
    };
    if query.get("service_offering_guids").is_some() {
        // What users provide is of no offering.
        filter.ids = Some(Vec::new());
    }
    if !caller.admin {
        let none = Paged {
            items: Vec::new(),
            total: 0,
        };
        return query.list(context, none, |none: Value| none).map(Json);
    }
    if let Some(text) = query.get("after_guid") {
        filter.after = Some(after(context, kind, text).await?);
    }
    let listed = context.store.usage_event_list(kind, &filter, order, page).await?;
    query
        .list(context, listed, |event| present(context, kind, event))
        .map(Json)
}

/// The number of the event after which the list is to begin.
async fn after(context: &Context, kind: UsageKind, text: &str) -> Answer<i64> {
    if text.contains(',') {
        return Err(Failure::refused("After guid filter accepts only one guid"));
    }
    let number = match text.parse() {
        Ok(id) => context.store.usage_event_number(kind, id).await?,
        Err(_) => None,
    };
    number.ok_or_else(|| {
        let what = words(kind).1.to_lowercase();
        Failure::refused(format!("After guid filter must be a valid {what} guid."))
    })
}

async fn fetch(context: &Context, caller: &Caller, guid: &str, kind: UsageKind) -> Answer<Json<Value>> {
    let what = words(kind).1;
    let event = match caller.admin {
        true => context.store.usage_event_fetch(kind, id(guid, what)?).await?,
        false => None,
    };
    let event = event.ok_or_else(|| Failure::not_found(what))?;
    Ok(Json(present(context, kind, event)))
}

async fn anew(context: &Context, caller: &Caller, kind: UsageKind) -> Answer<Json<Value>> {
    caller.operator()?;
    let tx = context.store.begin().await?;
    tx.usage_begin_anew(kind, context.now()).await?;
    tx.commit().await?;
    Ok(Json(json!({})))
}

async fn apps(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<Value>>> {
    list(&context, &caller, &query, UsageKind::App).await
}

async fn services(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<Value>>> {
    list(&context, &caller, &query, UsageKind::Service).await
}

async fn app(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<Value>> {
    fetch(&context, &caller, &guid, UsageKind::App).await
}

async fn service(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<Value>> {
    fetch(&context, &caller, &guid, UsageKind::Service).await
}

async fn apps_anew(State(context): State<Context>, caller: Caller, Body(_): Body<Nothing>) -> Answer<Json<Value>> {
    anew(&context, &caller, UsageKind::App).await
}

async fn services_anew(State(context): State<Context>, caller: Caller, Body(_): Body<Nothing>) -> Answer<Json<Value>> {
    anew(&context, &caller, UsageKind::Service).await
}
