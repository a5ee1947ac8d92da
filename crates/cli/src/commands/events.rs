//! `paas events`.

use super::show_list;
use crate::actor::Cx;
use crate::args::app::Events;
use crate::client::wire::{AuditEvent, StreamEvent, parse_time};
use crate::errors::Error;
use crate::ui::format;
use crate::ui::table::Table;
use serde_json::Value;

/// Lists what happened to an app.
pub async fn run(cx: &Cx, args: Events) -> Result<(), Error> {
    cx.ui
        .doing(&format!("Getting events of {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let events = target.client.events(&app.guid, args.limit).await?;
    show_list(
        &cx.ui,
        &args.listing,
        &events,
        |event| event.kind.clone(),
        |_| table(&events),
        "nothing happened yet",
    );
    Ok(())
}

fn table(events: &[AuditEvent]) -> Table {
    let mut table = Table::new(&["time", "event", "actor", "description"]);
    for event in events {
        let at = parse_time(&event.created_at).map_or_else(|| event.created_at.clone(), format::instant);
        table.row([
            at,
            event.kind.clone(),
            format::harmless(&event.actor.name),
            format::harmless(&description(event)),
        ]);
    }
    table
}

fn description(event: &AuditEvent) -> String {
    let told = crate::actor::push::follow::describe(&StreamEvent {
        sequence: 0,
        kind: event.kind.clone(),
        data: event.data.clone(),
        created_at: String::new(),
    });
    told.unwrap_or_else(|| match &event.data {
        Value::Object(members) => {
            let mut parts: Vec<String> = Vec::new();
            for (name, value) in members {
                match value {
                    Value::Null | Value::Object(_) | Value::Array(_) => {}
                    Value::String(text) => parts.push(format!("{name}: {text}")),
                    other => parts.push(format!("{name}: {other}")),
                }
            }
            parts.join(", ")
        }
        _ => String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_told_in_words() {
        let events: Vec<AuditEvent> = serde_json::from_value(json!([
            {"guid": "1", "type": "app.crash", "created_at": "2026-03-01T12:00:00Z", "actor": {"name": "cell-1"},
             "data": {"index": 0, "cause": "Exited with status 1", "crash_count": 2}},
            {"guid": "2", "type": "audit.app.create", "created_at": "2026-03-01T11:00:00Z", "actor": {"name": "ann"}, "data": {"by": "push"}}
        ]))
        .expect("events");
        insta::assert_snapshot!(table(&events).render(true, None));
    }
}
