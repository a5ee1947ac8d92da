//! Droplets as archives, what is in them and where they came from: download and upload as Cloud Foundry has them, bill of
//! materials and provenance in the forms that other tools read.

use super::bits::{failed, receive, send};
use super::droplets::{WHAT, present};
use super::links::accepted;
use crate::actions::{By, droplet as actions};
use crate::auth::{Caller, Need, app_for};
use crate::bits;
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, id};
use api::v3;
use axum::extract::{DefaultBodyLimit, Multipart, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post as on_post};
use axum::{Json, Router};
use http::StatusCode;
use model::resource::{App, Droplet, Space};
use std::io::Seek as _;

/// Largest archive in bytes.
const MAX_BITS: u64 = 4 << 30;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/droplets/{guid}/download", get(download))
        .route("/v3/droplets/{guid}/image", get(image))
        .route(
            "/v3/droplets/{guid}/upload",
            on_post(upload).layer(DefaultBodyLimit::disable()),
        )
        .route("/v3/droplets/{guid}/sbom", get(sbom))
        .route("/v3/droplets/{guid}/provenance", get(provenance))
}

async fn find(context: &Context, caller: &Caller, guid: &str, need: Need) -> Answer<(Droplet, App, Space)> {
    let droplet = context.store.droplet_fetch(id(guid, WHAT)?).await?;
    let droplet = droplet.ok_or_else(|| Failure::not_found(WHAT))?;
    let (app, space) = app_for(&context.store, caller, droplet.app, need, WHAT).await?;
    Ok((droplet, app, space))
}

fn staged(droplet: &Droplet) -> Answer<()> {
    if droplet.is_staged() {
        return Ok(());
    }
    Err(Failure::refused("Only staged droplets can be downloaded."))
}

/// `POST /v3/droplets`: one that awaits its bits.
pub(super) async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::DropletCreate>,
) -> Answer<(StatusCode, Json<v3::Droplet>)> {
    let invalid = || Failure::refused("App is invalid. Ensure it exists and you have access to it.");
    let app = body.relationships.app.id().ok_or_else(invalid)?;
    let (app, space) = match app_for(&context.store, &caller, app, Need::Write, "App").await {
        Err(failure) if failure.status() == StatusCode::NOT_FOUND => return Err(invalid()),
        other => other?,
    };
    let by = By::caller(&caller, &context);
    let made = actions::create(&context, &app, &space, body.process_types.unwrap_or_default(), &by).await?;
    Ok((StatusCode::CREATED, Json(present(&context, made))))
}

async fn download(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let (droplet, app, space) = find(&context, &caller, &guid, Need::Write).await?;
    staged(&droplet)?;
    if droplet.image.is_some() {
        return Err(Failure::refused("Cannot download droplets with 'docker' lifecycle.")
            .hint("paas droplet export gives it as an image"));
    }
    let file = bits::archive(&context.blobs, &droplet)
        .await
        .map_err(failed("droplet"))?;
    actions::downloaded(&context, &droplet, &app, &space, &By::caller(&caller, &context)).await?;
    send(file, &format!("droplet_{}.tgz", droplet.id), "application/gzip").await
}

/// The droplet as an archive of an image's layout.
async fn image(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let (droplet, app, space) = find(&context, &caller, &guid, Need::Write).await?;
    staged(&droplet)?;
    let launcher = &context.config.lifecycle_path;
    let file = bits::layout(&context.blobs, &droplet, app.name.as_str(), launcher).await;
    let file = file.map_err(failed("droplet"))?;
    actions::downloaded(&context, &droplet, &app, &space, &By::caller(&caller, &context)).await?;
    send(file, &format!("droplet_{}.tar", droplet.id), "application/x-tar").await
}

async fn upload(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    multipart: Multipart,
) -> Answer<Response> {
    let (droplet, app, space) = find(&context, &caller, &guid, Need::Write).await?;
    if droplet.is_staged() {
        return Err(actions::already_uploaded());
    }
    let received = receive(&context, multipart, "droplet", MAX_BITS).await?;
    let mut file = received.file.into_file();
    file.rewind().map_err(Failure::internal)?;
    let commands = droplet.processes.iter();
    let commands = commands.map(|process| (process.process_type.clone(), process.command.clone()));
    let uploaded = bits::take_in(&context.blobs, file, commands.collect()).await;
    let uploaded = uploaded.map_err(failed("droplet"))?;
    let by = By::caller(&caller, &context);
    let (filled, job) = actions::fill(&context, droplet, &app, &space, uploaded, &by).await?;
    let headers = accepted(&context, job).headers().clone();
    Ok((StatusCode::ACCEPTED, headers, Json(present(&context, filled))).into_response())
}

/// What is in the droplet, in CycloneDX.
async fn sbom(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<serde_json::Value>> {
    let (droplet, app, _) = find(&context, &caller, &guid, Need::Read).await?;
    staged(&droplet)?;
    let files = bits::sboms(&context.blobs, &droplet).await.map_err(failed("droplet"))?;
    Ok(Json(crate::attest::sbom(&droplet, app.name.as_str(), &files)))
}

/// What the droplet was made of and by whom, as an in-toto statement.
async fn provenance(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<serde_json::Value>> {
    let (droplet, app, _) = find(&context, &caller, &guid, Need::Read).await?;
    staged(&droplet)?;
    let build = match droplet.build {
        Some(build) => context.store.build_fetch(build).await?,
        None => None,
    };
    let package = match droplet.package {
        Some(package) => context.store.package_fetch(package).await?,
        None => None,
    };
    Ok(Json(crate::attest::provenance(
        &context.config,
        &droplet,
        app.name.as_str(),
        build.as_ref(),
        package.as_ref(),
    )))
}
