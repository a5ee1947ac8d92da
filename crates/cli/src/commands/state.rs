//! `paas restart`, `paas start` and `paas stop`.

use super::app::instance_table;
use crate::actor::instances::{Wanted, settle, stopped};
use crate::actor::push::view;
use crate::actor::{Cx, Target, deploy};
use crate::args::app::{Restart, Start, Stop, Wait};
use crate::client::v3::Of;
use crate::client::wire::App;
use crate::errors::Error;
use serde_json::json;

/// Replaces all instances without downtime; starts an app that is stopped.
pub async fn restart(cx: &Cx, args: Restart) -> Result<(), Error> {
    cx.ui.doing(&format!("Restarting {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    if app.state != "STARTED" {
        return begin(cx, &target, &app, &args.wait).await;
    }
    deploy::replace(cx, &target, &app, Of::Current, &args.strategy, &args.wait).await?;
    show(cx, &target, &app).await
}

/// Starts an app that is stopped.
pub async fn start(cx: &Cx, args: Start) -> Result<(), Error> {
    cx.ui.doing(&format!("Starting {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    if app.state == "STARTED" {
        cx.ui.tip(&format!(
            "{} is started already; `paas restart {}` replaces its instances",
            app.name, app.name
        ));
        return show(cx, &target, &app).await;
    }
    begin(cx, &target, &app, &args.wait).await
}

async fn begin(cx: &Cx, target: &Target, app: &App, wait: &Wait) -> Result<(), Error> {
    let client = &target.client;
    let stream = client.stream(&app.guid, false, None).await?;
    client
        .app_action(&app.guid, "start")
        .await
        .map_err(|error| match error {
            Error::Refused(mut refusal) if refusal.detail.starts_with("Assign a droplet") => {
                refusal.hint = Some(format!("it was never staged: push it with `paas push -n {}`", app.name));
                Error::Refused(refusal)
            }
            other => other,
        })?;
    let processes = client.processes(&app.guid).await?;
    if let Some(web) = processes
        .iter()
        .find(|process| process.kind == "web")
        .filter(|_| !wait.detach)
    {
        let wanted = Wanted {
            app,
            process: &web.guid,
            count: web.instances,
            timeout: wait.timeout,
        };
        settle(cx, target, &wanted, stream).await?;
    }
    show(cx, target, app).await
}

/// Stops all instances of an app.
pub async fn stop(cx: &Cx, args: Stop) -> Result<(), Error> {
    cx.ui.doing(&format!("Stopping {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    // Opened before the change: nothing that it causes can be missed.
    let stream = target.client.stream(&app.guid, false, None).await?;
    let app = target.client.app_action(&app.guid, "stop").await?;
    if !args.wait.detach {
        let wanted = Wanted {
            app: &app,
            process: "",
            count: 0,
            timeout: args.wait.timeout,
        };
        stopped(cx, &target, &wanted, stream).await?;
    }
    if cx.ui.json() {
        cx.ui.document(&json!({"app": app}));
    } else {
        cx.ui.out_line(&format!("{} is stopped", app.name));
    }
    Ok(())
}

async fn show(cx: &Cx, target: &Target, app: &App) -> Result<(), Error> {
    let view = view(target, &app.guid).await?;
    if cx.ui.json() {
        cx.ui
            .document(&json!({"app": view.app, "urls": view.urls, "instances": view.instances}));
        return Ok(());
    }
    cx.ui
        .out_line(&format!("{} is {}", view.app.name, view.app.state.to_lowercase()));
    view.urls.iter().for_each(|url| cx.ui.out_line(&format!("  {url}")));
    cx.ui.table(&instance_table(&view.instances), "no instances", true);
    Ok(())
}
