//! `/v3/feature_flags` and `/v3/environment_variable_groups`: what operators set for the whole platform.

use super::links::links;
use crate::actions::{By, app};
use crate::auth::Caller;
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::{self, Flag, Set};
use crate::request::{Body, Facts, Query};
use crate::services::Group;
use api::v3::{self, EnvValue};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use model::resource::Target;
use serde::Deserialize;
use serde_json::{Value, json};

const FLAG: &str = "Feature flag";
const GROUP: &str = "Environment variable group";
/// Longest message for those whom a flag refuses, in bytes.
const MAX_MESSAGE: usize = 250;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/feature_flags", get(list))
        .route("/v3/feature_flags/{name}", get(fetch).patch(update))
        .route("/v3/environment_variable_groups/{name}", get(group).patch(set_group))
}

fn present(context: &Context, flag: Flag, set: &Set) -> Value {
    json!({
        "name": flag.name(),
        "enabled": set.enabled,
        "updated_at": set.updated_at.map(crate::feeds::rfc3339),
        "custom_error_message": set.custom_error_message,
        "links": links(context, [("self", format!("/v3/feature_flags/{}", flag.name()))]),
    })
}

async fn list(State(context): State<Context>, _: Caller, query: Query) -> Answer<Json<v3::List<Value>>> {
    let every = flags::every(&context.store).await?;
    fn facts((flag, set): &(Flag, flags::Set)) -> Facts<'_> {
        let at = set.updated_at.unwrap_or(model::Timestamp::UNIX_EPOCH);
        Facts {
            name: flag.name(),
            created_at: at,
            updated_at: at,
            metadata: None,
        }
    }
    query
        .few(&context, every, facts, |(flag, set)| present(&context, flag, &set))
        .map(Json)
}

fn flag(name: &str) -> Answer<Flag> {
    Flag::by_name(name).ok_or_else(|| Failure::not_found(FLAG))
}

async fn fetch(State(context): State<Context>, _: Caller, Path(name): Path<String>) -> Answer<Json<Value>> {
    let flag = flag(&name)?;
    let set = flag.read(&context.store).await?;
    Ok(Json(present(&context, flag, &set)))
}

/// `PATCH /v3/feature_flags/{name}`.
#[derive(Deserialize)]
struct FlagChange {
    enabled: bool,
    #[serde(default)]
    custom_error_message: Option<String>,
}

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<FlagChange>,
) -> Answer<Json<Value>> {
    let flag = flag(&name)?;
    caller.operator()?;
    if body
        .custom_error_message
        .as_ref()
        .is_some_and(|text| text.len() > MAX_MESSAGE)
    {
        return Err(Failure::refused(format!(
            "Custom error message must have at most {MAX_MESSAGE} characters"
        )));
    }
    let by = By::caller(&caller, &context);
    let set = Set {
        enabled: body.enabled,
        custom_error_message: body.custom_error_message,
        updated_at: Some(by.now),
    };
    let tx = context.store.begin().await?;
    flag.write(&tx, set.clone(), by.now).await?;
    let target = Target {
        guid: flag.name().to_owned(),
        kind: "feature_flag".to_owned(),
        name: flag.name().to_owned(),
    };
    tx.event(by.event(
        "audit.feature_flag.update",
        target,
        None,
        json!({"enabled": set.enabled}),
    ));
    tx.commit().await?;
    Ok(Json(present(&context, flag, &set)))
}

fn present_group(context: &Context, group: Group, env: &model::SecretEnv, updated_at: Option<String>) -> Value {
    let variable = |(name, value): (&str, &str)| (name.to_owned(), EnvValue::from(value));
    let var: std::collections::BTreeMap<_, _> = env.expose().map(variable).collect();
    let own = format!("/v3/environment_variable_groups/{}", group.name());
    json!({
        "name": group.name(),
        "var": var,
        "updated_at": updated_at,
        "links": links(context, [("self", own)]),
    })
}

fn group_of(name: &str) -> Answer<Group> {
    Group::by_name(name).ok_or_else(|| Failure::not_found(GROUP))
}

async fn group(State(context): State<Context>, _: Caller, Path(name): Path<String>) -> Answer<Json<Value>> {
    let group = group_of(&name)?;
    let env = group.read(&context.store).await?;
    Ok(Json(present_group(&context, group, &env, None)))
}

/// Adds variables, or removes those without a value; apps get them at their next start or build.
async fn set_group(
    State(context): State<Context>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<v3::EnvPatch>,
) -> Answer<Json<Value>> {
    let group = group_of(&name)?;
    caller.operator()?;
    let by = By::caller(&caller, &context);
    let names: Vec<String> = body.var.keys().cloned().collect();
    let tx = context.store.begin().await?;
    let mut env = group.read(&tx).await?;
    app::patch_env(&mut env, body.var)?;
    group.write(&tx, &env, by.now).await?;
    let target = Target {
        guid: group.name().to_owned(),
        kind: "environment_variable_group".to_owned(),
        name: group.name().to_owned(),
    };
    tx.event(by.event(
        "audit.environment_variable_group.update",
        target,
        None,
        json!({"variables": names}),
    ));
    tx.commit().await?;
    let at = crate::feeds::rfc3339(by.now);
    Ok(Json(present_group(&context, group, &env, Some(at))))
}
