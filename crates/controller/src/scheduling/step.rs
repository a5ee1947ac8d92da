//! The steps of a transaction that pauses or ends deployments.

use super::load::Loaded;
use super::{CycleError, Loop, failed};
use crate::events::record;
use model::id::{DeploymentId, VersionId};
use model::resource::{Deployment, DeploymentState, Process, ProcessVersion};
use scheduler::Finished;
use serde_json::json;
use store::Tx;
use uuid::Uuid;

impl Loop {
    /// Ends a deployment, unless it was superseded in between.
    pub(super) async fn finish(&self, tx: &Tx, finished: &Finished, loaded: &Loaded) -> Result<(), CycleError> {
        let Some(before) = loaded
            .deployments
            .iter()
            .find(|deployment| deployment.id == finished.deployment)
        else {
            return Ok(());
        };
        let mut deployment = before.clone();
        deployment.state = if finished.canceled.is_some() {
            DeploymentState::Canceled
        } else {
            DeploymentState::Deployed
        };
        deployment.error.clone_from(&finished.canceled);
        deployment.updated_at = loaded.now;
        let ended = tx
            .deployment_step(&deployment, before.state)
            .await
            .map_err(failed("end a deployment"))?;
        if !ended {
            return Ok(());
        }
        tx.process_set_version(finished.process, Some(finished.version))
            .await
            .map_err(failed("set the version of a process"))?;
        self.settle_app(tx, &deployment, finished, loaded).await?;
        if let Some(owner) = tx
            .app_owner(deployment.app)
            .await
            .map_err(failed("read an app's owner"))?
        {
            let data = json!({
                "deployment": deployment.id,
                "version": deployment.version,
                "droplet": deployment.droplet,
                "state": deployment.state,
                "error": deployment.error,
            });
            tx.event(record::event(&owner, "deployment.finished", data, loaded.now));
        }
        Ok(())
    }

    /// Notes that the step of a canary is reached, unless the deployment was ended or taken back in between.
    pub(super) async fn pause(&self, tx: &Tx, id: DeploymentId, loaded: &Loaded) -> Result<(), CycleError> {
        let Some(before) = loaded.deployments.iter().find(|deployment| deployment.id == id) else {
            return Ok(());
        };
        let mut deployment = before.clone();
        deployment.state = DeploymentState::Paused;
        deployment.updated_at = loaded.now;
        let paused = tx
            .deployment_step(&deployment, before.state)
            .await
            .map_err(failed("pause a deployment"))?;
        let owner = tx
            .app_owner(deployment.app)
            .await
            .map_err(failed("read an app's owner"))?;
        if let (true, Some(owner), Some(canary)) = (paused, owner, &deployment.canary) {
            let data = json!({
                "deployment": deployment.id,
                "version": deployment.version,
                "droplet": deployment.droplet,
                "step": canary.step,
                "steps": canary.total(),
            });
            tx.event(record::event(&owner, "deployment.paused", data, loaded.now));
        }
        Ok(())
    }

    /// The app's droplet is that of the version that stays, and its other processes follow a rollout that succeeded.
    async fn settle_app(
        &self,
        tx: &Tx,
        deployment: &Deployment,
        finished: &Finished,
        loaded: &Loaded,
    ) -> Result<(), CycleError> {
        let Some(mut app) = tx
            .app_fetch_locked(deployment.app)
            .await
            .map_err(failed("lock an app"))?
        else {
            return Ok(());
        };
        let stays = tx
            .version_fetch(finished.version)
            .await
            .map_err(failed("read a version"))?;
        let Some(stays) = stays else { return Ok(()) };
        // Another droplet may have been chosen meanwhile: only what this deployment set is taken back.
        let ours = app.droplet.is_none() || app.droplet == Some(deployment.droplet);
        if ours && app.droplet != Some(stays.droplet) {
            app.droplet = Some(stays.droplet);
            app.updated_at = loaded.now;
            tx.app_update(&app).await.map_err(failed("set an app's droplet"))?;
        }
        if finished.canceled.is_none() {
            let others = tx
                .processes_of_app(app.id)
                .await
                .map_err(failed("read an app's processes"))?;
            for process in others.iter().filter(|process| process.id != deployment.process) {
                follow(tx, process, deployment, &stays, loaded).await?;
            }
        }
        Ok(())
    }
}

/// A process that is not rolled out by itself takes over droplet and environment of the one that was.
async fn follow(
    tx: &Tx,
    process: &Process,
    deployment: &Deployment,
    lead: &ProcessVersion,
    loaded: &Loaded,
) -> Result<(), CycleError> {
    if let Some(current) = process.version {
        let current = tx.version_fetch(current).await.map_err(failed("read a version"))?;
        if current.is_some_and(|version| version.created_at >= deployment.created_at) {
            return Ok(());
        }
    }
    let sidecars = tx.sidecars_of_app(process.app).await.map_err(failed("read sidecars"))?;
    let sidecars: Vec<_> = sidecars.into_iter().map(|one| one.what).collect();
    let version = ProcessVersion {
        id: VersionId(Uuid::now_v7()),
        process: process.id,
        app: process.app,
        droplet: lead.droplet,
        command: process.command.clone(),
        env: lead.env.clone(),
        limits: process.limits,
        health: process.health.clone(),
        sidecars: model::sidecar::beside(&sidecars, process.process_type.as_str()),
        grace_seconds: lead.grace_seconds,
        created_at: loaded.now,
    };
    tx.version_create(&version).await.map_err(failed("create a version"))?;
    tx.process_set_version(process.id, Some(version.id))
        .await
        .map_err(failed("set the version of a process"))?;
    Ok(())
}
