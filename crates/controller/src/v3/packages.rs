//! `/v3/packages` and `/v3/resource_matches`.

use super::apps::WHAT as APP;
use super::links::{accepted, links, post};
use super::upload;
use crate::actions::manifest::new_metadata;
use crate::actions::{By, package as actions};
use crate::auth::{Caller, Need, app_for};
use crate::bits;
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use crate::request::{Body, Query, id};
use api::v3;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::Response;
use axum::routing::{get, post as on_post};
use axum::{Json, Router};
use http::StatusCode;
use model::image::RegistryImage;
use model::resource::{App, Package, PackageState, Space};
use model::{Digest, Secret};
use store::PackageFilter;

pub(super) const WHAT: &str = "Package";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/packages", get(list).post(create))
        .route("/v3/packages/{guid}", get(fetch).patch(update).delete(delete))
        .route(
            "/v3/packages/{guid}/upload",
            on_post(upload::upload).layer(DefaultBodyLimit::disable()),
        )
        .route("/v3/packages/{guid}/download", get(download))
        .route("/v3/resource_matches", on_post(matches))
        .route("/v3/apps/{guid}/packages", get(of_app))
}

pub(super) fn present(context: &Context, package: Package) -> v3::Package {
    let own = format!("/v3/packages/{}", package.id);
    let mut all = links(
        context,
        [("self", own.clone()), ("app", format!("/v3/apps/{}", package.app))],
    );
    if package.image.is_none() {
        all.insert("upload".to_owned(), post(context, format!("{own}/upload")));
        all.extend(links(context, [("download", format!("{own}/download"))]));
    }
    v3::Package {
        links: all,
        guid: package.id,
        created_at: package.created_at,
        updated_at: package.updated_at,
        kind: if package.image.is_some() { "docker" } else { "bits" }.to_owned(),
        data: data(package.image, package.digest, package.error),
        state: package.state,
        relationships: v3::PackageRelationships {
            app: v3::ToOne::to(package.app),
        },
        metadata: package.metadata,
    }
}

fn data(image: Option<RegistryImage>, digest: Option<Digest>, error: Option<String>) -> v3::PackageData {
    match image {
        None => v3::PackageData {
            error,
            checksum: Some(v3::Checksum {
                kind: Some("sha256".to_owned()),
                value: digest.map(|digest| digest.hex()),
            }),
            ..v3::PackageData::default()
        },
        Some(image) => v3::PackageData {
            error,
            image: Some(image.reference),
            username: image.username,
            password: image.password.map(|_| Secret::new(v3::REDACTED)),
            ..v3::PackageData::default()
        },
    }
}

/// A package with its app and space.
pub(super) async fn package_for(
    context: &Context,
    caller: &Caller,
    guid: &str,
    need: Need,
) -> Answer<(Package, App, Space)> {
    let package = context.store.package_fetch(id(guid, WHAT)?).await?;
    let package = package.ok_or_else(|| Failure::not_found(WHAT))?;
    let (app, space) = app_for(&context.store, caller, package.app, need, WHAT).await?;
    Ok((package, app, space))
}

/// Whether the list is of one type: `true` for images, `None` for both.
fn only_images(query: &Query) -> Option<bool> {
    let types = query.texts("types")?;
    match (
        types.iter().any(|kind| kind == "docker"),
        types.iter().any(|kind| kind == "bits"),
    ) {
        (docker, bits) if docker == bits => None,
        (docker, _) => Some(docker),
    }
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::Package>>> {
    let filter = PackageFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        apps: query.ids("app_guids"),
        spaces: query.ids("space_guids"),
        orgs: query.ids("organization_guids"),
        states: query.words("states")?,
        images: only_images(&query),
    };
    let listed = context
        .store
        .package_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    query
        .list(&context, listed, |package| present(&context, package))
        .map(Json)
}

async fn of_app(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Package>>> {
    let (app, _) = app_for(&context.store, &caller, id(&guid, APP)?, Need::Read, APP).await?;
    let filter = PackageFilter {
        common: query.common()?,
        ids: query.ids("guids"),
        apps: Some(vec![app.id]),
        states: query.words("states")?,
        images: only_images(&query),
        ..PackageFilter::default()
    };
    let listed = context
        .store
        .package_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    query
        .list(&context, listed, |package| present(&context, package))
        .map(Json)
}

async fn fetch(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::Package>> {
    let (package, ..) = package_for(&context, &caller, &guid, Need::Read).await?;
    Ok(Json(present(&context, package)))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    query: Query,
    Body(body): Body<v3::PackageCreate>,
) -> Answer<(StatusCode, Json<v3::Package>)> {
    let source = match query.get("source_guid") {
        None => None,
        Some(guid) => match package_for(&context, &caller, guid, Need::Write).await {
            Err(failure) if failure.status() == StatusCode::NOT_FOUND => {
                return Err(Failure::refused(
                    "Source package is invalid. Ensure it exists and you have access to it.",
                ));
            }
            other => Some(other?.0),
        },
    };
    let image = match (&source, body.kind.as_str()) {
        (Some(_), _) | (None, "bits") => None,
        (None, "docker") => Some(wanted_image(body.data.unwrap_or_default())?),
        _ => return Err(Failure::refused("Type must be one of 'bits', 'docker'")),
    };
    let invalid = || Failure::refused("App is invalid. Ensure it exists and you have access to it.");
    let app = body.relationships.app.id().ok_or_else(invalid)?;
    let (app, space) = match app_for(&context.store, &caller, app, Need::Write, APP).await {
        Err(failure) if failure.status() == StatusCode::NOT_FOUND => return Err(invalid()),
        other => other?,
    };
    let (metadata, by) = (new_metadata(body.metadata.as_ref())?, By::caller(&caller, &context));
    let package = match source {
        None => actions::create(&context, &app, &space, image, metadata, &by).await?,
        Some(source) => actions::copy(&context, &source, &app, &space, metadata, &by).await?,
    };
    Ok((StatusCode::CREATED, Json(present(&context, package))))
}

/// The image that is asked for.
fn wanted_image(data: v3::PackageData) -> Answer<RegistryImage> {
    let reference = data
        .image
        .ok_or_else(|| Failure::refused("Image required for docker package"))?;
    let parsed: Result<image::Reference, image::Error> = reference.parse();
    parsed.map_err(|error| Failure::refused(format!("Image: {error}")))?;
    let image = RegistryImage {
        reference,
        username: data.username,
        password: data.password,
    };
    actions::check_credentials(&image)?;
    Ok(image)
}

/// Other credentials for the image, and metadata. Builds that were begun have what there was.
async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::PackageUpdate>,
) -> Answer<Json<v3::Package>> {
    let (package, app, space) = package_for(&context, &caller, &guid, Need::Write).await?;
    let by = By::caller(&caller, &context);
    Ok(Json(present(
        &context,
        actions::update(&context, package, &app, &space, body, &by).await?,
    )))
}

async fn download(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let (package, app, space) = package_for(&context, &caller, &guid, Need::Write).await?;
    let digest = package.digest.as_ref().filter(|_| package.state == PackageState::Ready);
    let digest = digest.ok_or_else(|| Failure::refused("Package has no bits to download."))?;
    let file = bits::zip(&context.blobs, digest)
        .await
        .map_err(super::bits::failed("package"))?;
    actions::downloaded(&context, &package, &app, &space, &By::caller(&caller, &context)).await?;
    super::bits::send(file, &format!("package_{}.zip", package.id), "application/zip").await
}

async fn delete(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Response> {
    let (package, app, space) = package_for(&context, &caller, &guid, Need::Write).await?;
    let job = actions::delete(&context, &package, &app, &space, &By::caller(&caller, &context)).await?;
    Ok(accepted(&context, job))
}

/// Those of the named files that need no upload: whatever their size, from packages that the caller may read.
async fn matches(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::ResourceMatches>,
) -> Answer<(StatusCode, Json<v3::ResourceMatches>)> {
    if body.resources.len() > actions::MAX_RESOURCES {
        return Err(Failure::refused(format!(
            "At most {} resources",
            actions::MAX_RESOURCES
        )));
    }
    if !Flag::ResourceMatching.read(&context.store).await?.enabled {
        let resources = Vec::new();
        return Ok((StatusCode::CREATED, Json(v3::ResourceMatches { resources })));
    }
    let contents: Vec<_> = body.resources.iter().filter_map(upload::content).collect();
    let found = actions::matching(&context, caller.scope(), &contents).await?;
    let known = |resource: &v3::Resource| upload::content(resource).is_some_and(|content| found.contains_key(&content));
    let resources = body.resources.into_iter().filter(known).collect();
    Ok((StatusCode::CREATED, Json(v3::ResourceMatches { resources })))
}
