//! What belongs to an app and is read or changed below its path: environment, current droplet, features, routes.

use super::apps::WHAT;
use super::links::links;
use crate::actions::{By, app as actions};
use crate::auth::{Caller, Need, app_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use crate::request::{Body, Facts, Query, id};
use crate::services::{self, Group};
use crate::sessions;
use api::v3::{self, EnvValue};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use model::SecretEnv;
use model::resource::App;
use serde_json::json;
use std::collections::BTreeMap;
use store::RouteFilter;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/apps/{guid}/env", get(env))
        .route(
            "/v3/apps/{guid}/environment_variables",
            get(variables).patch(set_variables),
        )
        .route(
            "/v3/apps/{guid}/relationships/current_droplet",
            get(current).patch(set_current),
        )
        .route("/v3/apps/{guid}/routes", get(routes_of_app))
        .route("/v3/apps/{guid}/features", get(features))
        .route("/v3/apps/{guid}/features/{name}", get(feature).patch(set_feature))
        .route("/v3/apps/{guid}/permissions", get(permissions))
        .route("/v3/apps/{guid}/ssh_enabled", get(ssh_enabled))
}

fn values(env: &SecretEnv) -> BTreeMap<String, EnvValue> {
    env.expose()
        .map(|(name, value)| (name.to_owned(), EnvValue::from(value)))
        .collect()
}

fn exposed(app: &App) -> BTreeMap<String, EnvValue> {
    values(&app.env)
}

/// Environments are shown to developers unless an operator switched that off.
async fn visible(context: &Context, caller: &Caller) -> Answer<()> {
    Flag::EnvVarVisibility.require(&context.store, caller).await?;
    Flag::SpaceDeveloperEnvVarVisibility
        .require(&context.store, caller)
        .await
}

/// What the caller may see of an app, for tools that stand in front of it.
async fn permissions(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<serde_json::Value>> {
    let (_, space) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    Ok(Json(json!({
        "read_basic_data": true,
        "read_sensitive_data": caller.operates(&space),
    })))
}

async fn env(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::AppEnv>> {
    let (app, space) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Secrets, WHAT).await?;
    visible(&context, &caller).await?;
    let org = context.store.org_fetch(space.org).await?.map(|org| org.name);
    let filter = RouteFilter {
        apps: Some(vec![app.id]),
        ..RouteFilter::default()
    };
    let routes = context
        .store
        .route_list(&filter, store::Scope::All, store::Order::default(), store::Page::ALL)
        .await?;
    let uris: Vec<String> = routes.items.iter().map(model::resource::Route::url).collect();
    let web = context.store.process_by_type(app.id, "web").await?;
    let limits = web.map(|web| json!({"mem": web.limits.memory_mb, "disk": web.limits.disk_mb, "fds": 16384}));
    Ok(Json(v3::AppEnv {
        environment_variables: exposed(&app),
        system_env_json: json!({"VCAP_SERVICES": services::of_app(&context.store, &app).await?}),
        application_env_json: json!({"VCAP_APPLICATION": {
            "cf_api": context.config.public_url, "limits": limits,
            "application_id": app.id, "application_name": app.name, "name": app.name,
            "application_uris": uris, "uris": uris,
            "space_id": space.id, "space_name": space.name,
            "organization_id": space.org, "organization_name": org, "users": null,
        }}),
        running_env_json: values(&Group::Running.read(&context.store).await?),
        staging_env_json: values(&Group::Staging.read(&context.store).await?),
    }))
}

fn present_variables(context: &Context, app: &App) -> v3::EnvVariables {
    let own = format!("/v3/apps/{}", app.id);
    v3::EnvVariables {
        var: exposed(app),
        links: links(
            context,
            [("self", format!("{own}/environment_variables")), ("app", own)],
        ),
    }
}

async fn variables(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::EnvVariables>> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Secrets, WHAT).await?;
    visible(&context, &caller).await?;
    Ok(Json(present_variables(&context, &app)))
}

async fn set_variables(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::EnvPatch>,
) -> Answer<Json<v3::EnvVariables>> {
    let (app, space) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Write, WHAT).await?;
    let app = actions::env_patch(&context, app.id, &space, body, &By::caller(&caller, &context)).await?;
    Ok(Json(present_variables(&context, &app)))
}

fn present_current(context: &Context, app: &App) -> v3::CurrentDroplet {
    let own = format!("/v3/apps/{}", app.id);
    v3::CurrentDroplet {
        droplet: v3::ToOne {
            data: app.droplet.map(|guid| v3::Guid { guid }),
        },
        links: links(
            context,
            [
                ("self", format!("{own}/relationships/current_droplet")),
                ("related", format!("{own}/droplets/current")),
            ],
        ),
    }
}

async fn current(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::CurrentDroplet>> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    if app.droplet.is_none() {
        return Err(Failure::not_found("Droplet"));
    }
    Ok(Json(present_current(&context, &app)))
}

async fn set_current(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::ToOne<model::id::DropletId>>,
) -> Answer<Json<v3::CurrentDroplet>> {
    let (app, space) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Write, WHAT).await?;
    let droplet = body
        .id()
        .ok_or_else(|| Failure::refused("Current droplet cannot be removed"))?;
    let app = actions::set_droplet(&context, app.id, &space, droplet, &By::caller(&caller, &context)).await?;
    Ok(Json(present_current(&context, &app)))
}

async fn routes_of_app(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Route>>> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    let filter = RouteFilter {
        common: query.common()?,
        apps: Some(vec![app.id]),
        // No route has a port.
        ids: query.ids_unless("guids", &["ports"]),
        hosts: query.texts("hosts"),
        paths: query.texts("paths"),
        domains: query.ids("domain_guids"),
        ..RouteFilter::default()
    };
    let listed = context
        .store
        .route_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    super::routes::present_list(&context, &query, listed).await.map(Json)
}

/// CF's features of an app. Sessions can be switched; revisions are on, the others off.
async fn all_features(context: &Context, app: &App) -> Answer<Vec<v3::AppFeature>> {
    let ssh = context.store.ssh_of_app(app.id).await?.app;
    let one = |name: &str, description: &str, enabled| v3::AppFeature {
        name: name.to_owned(),
        description: description.to_owned(),
        enabled,
    };
    Ok(vec![
        one(sessions::FEATURE, "Enable SSHing into the app.", ssh),
        one("revisions", "Enable versioning of an application", true),
        one("service-binding-k8s", "Enable k8s service bindings for the app", false),
        one(
            "file-based-vcap-services",
            "Enable file-based VCAP service bindings for the app",
            false,
        ),
    ])
}

async fn features(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::AppFeature>>> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    let items = all_features(&context, &app).await?;
    fn facts(feature: &v3::AppFeature) -> Facts<'_> {
        Facts {
            name: &feature.name,
            created_at: model::Timestamp::UNIX_EPOCH,
            updated_at: model::Timestamp::UNIX_EPOCH,
            metadata: None,
        }
    }
    query.few(&context, items, facts, |feature| feature).map(Json)
}

async fn feature(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, name)): Path<(String, String)>,
) -> Answer<Json<v3::AppFeature>> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    named(&context, &app, &name).await.map(Json)
}

async fn named(context: &Context, app: &App, name: &str) -> Answer<v3::AppFeature> {
    let all = all_features(context, app).await?;
    let feature = all.into_iter().find(|feature| feature.name == name);
    feature.ok_or_else(|| Failure::not_found("Feature"))
}

async fn set_feature(
    State(context): State<Context>,
    caller: Caller,
    Path((guid, name)): Path<(String, String)>,
    Body(body): Body<v3::FeatureUpdate>,
) -> Answer<Json<v3::AppFeature>> {
    let (app, space) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    let mut feature = named(&context, &app, &name).await?;
    if !caller.develops(&space) {
        return Err(Failure::forbidden());
    }
    if feature.name == sessions::FEATURE {
        sessions::switch_app(&context, &app, &space, body.enabled, &By::caller(&caller, &context)).await?;
        feature.enabled = body.enabled;
    } else if feature.enabled != body.enabled {
        let state = if feature.enabled { "always on" } else { "not supported" };
        return Err(Failure::refused(format!("The feature {name} is {state} here")));
    }
    Ok(Json(feature))
}

async fn ssh_enabled(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<serde_json::Value>> {
    let (app, space) = app_for(&context.store, &caller, id(&guid, WHAT)?, Need::Read, WHAT).await?;
    let reason = sessions::refusal(&context, &app, &space).await?;
    Ok(Json(
        json!({"enabled": reason.is_none(), "reason": reason.unwrap_or_default()}),
    ))
}
