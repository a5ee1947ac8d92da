//! `/v3/deployments`.

use super::links::{links, post};
use crate::actions::manifest::merge;
use crate::actions::quota::Guard;
use crate::actions::rollout::{self, How};
use crate::actions::{By, app as apps, revision as revisions};
use crate::auth::{Caller, Need, app_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Body, Polls, Query, id, settle};
use api::v3;
use axum::extract::{Path, State};
use axum::routing::{get, post as on_post};
use axum::{Json, Router};
use http::StatusCode;
use model::canary::Canary;
use model::id::{DeploymentId, DropletId};
use model::resource::{App, Deployment, DeploymentState, Droplet, Revision, Space};
use store::{DeploymentFilter, Tx};

const WHAT: &str = "Deployment";
/// Most new instances at a time.
const MAX_IN_FLIGHT: u32 = 1000;
/// Most steps of a canary.
const MAX_STEPS: usize = 100;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v3/deployments", get(list).post(create))
        .route("/v3/deployments/{guid}", get(fetch).patch(update))
        .route("/v3/deployments/{guid}/actions/cancel", on_post(cancel))
        .route("/v3/deployments/{guid}/actions/continue", on_post(go_on))
}

fn present(context: &Context, deployment: Deployment) -> v3::Deployment {
    let own = format!("/v3/deployments/{}", deployment.id);
    let mut all = links(
        context,
        [("self", own.clone()), ("app", format!("/v3/apps/{}", deployment.app))],
    );
    if deployment.state.is_active() {
        all.insert("cancel".to_owned(), post(context, format!("{own}/actions/cancel")));
    }
    if deployment.state == DeploymentState::Paused {
        all.insert("continue".to_owned(), post(context, format!("{own}/actions/continue")));
    }
    v3::Deployment {
        links: all,
        guid: deployment.id,
        created_at: deployment.created_at,
        updated_at: deployment.updated_at,
        status: v3::DeploymentStatus {
            value: rollout::status(deployment.state).to_owned(),
            reason: rollout::reason(deployment.state).to_owned(),
            details: v3::DeploymentDetails {
                last_status_change: deployment.updated_at,
                last_successful_healthcheck: deployment.updated_at,
                error: deployment.error,
            },
            canary: deployment.canary.as_ref().map(progress),
        },
        strategy: if deployment.canary.is_some() {
            "canary"
        } else {
            "rolling"
        }
        .to_owned(),
        options: v3::DeploymentOptions {
            max_in_flight: Some(deployment.max_in_flight),
            web_instances: None,
            canary: deployment.canary.as_ref().and_then(steps),
        },
        droplet: v3::Guid {
            guid: deployment.droplet,
        },
        previous_droplet: deployment.previous_droplet.map(|guid| v3::Guid { guid }),
        revision: deployment
            .revision
            .map(|(guid, version)| v3::DeploymentRevision { guid, version }),
        new_processes: vec![v3::DeploymentProcess {
            guid: deployment.process,
            process_type: "web".to_owned(),
        }],
        relationships: v3::DeploymentRelationships {
            app: v3::ToOne::to(deployment.app),
        },
        metadata: deployment.metadata,
    }
}

/// Beyond its last step a canary is shown at that one.
fn progress(canary: &Canary) -> v3::CanaryStatus {
    v3::CanaryStatus {
        steps: v3::CanaryProgress {
            current: canary.step.min(canary.total()),
            total: canary.total(),
        },
    }
}

fn steps(canary: &Canary) -> Option<v3::CanaryOptions> {
    let step = |weight: &u8| v3::CanaryStep {
        instance_weight: i64::from(*weight),
    };
    let steps: Vec<_> = canary.weights.iter().map(step).collect();
    (!steps.is_empty()).then_some(v3::CanaryOptions { steps: Some(steps) })
}

/// What a request says of the way, where CF would take it.
fn how(strategy: Option<&str>, options: Option<&v3::DeploymentOptions>) -> Answer<How> {
    let max_in_flight = options.and_then(|options| options.max_in_flight).unwrap_or(1);
    if !(1..=MAX_IN_FLIGHT).contains(&max_in_flight) {
        return Err(Failure::refused(format!(
            "Options: max in flight must be between 1 and {MAX_IN_FLIGHT}"
        )));
    }
    let asked = options.and_then(|options| options.canary.as_ref());
    let canary = match (strategy, asked) {
        (None | Some("rolling"), None) => None,
        (None | Some("rolling"), Some(_)) => {
            return Err(Failure::refused("Options.canary are only valid for Canary deployments"));
        }
        (Some("canary"), asked) => Some(Canary::new(weights(asked)?)),
        (Some(other), _) => {
            return Err(Failure::refused(format!(
                "Strategy '{other}' is not a supported deployment strategy"
            )));
        }
    };
    Ok(How {
        max_in_flight,
        canary,
        ..How::default()
    })
}

fn weights(asked: Option<&v3::CanaryOptions>) -> Answer<Vec<u8>> {
    let steps = asked.and_then(|canary| canary.steps.as_deref()).unwrap_or_default();
    if steps.len() > MAX_STEPS {
        return Err(Failure::refused(format!(
            "Options.canary.steps must be at most {MAX_STEPS}"
        )));
    }
    let weight = |step: &v3::CanaryStep| {
        u8::try_from(step.instance_weight)
            .ok()
            .filter(|weight| (1..=100).contains(weight))
    };
    let weights: Option<Vec<u8>> = steps.iter().map(weight).collect();
    let weights = weights.ok_or_else(|| {
        Failure::refused("Options.canary.steps.instance_weight must be an Integer between 1-100 (inclusive)")
    })?;
    if weights.is_sorted() {
        Ok(weights)
    } else {
        Err(Failure::refused(
            "Options.canary.steps.instance_weight must be sorted in ascending order",
        ))
    }
}

/// The states that CF's two filters mean together.
fn states(query: &Query) -> Answer<Option<Vec<DeploymentState>>> {
    let reasons: Option<Vec<DeploymentState>> = query.words("status_reasons")?;
    let values = query.texts("status_values");
    if reasons.is_none() && values.is_none() {
        return Ok(None);
    }
    let wanted = |state: &DeploymentState| {
        let value = rollout::status(*state);
        reasons.as_ref().is_none_or(|reasons| reasons.contains(state))
            && values
                .as_ref()
                .is_none_or(|values| values.iter().any(|wanted| wanted == value))
    };
    Ok(Some(DeploymentState::ALL.into_iter().filter(wanted).collect()))
}

async fn list(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<v3::List<v3::Deployment>>> {
    let filter = DeploymentFilter {
        common: query.common()?,
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
        |deployment: &Deployment| !deployment.state.is_active() || deployment.state == DeploymentState::Paused,
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
    let mut how = how(body.strategy.as_deref(), body.options.as_ref())?;
    let invalid = || Failure::refused("Unable to use app. Ensure that the app exists and you have access to it.");
    let app = body.relationships.app.id().ok_or_else(invalid)?;
    let (app, space) = match app_for(&context.store, &caller, app, Need::Operate, "App").await {
        Err(failure) if failure.status() == StatusCode::NOT_FOUND => return Err(invalid()),
        other => other?,
    };
    let by = By::caller(&caller, &context);
    let tx = context.store.begin().await?;
    let guard = Guard::before(&tx, &space).await?;
    let mut app = apps::locked(&tx, app.id).await?;
    let revision = named(&tx, &app, &body).await?;
    let droplet = chosen(&tx, &mut app, body.droplet, revision.as_ref(), &by).await?;
    how.back_to = revision.map(|revision| revision.version);
    how.metadata = body.metadata.unwrap_or_default();
    if let Some(instances) = body.options.as_ref().and_then(|options| options.web_instances) {
        apps::set_web_instances(&tx, &app, instances, &by).await?;
    }
    let deployment = rollout::deploy(&tx, &mut app, &space, &droplet, how, &by).await?;
    guard.started(&tx, &app).await?;
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

async fn update(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    Body(body): Body<v3::MetadataUpdate>,
) -> Answer<Json<v3::Deployment>> {
    let (tx, mut deployment, _, _) = locked(&context, &caller, &guid, Need::Write).await?;
    merge(&mut deployment.metadata, &body.metadata.unwrap_or_default())?;
    tx.metadata_set(store::Carrier::Deployment, deployment.id.0, &deployment.metadata)
        .await?;
    tx.commit().await?;
    Ok(Json(present(&context, deployment)))
}

async fn cancel(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::Deployment>> {
    let by = By::caller(&caller, &context);
    let (tx, mut deployment, app, space) = locked(&context, &caller, &guid, Need::Operate).await?;
    rollout::cancel(&tx, &mut deployment, &app, &space, &by).await?;
    tx.commit().await?;
    context.wake.scheduler();
    Ok(Json(present(&context, deployment)))
}

async fn go_on(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
) -> Answer<Json<v3::Deployment>> {
    let by = By::caller(&caller, &context);
    let (tx, mut deployment, app, space) = locked(&context, &caller, &guid, Need::Operate).await?;
    rollout::go_on(&tx, &mut deployment, &app, &space, &by).await?;
    tx.commit().await?;
    context.wake.scheduler();
    Ok(Json(present(&context, deployment)))
}

/// A deployment as it is now, and a transaction in which nobody else ends it: not the scheduler either.
async fn locked(context: &Context, caller: &Caller, guid: &str, need: Need) -> Answer<(Tx, Deployment, App, Space)> {
    let id: DeploymentId = id(guid, WHAT)?;
    let found = context.store.deployment_fetch(id).await?;
    let found = found.ok_or_else(|| Failure::not_found(WHAT))?;
    let (app, space) = app_for(&context.store, caller, found.app, need, WHAT).await?;
    let tx = context.store.begin().await?;
    apps::locked(&tx, app.id).await?;
    // Read again under the app's lock: the scheduler may have ended it meanwhile.
    let found = tx.deployment_fetch(id).await?;
    let deployment = found.ok_or_else(|| Failure::not_found(WHAT))?;
    Ok((tx, deployment, app, space))
}
