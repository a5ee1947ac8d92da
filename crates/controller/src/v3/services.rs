//! `/v3/service_instances` and `/v3/service_credential_bindings`: what users provide. Brokers there are none yet, nor
//! services of routes: lists of them are empty, for clients ask for them beside routes and apps.

use super::include::{Related, included};
use super::links::links;
use crate::actions::{By, service as actions};
use crate::auth::{Caller, Need, app_for, space_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use crate::request::{Body, Query, id};
use crate::services;
use api::v3;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use model::Timestamp;
use model::id::{BindingId, ServiceInstanceId, SpaceId};
use model::resource::{App, Binding, Org, ServiceInstance, Space};
use serde_json::{Value, json};
use store::{BindingFilter, Order, Page, Paged, ServiceFilter};

const WHAT: &str = "Service instance";
const BINDING: &str = "Service credential binding";

/// Filters by plans and offerings of brokers, of which nothing is here.
const OF_PLANS: [&str; 4] = [
    "service_plan_guids",
    "service_plan_names",
    "service_offering_guids",
    "service_offering_names",
];

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/service_instances", get(list).post(create))
        .route("/v3/service_instances/{guid}", get(fetch).patch(update).delete(delete))
        .route("/v3/service_instances/{guid}/credentials", get(credentials))
        .route("/v3/service_instances/{guid}/permissions", get(permissions))
        .route(
            "/v3/service_instances/{guid}/relationships/shared_spaces",
            get(shared_spaces),
        )
        .route("/v3/service_credential_bindings", get(bindings).post(bind))
        .route(
            "/v3/service_credential_bindings/{guid}",
            get(binding).patch(update_binding).delete(unbind),
        )
        .route("/v3/service_credential_bindings/{guid}/details", get(details))
        .route("/v3/service_route_bindings", get(no_route_bindings))
}

fn succeeded(created: Timestamp, updated: Timestamp) -> v3::LastOperation {
    v3::LastOperation {
        kind: if created == updated { "create" } else { "update" }.to_owned(),
        state: "succeeded".to_owned(),
        description: "Operation succeeded".to_owned(),
        created_at: created,
        updated_at: updated,
    }
}

pub(super) fn present(context: &Context, instance: ServiceInstance) -> v3::ServiceInstance {
    let own = format!("/v3/service_instances/{}", instance.id);
    let shown = |secret: &Option<model::Secret>| secret.as_ref().map(|url| url.expose().to_owned());
    v3::ServiceInstance {
        links: links(
            context,
            [
                ("self", own.clone()),
                ("space", format!("/v3/spaces/{}", instance.space)),
                ("credentials", format!("{own}/credentials")),
                (
                    "service_credential_bindings",
                    format!("/v3/service_credential_bindings?service_instance_guids={}", instance.id),
                ),
                (
                    "service_route_bindings",
                    format!("/v3/service_route_bindings?service_instance_guids={}", instance.id),
                ),
            ],
        ),
        guid: instance.id,
        created_at: instance.created_at,
        updated_at: instance.updated_at,
        name: instance.name,
        kind: "user-provided".to_owned(),
        tags: instance.tags,
        syslog_drain_url: shown(&instance.secrets.syslog_drain_url),
        route_service_url: shown(&instance.secrets.route_service_url),
        last_operation: succeeded(instance.created_at, instance.updated_at),
        relationships: v3::ServiceInstanceRelationships {
            space: v3::ToOne::to(instance.space),
        },
        metadata: instance.metadata,
    }
}

fn present_binding(context: &Context, binding: Binding) -> v3::ServiceBinding {
    let own = format!("/v3/service_credential_bindings/{}", binding.id);
    v3::ServiceBinding {
        links: links(
            context,
            [
                ("self", own.clone()),
                ("details", format!("{own}/details")),
                (
                    "service_instance",
                    format!("/v3/service_instances/{}", binding.instance),
                ),
                ("app", format!("/v3/apps/{}", binding.app)),
            ],
        ),
        guid: binding.id,
        created_at: binding.created_at,
        updated_at: binding.updated_at,
        name: binding.name,
        kind: "app".to_owned(),
        last_operation: succeeded(binding.created_at, binding.created_at),
        relationships: v3::ServiceBindingRelationships {
            app: Some(v3::ToOne::to(binding.app)),
            service_instance: v3::ToOne::to(binding.instance),
        },
        metadata: binding.metadata,
    }
}

async fn list(
    State(context): State<Context>,
    caller: Caller,
    query: Query,
) -> Answer<Json<v3::List<v3::ServiceInstance>>> {
    // All of them are provided by users, so none is of a broker's plan.
    let managed = query.get("type").is_some_and(|kind| kind != "user-provided");
    let filter = ServiceFilter {
        common: query.common()?,
        ids: if managed {
            Some(Vec::new())
        } else {
            query.ids_unless("guids", &["service_plan_names", "service_plan_guids"])
        },
        names: query.texts("names"),
        spaces: query.ids("space_guids"),
        orgs: query.ids("organization_guids"),
    };
    let listed = context
        .store
        .service_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    let spaces: Vec<SpaceId> = listed.items.iter().map(|instance| instance.space).collect();
    let mut list = query.list(&context, listed, |instance| present(&context, instance))?;
    list.included = around(&context, &caller, &query, spaces).await?;
    Ok(Json(list))
}

/// The fields that are asked for of spaces and organisations around service instances. What users provide has no plan.
async fn around(context: &Context, caller: &Caller, query: &Query, ids: Vec<SpaceId>) -> Answer<Option<Value>> {
    let fields = |of: &str| query.texts(&format!("fields[{of}]"));
    let (of_space, of_org) = (fields("space"), fields("space.organization"));
    if of_space.is_none() && of_org.is_none() {
        return Ok(None);
    }
    let filter = store::SpaceFilter {
        ids: Some(ids),
        ..store::SpaceFilter::default()
    };
    let store = &context.store;
    let spaces = store
        .space_list(&filter, caller.scope(), Order::default(), Page::ALL)
        .await?;
    let filter = store::OrgFilter {
        ids: Some(spaces.items.iter().map(|space| space.org).collect()),
        ..store::OrgFilter::default()
    };
    let orgs = store
        .org_list(&filter, caller.scope(), Order::default(), Page::ALL)
        .await?;
    let chosen = |fields: &[String], all: Value| {
        let has = |key: &String| fields.iter().any(|field| field.split('.').next() == Some(key.as_str()));
        match all {
            Value::Object(all) => Value::Object(all.into_iter().filter(|(key, _)| has(key)).collect()),
            other => other,
        }
    };
    let mut included = serde_json::Map::new();
    if let Some(fields) = of_space {
        let one = |space: &Space| {
            let org = json!({"organization": {"data": {"guid": space.org}}});
            chosen(
                &fields,
                json!({"guid": space.id, "name": space.name, "relationships": org}),
            )
        };
        included.insert("spaces".to_owned(), spaces.items.iter().map(one).collect());
    }
    if let Some(fields) = of_org {
        let one = |org: &Org| chosen(&fields, json!({"guid": org.id, "name": org.name}));
        included.insert("organizations".to_owned(), orgs.items.iter().map(one).collect());
    }
    Ok(Some(Value::Object(included)))
}

async fn instance_for(context: &Context, caller: &Caller, guid: &str, need: Need) -> Answer<(ServiceInstance, Space)> {
    let found = context
        .store
        .service_fetch(id::<ServiceInstanceId>(guid, WHAT)?)
        .await?;
    let instance = found.ok_or_else(|| Failure::not_found(WHAT))?;
    let space = space_for(&context.store, caller, instance.space, need, WHAT).await?;
    Ok((instance, space))
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::Shown<v3::ServiceInstance>>> {
    let (instance, space) = instance_for(&context, &caller, &guid, Need::Read).await?;
    let included = around(&context, &caller, &query, vec![space.id]).await?;
    let resource = present(&context, instance);
    Ok(Json(v3::Shown { resource, included }))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::ServiceInstanceWrite>,
) -> Answer<(StatusCode, Json<v3::ServiceInstance>)> {
    let space = body.relationships.as_ref().and_then(|of| of.space.id());
    let space = space.ok_or_else(|| Failure::refused("Relationships Space can't be blank"))?;
    let space = match space_for(&context.store, &caller, space, Need::Write, "Space").await {
        Err(failure) if failure.status() == StatusCode::NOT_FOUND => {
            return Err(Failure::refused(
                "Invalid space. Ensure that the space exists and you have access to it.",
            ));
        }
        other => other?,
    };
    Flag::ServiceInstanceCreation.require(&context.store, &caller).await?;
    let by = By::caller(&caller, &context);
    let instance = actions::create(&context, &space, body, &by).await?;
    Ok((StatusCode::CREATED, Json(present(&context, instance))))
}

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::ServiceInstanceWrite>,
) -> Answer<Json<v3::ServiceInstance>> {
    let (instance, space) = instance_for(&context, &caller, &guid, Need::Write).await?;
    let by = By::caller(&caller, &context);
    let instance = actions::update(&context, instance.id, &space, body, &by).await?;
    Ok(Json(present(&context, instance)))
}

async fn delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<StatusCode> {
    let (instance, space) = instance_for(&context, &caller, &guid, Need::Write).await?;
    actions::delete(&context, &instance, &space, &By::caller(&caller, &context)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn credentials(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<Value>> {
    let (instance, _) = instance_for(&context, &caller, &guid, Need::Write).await?;
    Ok(Json(services::credentials(&instance)))
}

async fn permissions(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<Value>> {
    let (_, space) = instance_for(&context, &caller, &guid, Need::Read).await?;
    Ok(Json(json!({"manage": caller.develops(&space), "read": true})))
}

/// What users provide is not shared between spaces.
async fn shared_spaces(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::ToMany<SpaceId>>> {
    instance_for(&context, &caller, &guid, Need::Read).await?;
    Ok(Json(v3::ToMany { data: Vec::new() }))
}

async fn bindings(
    State(context): State<Context>,
    caller: Caller,
    query: Query,
) -> Answer<Json<v3::List<v3::ServiceBinding>>> {
    let keys_only = query.get("type").is_some_and(|kind| kind != "app");
    let filter = BindingFilter {
        common: query.common()?,
        ids: if keys_only {
            Some(Vec::new())
        } else {
            query.ids_unless("guids", &OF_PLANS)
        },
        names: query.texts("names"),
        apps: query.ids("app_guids"),
        app_names: query.texts("app_names"),
        instances: query.ids("service_instance_guids"),
        instance_names: query.texts("service_instance_names"),
    };
    let listed = context
        .store
        .binding_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    let related = related(&listed.items);
    let mut list = query.list(&context, listed, |binding| present_binding(&context, binding))?;
    list.included = included(&context, &caller, &query, related).await?;
    Ok(Json(list))
}

fn related(bindings: &[Binding]) -> Related {
    Related {
        apps: bindings.iter().map(|binding| binding.app).collect(),
        service_instances: bindings.iter().map(|binding| binding.instance).collect(),
        ..Related::default()
    }
}

async fn binding_for(context: &Context, caller: &Caller, guid: &str, need: Need) -> Answer<(Binding, App, Space)> {
    let found = context.store.binding_fetch(id::<BindingId>(guid, BINDING)?).await?;
    let binding = found.ok_or_else(|| Failure::not_found(BINDING))?;
    let (app, space) = app_for(&context.store, caller, binding.app, need, BINDING).await?;
    Ok((binding, app, space))
}

async fn binding(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::Shown<v3::ServiceBinding>>> {
    let (binding, _, _) = binding_for(&context, &caller, &guid, Need::Read).await?;
    let related = related(std::slice::from_ref(&binding));
    let included = included(&context, &caller, &query, related).await?;
    let resource = present_binding(&context, binding);
    Ok(Json(v3::Shown { resource, included }))
}

async fn bind(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::ServiceBindingCreate>,
) -> Answer<(StatusCode, Json<v3::ServiceBinding>)> {
    if body.kind == "key" {
        return Err(Failure::refused(
            "Service credential bindings of type 'key' are not supported for user-provided service instances.",
        ));
    }
    if body.kind != "app" {
        return Err(Failure::refused("Type must be one of 'app', 'key'"));
    }
    let ends = &body.relationships;
    let (Some(app), Some(instance)) = (ends.app.and_then(v3::ToOne::id), ends.service_instance.id()) else {
        return Err(Failure::refused(
            "Relationships App and Service instance can't be blank",
        ));
    };
    let unusable = |what: &str, failure: Failure| match failure.status() {
        StatusCode::NOT_FOUND => Failure::refused(format!(
            "The {what} could not be found: ensure that it exists and you have access to it"
        )),
        _ => failure,
    };
    let (app, space) = app_for(&context.store, &caller, app, Need::Write, "App")
        .await
        .map_err(|failure| unusable("app", failure))?;
    let (instance, _) = instance_for(&context, &caller, &instance.to_string(), Need::Read)
        .await
        .map_err(|failure| unusable("service instance", failure))?;
    let by = By::caller(&caller, &context);
    let binding = actions::bind(&context, &app, &instance, &space, &body, &by).await?;
    Ok((StatusCode::CREATED, Json(present_binding(&context, binding))))
}

async fn update_binding(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::MetadataUpdate>,
) -> Answer<Json<v3::ServiceBinding>> {
    let (binding, _, _) = binding_for(&context, &caller, &guid, Need::Write).await?;
    let by = By::caller(&caller, &context);
    let change = body.metadata.unwrap_or_default();
    let binding = actions::update_binding(&context, binding, &change, &by).await?;
    Ok(Json(present_binding(&context, binding)))
}

async fn unbind(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<StatusCode> {
    let (binding, app, space) = binding_for(&context, &caller, &guid, Need::Write).await?;
    actions::unbind(&context, &binding, &app, &space, &By::caller(&caller, &context)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn details(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::ServiceBindingDetails>> {
    let (binding, _, _) = binding_for(&context, &caller, &guid, Need::Write).await?;
    let instance = context.store.service_fetch(binding.instance).await?;
    let instance = instance.ok_or_else(|| Failure::not_found(WHAT))?;
    Ok(Json(v3::ServiceBindingDetails {
        credentials: services::credentials(&instance),
        syslog_drain_url: instance.secrets.syslog_drain_url.map(|url| url.expose().to_owned()),
        volume_mounts: Vec::new(),
    }))
}

/// Whatever is filtered by, there are none.
async fn no_route_bindings(State(context): State<Context>, _: Caller, query: Query) -> Answer<Json<v3::List<Value>>> {
    let none = Paged {
        items: Vec::new(),
        total: 0,
    };
    query.list(&context, none, |none: Value| none).map(Json)
}
