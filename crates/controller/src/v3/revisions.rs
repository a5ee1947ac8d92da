//! `/v3/revisions`, and those of an app.

use super::apps::WHAT as APP;
use super::links::links;
use crate::actions::{By, manifest::merge};
use crate::auth::{Caller, Need, app_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, Facts, Query, id};
use api::v3::{self, EnvValue};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use model::id::{AppId, DropletId, RevisionId};
use model::resource::{App, AppState, Revision};
use model::staging::SidecarTemplate;
use std::collections::HashSet;
use store::{Paged, RevisionFilter};

const WHAT: &str = "Revision";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/apps/{guid}/revisions", get(of_app))
        .route("/v3/apps/{guid}/revisions/deployed", get(deployed))
        .route("/v3/revisions/{guid}", get(fetch).patch(update))
        .route("/v3/revisions/{guid}/environment_variables", get(variables))
}

fn present(context: &Context, revision: Revision, kept: &HashSet<DropletId>) -> v3::Revision {
    let own = format!("/v3/revisions/{}", revision.id);
    let process = |(kind, command): (model::name::ProcessType, Option<String>)| {
        (kind.to_string(), v3::RevisionProcess { command })
    };
    let sidecar = |sidecar: SidecarTemplate| v3::RevisionSidecar {
        name: sidecar.name,
        command: sidecar.command,
        process_types: sidecar.process_types,
        memory_in_mb: sidecar.memory_mb,
    };
    v3::Revision {
        links: links(
            context,
            [
                ("self", own.clone()),
                ("app", format!("/v3/apps/{}", revision.app)),
                ("environment_variables", format!("{own}/environment_variables")),
            ],
        ),
        guid: revision.id,
        created_at: revision.created_at,
        updated_at: revision.updated_at,
        version: revision.version,
        deployable: kept.contains(&revision.droplet),
        droplet: v3::Guid { guid: revision.droplet },
        processes: revision.commands.into_iter().map(process).collect(),
        sidecars: revision.sidecars.into_iter().map(sidecar).collect(),
        description: revision.description,
        relationships: v3::RevisionRelationships {
            app: v3::ToOne::to(revision.app),
        },
        metadata: revision.metadata,
    }
}

/// Which of the revisions' droplets are still there.
async fn kept(context: &Context, revisions: &[Revision]) -> Answer<HashSet<DropletId>> {
    let ids: Vec<DropletId> = revisions.iter().map(|revision| revision.droplet).collect();
    let droplets = context.store.droplets_by_ids(&ids).await?;
    Ok(droplets.into_iter().map(|droplet| droplet.id).collect())
}

async fn presented(
    context: &Context,
    query: &Query,
    revisions: Paged<Revision>,
) -> Answer<Json<v3::List<v3::Revision>>> {
    let kept = kept(context, &revisions.items).await?;
    query
        .list(context, revisions, |revision| present(context, revision, &kept))
        .map(Json)
}

async fn of_app(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Revision>>> {
    let (app, _) = app_for(&context.store, &caller, id::<AppId>(&guid, APP)?, Need::Read, APP).await?;
    let filter = RevisionFilter {
        common: query.common()?,
        versions: query.ids("versions"),
        deployable: query.get("deployable").map(|text| text == "true"),
    };
    let revisions = context
        .store
        .revision_list(app.id, &filter, query.order()?, query.page()?)
        .await?;
    presented(&context, &query, revisions).await
}

/// Those that instances run: two during a rollout.
async fn deployed(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    query: Query,
) -> Answer<Json<v3::List<v3::Revision>>> {
    let (app, _) = app_for(&context.store, &caller, id::<AppId>(&guid, APP)?, Need::Read, APP).await?;
    let items = running(&context, &app).await?;
    fn facts(revision: &Revision) -> Facts<'_> {
        Facts {
            name: "",
            created_at: revision.created_at,
            updated_at: revision.updated_at,
            metadata: Some(&revision.metadata),
        }
    }
    let kept = query.few(&context, items, facts, |revision| revision)?;
    let total = kept.pagination.total_results;
    let items = kept.resources;
    presented(&context, &query, Paged { items, total }).await
}

async fn running(context: &Context, app: &App) -> Answer<Vec<Revision>> {
    let store = &context.store;
    let web = store.process_by_type(app.id, "web").await?;
    let Some(web) = web.filter(|_| app.state == AppState::Started) else {
        return Ok(Vec::new());
    };
    let active = store.deployment_active(web.id).await?;
    let before = active.and_then(|active| active.previous_version);
    let mut revisions: Vec<Revision> = Vec::new();
    for version in web.version.into_iter().chain(before) {
        let Some(version) = store.version_fetch(version).await? else {
            continue;
        };
        // A revision is recorded with the first version that it describes.
        if let Some(revision) = store.revision_at(app.id, version.created_at).await?
            && revisions.iter().all(|known| known.id != revision.id)
        {
            revisions.push(revision);
        }
    }
    Ok(revisions)
}

async fn revision_for(context: &Context, caller: &Caller, guid: &str, need: Need) -> Answer<Revision> {
    let found = context.store.revision_fetch(id::<RevisionId>(guid, WHAT)?).await?;
    let revision = found.ok_or_else(|| Failure::not_found(WHAT))?;
    app_for(&context.store, caller, revision.app, need, WHAT).await?;
    Ok(revision)
}

async fn fetch(State(context): State<Context>, caller: Caller, Path(guid): Path<String>) -> Answer<Json<v3::Revision>> {
    let revision = revision_for(&context, &caller, &guid, Need::Read).await?;
    let kept = kept(&context, std::slice::from_ref(&revision)).await?;
    Ok(Json(present(&context, revision, &kept)))
}

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::MetadataUpdate>,
) -> Answer<Json<v3::Revision>> {
    let mut revision = revision_for(&context, &caller, &guid, Need::Write).await?;
    merge(&mut revision.metadata, &body.metadata.unwrap_or_default())?;
    revision.updated_at = By::caller(&caller, &context).now;
    let tx = context.store.begin().await?;
    tx.metadata_set(store::Carrier::Revision, revision.id.0, &revision.metadata)
        .await?;
    tx.commit().await?;
    let kept = kept(&context, std::slice::from_ref(&revision)).await?;
    Ok(Json(present(&context, revision, &kept)))
}

async fn variables(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::EnvVariables>> {
    let revision = revision_for(&context, &caller, &guid, Need::Secrets).await?;
    let own = format!("/v3/revisions/{}", revision.id);
    let variable = |(name, value): (&str, &str)| (name.to_owned(), EnvValue::from(value));
    Ok(Json(v3::EnvVariables {
        var: revision.env.expose().map(variable).collect(),
        links: links(
            &context,
            [
                ("self", format!("{own}/environment_variables")),
                ("revision", own),
                ("app", format!("/v3/apps/{}", revision.app)),
            ],
        ),
    }))
}
