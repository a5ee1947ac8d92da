//! `/v3/sidecars`, and those of an app or a process.

use super::apps::WHAT as APP;
use crate::actions::By;
use crate::actions::sidecar::{self as actions, Change};
use crate::auth::{Caller, Need, app_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, Facts, Query, id};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use model::resource::{App, Space};
use model::sidecar::{Sidecar, runs_beside};
use serde_json::{Map, Value};

const WHAT: &str = "Sidecar";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/apps/{guid}/sidecars", get(of_app).post(create))
        .route("/v3/processes/{guid}/sidecars", get(of_process))
        .route("/v3/sidecars/{guid}", get(fetch).patch(update).delete(delete))
}

fn present(sidecar: Sidecar) -> v3::Sidecar {
    v3::Sidecar {
        guid: sidecar.id,
        name: sidecar.what.name,
        command: sidecar.what.command,
        process_types: sidecar.what.process_types,
        memory_in_mb: sidecar.what.memory_mb,
        origin: sidecar.origin,
        relationships: v3::SidecarRelationships {
            app: v3::ToOne::to(sidecar.app),
        },
        created_at: sidecar.created_at,
        updated_at: sidecar.updated_at,
    }
}

async fn of_app(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Sidecar>>> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, APP)?, Need::Read, APP).await?;
    list(&context, &query, context.store.sidecars_of_app(app.id).await?)
}

async fn of_process(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Sidecar>>> {
    let process = context.store.process_fetch(id(&guid, "Process")?).await?;
    let process = process.ok_or_else(|| Failure::not_found("Process"))?;
    app_for(&context.store, &caller, process.app, Need::Read, "Process").await?;
    let mut all = context.store.sidecars_of_app(process.app).await?;
    all.retain(|one| runs_beside(&one.what, process.process_type.as_str()));
    list(&context, &query, all)
}

/// A page of what is few: an app has a bounded number of them.
fn list(context: &Context, query: &Query, all: Vec<Sidecar>) -> Answer<Json<v3::List<v3::Sidecar>>> {
    fn facts(one: &Sidecar) -> Facts<'_> {
        Facts {
            name: one.what.name.as_str(),
            created_at: one.created_at,
            updated_at: one.updated_at,
            metadata: None,
        }
    }
    query.few(context, all, facts, present).map(Json)
}

/// A sidecar with its app and space.
async fn found(context: &Context, caller: &Caller, guid: &str, need: Need) -> Answer<(Sidecar, App, Space)> {
    let sidecar = context.store.sidecar_fetch(id(guid, WHAT)?).await?;
    let sidecar = sidecar.ok_or_else(|| Failure::not_found(WHAT))?;
    let (app, space) = app_for(&context.store, caller, sidecar.app, need, WHAT).await?;
    Ok((sidecar, app, space))
}

async fn fetch(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::Sidecar>> {
    let (sidecar, ..) = found(&context, &caller, &guid, Need::Read).await?;
    Ok(Json(present(sidecar)))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Answer<(StatusCode, Json<v3::Sidecar>)> {
    let (app, space) = app_for(&context.store, &caller, id(&guid, APP)?, Need::Write, APP).await?;
    let change = read(&body, true)?;
    let by = By::caller(&caller, &context);
    let made = actions::create(&context, app.id, &space, change, &by).await?;
    Ok((StatusCode::CREATED, Json(present(made))))
}

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Answer<Json<v3::Sidecar>> {
    let (sidecar, _, space) = found(&context, &caller, &guid, Need::Write).await?;
    let change = read(&body, false)?;
    let by = By::caller(&caller, &context);
    let changed = actions::update(&context, sidecar.id, &space, change, &by).await?;
    Ok(Json(present(changed)))
}

async fn delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<StatusCode> {
    let (sidecar, app, space) = found(&context, &caller, &guid, Need::Write).await?;
    let by = By::caller(&caller, &context);
    actions::delete(&context, &sidecar, &app, &space, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a body says, checked as CF checks it: all that is wrong in one sentence. `whole`: nothing may be missing.
fn read(body: &Map<String, Value>, whole: bool) -> Answer<Change> {
    const KEYS: [&str; 4] = ["name", "command", "process_types", "memory_in_mb"];
    let mut wrong = Vec::new();
    let unknown: Vec<_> = body.keys().filter(|key| !KEYS.contains(&key.as_str())).collect();
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|key| format!("'{key}'")).collect();
        wrong.push(format!("Unknown field(s): {}", names.join(", ")));
    }
    let get = |key: &str| body.get(key).or(whole.then_some(&Value::Null));
    let name = get("name").and_then(|name| text("Name", name, &mut wrong));
    let command = get("command").and_then(|command| text("Command", command, &mut wrong));
    let process_types = get("process_types").and_then(|types| process_types(types, &mut wrong));
    let memory_mb = body.get("memory_in_mb").map(|memory| memory_mb(memory, &mut wrong));
    if !wrong.is_empty() {
        return Err(Failure::refused(wrong.join(", ")));
    }
    Ok(Change {
        name,
        command,
        process_types,
        memory_mb,
    })
}

fn text(label: &str, value: &Value, wrong: &mut Vec<String>) -> Option<String> {
    if value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty()) {
        wrong.push(format!("{label} can't be blank"));
    }
    if !value.is_string() {
        wrong.push(format!("{label} must be a string"));
    }
    value.as_str().map(ToOwned::to_owned)
}

fn process_types(value: &Value, wrong: &mut Vec<String>) -> Option<Vec<String>> {
    let list = value.as_array();
    if list.is_none() && !value.is_null() {
        wrong.push("Process types must be an array".to_owned());
        return None;
    }
    let list = list.map_or(&[][..], Vec::as_slice);
    if list.is_empty() {
        wrong.push("Process types must have at least 1 process_type".to_owned());
    }
    let texts: Option<Vec<String>> = list.iter().map(|kind| kind.as_str().map(ToOwned::to_owned)).collect();
    if texts.is_none() {
        wrong.push("Process types must be strings".to_owned());
    }
    texts
}

fn memory_mb(value: &Value, wrong: &mut Vec<String>) -> Option<u32> {
    let problem = match value {
        Value::Null => return None,
        Value::Number(number) => match number.as_i64() {
            None => "must be an integer",
            Some(..=0) => "must be greater than 0",
            Some(megabytes) => match u32::try_from(megabytes) {
                Ok(megabytes) => return Some(megabytes),
                Err(_) => "must be less than 4294967296",
            },
        },
        _ => "is not a number",
    };
    wrong.push(format!("Memory in mb {problem}"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(body: &Value, whole: bool) -> String {
        let failure = read(body.as_object().expect("an object"), whole).expect_err("refused");
        failure.errors()[0].detail.clone()
    }

    #[test]
    fn what_is_wrong_is_said_as_cf_says_it() {
        let good = json!({"name": "a", "command": "b", "process_types": ["web"], "memory_in_mb": 30});
        let change = read(good.as_object().expect("an object"), true).expect("good");
        assert_eq!(change.memory_mb, Some(Some(30)));
        let nothing = read(&Map::new(), false).expect("nothing is said");
        assert!(nothing.name.is_none() && nothing.memory_mb.is_none());
        for (key, value, expected) in [
            ("bogus", json!(1), "Unknown field(s): 'bogus'"),
            ("name", json!(" "), "Name can't be blank"),
            ("command", json!(5), "Command must be a string"),
            (
                "process_types",
                json!([]),
                "Process types must have at least 1 process_type",
            ),
            ("process_types", json!("web"), "Process types must be an array"),
            (
                "memory_in_mb",
                json!("totes not a number"),
                "Memory in mb is not a number",
            ),
            ("memory_in_mb", json!(0), "Memory in mb must be greater than 0"),
            ("memory_in_mb", json!(1.5), "Memory in mb must be an integer"),
        ] {
            let mut body = good.clone();
            body[key] = value;
            assert_eq!(wrong(&body, true), expected);
            assert_eq!(wrong(&body, false), expected);
        }
        let missing = wrong(&json!({"name": "a", "command": "b"}), true);
        assert_eq!(missing, "Process types must have at least 1 process_type");
    }
}
