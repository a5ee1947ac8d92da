//! `paas builds`, `cancel-build` and `clear-cache`: what was built of an app, how, and what is kept for the next time.

use super::show_list;
use crate::actor::{Cx, Target, missing};
use crate::args::staging::{Builds, CancelBuild, ClearCache};
use crate::client::wire::{App, Build, parse_time};
use crate::client::wire_staging::BuildHistory;
use crate::errors::Error;
use crate::ui::format;
use crate::ui::table::Table;
use serde_json::json;
use std::time::Duration;

/// Digits of an id that tell builds of an app apart.
const SHORT: usize = 8;

/// Lists builds, or shows one.
pub async fn run(cx: &Cx, args: Builds) -> Result<(), Error> {
    cx.ui
        .doing(&format!("Getting builds of {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let builds = target.client.builds(&app.guid).await?;
    if args.id.is_some() || args.log {
        let build = chosen(&builds, args.id.as_deref(), &app)?;
        return one(cx, &target, &app, build, args.log).await;
    }
    show_list(
        &cx.ui,
        &args.listing,
        &builds,
        |build| build.guid.clone(),
        |wide| table(&builds, wide),
        "it was never built",
    );
    Ok(())
}

/// The end of an id is what differs: its beginning is the time.
fn short(guid: &str) -> &str {
    guid.char_indices()
        .rev()
        .nth(SHORT - 1)
        .map_or(guid, |(from, _)| &guid[from..])
}

fn table(builds: &[Build], wide: bool) -> Table {
    let mut table = Table::new(&["build", "created", "state", "droplet", "error"]);
    for build in builds {
        let at = parse_time(&build.created_at).map_or_else(|| build.created_at.clone(), format::instant);
        let id = if wide { build.guid.as_str() } else { short(&build.guid) };
        let droplet = build.droplet.as_ref().map_or("", |droplet| droplet.guid.as_str());
        let droplet = if wide { droplet } else { short(droplet) };
        let error = build
            .error
            .as_ref()
            .and_then(|error| error.as_str())
            .unwrap_or_default();
        table.row([
            id.to_owned(),
            at,
            build.state.to_lowercase(),
            droplet.to_owned(),
            format::harmless(error),
        ]);
    }
    table
}

/// The build whose id begins or ends so; the newest where none is named.
fn chosen<'a>(builds: &'a [Build], id: Option<&str>, app: &App) -> Result<&'a Build, Error> {
    let Some(id) = id else {
        return builds
            .first()
            .ok_or_else(|| Error::usage(format!("{} was never built", app.name)));
    };
    let names = |build: &&Build| build.guid.starts_with(id) || build.guid.ends_with(id);
    let mut fitting = builds.iter().filter(names);
    match (fitting.next(), fitting.next()) {
        (Some(build), None) => Ok(build),
        (Some(_), Some(_)) => Err(Error::usage(format!(
            "several builds have {id} in their id: write more of it"
        ))),
        (None, _) => {
            let all: Vec<String> = builds.iter().map(|build| short(&build.guid).to_owned()).collect();
            Err(missing("build", id, &app.name, &all))
        }
    }
}

async fn one(cx: &Cx, target: &Target, app: &App, build: &Build, log: bool) -> Result<(), Error> {
    let history = target.client.build_history(&build.guid).await?;
    if cx.ui.json() {
        cx.ui.document(&history);
        return Ok(());
    }
    if log {
        history
            .lines
            .iter()
            .for_each(|line| cx.ui.out_line(&format::harmless(&line.text)));
        if history.lines.is_empty() {
            cx.ui
                .tip("it said nothing, or its log is not kept any more; an equal build that was taken has none");
        }
        return Ok(());
    }
    cx.ui.table(&phases(&history), "no phases are known", true);
    if let Some(waiting) = &history.waiting {
        cx.ui.out_line(&format!("it waits: {}", waiting.reason));
        if !waiting.smallest_change.is_empty() {
            cx.ui.tip(&waiting.smallest_change);
        }
    }
    if let Some(error) = build.error.as_ref().and_then(|error| error.as_str()) {
        cx.ui.out_line(&format::harmless(error));
        cx.ui.tip(&format!(
            "what it said: `paas builds {} {} --log`",
            app.name,
            short(&build.guid)
        ));
    }
    Ok(())
}

fn phases(history: &BuildHistory) -> Table {
    let mut table = Table::new(&["phase", "took"]).right(1);
    for phase in &history.phases {
        let took = format::duration(Duration::from_millis(phase.duration_ms));
        table.row([format::harmless(&phase.name), took]);
    }
    let all = format::duration(Duration::from_millis(history.duration_ms));
    table.row([history.state.to_lowercase(), all]);
    table
}

/// Ends the newest build that is not over.
pub async fn cancel(cx: &Cx, args: CancelBuild) -> Result<(), Error> {
    cx.ui
        .doing(&format!("Cancelling the build of {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let newest = target.client.latest_build(&app.guid).await?;
    let build = newest
        .filter(|build| build.state == "STAGING")
        .ok_or_else(|| Error::NothingInFlight { app: app.name.clone() })?;
    target.client.cancel_build(&build.guid).await?;
    if cx.ui.json() {
        cx.ui
            .document(&json!({"build": target.client.build(&build.guid).await?}));
    } else {
        cx.ui
            .out_line(&format!("the build of {} is cancelled; what runs goes on", app.name));
    }
    Ok(())
}

/// Forgets what builds left for the next.
pub async fn clear_cache(cx: &Cx, args: ClearCache) -> Result<(), Error> {
    cx.ui
        .doing(&format!("Clearing the build cache of {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    target.client.clear_cache(&app.guid).await?;
    if cx.ui.json() {
        cx.ui.document(&json!({"app": app}));
    } else {
        cx.ui
            .out_line(&format!("the next build of {} begins from nothing", app.name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn build(guid: &str, state: &str, error: Value) -> Build {
        serde_json::from_value(json!({
            "guid": guid, "state": state, "error": error, "created_at": "2026-11-23T10:00:00Z",
        }))
        .expect("reads")
    }

    fn app() -> App {
        serde_json::from_value(json!({"guid": "a", "name": "shop"})).expect("reads")
    }

    #[test]
    fn a_build_is_known_by_either_end_of_its_id() {
        let all = [
            build("0000-aaaa1111", "STAGED", Value::Null),
            build(
                "0000-bbbb1111",
                "FAILED",
                json!("StagingError - The build was cancelled"),
            ),
        ];
        let of = |id| chosen(&all, id, &app()).map(|build| build.guid.clone()).ok();
        assert_eq!(of(None).as_deref(), Some("0000-aaaa1111"));
        assert_eq!(of(Some("bbbb1111")).as_deref(), Some("0000-bbbb1111"));
        assert_eq!(of(Some("0000-a")).as_deref(), Some("0000-aaaa1111"));
        assert_eq!((of(Some("0000")), of(Some("c"))), (None, None));
        assert!(chosen(&[], None, &app()).is_err());
        let text = table(&all, false).render(true, None);
        assert!(
            text.contains("bbbb1111") && text.contains("The build was cancelled"),
            "{text}"
        );
    }

    #[test]
    fn phases_end_with_the_whole() {
        let history: BuildHistory = serde_json::from_value(json!({
            "state": "STAGED", "duration_ms": 2500, "phases": [{"name": "detect", "duration_ms": 15}],
        }))
        .expect("reads");
        let text = phases(&history).render(false, None);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("detect") && lines[1].starts_with("staged"),
            "{text}"
        );
    }
}
