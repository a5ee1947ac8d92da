//! Waits until as many instances of a process run as are wanted, or it is clear that they won't.

use super::{Cx, InFlight, Target};
use crate::client::stream::{EventStream, Item};
use crate::client::wire::{App, Instance, StreamEvent};
use crate::errors::Error;
use crate::ui::{HEARTBEAT, format};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Crashes of one instance after which it is taken as not coming up.
const CRASHES: u32 = 3;
/// Without news for this long the state is asked for, in case an event was never sent.
const SAFETY_NET: Duration = Duration::from_secs(20);

/// What is waited for.
pub struct Wanted<'a> {
    pub app: &'a App,
    pub process: &'a str,
    pub count: u32,
    pub timeout: Duration,
}

/// How many instances of an app there are, those included that are still stopping.
async fn live(target: &Target, app: &App) -> Result<usize, Error> {
    let why = target.client.why(&app.guid).await?;
    let processes = why["processes"].as_array().into_iter().flatten();
    let instances = processes.flat_map(|process| process["instances"].as_array().into_iter().flatten());
    // An instance without work only waits for its next start.
    Ok(instances.filter(|instance| !instance["work"].is_null()).count())
}

/// Waits until nothing of an app runs any more, by a stream that was opened before it was told to stop.
///
/// # Errors
/// Where the time is over.
pub async fn stopped(cx: &Cx, target: &Target, wanted: &Wanted<'_>, mut stream: EventStream) -> Result<(), Error> {
    let begun = Instant::now();
    let deadline = begun + wanted.timeout;
    let phase = cx.ui.phase("stop", "requests under way end, then the instances");
    loop {
        let left = live(target, wanted.app).await?;
        if left == 0 {
            phase.done("no instance runs");
            return Ok(());
        }
        let awaited = format!("{} to stop", format::count(left, "instance", "instances"));
        phase.status(&awaited);
        change(cx, wanted, &mut stream, &mut HashMap::new(), &awaited, begun, deadline).await?;
    }
}

/// Waits for `wanted`, by a stream that was opened before the change was made.
///
/// # Errors
/// Where an instance keeps crashing, or the time is over.
pub async fn settle(
    cx: &Cx,
    target: &Target,
    wanted: &Wanted<'_>,
    mut stream: EventStream,
) -> Result<Vec<Instance>, Error> {
    let begun = Instant::now();
    let deadline = begun + wanted.timeout;
    let phase = cx.ui.phase("scale", "waiting for instances");
    cx.set_in_flight(Some(InFlight {
        client: target.client.clone(),
        what: format!("the change of {}", wanted.app.name),
        resume: format!("paas app {}", wanted.app.name),
        deployment: None,
    }));
    let mut crashes: HashMap<u64, u32> = HashMap::new();
    loop {
        let stats = target.client.stats(wanted.process).await?;
        let running = stats.iter().filter(|instance| instance.state == "RUNNING").count();
        if running == wanted.count as usize && stats.len() == running {
            phase.done(&format!("{} running", format::count(running, "instance", "instances")));
            cx.set_in_flight(None);
            return Ok(stats);
        }
        let awaited = format!("instances: {running} of {} run", wanted.count);
        phase.status(&awaited);
        change(cx, wanted, &mut stream, &mut crashes, &awaited, begun, deadline).await?;
    }
}

/// Returns when something happened to an instance, or it is time to look.
async fn change(
    cx: &Cx,
    wanted: &Wanted<'_>,
    stream: &mut EventStream,
    crashes: &mut HashMap<u64, u32>,
    awaited: &str,
    begun: Instant,
    deadline: Instant,
) -> Result<(), Error> {
    let quiet_since = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(deadline.into()) => return Err(Error::TimedOut {
                what: format!("waiting for {awaited}"),
                seconds: wanted.timeout.as_secs(),
                resume: Some(format!("paas why {}", wanted.app.name)),
            }),
            item = stream.next() => match item? {
                Item::Event(event) if event.kind == "app.crash" => return crashed(cx, wanted, &event, crashes),
                Item::Event(event) if event.kind.starts_with("instance.") => return Ok(()),
                Item::Resumed => return Ok(()),
                Item::Event(_) | Item::Log(_) => {}
            },
            () = tokio::time::sleep(HEARTBEAT) => {
                cx.ui.heartbeat(awaited, begun, Some(wanted.timeout));
                if quiet_since.elapsed() > SAFETY_NET {
                    return Ok(());
                }
            }
        }
    }
}

fn crashed(cx: &Cx, wanted: &Wanted<'_>, event: &StreamEvent, crashes: &mut HashMap<u64, u32>) -> Result<(), Error> {
    let text = super::push::follow::describe(event).unwrap_or_default();
    cx.ui.warn(&format::harmless(&text));
    let index = event.data.get("index").and_then(serde_json::Value::as_u64).unwrap_or(0);
    let count = crashes.entry(index).or_default();
    *count += 1;
    if *count < CRASHES {
        return Ok(());
    }
    Err(Error::InstancesFailed {
        app: wanted.app.name.clone(),
        cause: text,
    })
}
