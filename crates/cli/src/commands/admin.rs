//! `paas admin`.

use crate::actor::Cx;
use crate::args::platform::{Admin, AdminCommand};
use crate::errors::Error;
use serde_json::json;

/// What operators do.
pub async fn run(cx: &Cx, args: Admin) -> Result<(), Error> {
    match args.command {
        AdminCommand::Cells { listing, action } => super::cells::run(cx, listing, action).await,
        AdminCommand::Token { command } => super::machines::token(cx, command).await,
        AdminCommand::Machines { listing, action } => super::machines::machines(cx, listing, action).await,
        AdminCommand::Stacks { listing } => super::stacks::list(cx, listing).await,
        AdminCommand::RollStack(args) => super::stacks::roll(cx, args).await,
        AdminCommand::RotateKeys { revoke } => rotate_keys(cx, revoke).await,
    }
}

async fn rotate_keys(cx: &Cx, revoke: bool) -> Result<(), Error> {
    cx.ui.doing("Making a new key");
    cx.client()?.rotate_keys(revoke).await?;
    if cx.ui.json() {
        cx.ui.document(&json!({"rotated": true, "revoked": revoke}));
    } else {
        let old = if revoke {
            "are over"
        } else {
            "stay valid until they are over"
        };
        cx.ui
            .out_line(&format!("a new key signs tokens; tokens by earlier ones {old}"));
    }
    Ok(())
}
