//! `paas push`.

use crate::actor::push::{self, Pushed, plan};
use crate::actor::{Cx, apps};
use crate::args::push::Push;
use crate::errors::Error;
use crate::ui::{format, waterfall};
use model::Secret;
use serde_json::json;

use super::app::instance_table;

/// Has the password of the registry that images come from.
const PASSWORD: &str = "CF_DOCKER_PASSWORD";

/// Pushes and shows what it came to.
pub async fn run(cx: &Cx, args: &Push) -> Result<(), Error> {
    let password = cx.env.var(PASSWORD).map(Secret::new);
    let plan = plan::plan(args, &cx.env.cwd, password)?;
    let names: Vec<&str> = plan.manifest.apps.iter().map(|app| app.name.as_str()).collect();
    cx.ui.doing(&format!("Pushing {} to {}", names.join(", "), cx.place()));
    let no_start = plan.no_start;
    let pushed = push::run(cx, plan).await?;
    if cx.ui.json() {
        cx.ui.document(&json!({"apps": pushed}));
        return Ok(());
    }
    pushed.iter().for_each(|pushed| show(cx, pushed, no_start, args.detach));
    Ok(())
}

fn show(cx: &Cx, pushed: &Pushed, no_start: bool, detach: bool) {
    let name = &pushed.app.name;
    cx.ui.say_plain("");
    cx.ui
        .say_plain(waterfall::render(&pushed.phases, pushed.total_ms).trim_end());
    cx.ui.say_plain("");
    if cx.ui.settings().quiet {
        pushed.urls.iter().for_each(|url| cx.ui.out_line(url));
        return;
    }
    if no_start {
        cx.ui.out_line(&format!(
            "{name} is staged and not started; `paas start {name}` runs it"
        ));
        return;
    }
    let running = apps::running(&pushed.instances);
    let paused = pushed.deployment.as_ref().filter(|of| of.status.is_paused());
    if let Some(paused) = paused {
        cx.ui.out_line(&super::deploy::state(name, paused));
    }
    let state = match (detach, paused) {
        (true, _) => "is being deployed",
        (false, Some(_)) => "goes on as it was beside it",
        (false, None) => "is live",
    };
    cx.ui.out_line(&format!(
        "{name} {state}, {} of {} running",
        running,
        format::count(pushed.instances.len(), "instance", "instances")
    ));
    for url in &pushed.urls {
        cx.ui.out_line(&format!("  {url}"));
    }
    if pushed.urls.is_empty() {
        cx.ui.out_line("  it has no route; `paas map-route` gives it one");
    }
    cx.ui.table(&instance_table(&pushed.instances), "no instances", true);
}
