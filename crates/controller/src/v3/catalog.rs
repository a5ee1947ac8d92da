//! `/v3/stacks` and `/v3/buildpacks`: what the platform offers. Buildpacks are those it was configured with.

use super::links::links;
use crate::auth::Caller;
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Query, id};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use model::Timestamp;
use model::id::{BuildpackId, StackId};
use model::resource::Stack;
use sha2::{Digest as _, Sha256};
use store::Paged;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/stacks", get(stacks))
        .route("/v3/stacks/{guid}", get(stack))
        .route("/v3/buildpacks", get(buildpacks))
}

fn present_stack(context: &Context, stack: Stack) -> v3::Stack {
    v3::Stack {
        links: links(context, [("self", format!("/v3/stacks/{}", stack.id))]),
        guid: stack.id,
        created_at: stack.created_at,
        updated_at: stack.created_at,
        name: stack.name.into(),
        description: stack.description,
        default: stack.default,
        metadata: v3::Metadata::default(),
    }
}

async fn stacks(State(context): State<Context>, _: Caller, query: Query) -> Answer<Json<v3::List<v3::Stack>>> {
    query.only(&["names", "default"])?;
    let names = query.texts("names");
    let default = query.get("default").map(|text| text == "true");
    let wanted = |stack: &Stack| {
        names
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name == stack.name.as_str()))
            && default.is_none_or(|default| stack.default == default)
    };
    let items: Vec<_> = context.store.stack_list().await?.into_iter().filter(wanted).collect();
    let total = items.len() as u64;
    query
        .list(&context, Paged { items, total }, |stack| present_stack(&context, stack))
        .map(Json)
}

async fn stack(State(context): State<Context>, _: Caller, Path(guid): Path<String>) -> Answer<Json<v3::Stack>> {
    const WHAT: &str = "Stack";
    let wanted: StackId = id(&guid, WHAT)?;
    let stack = context
        .store
        .stack_list()
        .await?
        .into_iter()
        .find(|stack| stack.id == wanted);
    Ok(Json(present_stack(
        &context,
        stack.ok_or_else(|| Failure::not_found(WHAT))?,
    )))
}

/// An id that stays for as long as the name does: configuration has none.
fn buildpack_id(name: &str) -> BuildpackId {
    let hash = Sha256::digest(format!("buildpack {name}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    BuildpackId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

async fn buildpacks(State(context): State<Context>, _: Caller, query: Query) -> Answer<Json<v3::List<v3::Buildpack>>> {
    query.only(&["names", "stacks", "lifecycle"])?;
    let names = query.texts("names");
    let known = context.config.buildpacks.iter().zip(1_u32..);
    let items: Vec<v3::Buildpack> = known
        .filter(|(known, _)| names.as_ref().is_none_or(|names| names.contains(&known.name)))
        .map(|(known, position)| {
            let guid = buildpack_id(&known.name);
            v3::Buildpack {
                links: links(&context, [("self", format!("/v3/buildpacks/{guid}"))]),
                guid,
                created_at: Timestamp::UNIX_EPOCH,
                updated_at: Timestamp::UNIX_EPOCH,
                name: known.name.clone(),
                stack: None,
                state: "READY".to_owned(),
                filename: Some(format!("{}-{}", known.id, known.version)),
                position,
                enabled: true,
                locked: true,
                lifecycle: "buildpack".to_owned(),
                metadata: v3::Metadata::default(),
            }
        })
        .collect();
    let total = items.len() as u64;
    query
        .list(&context, Paged { items, total }, |buildpack| buildpack)
        .map(Json)
}

#[cfg(test)]
#[test]
fn ids_of_buildpacks_are_their_names() {
    assert_eq!(buildpack_id("a"), buildpack_id("a"));
    assert_ne!(buildpack_id("a"), buildpack_id("b"));
    assert_ne!(buildpack_id("a").0, uuid::Uuid::nil());
}
