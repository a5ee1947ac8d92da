//! `/v3/droplets`, and those of an app or a package.

use super::apps::{WHAT as APP, lifecycle};
use super::links::links;
use super::packages::package_for;
use crate::auth::{Caller, Need, app_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Query, id};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use model::image::ImageConfig;
use model::resource::{AppLifecycle, Droplet};
use serde_json::json;
use store::{DropletFilter, Paged};

pub(super) const WHAT: &str = "Droplet";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/droplets", get(list).post(super::droplet_bits::create))
        .route("/v3/droplets/{guid}", get(fetch))
        .route("/v3/apps/{guid}/droplets", get(of_app))
        .route("/v3/apps/{guid}/droplets/current", get(current))
        .route("/v3/packages/{guid}/droplets", get(of_package))
}

pub(super) fn present(context: &Context, droplet: Droplet) -> v3::Droplet {
    let own = format!("/v3/droplets/{}", droplet.id);
    let is_staged = droplet.is_staged();
    let kind = match droplet.image {
        Some(_) => AppLifecycle::Docker,
        None => AppLifecycle::Buildpack,
    };
    v3::Droplet {
        links: links(
            context,
            [
                ("self", own.clone()),
                ("download", format!("{own}/download")),
                ("upload", format!("{own}/upload")),
                ("image", format!("{own}/image")),
                ("sbom", format!("{own}/sbom")),
                ("provenance", format!("{own}/provenance")),
                ("app", format!("/v3/apps/{}", droplet.app)),
                (
                    "assign_current_droplet",
                    format!("/v3/apps/{}/relationships/current_droplet", droplet.app),
                ),
            ],
        ),
        guid: droplet.id,
        created_at: droplet.created_at,
        updated_at: droplet.created_at,
        state: if is_staged { "STAGED" } else { "AWAITING_UPLOAD" }.to_owned(),
        error: None,
        lifecycle: lifecycle(kind, &[], droplet.stack.as_str()),
        checksum: v3::Checksum {
            kind: Some("sha256".to_owned()),
            value: is_staged.then(|| droplet.digest.hex()),
        },
        buildpacks: droplet
            .buildpacks
            .into_iter()
            .map(|used| v3::DropletBuildpack {
                name: used.name.clone(),
                detect_output: Some(used.detected),
                version: Some(used.version),
                buildpack_name: Some(used.name),
            })
            .collect(),
        stack: (kind == AppLifecycle::Buildpack).then(|| droplet.stack.into()),
        execution_metadata: droplet.image.as_ref().map(execution_metadata).unwrap_or_default(),
        image: droplet.image.map(|image| image.reference),
        process_types: droplet
            .processes
            .into_iter()
            .map(|process| (process.process_type, process.command))
            .collect(),
        layers: droplet
            .layers
            .into_iter()
            .map(|layer| v3::DropletLayer {
                name: layer.name,
                digest: layer.digest,
                size_bytes: layer.size_bytes,
            })
            .collect(),
        relationships: v3::BuildRelationships {
            app: v3::ToOne::to(droplet.app),
        },
        metadata: droplet.metadata,
    }
}

/// What CF says of an image; its variables are not for everybody who may see the droplet.
fn execution_metadata(image: &ImageConfig) -> String {
    let ports: Vec<_> = image
        .ports
        .iter()
        .map(|port| json!({"Port": port, "Protocol": "tcp"}))
        .collect();
    let metadata = json!({
        "entrypoint": image.entrypoint, "cmd": image.cmd, "workdir": image.workdir, "ports": ports, "user": image.user,
    });
    metadata.to_string()
}

async fn filtered(
    context: &Context,
    caller: &Caller,
    query: &Query,
    filter: DropletFilter,
) -> Answer<Json<v3::List<v3::Droplet>>> {
    // Others are in no other state: a build has those.
    let none = query.texts("states").is_some_and(|states| {
        states
            .iter()
            .all(|state| state != "STAGED" && state != "AWAITING_UPLOAD")
    });
    let listed = if none {
        Paged {
            items: Vec::new(),
            total: 0,
        }
    } else {
        context
            .store
            .droplet_list(&filter, caller.scope(), query.order()?, query.page()?)
            .await?
    };
    query
        .list(context, listed, |droplet| present(context, droplet))
        .map(Json)
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::Droplet>>> {
    let filter = DropletFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        apps: query.ids("app_guids"),
        spaces: query.ids("space_guids"),
        orgs: query.ids("organization_guids"),
        packages: None,
    };
    filtered(&context, &caller, &query, filter).await
}

async fn of_app(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Droplet>>> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, APP)?, Need::Read, APP).await?;
    let mut filter = DropletFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        apps: Some(vec![app.id]),
        ..DropletFilter::default()
    };
    if query.get("current") == Some("true") {
        filter.ids = Some(app.droplet.into_iter().collect());
    }
    filtered(&context, &caller, &query, filter).await
}

async fn of_package(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Droplet>>> {
    let (package, ..) = package_for(&context, &caller, &guid, Need::Read).await?;
    let filter = DropletFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        packages: Some(vec![package.id]),
        ..DropletFilter::default()
    };
    filtered(&context, &caller, &query, filter).await
}

async fn fetch(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::Droplet>> {
    let droplet = context.store.droplet_fetch(id(&guid, WHAT)?).await?;
    let droplet = droplet.ok_or_else(|| Failure::not_found(WHAT))?;
    app_for(&context.store, &caller, droplet.app, Need::Read, WHAT).await?;
    Ok(Json(present(&context, droplet)))
}

async fn current(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::Droplet>> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, APP)?, Need::Read, APP).await?;
    let droplet = match app.droplet {
        Some(droplet) => context.store.droplet_fetch(droplet).await?,
        None => None,
    };
    Ok(Json(present(
        &context,
        droplet.ok_or_else(|| Failure::not_found(WHAT))?,
    )))
}
