//! `paas scale`.

use super::app::instance_table;
use crate::actor::instances::{Wanted, settle};
use crate::actor::{Cx, deploy, missing};
use crate::args::app::Scale;
use crate::client::wire::Process;
use crate::errors::Error;
use crate::ui::format;
use serde_json::{Value, json};

/// Changes the size of a process and waits until it has it.
pub async fn run(cx: &Cx, args: Scale) -> Result<(), Error> {
    let changes = changes(&args)?;
    let verb = if changes.is_empty() {
        "Getting the size of"
    } else {
        "Scaling"
    };
    cx.ui.doing(&format!("{verb} {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let processes = target.client.processes(&app.guid).await?;
    let Some(process) = processes.iter().find(|process| process.kind == args.process) else {
        let names: Vec<String> = processes.iter().map(|process| process.kind.clone()).collect();
        return Err(missing("process", &args.process, &format!("app {}", app.name), &names));
    };
    if changes.is_empty() {
        return show(cx, process);
    }
    let before = target
        .client
        .latest_deployment(&app.guid)
        .await?
        .map(|latest| latest.guid);
    // Opened before the change: nothing that it causes can be missed.
    let stream = target.client.stream(&app.guid, false, None).await?;
    let scaled = target
        .client
        .scale(&app.guid, &args.process, Value::Object(changes.clone()))
        .await?;
    let started = app.state == "STARTED";
    let new_limits = changes.keys().any(|key| key != "instances");
    if args.wait.detach || !started {
        if !started {
            cx.ui
                .tip(&format!("{} is stopped; `paas start {}` runs it", app.name, app.name));
        }
        return show(cx, &scaled);
    }
    if new_limits {
        deploy::after_change(cx, &target, &app, before.as_deref(), args.wait.timeout).await?;
    }
    let wanted = Wanted {
        app: &app,
        process: &process.guid,
        count: scaled.instances,
        timeout: args.wait.timeout,
    };
    let instances = settle(cx, &target, &wanted, stream).await?;
    if cx.ui.json() {
        cx.ui.document(&json!({"process": scaled, "instances": instances}));
        return Ok(());
    }
    show(cx, &scaled)?;
    cx.ui.table(&instance_table(&instances), "no instances", true);
    Ok(())
}

fn changes(args: &Scale) -> Result<serde_json::Map<String, Value>, Error> {
    let mut changes = serde_json::Map::new();
    if let Some(instances) = args.instances {
        changes.insert("instances".into(), instances.into());
    }
    for (key, size) in [("memory_in_mb", &args.memory), ("disk_in_mb", &args.disk)] {
        if let Some(size) = size {
            changes.insert(
                key.into(),
                model::limits::parse_megabytes(size).map_err(Error::usage)?.into(),
            );
        }
    }
    Ok(changes)
}

fn show(cx: &Cx, process: &Process) -> Result<(), Error> {
    if cx.ui.json() {
        cx.ui.document(&json!({"process": process}));
        return Ok(());
    }
    cx.ui.out_line(&format!(
        "{}: {}, {} MB memory, {} MB disk",
        process.kind,
        format::count(process.instances as usize, "instance", "instances"),
        process.memory_in_mb,
        process.disk_in_mb
    ));
    Ok(())
}
