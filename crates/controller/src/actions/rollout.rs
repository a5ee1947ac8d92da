//! Versions and deployments: how a change reaches running instances.
//!
//! `process.version` is always what a process is to end up with. A deployment keeps the version before beside it until
//! the new one serves; the scheduler moves instances from one to the other, and on failure the process goes back.
//! Only `web` has deployments; the control loop gives the other processes of the app their new version when that of
//! `web` is deployed.

use super::{By, fresh, revision, sidecar};
use crate::error::{Answer, Failure};
use crate::services::{self, Group};
use model::SecretEnv;
use model::canary::Canary;
use model::health::{HealthCheck, Probe};
use model::id::{ProcessId, VersionId};
use model::limits::Limits;
use model::name::ProcessType;
use model::resource::{App, AppState, Deployment, DeploymentState, Droplet, Metadata, Process, ProcessVersion, Space};
use model::staging::SidecarTemplate;
use serde_json::json;
use store::Tx;

/// Seconds from SIGTERM to SIGKILL.
pub const GRACE_SECONDS: u32 = 10;

/// A process of an app that has none of this type yet.
#[must_use]
pub fn new_process(app: &App, process_type: ProcessType, by: &By) -> Process {
    let web = process_type.as_str() == "web";
    Process {
        id: fresh::<ProcessId>(),
        app: app.id,
        instances: u32::from(web),
        limits: Limits::APP,
        health: HealthCheck {
            // Only web is known to listen.
            probe: if web { Probe::Port } else { Probe::Process },
            ..HealthCheck::default()
        },
        process_type,
        command: None,
        version: None,
        metadata: model::resource::Metadata::default(),
        created_at: by.now,
        updated_at: by.now,
    }
}

/// What instances of the process would run if they were started now.
async fn version_now(tx: &Tx, process: &Process, app: &App, droplet: &Droplet, by: &By) -> Answer<ProcessVersion> {
    let env = services::environment(tx, app, Group::Running).await?;
    let sidecars = sidecar::of_app(tx, app.id).await?;
    Ok(version_of(process, env, &sidecars, droplet, by))
}

fn version_of(
    process: &Process,
    env: SecretEnv,
    sidecars: &[SidecarTemplate],
    droplet: &Droplet,
    by: &By,
) -> ProcessVersion {
    ProcessVersion {
        id: fresh::<VersionId>(),
        process: process.id,
        app: process.app,
        droplet: droplet.id,
        command: process.command.clone(),
        env,
        limits: process.limits,
        health: process.health.clone(),
        sidecars: model::sidecar::beside(sidecars, process.process_type.as_str()),
        grace_seconds: GRACE_SECONDS,
        created_at: by.now,
    }
}

fn same(one: &ProcessVersion, other: &ProcessVersion) -> bool {
    one.droplet == other.droplet
        && one.command == other.command
        && one.env == other.env
        && one.limits == other.limits
        && one.health == other.health
        && one.sidecars == other.sidecars
        && one.grace_seconds == other.grace_seconds
}

/// The droplet that the app is to run.
pub async fn current_droplet(tx: &Tx, app: &App) -> Answer<Droplet> {
    let missing = || Failure::refused("Assign a droplet before starting this app.");
    let id = app.droplet.ok_or_else(missing)?;
    tx.droplet_fetch(id).await?.ok_or_else(missing)
}

/// Makes `droplet` the app's, with a process for each type that it offers.
pub async fn assign_droplet(tx: &Tx, app: &mut App, droplet: &Droplet, by: &By) -> Answer<()> {
    if !droplet.is_staged() {
        return Err(Failure::refused(
            "Unable to assign current droplet. Ensure the droplet is staged: it awaits its upload.",
        ));
    }
    app.droplet = Some(droplet.id);
    app.updated_at = by.now;
    tx.app_update(app).await?;
    let known = tx.processes_of_app(app.id).await?;
    for template in &droplet.processes {
        // A type that is no name came from the build; it can't be scaled, so it is left out.
        let Ok(process_type) = template.process_type.parse::<ProcessType>() else {
            continue;
        };
        if known.iter().all(|process| process.process_type != process_type) {
            tx.process_create(&new_process(app, process_type, by)).await?;
        }
    }
    sidecar::follow_droplet(tx, app, droplet, by).await
}

/// Gives each process of a stopped app the version that it starts with: the one it has, if nothing changed since.
pub async fn refresh_versions(tx: &Tx, app: &App, droplet: &Droplet, by: &By) -> Answer<()> {
    for process in tx.processes_of_app(app.id).await? {
        refresh_version(tx, &process, app, droplet, by).await?;
    }
    Ok(())
}

/// Gives the app's processes but `web` the version that they would start with now.
pub async fn refresh_versions_but_web(tx: &Tx, app: &App, droplet: &Droplet, by: &By) -> Answer<()> {
    for process in tx.processes_of_app(app.id).await? {
        if process.process_type.as_str() != "web" {
            refresh_version(tx, &process, app, droplet, by).await?;
        }
    }
    Ok(())
}

async fn refresh_version(tx: &Tx, process: &Process, app: &App, droplet: &Droplet, by: &By) -> Answer<()> {
    let new = version_now(tx, process, app, droplet, by).await?;
    let old = match process.version {
        Some(id) => tx.version_fetch(id).await?,
        None => None,
    };
    if old.is_none_or(|old| !same(&old, &new)) {
        tx.version_create(&new).await?;
        tx.process_set_version(process.id, Some(new.id)).await?;
    }
    Ok(())
}

/// How a rollout goes.
pub struct How {
    /// New instances on their way at once.
    pub max_in_flight: u32,
    /// Where it stops for a look.
    pub canary: Option<Canary>,
    /// The earlier revision that it goes back to, for the new one's description.
    pub back_to: Option<u32>,
    pub metadata: Metadata,
}

impl Default for How {
    fn default() -> Self {
        Self {
            max_in_flight: 1,
            canary: None,
            back_to: None,
            metadata: Metadata::default(),
        }
    }
}

/// Rolls the app out: a new version of `web`, and instances moved to it without a gap. Takes over from a deployment
/// under way. The app is started where it was not.
pub async fn deploy(tx: &Tx, app: &mut App, space: &Space, droplet: &Droplet, how: How, by: &By) -> Answer<Deployment> {
    let was_started = app.state == AppState::Started;
    let previous_droplet = app.droplet;
    app.state = AppState::Started;
    assign_droplet(tx, app, droplet, by).await?;
    let web = tx.process_by_type(app.id, "web").await?;
    let web = web.ok_or_else(|| Failure::refused("The app has no web process"))?;
    let active = tx.deployment_active(web.id).await?;
    // The version that is known to serve: not the one that a deployment under way is only trying.
    let (previous_version, previous_droplet) = match &active {
        Some(active) => (active.previous_version, active.previous_droplet),
        None if was_started => (web.version, previous_droplet),
        None => (None, previous_droplet),
    };
    if let Some(mut active) = active {
        let from = active.state;
        active.state = DeploymentState::Superseded;
        active.updated_at = by.now;
        tx.deployment_step(&active, from).await?;
        tx.event(finished_event(&active, app, space, by));
    }
    let revision = revision::record(tx, app, droplet, how.back_to, by).await?;
    let version = version_now(tx, &web, app, droplet, by).await?;
    tx.version_create(&version).await?;
    tx.process_set_version(web.id, Some(version.id)).await?;
    if !was_started {
        // Nothing of it runs, so there is nothing to wait for.
        refresh_versions_but_web(tx, app, droplet, by).await?;
    }
    let deployment = Deployment {
        id: fresh(),
        app: app.id,
        state: DeploymentState::Deploying,
        droplet: droplet.id,
        previous_droplet,
        process: web.id,
        version: version.id,
        previous_version,
        max_in_flight: how.max_in_flight.max(1),
        canary: how.canary,
        revision: Some((revision.id, revision.version)),
        metadata: how.metadata,
        error: None,
        created_by: by.user,
        created_at: by.now,
        updated_at: by.now,
    };
    tx.deployment_create(&deployment).await?;
    let data = json!({"deployment": deployment.id, "version": version.id, "droplet": droplet.id});
    tx.event(by.app_event("audit.app.deployment.create", app, space, data.clone()));
    tx.event(by.app_event("deployment.created", app, space, data));
    Ok(deployment)
}

fn finished_event(deployment: &Deployment, app: &App, space: &Space, by: &By) -> store::NewEvent {
    let data = json!({"deployment": deployment.id, "state": deployment.state, "error": deployment.error});
    by.app_event("deployment.finished", app, space, data)
}

/// A user takes a deployment back: its process returns to the version before, which never stopped serving.
pub async fn cancel(tx: &Tx, deployment: &mut Deployment, app: &App, space: &Space, by: &By) -> Answer<()> {
    match deployment.state {
        DeploymentState::Deploying | DeploymentState::Paused => {}
        DeploymentState::Canceling => return Ok(()),
        DeploymentState::Deployed | DeploymentState::Canceled | DeploymentState::Superseded => {
            return Err(Failure::refused("Cannot cancel a FINALIZED deployment"));
        }
    }
    if deployment.previous_version.is_none() {
        return Err(Failure::refused("There is no earlier version to return to")
            .hint("Stop the app instead, or deploy another droplet"));
    }
    let from = deployment.state;
    deployment.state = DeploymentState::Canceling;
    deployment.updated_at = by.now;
    tx.deployment_step(deployment, from).await?;
    let data = json!({"deployment": deployment.id});
    tx.event(by.app_event("audit.app.deployment.cancel", app, space, data));
    Ok(())
}

/// A user lets a canary go on: to its next step, or to the end.
pub async fn go_on(tx: &Tx, deployment: &mut Deployment, app: &App, space: &Space, by: &By) -> Answer<()> {
    let (DeploymentState::Paused, Some(canary)) = (deployment.state, deployment.canary.as_mut()) else {
        return Err(Failure::refused(format!(
            "Cannot continue a deployment with status: {} and reason: {}",
            status(deployment.state),
            reason(deployment.state)
        )));
    };
    canary.step = canary.step.saturating_add(1);
    let data = json!({"deployment": deployment.id, "step": canary.step, "steps": canary.total()});
    deployment.state = DeploymentState::Deploying;
    deployment.updated_at = by.now;
    tx.deployment_step(deployment, DeploymentState::Paused).await?;
    tx.event(by.app_event("audit.app.deployment.continue", app, space, data));
    Ok(())
}

/// CF's word for whether a deployment is under way.
#[must_use]
pub const fn status(state: DeploymentState) -> &'static str {
    if state.is_active() { "ACTIVE" } else { "FINALIZED" }
}

/// CF's word for how far a deployment is.
#[must_use]
pub const fn reason(state: DeploymentState) -> &'static str {
    match state {
        DeploymentState::Deploying => "DEPLOYING",
        DeploymentState::Paused => "PAUSED",
        DeploymentState::Deployed => "DEPLOYED",
        DeploymentState::Canceling => "CANCELING",
        DeploymentState::Canceled => "CANCELED",
        DeploymentState::Superseded => "SUPERSEDED",
    }
}

/// Ends a deployment because its app is stopped.
pub async fn abandon(tx: &Tx, app: &App, space: &Space, by: &By) -> Answer<()> {
    for process in tx.processes_of_app(app.id).await? {
        let Some(mut active) = tx.deployment_active(process.id).await? else {
            continue;
        };
        let from = active.state;
        active.state = DeploymentState::Canceled;
        active.error = Some("The app was stopped".to_owned());
        active.updated_at = by.now;
        tx.deployment_step(&active, from).await?;
        tx.event(finished_event(&active, app, space, by));
    }
    Ok(())
}
