//! Tasks: one-off runs of a droplet, placed by the scheduler like everything else that runs.

use super::app::{locked, scaled_limits};
use super::manifest::new_metadata;
use super::quota::Guard;
use super::{By, fresh};
use crate::context::Context;
use crate::error::{Answer, Failure};
use api::v3;
use model::id::{AppId, ProcessId, TaskId};
use model::limits::Limits;
use model::manifest::MAX_COMMAND_BYTES;
use model::resource::{App, Droplet, Space, Task, TaskState};
use serde_json::json;
use store::Tx;

/// Longest name of a task, in bytes.
const MAX_NAME_BYTES: usize = 250;
/// Tasks of an app that may wait or run at once.
const MAX_LIVE: u64 = 200;

/// A new task of the app's current droplet, or of one that is named.
pub async fn create(context: &Context, id: AppId, space: &Space, body: &v3::TaskCreate, by: &By) -> Answer<Task> {
    let tx = context.store.begin().await?;
    let guard = Guard::before(&tx, space).await?;
    let app = locked(&tx, id).await?;
    refuse_flood(&tx, id).await?;
    let droplet = droplet(&tx, &app, body).await?;
    let (command, limits) = template(&tx, &app, &droplet, body).await?;
    if command.len() > MAX_COMMAND_BYTES || command.contains('\0') {
        return Err(Failure::refused(format!(
            "Command must have at most {MAX_COMMAND_BYTES} bytes"
        )));
    }
    let scale = v3::Scale {
        memory_in_mb: body.memory_in_mb,
        disk_in_mb: body.disk_in_mb,
        log_rate_limit_in_bytes_per_second: body.log_rate_limit_in_bytes_per_second,
        ..v3::Scale::default()
    };
    let limits = scaled_limits(limits, &scale)?;
    guard.task(&tx, app.id, &limits).await?;
    let id = fresh::<TaskId>();
    let task = Task {
        id,
        app: app.id,
        sequence: tx.task_next_sequence(app.id).await?,
        name: name(body, id)?,
        command,
        droplet: droplet.id,
        limits,
        state: TaskState::Pending,
        failure: None,
        metadata: new_metadata(body.metadata.as_ref())?,
        created_at: by.now,
        updated_at: by.now,
    };
    tx.task_create(&task).await?;
    let data = json!({"task_guid": task.id, "name": task.name, "sequence": task.sequence});
    tx.event(by.app_event("audit.app.task.create", &app, space, data));
    tx.commit().await?;
    context.wake.scheduler();
    Ok(task)
}

async fn refuse_flood(tx: &Tx, app: AppId) -> Answer<()> {
    let filter = store::TaskFilter {
        apps: Some(vec![app]),
        states: Some(vec![TaskState::Pending, TaskState::Running, TaskState::Canceling]),
        ..store::TaskFilter::default()
    };
    let live = tx
        .task_list(&filter, store::Scope::All, store::Order::default(), store::Page::ONE)
        .await?;
    if live.total >= MAX_LIVE {
        return Err(
            Failure::refused(format!("An app can have at most {MAX_LIVE} tasks that are not over"))
                .hint("Wait for some to end, or cancel them"),
        );
    }
    Ok(())
}

async fn droplet(tx: &Tx, app: &App, body: &v3::TaskCreate) -> Answer<Droplet> {
    let Some(named) = body.droplet_guid else {
        let missing = || Failure::refused("Task must have a droplet. Assign current droplet to app.");
        let current = app.droplet.ok_or_else(missing)?;
        return tx.droplet_fetch(current).await?.ok_or_else(missing);
    };
    let found = tx.droplet_fetch(named).await?.filter(|droplet| droplet.app == app.id);
    found.ok_or_else(|| Failure::refused("Unable to use droplet. Ensure the droplet exists and belongs to this app."))
}

/// What to run and within which limits, before what the request says about limits.
async fn template(tx: &Tx, app: &App, droplet: &Droplet, body: &v3::TaskCreate) -> Answer<(String, Limits)> {
    let given = body
        .command
        .as_deref()
        .map(str::trim)
        .filter(|command| !command.is_empty());
    let Some(template) = &body.template else {
        let command = given.ok_or_else(|| Failure::refused("No command or template provided"))?;
        return Ok((command.to_owned(), Limits::APP));
    };
    let id: ProcessId = template.process.guid;
    let process = tx.process_fetch(id).await?.filter(|process| process.app == app.id);
    let process = process.ok_or_else(|| Failure::not_found("Process"))?;
    let of_droplet = || {
        let of_type = |of: &&model::staging::ProcessTemplate| of.process_type == process.process_type.as_str();
        droplet.processes.iter().find(of_type).map(|of| of.command.clone())
    };
    let command = given
        .map(ToOwned::to_owned)
        .or_else(|| process.command.clone())
        .or_else(of_droplet);
    let command = command.ok_or_else(|| {
        Failure::refused(format!("Process {} has no command to take", process.process_type)).hint("Name a command")
    })?;
    Ok((command, process.limits))
}

fn name(body: &v3::TaskCreate, id: TaskId) -> Answer<String> {
    let Some(name) = body.name.as_deref().filter(|name| !name.is_empty()) else {
        // The last part of the id: the first is the time, alike for tasks of one moment.
        let id = id.0.simple().to_string();
        return Ok(id[id.len() - 8..].to_owned());
    };
    if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(Failure::refused(format!(
            "Name must have at most {MAX_NAME_BYTES} bytes and no control characters"
        )));
    }
    Ok(name.to_owned())
}

/// Ends a task that is not over.
pub async fn cancel(context: &Context, id: TaskId, app: &App, space: &Space, by: &By) -> Answer<Task> {
    let tx = context.store.begin().await?;
    locked(&tx, app.id).await?;
    let mut task = tx.task_fetch(id).await?.ok_or_else(|| Failure::not_found("Task"))?;
    if matches!(task.state, TaskState::Succeeded | TaskState::Failed) {
        let state = json!(task.state);
        let state = state.as_str().unwrap_or_default();
        return Err(Failure::refused(format!(
            "Task state is {state} and therefore cannot be canceled"
        )));
    }
    task.state = TaskState::Canceling;
    task.updated_at = by.now;
    tx.task_step(&task).await?;
    let data = json!({"task_guid": task.id, "name": task.name, "sequence": task.sequence});
    tx.event(by.app_event("audit.app.task.cancel", app, space, data));
    tx.commit().await?;
    context.wake.scheduler();
    Ok(task)
}
