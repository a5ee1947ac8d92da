//! `paas revisions` and `paas rollback`: what an app ran, and the way back to it.

use super::show_list;
use crate::actor::{Cx, deploy, missing};
use crate::args::app::{Revisions, Rollback};
use crate::client::v3::Of;
use crate::client::wire::{Revision, parse_time};
use crate::errors::Error;
use crate::ui::format;
use crate::ui::table::Table;
use serde_json::json;

/// Lists what an app ran, the newest first.
pub async fn list(cx: &Cx, args: Revisions) -> Result<(), Error> {
    cx.ui
        .doing(&format!("Getting revisions of {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let revisions = target.client.revisions(&app.guid).await?;
    let running = target.client.deployed_revisions(&app.guid).await?;
    show_list(
        &cx.ui,
        &args.listing,
        &revisions,
        |revision| revision.version.to_string(),
        |_| table(&revisions, &running),
        "it was never started",
    );
    Ok(())
}

fn table(revisions: &[Revision], running: &[Revision]) -> Table {
    let mut table = Table::new(&["revision", "since", "state", "description"]).right(0);
    for revision in revisions {
        let at = parse_time(&revision.created_at).map_or_else(|| revision.created_at.clone(), format::instant);
        let state = if running.iter().any(|other| other.guid == revision.guid) {
            "running"
        } else if revision.deployable {
            "kept"
        } else {
            "droplet is gone"
        };
        table.row([
            revision.version.to_string(),
            at,
            state.to_owned(),
            format::harmless(&revision.description),
        ]);
    }
    table
}

/// Deploys an earlier revision, without downtime.
pub async fn rollback(cx: &Cx, args: Rollback) -> Result<(), Error> {
    cx.ui.doing(&format!("Rolling back {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let revisions = target.client.revisions(&app.guid).await?;
    let running = target.client.deployed_revisions(&app.guid).await?;
    let newest = running.iter().map(|revision| revision.version).max();
    let before = |revision: &&Revision| newest.is_none_or(|newest| revision.version < newest) && revision.deployable;
    let chosen = match args.revision {
        Some(version) => revisions.iter().find(|revision| revision.version == version),
        None => revisions.iter().filter(before).max_by_key(|revision| revision.version),
    };
    let versions: Vec<String> = revisions.iter().map(|revision| revision.version.to_string()).collect();
    let wanted = args
        .revision
        .map_or_else(|| "before this one".to_owned(), |version| version.to_string());
    let chosen = chosen.ok_or_else(|| missing("revision", &wanted, &app.name, &versions))?;
    let deployment = deploy::replace(
        cx,
        &target,
        &app,
        Of::Revision(&chosen.guid),
        &args.strategy,
        &args.wait,
    )
    .await?;
    if cx.ui.json() {
        cx.ui.document(&json!({"deployment": deployment, "revision": chosen}));
    } else if deployment.status.is_paused() {
        cx.ui.out_line(&super::deploy::state(&app.name, &deployment));
    } else if !args.wait.detach {
        cx.ui
            .out_line(&format!("{} runs revision {} again", app.name, chosen.version));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_and_what_is_gone_is_told() {
        let revision = |version: u32, deployable: bool| -> Revision {
            serde_json::from_value(json!({
                "guid": version.to_string(), "version": version, "deployable": deployable,
                "description": "New droplet deployed.", "created_at": "2026-11-23T10:00:00Z",
            }))
            .expect("reads")
        };
        let all = [revision(3, true), revision(2, true), revision(1, false)];
        let text = table(&all, &all[..1]).render(false, None);
        let states: Vec<bool> = ["running", "kept", "droplet is gone"]
            .iter()
            .zip(text.lines())
            .map(|(state, line)| line.contains(state))
            .collect();
        assert_eq!(states, [true, true, true], "{text}");
    }
}
