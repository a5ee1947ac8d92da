//! `/v3/buildpacks`: everybody sees them, operators change them.

use super::links::{accepted, links, post};
use crate::actions::{By, buildpack as actions};
use crate::auth::Caller;
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, Query, id};
use api::error::Code;
use api::v3;
use axum::extract::{DefaultBodyLimit, Multipart, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post as on_post};
use axum::{Json, Router};
use blobstore::Kind;
use http::StatusCode;
use model::id::BuildpackId;
use model::resource::Buildpack;
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Seek as _, Write as _};
use std::time::Duration;
use store::Paged;

const WHAT: &str = "Buildpack";
/// Largest archive in bytes.
const MAX_BITS: u64 = 2 * 1024 * 1024 * 1024;
/// An upload whose next bytes do not come within this time is given up.
const STALL: Duration = Duration::from_secs(60);

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
    query.only(&["names", "stacks", "lifecycle"])?;
    let names = query.texts("names");
    let stacks = query.texts("stacks");
    let wanted = |one: &Buildpack| {
        let stack = one.stack.as_ref().map_or("", |stack| stack.as_str());
        names.as_ref().is_none_or(|names| names.contains(&one.name))
            && stacks
                .as_ref()
                .is_none_or(|stacks| stacks.iter().any(|wanted| wanted == stack))
    };
    let all = actions::all(&context, &context.store).await?;
    let items: Vec<Buildpack> = all.into_iter().filter(wanted).collect();
    let total = items.len() as u64;
    query
        .list(&context, Paged { items, total }, |one| present(&context, one))
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
    let (bits, file) = receive(&context, multipart).await?;
    let stored = context.blobs.put_temporary(Kind::Buildpack, &bits.digest, file).await;
    stored.map_err(Failure::internal)?;
    let (filled, job) = actions::fill(&context, buildpack.id, bits, &By::caller(&caller, &context)).await?;
    let headers = accepted(&context, job).headers().clone();
    Ok((StatusCode::ACCEPTED, headers, Json(present(&context, filled))).into_response())
}

fn invalid(detail: impl std::fmt::Display) -> Failure {
    Failure::refused(format!("The buildpack upload is invalid: {detail}"))
}

async fn receive(context: &Context, mut multipart: Multipart) -> Answer<(actions::Bits, tempfile::NamedTempFile)> {
    let stalled = |_| invalid(format!("no bytes for {} s", STALL.as_secs()));
    loop {
        let field = tokio::time::timeout(STALL, multipart.next_field())
            .await
            .map_err(stalled)?;
        let field = field.map_err(|error| invalid(error.body_text()))?;
        let mut field = field.ok_or_else(|| invalid("the form has no \"bits\""))?;
        if field.name() != Some("bits") {
            continue;
        }
        let filename: String = field.file_name().unwrap_or("buildpack").chars().take(255).collect();
        let mut file = context.blobs.temporary().map_err(Failure::internal)?;
        let mut hash = Sha256::new();
        let mut size_bytes = 0;
        while let Some(chunk) = tokio::time::timeout(STALL, field.chunk())
            .await
            .map_err(stalled)?
            .map_err(|error| invalid(error.body_text()))?
        {
            size_bytes += chunk.len() as u64;
            if size_bytes > MAX_BITS {
                return Err(Failure::new(
                    Code::PayloadTooLarge,
                    format!("The buildpack may not be larger than {MAX_BITS} bytes"),
                ));
            }
            hash.update(&chunk);
            file.write_all(&chunk).map_err(Failure::internal)?;
        }
        look_at(file.as_file_mut())?;
        let digest = model::Digest::from_sha256(hash.finalize().into());
        let bits = actions::Bits {
            filename,
            digest,
            size_bytes,
        };
        return Ok((bits, file));
    }
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
