//! `paas admin stacks`, and `roll-stack`: what runs is brought over to the newest version of its stack.

use super::show_list;
use crate::actor::{Cx, missing};
use crate::args::Listing;
use crate::args::platform::RollStack;
use crate::args::push::Strategy;
use crate::client::Client;
use crate::client::v3::Of;
use crate::client::wire::App;
use crate::errors::Error;
use crate::ui::format;
use crate::ui::table::Table;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Between two looks at a rollout; the server holds the answer for a while itself.
const PAUSE: Duration = Duration::from_millis(500);

/// Lists the stacks with the number of apps that ask for each.
pub async fn list(cx: &Cx, listing: Listing) -> Result<(), Error> {
    cx.ui.doing("Getting stacks");
    let client = cx.client()?;
    let mut stacks: Vec<Value> = Vec::new();
    let mut table = Table::new(&["name", "default", "apps", "started", "description"])
        .right(2)
        .right(3);
    for stack in client.stacks().await? {
        let apps = client.apps_of_stack(&stack.name).await?;
        let started = apps.iter().filter(|app| app.state == "STARTED").count();
        table.row([
            stack.name.clone(),
            if stack.default { "yes" } else { "" }.to_owned(),
            apps.len().to_string(),
            started.to_string(),
            format::harmless(stack.description.as_deref().unwrap_or_default()),
        ]);
        stacks.push(json!({"stack": stack, "apps": apps.len(), "started": started}));
    }
    let name = |one: &Value| one["stack"]["name"].as_str().unwrap_or_default().to_owned();
    show_list(&cx.ui, &listing, &stacks, name, |_| table, "no stacks");
    Ok(())
}

/// What came of one app.
struct Rolled {
    app: App,
    /// `None`: its instances are new.
    failure: Option<String>,
}

/// Rolls all apps of a stack, some at once.
pub async fn roll(cx: &Cx, args: RollStack) -> Result<(), Error> {
    cx.ui.doing(&format!("Rolling the apps of the stack {}", args.stack));
    let client = cx.client()?;
    let names: Vec<String> = client.stacks().await?.into_iter().map(|stack| stack.name).collect();
    if !names.contains(&args.stack) {
        return Err(missing("stack", &args.stack, client.api(), &names));
    }
    let apps = client.apps_of_stack(&args.stack).await?;
    let (started, idle): (Vec<App>, Vec<App>) = apps.into_iter().partition(|app| app.state == "STARTED");
    let all = started.len();
    let mut outcomes = futures_util::stream::iter(started)
        .map(|app| one(&client, app, args.timeout))
        .buffer_unordered(usize::try_from(args.parallel).unwrap_or(1));
    let mut rolled = Vec::new();
    while let Some(outcome) = outcomes.next().await {
        let what = outcome.failure.as_deref().unwrap_or("is on the newest version");
        cx.ui
            .say(&format!("{} of {all}: {} {what}", rolled.len() + 1, outcome.app.name));
        rolled.push(outcome);
    }
    tell(cx, &args.stack, &rolled, idle.len())
}

/// Rolls one app, and waits for the end of it.
async fn one(client: &Client, app: App, timeout: Duration) -> Rolled {
    let failure = match rolled_out(client, &app, timeout).await {
        Ok(failure) => failure,
        Err(error) => Some(error.report().message),
    };
    Rolled { app, failure }
}

async fn rolled_out(client: &Client, app: &App, timeout: Duration) -> Result<Option<String>, Error> {
    let begun = Instant::now();
    let mut deployment = client
        .create_deployment(&app.guid, Of::Current, &Strategy::default())
        .await?;
    while !deployment.status.is_final() {
        if begun.elapsed() > timeout {
            return Ok(Some(format!("was not over after {} s, and goes on", timeout.as_secs())));
        }
        tokio::time::sleep(PAUSE).await;
        deployment = client.deployment(&deployment.guid).await?;
    }
    Ok((!deployment.status.is_deployed()).then(|| "failed, and keeps what it has".to_owned()))
}

fn tell(cx: &Cx, stack: &str, rolled: &[Rolled], idle: usize) -> Result<(), Error> {
    let failed = rolled.iter().filter(|one| one.failure.is_some()).count();
    if cx.ui.json() {
        let apps = rolled.iter().map(|one| {
            json!({"guid": one.app.guid, "name": one.app.name, "rolled": one.failure.is_none(), "failure": one.failure})
        });
        cx.ui
            .document(&json!({"stack": stack, "apps": apps.collect::<Vec<_>>(), "stopped": idle}));
    } else {
        cx.ui.out_line(&format!(
            "{} of {} on the newest version of {stack}; {} not started",
            rolled.len() - failed,
            format::count(rolled.len(), "app is", "apps are"),
            idle
        ));
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Error::JobFailed {
        what: format!("rolling the apps of {stack}"),
        detail: format!("{} failed", format::count(failed, "app", "apps")),
    })
}
