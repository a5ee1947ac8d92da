//! Rollouts: begun, watched, continued, cancelled.

use super::push::follow::Follow;
use super::push::track::Track;
use super::{Cx, InFlight, Target};
use crate::args::app::Wait;
use crate::args::push::Strategy;
use crate::client::Client;
use crate::client::v3::Of;
use crate::client::wire::{App, Deployment};
use crate::errors::Error;
use std::time::{Duration, Instant};

/// Begins a rollout and waits for its end unless `detach` is set.
///
/// # Errors
/// Where it can't be begun, or fails.
pub async fn roll_out(
    cx: &Cx,
    client: &Client,
    app: &App,
    of: Of<'_>,
    strategy: &Strategy,
    follow: &mut Follow,
    detach: bool,
) -> Result<Deployment, Error> {
    let deployment = client.create_deployment(&app.guid, of, strategy).await?;
    watch(cx, client, app, &deployment, follow, detach).await
}

/// Waits for the end of a rollout, or the pause of a canary, unless `detach` is set.
///
/// # Errors
/// Where it fails.
pub async fn watch(
    cx: &Cx,
    client: &Client,
    app: &App,
    deployment: &Deployment,
    follow: &mut Follow,
    detach: bool,
) -> Result<Deployment, Error> {
    cx.set_in_flight(Some(InFlight {
        client: client.clone(),
        what: format!("the deployment of {}", app.name),
        resume: format!("paas deploy attach {}", app.name),
        deployment: Some(deployment.guid.clone()),
    }));
    if detach {
        cx.ui.tip(&format!(
            "the deployment goes on; watch it with `paas deploy attach {}`",
            app.name
        ));
        return Ok(deployment.clone());
    }
    let ended = follow.deployed(deployment, app.state == "STARTED").await?;
    cx.set_in_flight(None);
    if ended.status.is_paused() {
        cx.ui.tip(&format!(
            "look at it, then `paas continue-deployment {0}` or `paas cancel-deployment {0}`",
            app.name
        ));
    }
    Ok(ended)
}

/// Replaces all instances of an app by new ones: of the same droplet, or of what it ran once.
///
/// # Errors
/// As [`roll_out`].
pub async fn replace(
    cx: &Cx,
    target: &Target,
    app: &App,
    of: Of<'_>,
    strategy: &Strategy,
    wait: &Wait,
) -> Result<Deployment, Error> {
    let mut follow = follow(cx, target, app, wait.timeout).await?;
    roll_out(cx, &target.client, app, of, strategy, &mut follow, wait.detach).await
}

async fn follow(cx: &Cx, target: &Target, app: &App, timeout: Duration) -> Result<Follow, Error> {
    let client = &target.client;
    let stream = client.stream(&app.guid, true, None).await?;
    let started = Instant::now();
    let track = Track::new(started);
    Ok(Follow::new(
        cx.clone(),
        client.clone(),
        app.clone(),
        stream,
        track,
        started,
        timeout,
    ))
}

/// Waits for the rollout that a change of an app began; `before` was the newest one then. Where the server began none,
/// as CF's own does, begins one.
///
/// # Errors
/// As [`roll_out`].
pub async fn after_change(
    cx: &Cx,
    target: &Target,
    app: &App,
    before: Option<&str>,
    timeout: Duration,
) -> Result<Deployment, Error> {
    let client = &target.client;
    let mut follow = follow(cx, target, app, timeout).await?;
    // Asked for after the stream was opened: its end can't be missed.
    match client.latest_deployment(&app.guid).await? {
        Some(begun) if Some(begun.guid.as_str()) != before => watch(cx, client, app, &begun, &mut follow, false).await,
        _ => roll_out(cx, client, app, Of::Current, &Strategy::default(), &mut follow, false).await,
    }
}

/// Cancels the rollout of an app that is under way.
///
/// # Errors
/// Where there is none.
pub async fn cancel(target: &Target, app: &App) -> Result<Deployment, Error> {
    let active = active(target, app).await?;
    target.client.cancel_deployment(&active.guid).await?;
    target.client.deployment(&active.guid).await
}

/// Lets a canary go on that waits, to its next pause or its end unless `detach` is set.
///
/// # Errors
/// Where none waits, or it fails then.
pub async fn go_on(cx: &Cx, target: &Target, app: &App, detach: bool, timeout: Duration) -> Result<Deployment, Error> {
    let active = active(target, app).await?;
    // Opened before: the next pause can't be missed.
    let mut follow = follow(cx, target, app, timeout).await?;
    let begun = target.client.continue_deployment(&active.guid).await?;
    watch(cx, &target.client, app, &begun, &mut follow, detach).await
}

async fn active(target: &Target, app: &App) -> Result<Deployment, Error> {
    let latest = target.client.latest_deployment(&app.guid).await?;
    latest
        .filter(|deployment| !deployment.status.is_final())
        .ok_or_else(|| Error::NothingInFlight { app: app.name.clone() })
}
