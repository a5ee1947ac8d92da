//! `paas admin cells`: the hosts that run work.

use super::show_list;
use crate::actor::{Cx, missing};
use crate::args::Listing;
use crate::args::platform::CellAction;
use crate::client::wire::Cell;
use crate::errors::Error;
use crate::ui::format::count;
use crate::ui::table::Table;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How often a cell that is drained is looked at: cells have no stream of events.
const LOOK: Duration = Duration::from_secs(1);

/// Lists cells, or does something about one.
pub async fn run(cx: &Cx, listing: Listing, action: Option<CellAction>) -> Result<(), Error> {
    let client = cx.client()?;
    let Some(action) = action else {
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
    };
    match action {
        CellAction::Show { cell } => {
            cx.ui.doing(&format!("Getting cell {cell}"));
            let cell = find(cx, &cell).await?;
            let shown = client.cell(&cell.id).await?;
            show(cx, &cell, &shown);
            Ok(())
        }
        CellAction::Cordon { cell } => told(cx, &cell, "cordon", "gets no new work").await,
        CellAction::Uncordon { cell } => told(cx, &cell, "uncordon", "gets new work again").await,
        CellAction::Drain {
            cell,
            at_once,
            no_wait,
            timeout,
        } => {
            let cell = find(cx, &cell).await?;
            client.drain_cell(&cell.id, at_once).await?;
            let left = if no_wait {
                None
            } else {
                Some(wait(cx, &cell, timeout).await?)
            };
            said(
                cx,
                &cell,
                "drain",
                match left {
                    None => "is being drained".to_owned(),
                    Some(0) => "is empty".to_owned(),
                    Some(left) => format!(
                        "still has {}; it goes on",
                        count(left, "piece of work", "pieces of work")
                    ),
                },
            );
            Ok(())
        }
        CellAction::Remove { cell } => {
            let cell = find(cx, &cell).await?;
            client.remove_cell(&cell.id).await?;
            said(cx, &cell, "remove", "is no part of the platform any more".to_owned());
            Ok(())
        }
    }
}

async fn told(cx: &Cx, name: &str, verb: &str, effect: &str) -> Result<(), Error> {
    cx.ui.doing(&format!("Telling cell {name} to {verb}"));
    let cell = find(cx, name).await?;
    cx.client()?.cell_action(&cell.id, verb).await?;
    said(cx, &cell, verb, effect.to_owned());
    Ok(())
}

fn said(cx: &Cx, cell: &Cell, verb: &str, effect: String) {
    if cx.ui.json() {
        cx.ui.document(&json!({"cell": cell.id, "action": verb}));
    } else {
        cx.ui.out_line(&format!("cell {} {effect}", cell.name));
    }
}

async fn find(cx: &Cx, name: &str) -> Result<Cell, Error> {
    let client = cx.client()?;
    let cells = client.cells().await?;
    if let Some(cell) = cells.iter().find(|cell| cell.name == name || cell.id == name) {
        return Ok(cell.clone());
    }
    let names: Vec<String> = cells.into_iter().map(|cell| cell.name).collect();
    Err(missing("cell", name, client.api(), &names))
}

/// Tells what is left whenever it changes, until nothing is or the time is over; what is left then.
async fn wait(cx: &Cx, cell: &Cell, timeout: Duration) -> Result<usize, Error> {
    let deadline = Instant::now() + timeout;
    let mut before = None;
    loop {
        let shown = cx.client()?.cell(&cell.id).await?;
        let left = shown["works"].as_array().map_or(0, Vec::len);
        if before != Some(left) {
            cx.ui.say(&format!(
                "cell {}: {} left",
                cell.name,
                count(left, "piece of work", "pieces of work")
            ));
            before = Some(left);
        }
        if left == 0 || Instant::now() >= deadline {
            return Ok(left);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn state(cell: &Cell) -> &'static str {
    match (cell.alive, cell.cordoned, cell.draining) {
        (Some(false), _, _) => "away",
        (_, _, 1..) => "draining",
        (_, true, _) => "cordoned",
        _ => "ready",
    }
}

fn show(cx: &Cx, cell: &Cell, shown: &Value) {
    if cx.ui.json() {
        cx.ui.document(shown);
        return;
    }
    cx.ui.out_line(&format!(
        "{}: {}, zone {}, {} of {} MB, {} CPUs",
        cell.name,
        state(cell),
        cell.zone,
        cell.memory_used_mb.unwrap_or(0),
        cell.memory_mb,
        cell.cpus
    ));
    let mut table = Table::new(&["app", "kind", "process", "index", "state", "memory"]);
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    for work in shown["works"].as_array().into_iter().flatten() {
        let state = &work["state"];
        let state = state.get("state").unwrap_or(state);
        table.row([
            text(&work["app"]),
            text(&work["kind"]),
            text(&work["process"]),
            text(&work["index"]),
            text(state),
            format!("{} MB", text(&work["memory_mb"])),
        ]);
    }
    cx.ui.table(&table, "it runs nothing", true);
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
        let memory = match cell.memory_used_mb {
            Some(used) => format!("{used} of {} MB", cell.memory_mb),
            None => format!("{} MB", cell.memory_mb),
        };
        let work = cell.work.map_or_else(String::new, |work| work.to_string());
        let mut cells = vec![
            cell.name.clone(),
            state(cell).to_owned(),
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
