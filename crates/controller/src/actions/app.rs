//! Apps: made, changed, started, stopped, scaled, deleted.

use super::quota::Guard;
use super::rollout::How;
use super::{By, fresh, revision, rollout, sidecar};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use api::v3;
use model::health::{HealthCheck, Probe};
use model::id::{AppId, DropletId, JobId, ProcessId};
use model::limits::Limits;
use model::manifest::{MAX_COMMAND_BYTES, MAX_ENV, MAX_ENV_BYTES, MAX_INSTANCES, MAX_START_TIMEOUT, check_env_name};
use model::name::{AppName, StackName};
use model::resource::{App, AppLifecycle, AppState, Metadata, Process, Space};
use model::work::{Wanted, Work, WorkKind};
use model::{Secret, SecretEnv};
use serde_json::json;
use std::collections::BTreeMap;
use store::Tx;

/// Largest memory and disk of an instance, in MiB.
pub const MAX_MEGABYTES: u32 = 1024 * 1024;

/// What a new app is made of.
pub struct NewApp {
    pub name: AppName,
    pub lifecycle: AppLifecycle,
    pub buildpacks: Vec<String>,
    pub stack: Option<StackName>,
    pub env: SecretEnv,
    pub metadata: Metadata,
}

fn name_taken(name: &AppName) -> Failure {
    Failure::new(
        api::error::Code::UniquenessError,
        format!("App with the name '{name}' already exists."),
    )
}

/// Writes a new app with its web process.
pub async fn create_on(tx: &Tx, new: NewApp, space: &Space, by: &By) -> Answer<App> {
    let stack = match new.stack {
        Some(stack) => stack,
        None => default_stack(tx).await?,
    };
    let app = App {
        id: fresh::<AppId>(),
        space: space.id,
        name: new.name,
        state: AppState::Stopped,
        lifecycle: new.lifecycle,
        buildpacks: new.buildpacks,
        stack,
        env: new.env,
        droplet: None,
        metadata: new.metadata,
        created_at: by.now,
        updated_at: by.now,
    };
    let created = tx.app_create(&app).await;
    created.map_err(|error| Failure::or_taken(error, || name_taken(&app.name)))?;
    let web = "web".parse().map_err(Failure::internal)?;
    tx.process_create(&rollout::new_process(&app, web, by)).await?;
    tx.event(by.app_event("audit.app.create", &app, space, json!({"name": app.name})));
    Ok(app)
}

/// The stack of apps that name none.
pub async fn default_stack(tx: &Tx) -> Answer<StackName> {
    let stacks = tx.stack_list().await?;
    let default = stacks.iter().find(|stack| stack.default).or(stacks.first());
    let default = default.ok_or_else(|| Failure::refused("The platform has no stack"))?;
    Ok(default.name.clone())
}

/// Refuses a stack that the platform does not have.
pub async fn check_stack(db: &store::Db, name: &StackName) -> Answer<()> {
    if db.stack_list().await?.iter().any(|stack| stack.name == *name) {
        Ok(())
    } else {
        Err(Failure::refused(format!("Stack must be an existing stack: {name}")))
    }
}

/// Writes a changed app.
pub async fn update_on(tx: &Tx, app: &mut App, space: &Space, by: &By, data: serde_json::Value) -> Answer<()> {
    app.updated_at = by.now;
    let updated = tx.app_update(app).await;
    let there = updated.map_err(|error| Failure::or_taken(error, || name_taken(&app.name)))?;
    if !there {
        return Err(Failure::not_found("App"));
    }
    tx.event(by.app_event("audit.app.update", app, space, data));
    Ok(())
}

/// The app as it is now, kept from others until the end of the transaction.
pub async fn locked(tx: &Tx, id: AppId) -> Answer<App> {
    tx.app_fetch_locked(id).await?.ok_or_else(|| Failure::not_found("App"))
}

/// Adds variables, or removes those without a value. Names are checked, and the whole has its limits.
pub fn patch_env(env: &mut SecretEnv, patch: BTreeMap<String, Option<v3::EnvValue>>) -> Answer<()> {
    for (name, value) in patch {
        match value {
            None => {
                env.0.remove(&name);
            }
            Some(value) => {
                check_env_name(&name)
                    .map_err(|problem| Failure::refused(format!("Environment variable {name}: {problem}")))?;
                let text = value.text().filter(|text| !text.contains('\0'));
                let text = text.ok_or_else(|| {
                    Failure::refused(format!(
                        "Environment variable {name} has to be a text, a number or true or false"
                    ))
                })?;
                env.0.insert(name, Secret::new(text));
            }
        }
    }
    check_env(env)
}

/// Refuses an environment beyond its limits.
pub fn check_env(env: &SecretEnv) -> Answer<()> {
    let bytes: usize = env.expose().map(|(name, value)| name.len() + value.len()).sum();
    if env.0.len() > MAX_ENV || bytes > MAX_ENV_BYTES {
        return Err(Failure::refused(format!(
            "An environment has at most {MAX_ENV} variables and {MAX_ENV_BYTES} bytes"
        )));
    }
    Ok(())
}

/// Sets environment variables; they take effect at the next restart.
pub async fn env_patch(context: &Context, id: AppId, space: &Space, patch: v3::EnvPatch, by: &By) -> Answer<App> {
    let names: Vec<String> = patch.var.keys().cloned().collect();
    let tx = context.store.begin().await?;
    let mut app = locked(&tx, id).await?;
    patch_env(&mut app.env, patch.var)?;
    update_on(&tx, &mut app, space, by, json!({"environment_variables": names})).await?;
    tx.commit().await?;
    Ok(app)
}

/// Makes a droplet of the app the one that it is to run next.
pub async fn set_droplet(context: &Context, id: AppId, space: &Space, droplet: DropletId, by: &By) -> Answer<App> {
    let tx = context.store.begin().await?;
    let mut app = locked(&tx, id).await?;
    let droplet = tx.droplet_fetch(droplet).await?.filter(|droplet| droplet.app == id);
    let droplet = droplet.ok_or_else(|| {
        Failure::refused("Unable to assign current droplet. Ensure the droplet exists and belongs to this app.")
    })?;
    rollout::assign_droplet(&tx, &mut app, &droplet, by).await?;
    tx.event(by.app_event("audit.app.droplet.mapped", &app, space, json!({"droplet": droplet.id})));
    tx.commit().await?;
    Ok(app)
}

/// Starts an app; nothing happens where it is started.
pub async fn start(context: &Context, id: AppId, space: &Space, by: &By) -> Answer<App> {
    let tx = context.store.begin().await?;
    // Quotas are locked before apps, everywhere.
    let guard = Guard::before(&tx, space).await?;
    let mut app = locked(&tx, id).await?;
    if app.lifecycle == AppLifecycle::Docker {
        Flag::DiegoDocker.require_on(&tx).await?;
    }
    if app.state == AppState::Stopped {
        start_on(&tx, &mut app, space, by).await?;
        guard.started(&tx, &app).await?;
        tx.commit().await?;
        context.wake.scheduler();
    }
    Ok(app)
}

async fn start_on(tx: &Tx, app: &mut App, space: &Space, by: &By) -> Answer<()> {
    let droplet = rollout::current_droplet(tx, app).await?;
    app.state = AppState::Started;
    rollout::assign_droplet(tx, app, &droplet, by).await?;
    revision::record(tx, app, &droplet, None, by).await?;
    rollout::refresh_versions(tx, app, &droplet, by).await?;
    tx.event(by.app_event("audit.app.start", app, space, json!({"droplet": droplet.id})));
    Ok(())
}

/// Stops an app; nothing happens where it is stopped.
pub async fn stop(context: &Context, id: AppId, space: &Space, by: &By) -> Answer<App> {
    let tx = context.store.begin().await?;
    let mut app = locked(&tx, id).await?;
    if app.state == AppState::Started {
        app.state = AppState::Stopped;
        app.updated_at = by.now;
        tx.app_update(&app).await?;
        rollout::abandon(&tx, &app, space, by).await?;
        tx.event(by.app_event("audit.app.stop", &app, space, json!({})));
        tx.commit().await?;
        context.wake.scheduler();
    }
    Ok(app)
}

/// Restarts an app without a gap: a rollout of its current droplet. A stopped one is started.
pub async fn restart(context: &Context, id: AppId, space: &Space, by: &By) -> Answer<App> {
    let tx = context.store.begin().await?;
    let guard = Guard::before(&tx, space).await?;
    let mut app = locked(&tx, id).await?;
    if app.state == AppState::Started {
        let droplet = rollout::current_droplet(&tx, &app).await?;
        tx.event(by.app_event("audit.app.restart", &app, space, json!({"droplet": droplet.id})));
        rollout::deploy(&tx, &mut app, space, &droplet, How::default(), by).await?;
    } else {
        start_on(&tx, &mut app, space, by).await?;
        guard.started(&tx, &app).await?;
    }
    tx.commit().await?;
    context.wake.scheduler();
    Ok(app)
}

/// Deletes an app with all that is its own. Instances end by the scheduler, which finds that nothing wants them.
pub async fn delete(context: &Context, id: AppId, space: &Space, by: &By) -> Answer<JobId> {
    let job = by.done_job("app.delete");
    let tx = context.store.begin().await?;
    let app = locked(&tx, id).await?;
    tx.event(by.app_event("audit.app.delete-request", &app, space, json!({})));
    tx.app_delete(id).await?;
    tx.job_create(&job).await?;
    tx.commit().await?;
    context.wake.scheduler();
    Ok(job.id)
}

/// Replaces one instance: it leaves the routers' tables and drains while another is started at its index.
pub async fn restart_instance(context: &Context, process: &Process, space: &Space, index: u32, by: &By) -> Answer<()> {
    let tx = context.store.begin().await?;
    let app = locked(&tx, process.app).await?;
    let at_index = |work: &Work| {
        matches!(&work.spec.kind, WorkKind::Instance(instance)
            if instance.process == process.id && instance.index == index)
    };
    let works = tx.works_of_apps(&[app.id]).await?;
    let there: Vec<_> = works.iter().filter(|work| at_index(work)).map(|work| work.id).collect();
    if index >= process.instances || there.is_empty() {
        return Err(Failure::not_found("Instance"));
    }
    tx.work_want(&there, Wanted::Drain).await?;
    let data = json!({"process": process.process_type, "index": index});
    tx.event(by.app_event("audit.app.process.terminate_instance", &app, space, data));
    tx.commit().await?;
    context.wake.scheduler();
    Ok(())
}

/// Changes instances and limits. Other limits of a running app are rolled out, as they need new instances.
pub async fn scale(
    context: &Context,
    id: ProcessId,
    app: AppId,
    space: &Space,
    scale: &v3::Scale,
    by: &By,
) -> Answer<Process> {
    let tx = context.store.begin().await?;
    let guard = Guard::before(&tx, space).await?;
    let mut app = locked(&tx, app).await?;
    let mut process = tx
        .process_fetch(id)
        .await?
        .ok_or_else(|| Failure::not_found("Process"))?;
    let limits = scaled_limits(process.limits, scale)?;
    if limits.memory_mb > process.limits.memory_mb {
        guard.instance(&limits)?;
    }
    if let Some(instances) = scale.instances {
        if instances > MAX_INSTANCES {
            return Err(Failure::refused(format!("Instances must be at most {MAX_INSTANCES}")));
        }
        process.instances = instances;
    }
    let resized = limits != process.limits;
    let remembered = std::mem::replace(&mut process.limits, limits).memory_mb;
    if limits.memory_mb != remembered {
        sidecar::check_process(&tx, &process).await?;
    }
    process.updated_at = by.now;
    tx.process_update(&process).await?;
    guard.after(&tx).await?;
    let data = json!({"process": process.process_type, "instances": process.instances, "limits": process.limits});
    tx.event(by.app_event("audit.app.process.scale", &app, space, data));
    if resized && app.state == AppState::Started {
        let droplet = rollout::current_droplet(&tx, &app).await?;
        if process.process_type.as_str() == "web" {
            rollout::deploy(&tx, &mut app, space, &droplet, How::default(), by).await?;
        } else {
            rollout::refresh_versions_but_web(&tx, &app, &droplet, by).await?;
        }
    }
    tx.commit().await?;
    context.wake.scheduler();
    Ok(process)
}

/// How many instances the web process is to have, without a rollout of its own.
pub async fn set_web_instances(tx: &Tx, app: &App, instances: u32, by: &By) -> Answer<()> {
    if !(1..=MAX_INSTANCES).contains(&instances) {
        return Err(Failure::refused(format!(
            "Options: web instances must be between 1 and {MAX_INSTANCES}"
        )));
    }
    if let Some(mut web) = tx.process_by_type(app.id, "web").await? {
        web.instances = instances;
        web.updated_at = by.now;
        tx.process_update(&web).await?;
    }
    Ok(())
}

pub(super) fn scaled_limits(limits: Limits, scale: &v3::Scale) -> Answer<Limits> {
    let size = |what: &str, size: Option<u32>, now: u32| match size {
        None => Ok(now),
        Some(size) if (1..=MAX_MEGABYTES).contains(&size) => Ok(size),
        Some(_) => Err(Failure::refused(format!(
            "{what} in mb must be between 1 and {MAX_MEGABYTES}"
        ))),
    };
    Ok(Limits {
        memory_mb: size("Memory", scale.memory_in_mb, limits.memory_mb)?,
        disk_mb: size("Disk", scale.disk_in_mb, limits.disk_mb)?,
        log_bytes_per_second: match scale.log_rate_limit_in_bytes_per_second {
            None => limits.log_bytes_per_second,
            Some(-1) => None,
            Some(rate) => Some(u64::try_from(rate).map_err(|_| {
                Failure::refused("Log rate limit in bytes per second must be greater than or equal to -1")
            })?),
        },
        ..limits
    })
}

/// Changes command and health check of a process; they take effect at the next restart.
pub async fn process_update(
    context: &Context,
    id: ProcessId,
    app: AppId,
    space: &Space,
    change: v3::ProcessUpdate,
    by: &By,
) -> Answer<Process> {
    let tx = context.store.begin().await?;
    let app = locked(&tx, app).await?;
    let mut process = tx
        .process_fetch(id)
        .await?
        .ok_or_else(|| Failure::not_found("Process"))?;
    if let Some(command) = change.command {
        if command
            .as_ref()
            .is_some_and(|command| command.len() > MAX_COMMAND_BYTES || command.contains('\0'))
        {
            return Err(Failure::refused(format!(
                "Command must have at most {MAX_COMMAND_BYTES} bytes"
            )));
        }
        process.command = command.filter(|command| !command.is_empty());
    }
    if let Some(check) = &change.health_check {
        process.health = health(&process.health, check)?;
    }
    if let Some(change) = &change.metadata {
        super::manifest::merge(&mut process.metadata, change)?;
        tx.metadata_set(store::Carrier::Process, process.id.0, &process.metadata)
            .await?;
    }
    process.updated_at = by.now;
    tx.process_update(&process).await?;
    let data = json!({"process": process.process_type});
    tx.event(by.app_event("audit.app.process.update", &app, space, data));
    tx.commit().await?;
    Ok(process)
}

fn health(now: &HealthCheck, change: &v3::HealthCheck) -> Answer<HealthCheck> {
    let known = match &now.probe {
        Probe::Http { endpoint } => endpoint.clone(),
        Probe::Port | Probe::Process => "/".to_owned(),
    };
    let endpoint = change.data.endpoint.clone().unwrap_or(known);
    if !endpoint.starts_with('/') || endpoint.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Failure::refused(
            "Health check endpoint must be a path that begins with /",
        ));
    }
    let probe = match change.kind.as_deref() {
        Some("port") => Probe::Port,
        Some("process") => Probe::Process,
        Some("http") => Probe::Http { endpoint },
        None if matches!(now.probe, Probe::Http { .. }) => Probe::Http { endpoint },
        None => now.probe.clone(),
        Some(other) => {
            return Err(Failure::refused(format!(
                "Health check type {other:?} must be port, http or process"
            )));
        }
    };
    let seconds = |given: Option<u32>, now: u32| match given {
        None => Ok(now),
        Some(seconds) if (1..=MAX_START_TIMEOUT).contains(&seconds) => Ok(seconds),
        Some(_) => Err(Failure::refused(format!(
            "Health check times must be between 1 and {MAX_START_TIMEOUT} seconds"
        ))),
    };
    Ok(HealthCheck {
        probe,
        start_timeout_seconds: seconds(change.data.timeout, now.start_timeout_seconds)?,
        invocation_timeout_seconds: seconds(change.data.invocation_timeout, now.invocation_timeout_seconds)?,
        interval_seconds: seconds(change.data.interval, now.interval_seconds)?,
    })
}
