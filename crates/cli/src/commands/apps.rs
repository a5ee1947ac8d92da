//! `paas apps`.

use super::show_list;
use crate::actor::Cx;
use crate::actor::apps::{Row, list};
use crate::args::app::Apps;
use crate::errors::Error;
use crate::ui::table::Table;

/// Lists the apps of the space.
pub async fn run(cx: &Cx, args: Apps) -> Result<(), Error> {
    cx.ui.doing(&format!("Getting apps in {}", cx.place()));
    let target = cx.target().await?;
    let rows = list(&target).await?;
    let name = |row: &Row| row.app.name.clone();
    show_list(
        &cx.ui,
        &args.listing,
        &rows,
        name,
        |wide| table(&rows, wide),
        "no apps yet; `paas push` makes one",
    );
    Ok(())
}

fn table(rows: &[Row], wide: bool) -> Table {
    let mut table = if wide {
        Table::new(&["name", "state", "processes", "memory", "stack", "updated", "urls"])
    } else {
        Table::new(&["name", "state", "processes", "urls"])
    };
    for row in rows {
        let processes: Vec<String> = row
            .processes
            .iter()
            .filter(|process| process.instances > 0 || process.kind == "web")
            .map(|process| {
                let (running, wanted) = Row::count(process);
                format!("{}:{running}/{wanted}", process.kind)
            })
            .collect();
        let mut cells = vec![row.app.name.clone(), row.app.state.to_lowercase(), processes.join(", ")];
        if wide {
            let memory: Vec<String> = row
                .processes
                .iter()
                .map(|process| format!("{}M", process.memory_in_mb))
                .collect();
            let stack = row
                .app
                .lifecycle
                .data
                .as_ref()
                .and_then(|data| data.stack.clone())
                .unwrap_or_default();
            cells.extend([memory.join(", "), stack, row.app.updated_at.clone()]);
        }
        cells.push(row.urls.join(", "));
        table.row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_shows_what_runs_of_what_is_wanted() {
        let row = |name: &str, state: &str, running: usize, wanted: u32| {
            Row {
            app: serde_json::from_value(json!({"guid": name, "name": name, "state": state})).expect("app"),
            processes: vec![
                serde_json::from_value(json!({
                    "guid": "p", "type": "web", "instances": wanted, "memory_in_mb": 256,
                    "process_instances": (0..running).map(|i| json!({"index": i, "state": "RUNNING"})).collect::<Vec<_>>(),
                }))
                .expect("process"),
            ],
            urls: vec![format!("http://{name}.localhost:8080")],
        }
        };
        let rows = [row("shop", "STARTED", 2, 3), row("old", "STOPPED", 0, 1)];
        insta::assert_snapshot!(table(&rows, false).render(true, None));
        insta::assert_snapshot!(table(&rows, true).render(true, None));
    }
}
