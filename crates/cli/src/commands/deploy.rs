//! `paas deploy`.

use crate::actor::{Cx, InFlight, deploy, push};
use crate::args::push::{Deploy, DeployCommand};
use crate::client::wire::Deployment;
use crate::errors::Error;
use serde_json::json;
use std::time::Duration;

/// Watches, continues or cancels a rollout.
pub async fn run(cx: &Cx, args: Deploy) -> Result<(), Error> {
    match args.command {
        DeployCommand::Attach { app, timeout } => {
            cx.ui.doing(&format!("Watching {app} in {}", cx.place()));
            let target = cx.target().await?;
            let app = target.app(&app).await?;
            cx.set_in_flight(Some(InFlight {
                client: target.client.clone(),
                what: format!("the deployment of {}", app.name),
                resume: format!("paas deploy attach {}", app.name),
                deployment: None,
            }));
            let deployment = push::attach(cx, &target, &app, timeout).await?;
            cx.set_in_flight(None);
            if cx.ui.json() {
                cx.ui.document(&json!({"deployment": deployment}));
            } else {
                cx.ui.out_line(&state(&app.name, &deployment));
            }
        }
        DeployCommand::Continue { app, detach, timeout } => go_on(cx, &app, detach, timeout).await?,
        DeployCommand::Cancel { app } => cancel(cx, &app).await?,
    }
    Ok(())
}

/// Lets a canary go on, and waits for its next step or its end.
pub async fn go_on(cx: &Cx, app: &str, detach: bool, timeout: Duration) -> Result<(), Error> {
    cx.ui
        .doing(&format!("Continuing the deployment of {app} in {}", cx.place()));
    let target = cx.target().await?;
    let app = target.app(app).await?;
    let deployment = deploy::go_on(cx, &target, &app, detach, timeout).await?;
    if cx.ui.json() {
        cx.ui.document(&json!({"deployment": deployment}));
    } else {
        cx.ui.out_line(&state(&app.name, &deployment));
    }
    Ok(())
}

/// Takes a rollout back.
pub async fn cancel(cx: &Cx, app: &str) -> Result<(), Error> {
    cx.ui
        .doing(&format!("Cancelling the deployment of {app} in {}", cx.place()));
    let target = cx.target().await?;
    let app = target.app(app).await?;
    let deployment = deploy::cancel(&target, &app).await?;
    if cx.ui.json() {
        cx.ui.document(&json!({"deployment": deployment}));
    } else {
        cx.ui.out_line(&format!("the deployment of {} is cancelled", app.name));
    }
    Ok(())
}

/// How far a rollout is, in words.
pub fn state(app: &str, deployment: &Deployment) -> String {
    let steps = deployment.status.steps();
    match deployment.status.reason.as_str() {
        "PAUSED" => {
            let (current, total) = steps.unwrap_or((1, 1));
            format!("the canary of {app} waits at step {current} of {total}")
        }
        "DEPLOYED" => format!("{app} is deployed"),
        other => format!("the deployment of {app} is {}", other.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_says_where_it_waits() {
        let deployment = |status: serde_json::Value| -> Deployment {
            serde_json::from_value(json!({"guid": "d", "status": status})).expect("reads")
        };
        let paused = json!({"value": "ACTIVE", "reason": "PAUSED", "canary": {"steps": {"current": 2, "total": 3}}});
        let paused = deployment(paused);
        assert!(paused.status.is_paused() && !paused.status.is_final());
        assert_eq!(state("shop", &paused), "the canary of shop waits at step 2 of 3");
        let done = deployment(json!({"value": "FINALIZED", "reason": "DEPLOYED"}));
        assert_eq!(state("shop", &done), "shop is deployed");
        let begun = deployment(json!({"value": "ACTIVE", "reason": "DEPLOYING"}));
        assert_eq!(state("shop", &begun), "the deployment of shop is deploying");
    }
}
