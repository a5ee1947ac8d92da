//! `paas deploy`.

use crate::actor::{Cx, InFlight, deploy, push};
use crate::args::push::{Deploy, DeployCommand};
use crate::errors::Error;
use serde_json::json;

/// Watches or cancels a rollout.
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
                cx.ui.out_line(&format!("{} is deployed", app.name));
            }
        }
        DeployCommand::Cancel { app } => {
            cx.ui
                .doing(&format!("Cancelling the deployment of {app} in {}", cx.place()));
            let target = cx.target().await?;
            let app = target.app(&app).await?;
            let deployment = deploy::cancel(&target, &app).await?;
            if cx.ui.json() {
                cx.ui.document(&json!({"deployment": deployment}));
            } else {
                cx.ui.out_line(&format!("the deployment of {} is cancelled", app.name));
            }
        }
    }
    Ok(())
}
