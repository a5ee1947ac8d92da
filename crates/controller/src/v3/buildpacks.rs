//! `/v3/buildpacks`: everybody sees them, operators change them.

use super::bits::receive;
use super::links::{accepted, links, post};
use crate::actions::{By, buildpack as actions};
use crate::auth::Caller;
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, Facts, Query, id};
use api::v3;
use axum::extract::{DefaultBodyLimit, Multipart, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post as on_post};
use axum::{Json, Router};
use blobstore::Kind;
use http::StatusCode;
use model::id::BuildpackId;
use model::resource::Buildpack;
use std::io::{Read as _, Seek as _};

const WHAT: &str = "Buildpack";
/// Largest archive in bytes.
const MAX_BITS: u64 = 2 * 1024 * 1024 * 1024;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/buildpacks", get(list).post(create))
        .route("/v3/buildpacks/{guid}", get(fetch).patch(update).delete(delete))
        .route(
            "/v3/buildpacks/{guid}/upload",
            on_post(upload).layer(DefaultBodyLimit::disable()),
        )
}

fn present(context: &Context, buildpack: Buildpack) -> v3::Buildpack {
    let own = format!("/v3/buildpacks/{}", buildpack.id);
    let mut all = links(context, [("self", own.clone())]);
    all.insert("upload".to_owned(), post(context, format!("{own}/upload")));
    v3::Buildpack {
        links: all,
        guid: buildpack.id,
        created_at: buildpack.created_at,
        updated_at: buildpack.updated_at,
        state: if buildpack.is_ready() {
            "READY"
        } else {
            "AWAITING_UPLOAD"
        }
        .to_owned(),
        name: buildpack.name,
        stack: buildpack.stack.map(Into::into),
        filename: buildpack.filename,
        position: buildpack.position,
        enabled: buildpack.enabled,
        locked: buildpack.locked,
        lifecycle: "buildpack".to_owned(),
        metadata: buildpack.metadata,
    }
}

fn operator(caller: &Caller) -> Answer<()> {
    if caller.admin {
        Ok(())
    } else {
        Err(Failure::forbidden())
    }
}

async fn list(State(context): State<Context>, _: Caller, query: Query) -> Answer<Json<v3::List<v3::Buildpack>>> {
    let names = query.texts("names");
    let stacks = query.texts("stacks");
    let lifecycle = query.get("lifecycle");
    let wanted = |one: &Buildpack| {
        let stack = one.stack.as_ref().map_or("", |stack| stack.as_str());
        lifecycle.is_none_or(|wanted| wanted == "buildpack")
            && names.as_ref().is_none_or(|names| names.contains(&one.name))
            && stacks
                .as_ref()
                .is_none_or(|stacks| stacks.iter().any(|wanted| wanted == stack))
    };
    let all = actions::all(&context, &context.store).await?;
    let items: Vec<Buildpack> = all.into_iter().filter(wanted).collect();
    fn facts(one: &Buildpack) -> Facts<'_> {
        Facts {
            name: &one.name,
            created_at: one.created_at,
            updated_at: one.updated_at,
            metadata: Some(&one.metadata),
        }
    }
    // They come in the order of their positions.
    query
        .few(&context, items, facts, |one| present(&context, one))
        .map(Json)
}

async fn find(context: &Context, guid: &str) -> Answer<Buildpack> {
    let wanted: BuildpackId = id(guid, WHAT)?;
    let all = actions::all(context, &context.store).await?;
    let found = all.into_iter().find(|one| one.id == wanted);
    found.ok_or_else(|| Failure::not_found(WHAT))
}

async fn fetch(State(context): State<Context>, _: Caller, Path(guid): Path<String>) -> Answer<Json<v3::Buildpack>> {
    Ok(Json(present(&context, find(&context, &guid).await?)))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::BuildpackWrite>,
) -> Answer<(StatusCode, Json<v3::Buildpack>)> {
    operator(&caller)?;
    let made = actions::create(&context, &body, &By::caller(&caller, &context)).await?;
    Ok((StatusCode::CREATED, Json(present(&context, made))))
}

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::BuildpackWrite>,
) -> Answer<Json<v3::Buildpack>> {
    let known = find(&context, &guid).await?;
    operator(&caller)?;
    let changed = actions::update(&context, known.id, &body, &By::caller(&caller, &context)).await?;
    Ok(Json(present(&context, changed)))
}

async fn delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let known = find(&context, &guid).await?;
    operator(&caller)?;
    let job = actions::delete(&context, known.id, &By::caller(&caller, &context)).await?;
    Ok(accepted(&context, job))
}

/// Takes an archive in: `bits` of a form.
async fn upload(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    multipart: Multipart,
) -> Answer<Response> {
    let buildpack = find(&context, &guid).await?;
    operator(&caller)?;
    actions::refuse_locked(&buildpack)?;
    let mut received = receive(&context, multipart, "buildpack", MAX_BITS).await?;
    look_at(received.file.as_file_mut())?;
    let bits = actions::Bits {
        filename: received.filename,
        digest: received.digest,
        size_bytes: received.size_bytes,
    };
    let stored = context
        .blobs
        .put_temporary(Kind::Buildpack, &bits.digest, received.file)
        .await;
    stored.map_err(Failure::internal)?;
    let (filled, job) = actions::fill(&context, buildpack.id, bits, &By::caller(&caller, &context)).await?;
    let headers = accepted(&context, job).headers().clone();
    Ok((StatusCode::ACCEPTED, headers, Json(present(&context, filled))).into_response())
}

fn invalid(detail: impl std::fmt::Display) -> Failure {
    super::bits::invalid("buildpack", detail)
}

/// Refuses what is certainly no archive of a buildpack. What it holds beyond that only a build can say.
fn look_at(file: &mut std::fs::File) -> Answer<()> {
    let mut head = [0; 512];
    file.rewind().map_err(Failure::internal)?;
    let mut read = 0;
    while read < head.len() {
        match file.read(&mut head[read..]).map_err(Failure::internal)? {
            0 => break,
            more => read += more,
        }
    }
    let is_tar = head.starts_with(&[0x1f, 0x8b])
        || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || head[257..].starts_with(b"ustar");
    if is_tar {
        return Ok(());
    }
    if !head.starts_with(b"PK") {
        return Err(invalid("it is neither a zip nor a tar archive"));
    }
    let archive = zip::ZipArchive::new(file).map_err(invalid)?;
    let is_part = |name: &str| {
        let below = name.split_once('/').map_or(name, |(_, below)| below);
        [name, below]
            .iter()
            .any(|name| name.starts_with("bin/") || *name == "buildpack.toml" || *name == "index.json")
    };
    if archive.file_names().flatten().any(|name| is_part(&name)) {
        return Ok(());
    }
    Err(invalid("it has neither bin/ nor buildpack.toml"))
}
