//! What a manifest says of sidecars.

use super::MAX_PROCESSES;
use super::parse::size;
use super::read::Map;
use crate::sidecar;
use crate::staging::SidecarTemplate;

/// What runs beside processes: each has a name of its own, a command and the types that it is for.
pub(super) fn sidecars(map: &Map<'_>) -> Vec<SidecarTemplate> {
    let mut found: Vec<SidecarTemplate> = Vec::new();
    for (place, value) in map.list("sidecars", sidecar::MAX_OF_APP).unwrap_or_default() {
        let Some(entry) = Map::of(value, place, map.report) else {
            continue;
        };
        entry.only(&["name", "process_types", "command", "memory"]);
        let text = |key: &str, most: usize| {
            let text = entry.text(key).unwrap_or_default();
            if !entry.has(key) || text.is_empty() {
                entry.report.add(&entry.at(key), "is missing", None);
            } else if text.chars().count() > most || text.contains('\0') {
                let message = format!("has to be a text of at most {most} characters");
                entry.report.add(&entry.at(key), message, None);
            }
            text.to_owned()
        };
        let name = text("name", sidecar::MAX_NAME);
        if found.iter().any(|other| other.name == name) {
            entry
                .report
                .add(&entry.at("name"), "there is another sidecar of this name", None);
        }
        let types = entry.texts("process_types", MAX_PROCESSES).unwrap_or_default();
        if types.is_empty() {
            let message = "has to name at least one process type";
            entry.report.add(&entry.at("process_types"), message, None);
        }
        found.push(SidecarTemplate {
            command: text("command", sidecar::MAX_COMMAND),
            process_types: types.into_iter().map(str::to_owned).collect(),
            memory_mb: size(&entry, "memory"),
            name,
        });
    }
    found
}
