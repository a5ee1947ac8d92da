//! Who may have sessions inside instances, and how people get there by SSH. What goes on in a session is `exec`'s.

mod proxy;
mod relay;

pub(crate) use proxy::HostKeyCell;
pub use proxy::run;
pub(crate) use relay::{PATH, carried};

use crate::actions::By;
use crate::context::Context;
use crate::error::{Answer, Failure};
use api::error::Code;
use model::resource::{App, Space, Target};
use serde_json::json;

/// The name of the switch, of apps and of spaces.
pub(crate) const FEATURE: &str = "ssh";

/// Why nobody may have sessions in an app's instances, in CF's words; `None` where they may.
pub(crate) async fn refusal(context: &Context, app: &App, space: &Space) -> Answer<Option<String>> {
    if context.config.ssh_address.is_none() {
        return Ok(Some("ssh is disabled globally".to_owned()));
    }
    let switches = context.store.ssh_of_app(app.id).await?;
    Ok(if !switches.space {
        Some(format!("ssh is disabled for space '{}'", space.name))
    } else if !switches.app {
        Some("ssh is disabled for app".to_owned())
    } else {
        None
    })
}

/// Writes down that somebody opens a session in instance `index`, or refuses it and writes that down.
pub(crate) async fn authorize(context: &Context, app: &App, space: &Space, index: u32, by: &By) -> Answer<()> {
    match refusal(context, app, space).await? {
        None => record(context, app, space, index, true, by).await,
        Some(reason) => {
            record(context, app, space, index, false, by).await?;
            let hint = "Switch it on with `paas enable-ssh`, or ask a manager of the space or an operator";
            Err(Failure::new(Code::FeatureDisabled, format!("Feature Disabled: {reason}")).hint(hint))
        }
    }
}

/// CF's event of a session that was asked for.
pub(crate) async fn record(
    context: &Context,
    app: &App,
    space: &Space,
    index: u32,
    authorized: bool,
    by: &By,
) -> Answer<()> {
    let kind = if authorized {
        "audit.app.ssh-authorized"
    } else {
        "audit.app.ssh-unauthorized"
    };
    let tx = context.store.begin().await?;
    tx.event(by.app_event(kind, app, space, json!({"index": index})));
    Ok(tx.commit().await?)
}

/// Sets an app's switch. It holds for the next session; those that are open go on.
pub(crate) async fn switch_app(context: &Context, app: &App, space: &Space, enabled: bool, by: &By) -> Answer<()> {
    let tx = context.store.begin().await?;
    tx.ssh_set_app(app.id, enabled, by.now).await?;
    let data = json!({"request": {"features": {FEATURE: {"enabled": enabled}}}});
    tx.event(by.app_event("audit.app.update", app, space, data));
    Ok(tx.commit().await?)
}

/// Sets a space's switch.
pub(crate) async fn switch_space(context: &Context, space: &Space, enabled: bool, by: &By) -> Answer<()> {
    let tx = context.store.begin().await?;
    tx.ssh_set_space(space.id, enabled, by.now).await?;
    let target = Target {
        guid: space.id.to_string(),
        kind: "space".to_owned(),
        name: space.name.to_string(),
    };
    let data = json!({"request": {"features": {FEATURE: {"enabled": enabled}}}});
    tx.event(by.event("audit.space.update", target, Some(space), data));
    Ok(tx.commit().await?)
}
