//! `paas target`.

use crate::actor::{Cx, login};
use crate::args::platform::Target;
use crate::errors::Error;
use serde_json::json;

/// Shows where commands work, after changing it where that was asked for.
pub async fn run(cx: &Cx, args: Target) -> Result<(), Error> {
    let config = if args.org.is_some() || args.space.is_some() {
        login::target(cx, args.org.as_deref(), args.space.as_deref()).await?
    } else {
        cx.config()?
    };
    let context = config.context()?;
    let user = context
        .username
        .clone()
        .or_else(|| config.credentials.as_ref().map(|(user, _)| user.clone()));
    if cx.ui.json() {
        let document = json!({"context": config.context_name, "api": context.api, "user": user, "org": context.org, "space": context.space});
        cx.ui.document(&document);
        return Ok(());
    }
    let none = || "none".to_owned();
    for (label, value) in [
        (
            "context",
            Some(config.context_name.clone()).filter(|name| !name.is_empty()),
        ),
        ("api", Some(context.api.clone())),
        ("user", user),
        ("org", context.org.clone()),
        ("space", context.space.clone()),
    ] {
        cx.ui.out_line(&format!("{label:<8} {}", value.unwrap_or_else(none)));
    }
    if context.space.is_none() {
        cx.ui.tip("choose where to work with `paas target -o ORG -s SPACE`");
    }
    Ok(())
}
