//! Rollouts: begun, watched, cancelled.

use super::push::follow::Follow;
use super::push::track::Track;
use super::{Cx, InFlight, Target};
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
    follow: &mut Follow,
    detach: bool,
) -> Result<Deployment, Error> {
    let deployment = client.create_deployment(&app.guid, of).await?;
    watch(cx, client, app, &deployment, follow, detach).await
}

/// Waits for the end of a rollout unless `detach` is set.
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
    Ok(ended)
}

/// Replaces all instances of an app by new ones of the same droplet.
///
/// # Errors
/// As [`roll_out`].
pub async fn restart(
    cx: &Cx,
    target: &Target,
    app: &App,
    detach: bool,
    timeout: Duration,
) -> Result<Deployment, Error> {
    of_app(cx, target, app, Of::Current, detach, timeout).await
}

/// Replaces all instances of an app by those of an earlier revision.
///
/// # Errors
/// As [`roll_out`].
pub async fn roll_back(
    cx: &Cx,
    target: &Target,
    app: &App,
    revision: &str,
    detach: bool,
    timeout: Duration,
) -> Result<Deployment, Error> {
    of_app(cx, target, app, Of::Revision(revision), detach, timeout).await
}

async fn of_app(
    cx: &Cx,
    target: &Target,
    app: &App,
    of: Of<'_>,
    detach: bool,
    timeout: Duration,
) -> Result<Deployment, Error> {
    let client = &target.client;
    let stream = client.stream(&app.guid, true, None).await?;
    let started = Instant::now();
    let mut follow = Follow::new(
        cx.clone(),
        client.clone(),
        app.clone(),
        stream,
        Track::new(started),
        started,
        timeout,
    );
    roll_out(cx, client, app, of, &mut follow, detach).await
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
    let stream = client.stream(&app.guid, true, None).await?;
    let started = Instant::now();
    let track = Track::new(started);
    let mut follow = Follow::new(cx.clone(), client.clone(), app.clone(), stream, track, started, timeout);
    // Asked for after the stream was opened: its end can't be missed.
    match client.latest_deployment(&app.guid).await? {
        Some(begun) if Some(begun.guid.as_str()) != before => watch(cx, client, app, &begun, &mut follow, false).await,
        _ => roll_out(cx, client, app, Of::Current, &mut follow, false).await,
    }
}

/// Cancels the rollout of an app that is under way.
///
/// # Errors
/// Where there is none.
pub async fn cancel(target: &Target, app: &App) -> Result<Deployment, Error> {
    let latest = target.client.latest_deployment(&app.guid).await?;
    let active = latest
        .filter(|deployment| !deployment.status.is_final())
        .ok_or_else(|| Error::NothingInFlight { app: app.name.clone() })?;
    target.client.cancel_deployment(&active.guid).await?;
    target.client.deployment(&active.guid).await
}
