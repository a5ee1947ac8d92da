//! `paas delete`.

use crate::actor::Cx;
use crate::args::app::Delete;
use crate::errors::Error;
use serde_json::json;

/// Deletes an app, and with `-r` the routes that lead to nothing else.
pub async fn run(cx: &Cx, args: Delete) -> Result<(), Error> {
    cx.ui.doing(&format!("Deleting {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    if !args.force {
        cx.ui
            .confirm(
                &format!("This deletes {} and all that belongs to it", app.name),
                &app.name,
            )
            .await?;
    }
    let routes = if args.routes {
        target.client.app_routes(&app.guid).await?
    } else {
        Vec::new()
    };
    target.client.delete_app(&app.guid).await?;
    let mut deleted = Vec::new();
    for route in routes {
        if route
            .destinations
            .iter()
            .all(|destination| destination.app.guid == app.guid)
        {
            target.client.delete_route(&route.guid).await?;
            deleted.push(route.url);
        } else {
            cx.ui
                .warn(&format!("{} leads to other apps, too, and stays", route.url));
        }
    }
    if cx.ui.json() {
        cx.ui.document(&json!({"app": app, "routes": deleted}));
        return Ok(());
    }
    cx.ui.out_line(&format!("{} is deleted", app.name));
    deleted
        .iter()
        .for_each(|url| cx.ui.out_line(&format!("route {url} is deleted")));
    Ok(())
}
