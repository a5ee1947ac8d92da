//! `paas admin`.

use super::show_list;
use crate::actor::{Cx, missing};
use crate::args::Listing;
use crate::args::platform::{Admin, AdminCommand, CellAction};
use crate::client::wire::Cell;
use crate::errors::Error;
use crate::ui::table::Table;
use serde_json::json;

/// What operators do.
pub async fn run(cx: &Cx, args: Admin) -> Result<(), Error> {
    match args.command {
        AdminCommand::Cells { listing, action } => cells(cx, listing, action).await,
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

async fn cells(cx: &Cx, listing: Listing, action: Option<CellAction>) -> Result<(), Error> {
    let client = cx.client()?;
    let (verb, name) = match action {
        None => {
            cx.ui.doing("Getting cells");
            let cells = client.cells().await?;
            show_list(
                &cx.ui,
                &listing,
                &cells,
                |cell| cell.name.clone(),
                |wide| table(&cells, wide),
                "no cell has joined yet",
            );
            return Ok(());
        }
        Some(CellAction::Cordon { cell }) => ("cordon", cell),
        Some(CellAction::Uncordon { cell }) => ("uncordon", cell),
    };
    cx.ui.doing(&format!("Telling cell {name} to {verb}"));
    let cells = client.cells().await?;
    let Some(cell) = cells.iter().find(|cell| cell.name == name || cell.id == name) else {
        let names: Vec<String> = cells.into_iter().map(|cell| cell.name).collect();
        return Err(missing("cell", &name, client.api(), &names));
    };
    client.cell_action(&cell.id, verb).await?;
    if cx.ui.json() {
        cx.ui.document(&json!({"cell": cell.id, "action": verb}));
    } else {
        let effect = if verb == "cordon" {
            "gets no new work"
        } else {
            "gets new work again"
        };
        cx.ui.out_line(&format!("cell {} {effect}", cell.name));
    }
    Ok(())
}

fn table(cells: &[Cell], wide: bool) -> Table {
    let mut table = if wide {
        Table::new(&[
            "name",
            "state",
            "zone",
            "work",
            "memory",
            "cpus",
            "version",
            "id",
            "isolation",
        ])
    } else {
        Table::new(&["name", "state", "zone", "work", "memory", "cpus"])
    };
    for cell in cells {
        let state = match (cell.alive, cell.cordoned) {
            (Some(false), _) => "away",
            (_, true) => "cordoned",
            _ => "ready",
        };
        let memory = match cell.memory_used_mb {
            Some(used) => format!("{used} of {} MB", cell.memory_mb),
            None => format!("{} MB", cell.memory_mb),
        };
        let work = cell.work.map_or_else(String::new, |work| work.to_string());
        let mut cells = vec![
            cell.name.clone(),
            state.to_owned(),
            cell.zone.clone(),
            work,
            memory,
            cell.cpus.to_string(),
        ];
        if wide {
            cells.extend([cell.version.clone(), cell.id.clone(), cell.isolation.join("; ")]);
        }
        table.row(cells);
    }
    table
}
