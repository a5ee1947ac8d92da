//! `paas admin token` and `paas admin machines`: hosts that join the platform.

use super::show_list;
use crate::actor::{Cx, missing};
use crate::args::Listing;
use crate::args::platform::{MachineAction, TokenCommand};
use crate::client::wire_machines::{JoinToken, Machine};
use crate::errors::Error;
use crate::ui::table::Table;
use serde_json::json;

/// Tokens to join with.
pub async fn token(cx: &Cx, command: TokenCommand) -> Result<(), Error> {
    match command {
        TokenCommand::Create {
            role,
            expires,
            label,
            max_memory,
        } => {
            cx.ui.doing("Making a token");
            let body = json!({
                "role": role,
                "label": label,
                "expires_seconds": expires.as_secs(),
                "max_memory_mb": max_memory,
            });
            let made = cx.client()?.create_join_token(body).await?;
            if cx.ui.json() {
                cx.ui.document(&made);
            } else {
                cx.ui.out_line(made.token.as_deref().unwrap_or_default());
                cx.ui.say(&format!(
                    "Good for one {role} until {}: paasd {role} join TOKEN",
                    made.valid_until
                ));
            }
            Ok(())
        }
        TokenCommand::List { listing } => {
            cx.ui.doing("Getting tokens");
            let tokens = cx.client()?.join_tokens().await?;
            show_list(
                &cx.ui,
                &listing,
                &tokens,
                |token| token.id.clone(),
                |_| tokens_table(&tokens),
                "there is no token",
            );
            Ok(())
        }
        TokenCommand::Delete { id } => {
            cx.ui.doing("Deleting the token");
            cx.client()?.delete_join_token(&id).await?;
            if cx.ui.json() {
                cx.ui.document(&json!({"deleted": id}));
            } else {
                cx.ui.out_line(&format!("nobody joins with token {id} any more"));
            }
            Ok(())
        }
    }
}

fn tokens_table(tokens: &[JoinToken]) -> Table {
    let mut table = Table::new(&["id", "role", "label", "good until", "used by"]);
    for token in tokens {
        let used = match (&token.used_at, &token.machine) {
            (Some(at), Some(machine)) => format!("{machine} at {at}"),
            _ => String::new(),
        };
        table.row([
            token.id.clone(),
            token.role.clone(),
            token.label.clone(),
            token.valid_until.clone(),
            used,
        ]);
    }
    table
}

/// Hosts that joined.
pub async fn machines(cx: &Cx, listing: Listing, action: Option<MachineAction>) -> Result<(), Error> {
    let client = cx.client()?;
    cx.ui.doing("Getting machines");
    let machines = client.machines().await?;
    let Some(MachineAction::Revoke { machine: name }) = action else {
        show_list(
            &cx.ui,
            &listing,
            &machines,
            |machine| machine.name.clone(),
            |wide| table(&machines, wide),
            "no host has joined with a token yet",
        );
        return Ok(());
    };
    let Some(machine) = machines
        .iter()
        .find(|machine| machine.name == name || machine.id == name)
    else {
        let names: Vec<String> = machines.into_iter().map(|machine| machine.name).collect();
        return Err(missing("machine", &name, client.api(), &names));
    };
    client.revoke_machine(&machine.role, &machine.id).await?;
    if cx.ui.json() {
        cx.ui.document(&json!({"machine": machine.id, "revoked": true}));
    } else {
        let (role, name) = (&machine.role, &machine.name);
        cx.ui
            .out_line(&format!("{role} {name} is no part of the platform any more"));
    }
    Ok(())
}

fn table(machines: &[Machine], wide: bool) -> Table {
    let mut table = if wide {
        Table::new(&["name", "role", "state", "label", "certificate until", "joined", "id"])
    } else {
        Table::new(&["name", "role", "state", "label", "certificate until"])
    };
    for machine in machines {
        let state = if machine.revoked_at.is_some() {
            "revoked"
        } else {
            "joined"
        };
        let mut cells = vec![
            machine.name.clone(),
            machine.role.clone(),
            state.to_owned(),
            machine.label.clone(),
            machine.certificate_until.clone(),
        ];
        if wide {
            cells.extend([machine.joined_at.clone(), machine.id.clone()]);
        }
        table.row(cells);
    }
    table
}
