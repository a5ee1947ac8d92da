//! `paas app`.

use crate::actor::push::{View, view};
use crate::actor::{Cx, apps};
use crate::args::app::App;
use crate::client::wire::{Deployment, Droplet, Instance, Process};
use crate::errors::Error;
use crate::ui::format;
use crate::ui::table::Table;
use serde_json::{Value, json};

/// Shows an app.
pub async fn run(cx: &Cx, args: App) -> Result<(), Error> {
    cx.ui.doing(&format!("Getting app {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let client = &target.client;
    let (view, droplet, deployment) = tokio::try_join!(
        view(&target, &app.guid),
        client.current_droplet(&app.guid),
        client.latest_deployment(&app.guid)
    )?;
    let deployment = deployment.filter(|deployment| !deployment.status.is_final());
    if cx.ui.json() {
        cx.ui.document(&json!({
            "app": view.app, "urls": view.urls, "processes": view.processes, "instances": view.instances,
            "droplet": droplet, "deployment": deployment,
        }));
        return Ok(());
    }
    cx.ui.out(&text(&view, droplet.as_ref(), deployment.as_ref()));
    for process in &view.processes {
        show_process(cx, process, &view.instances);
    }
    if view.app.state == "STARTED" && apps::running(&view.instances) < wanted(&view.processes) {
        cx.ui
            .tip(&format!("not all instances run: `paas why {}` says why", view.app.name));
    }
    Ok(())
}

fn wanted(processes: &[Process]) -> usize {
    processes
        .iter()
        .find(|process| process.kind == "web")
        .map_or(0, |process| process.instances as usize)
}

fn text(view: &View, droplet: Option<&Droplet>, deployment: Option<&Deployment>) -> String {
    let data = view.app.lifecycle.data.as_ref();
    let buildpacks = droplet
        .and_then(|droplet| droplet.buildpacks.as_ref())
        .map_or_else(String::new, |all| {
            let names: Vec<String> = all.iter().map(buildpack).collect();
            names.join(", ")
        });
    let mut lines = vec![
        ("name", view.app.name.clone()),
        ("state", view.app.state.to_lowercase()),
        ("urls", view.urls.join(", ")),
        ("stack", data.and_then(|data| data.stack.clone()).unwrap_or_default()),
        ("buildpacks", buildpacks),
        (
            "image",
            droplet.and_then(|droplet| droplet.image.clone()).unwrap_or_default(),
        ),
        (
            "staged",
            droplet.map_or_else(|| "never".into(), |droplet| droplet.created_at.clone()),
        ),
    ];
    if let Some(deployment) = deployment {
        lines.push((
            "deployment",
            format!(
                "{} since {}",
                deployment.status.reason.to_lowercase(),
                deployment.created_at
            ),
        ));
    }
    lines
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .fold(String::new(), |text, (label, value)| {
            format!("{text}{label:<11} {}\n", format::harmless(&value))
        })
}

fn buildpack(value: &Value) -> String {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", text("name"), text("version")).trim().to_owned()
}

fn show_process(cx: &Cx, process: &Process, instances: &[Instance]) {
    let command = process
        .command
        .as_deref()
        .map_or_else(String::new, |command| format!("  {}", format::harmless(command)));
    let count = format::count(process.instances as usize, "instance", "instances");
    let head = format!("{}: {count}, {} MB memory{command}", process.kind, process.memory_in_mb);
    cx.ui
        .out_line(&format!("\n{}", cx.ui.paint_out(format::Style::Bold, &head)));
    if process.kind == "web" {
        cx.ui.table(&instance_table(instances), "no instances", true);
    }
}

/// Instances with their state and use.
pub(super) fn instance_table(instances: &[Instance]) -> Table {
    let mut table = Table::new(&["", "state", "up", "cpu", "memory", "disk", "details"]).right(3);
    for instance in instances {
        let usage = instance.usage.as_ref();
        let of = |used: Option<u64>, quota: Option<u64>| match (used, quota) {
            (Some(used), Some(quota)) => format!("{} of {}", format::bytes(used), format::bytes(quota)),
            (Some(used), None) => format::bytes(used),
            _ => String::new(),
        };
        table.row([
            format!("#{}", instance.index),
            instance.state.to_lowercase(),
            instance.uptime.map_or_else(String::new, format::coarse),
            usage
                .and_then(|usage| usage.cpu)
                .map_or_else(String::new, |cpu| format!("{:.1}%", cpu * 100.0)),
            of(usage.and_then(|usage| usage.mem), instance.mem_quota),
            of(usage.and_then(|usage| usage.disk), instance.disk_quota),
            format::harmless(instance.details.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_reads_from_top_to_bottom() {
        let view = View {
            app: serde_json::from_value(json!({"guid": "a", "name": "shop", "state": "STARTED",
                "lifecycle": {"type": "buildpack", "data": {"stack": "debian"}}}))
            .expect("app"),
            urls: vec!["http://shop.localhost:8080".into()],
            processes: Vec::new(),
            instances: Vec::new(),
        };
        let droplet = serde_json::from_value(json!({"guid": "d", "created_at": "2026-03-01T12:00:00Z",
            "buildpacks": [{"name": "nodejs_buildpack", "version": "1.2.0"}]}));
        insta::assert_snapshot!(text(&view, droplet.ok().as_ref(), None));
    }

    #[test]
    fn instances_show_use_against_limits() {
        let instances: Vec<Instance> = serde_json::from_value(json!([
            {"index": 0, "state": "RUNNING", "uptime": 7500, "usage": {"cpu": 0.034, "mem": 67_108_864, "disk": 1_048_576},
             "mem_quota": 268_435_456, "disk_quota": 1_073_741_824},
            {"index": 1, "state": "CRASHED", "details": "out of memory"}
        ]))
        .expect("instances");
        insta::assert_snapshot!(instance_table(&instances).render(true, None));
    }
}
