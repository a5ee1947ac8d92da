//! `/v3/stacks`: what the platform offers to run on.

use super::links::links;
use crate::auth::Caller;
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Facts, Query, id};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use model::id::StackId;
use model::resource::Stack;
use store::AppFilter;

pub(super) const STACK: &str = "Stack";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/stacks", get(stacks))
        .route("/v3/stacks/{guid}", get(stack))
        .route("/v3/stacks/{guid}/apps", get(apps_of_stack))
}

pub(super) fn present_stack(context: &Context, stack: Stack) -> v3::Stack {
    v3::Stack {
        links: links(context, [("self", format!("/v3/stacks/{}", stack.id))]),
        guid: stack.id,
        created_at: stack.created_at,
        updated_at: stack.created_at,
        name: stack.name.into(),
        description: stack.description,
        default: stack.default,
        metadata: stack.metadata,
    }
}

async fn stacks(State(context): State<Context>, _: Caller, query: Query) -> Answer<Json<v3::List<v3::Stack>>> {
    let names = query.texts("names");
    let default = query.get("default").map(|text| text == "true");
    let wanted = |stack: &Stack| {
        names
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name == stack.name.as_str()))
            && default.is_none_or(|default| stack.default == default)
    };
    let items: Vec<_> = context.store.stack_list().await?.into_iter().filter(wanted).collect();
    fn facts(stack: &Stack) -> Facts<'_> {
        Facts {
            name: stack.name.as_str(),
            created_at: stack.created_at,
            updated_at: stack.created_at,
            metadata: Some(&stack.metadata),
        }
    }
    query
        .few(&context, items, facts, |stack| present_stack(&context, stack))
        .map(Json)
}

/// Apps that run on a stack, as far as the caller may see them.
async fn apps_of_stack(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::App>>> {
    let wanted: StackId = id(&guid, STACK)?;
    let found = context
        .store
        .stack_list()
        .await?
        .into_iter()
        .find(|stack| stack.id == wanted);
    let stack = found.ok_or_else(|| Failure::not_found(STACK))?;
    let filter = AppFilter {
        stacks: Some(vec![stack.name.to_string()]),
        common: query.common()?,
        ..AppFilter::default()
    };
    super::apps::filtered(&context, &caller, &query, filter).await
}

async fn stack(State(context): State<Context>, _: Caller, Path(guid): Path<String>) -> Answer<Json<v3::Stack>> {
    let wanted: StackId = id(&guid, STACK)?;
    let stack = context
        .store
        .stack_list()
        .await?
        .into_iter()
        .find(|stack| stack.id == wanted);
    Ok(Json(present_stack(
        &context,
        stack.ok_or_else(|| Failure::not_found(STACK))?,
    )))
}
