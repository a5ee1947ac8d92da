//! `/v3/deployments`.

use super::links::{links, post};
use crate::actions::{By, app as apps, revision as revisions, rollout};
use crate::auth::{Caller, Need, app_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, Polls, Query, id, settle};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::{get, post as on_post};
use axum::{Json, Router};
use http::StatusCode;
use model::id::{DeploymentId, DropletId};
use model::resource::{App, Deployment, DeploymentState, Droplet, Revision};
use store::{DeploymentFilter, Tx};

const WHAT: &str = "Deployment";
/// Most new instances at a time.
const MAX_IN_FLIGHT: u32 = 1000;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/deployments", get(list).post(create))
        .route("/v3/deployments/{guid}", get(fetch))
        .route("/v3/deployments/{guid}/actions/cancel", on_post(cancel))
}

const fn is_active(state: DeploymentState) -> bool {
    matches!(state, DeploymentState::Deploying | DeploymentState::Canceling)
}

const fn reason(state: DeploymentState) -> &'static str {
    match state {
        DeploymentState::Deploying => "DEPLOYING",
        DeploymentState::Deployed => "DEPLOYED",
        DeploymentState::Canceling => "CANCELING",
        DeploymentState::Canceled => "CANCELED",
        DeploymentState::Superseded => "SUPERSEDED",
    }
}

fn present(context: &Context, deployment: Deployment) -> v3::Deployment {
    let own = format!("/v3/deployments/{}", deployment.id);
    let mut all = links(
        context,
        [("self", own.clone()), ("app", format!("/v3/apps/{}", deployment.app))],
    );
    if is_active(deployment.state) {
        all.insert("cancel".to_owned(), post(context, format!("{own}/actions/cancel")));
    }
    v3::Deployment {
        links: all,
        guid: deployment.id,
        created_at: deployment.created_at,
        updated_at: deployment.updated_at,
        status: v3::DeploymentStatus {
            value: if is_active(deployment.state) {
                "ACTIVE"
            } else {
                "FINALIZED"
            }
            .to_owned(),
            reason: reason(deployment.state).to_owned(),
            details: v3::DeploymentDetails {
                last_status_change: deployment.updated_at,
                last_successful_healthcheck: deployment.updated_at,
                error: deployment.error,
            },
        },
        strategy: "rolling".to_owned(),
        options: v3::DeploymentOptions {
            max_in_flight: Some(deployment.max_in_flight),
        },
        droplet: v3::Guid {
            guid: deployment.droplet,
        },
        previous_droplet: deployment.previous_droplet.map(|guid| v3::Guid { guid }),
        new_processes: vec![v3::DeploymentProcess {
            guid: deployment.process,
            process_type: "web".to_owned(),
        }],
        relationships: v3::DeploymentRelationships {
            app: v3::ToOne::to(deployment.app),
        },
        metadata: v3::Metadata::default(),
    }
}

/// The states that CF's two filters mean together.
fn states(query: &Query) -> Answer<Option<Vec<DeploymentState>>> {
    const ALL: [DeploymentState; 5] = [
        DeploymentState::Deploying,
        DeploymentState::Deployed,
        DeploymentState::Canceling,
        DeploymentState::Canceled,
        DeploymentState::Superseded,
    ];
    let reasons: Option<Vec<DeploymentState>> = query.words("status_reasons")?;
    let values = query.texts("status_values");
    if reasons.is_none() && values.is_none() {
        return Ok(None);
    }
    let wanted = |state: &DeploymentState| {
        let value = if is_active(*state) { "ACTIVE" } else { "FINALIZED" };
        reasons.as_ref().is_none_or(|reasons| reasons.contains(state))
            && values
                .as_ref()
                .is_none_or(|values| values.iter().any(|wanted| wanted == value))
    };
    Ok(Some(ALL.into_iter().filter(wanted).collect()))
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::Deployment>>> {
    query.only(&["app_guids", "states", "status_reasons", "status_values"])?;
    let filter = DeploymentFilter {
        apps: query.ids("app_guids"),
        states: states(&query)?,
    };
    let listed = context
        .store
        .deployment_list(&filter, caller.scope(), query.order()?, query.page()?)
        .await?;
    query
        .list(&context, listed, |deployment| present(&context, deployment))
        .map(Json)
}

async fn fetch(
    State(context): State<Context>,
    caller: Caller,
    polls: Polls,
    Path(guid): Path<String>,
) -> Answer<Json<v3::Deployment>> {
    let deployment_id: DeploymentId = id(&guid, WHAT)?;
    let store = &context.store;
    let read = || async {
        store
            .deployment_fetch(deployment_id)
            .await?
            .ok_or_else(|| Failure::not_found(WHAT))
    };
    app_for(store, &caller, read().await?.app, Need::Read, WHAT).await?;
    let deployment = settle(
        &context,
        &polls,
        |deployment: &Deployment| !is_active(deployment.state),
        read,
    )
    .await?;
    Ok(Json(present(&context, deployment)))
}

async fn create(
    State(context): State<Context>,
    caller: Caller,
    Body(body): Body<v3::DeploymentCreate>,
) -> Answer<(StatusCode, Json<v3::Deployment>)> {
    rollout::check_strategy(body.strategy.as_deref())?;
    let in_flight = body
        .options
        .as_ref()
        .and_then(|options| options.max_in_flight)
        .unwrap_or(1);
    if !(1..=MAX_IN_FLIGHT).contains(&in_flight) {
        return Err(Failure::refused(format!(
            "Options: max in flight must be between 1 and {MAX_IN_FLIGHT}"
        )));
    }
    let invalid = || Failure::refused("Unable to use app. Ensure that the app exists and you have access to it.");
    let app = body.relationships.app.id().ok_or_else(invalid)?;
    let (app, space) = match app_for(&context.store, &caller, app, Need::Operate, "App").await {
        Err(failure) if failure.status() == StatusCode::NOT_FOUND => return Err(invalid()),
        other => other?,
    };
    let by = By::caller(&caller, &context);
    let tx = context.store.begin().await?;
    let mut app = apps::locked(&tx, app.id).await?;
    let revision = named(&tx, &app, &body).await?;
    let droplet = chosen(&tx, &mut app, body.droplet, revision.as_ref(), &by).await?;
    let back_to = revision.map(|revision| revision.version);
    let deployment = rollout::deploy_revision(&tx, &mut app, &space, &droplet, in_flight, back_to, &by).await?;
    tx.commit().await?;
    context.wake.scheduler();
    Ok((StatusCode::CREATED, Json(present(&context, deployment))))
}

/// The revision to go back to, where one is named.
async fn named(tx: &Tx, app: &App, body: &v3::DeploymentCreate) -> Answer<Option<Revision>> {
    let Some(of) = body.revision else { return Ok(None) };
    if body.droplet.is_some() {
        return Err(Failure::refused("Cannot set both fields 'droplet' and 'revision'"));
    }
    let found = tx.revision_fetch(of.guid).await?.filter(|found| found.app == app.id);
    found.map(Some).ok_or_else(|| {
        Failure::refused("The revision does not exist").hint("Take one of those that the app's revisions list")
    })
}

/// What is to be deployed: the revision's droplet with its environment and commands, the droplet that is named, or the
/// current one.
async fn chosen(
    tx: &Tx,
    app: &mut App,
    droplet: Option<v3::Guid<DropletId>>,
    revision: Option<&Revision>,
    by: &By,
) -> Answer<Droplet> {
    if let Some(revision) = revision {
        return revisions::restore(tx, app, revision, by).await;
    }
    let Some(droplet) = droplet else {
        return rollout::current_droplet(tx, app).await.map_err(|_| {
            Failure::refused(
                "Invalid droplet. Please specify a droplet in the request or set a current droplet for the app.",
            )
        });
    };
    let found = tx.droplet_fetch(droplet.guid).await?;
    found.filter(|droplet| droplet.app == app.id).ok_or_else(|| {
        Failure::refused("Invalid droplet. Please specify a droplet that belongs to the app you are deploying.")
    })
}

async fn cancel(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::Deployment>> {
    let deployment_id: DeploymentId = id(&guid, WHAT)?;
    let by = By::caller(&caller, &context);
    let tx = context.store.begin().await?;
    let deployment = tx
        .deployment_fetch(deployment_id)
        .await?
        .ok_or_else(|| Failure::not_found(WHAT))?;
    let (app, space) = app_for(&tx, &caller, deployment.app, Need::Operate, WHAT).await?;
    // Read again under the app's lock: the scheduler may be about to end it.
    apps::locked(&tx, app.id).await?;
    let mut deployment = tx
        .deployment_fetch(deployment_id)
        .await?
        .ok_or_else(|| Failure::not_found(WHAT))?;
    rollout::cancel(&tx, &mut deployment, &app, &space, &by).await?;
    tx.commit().await?;
    context.wake.scheduler();
    Ok(Json(present(&context, deployment)))
}
