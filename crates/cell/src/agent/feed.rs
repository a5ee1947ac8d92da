//! Keeps the cell registered and its feed open: what comes is handed on, what breaks is opened again.

use super::client::{Client, Failure};
use crate::core::Core;
use crate::error::{blocking, chain};
use api::cell::{Down, Registered};
use futures_util::StreamExt as _;
use model::resource::CellInfo;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Time to the second try; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest time between two tries.
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// Failures in a row that are told once more.
const TELL_EVERY: u32 = 30;

/// From the feed to the agent.
#[derive(Debug)]
pub(super) enum Heard {
    /// The cell is registered and a new feed is open: everything is to be reported anew.
    Connected(Registered),
    /// A message.
    Down(Down),
}

/// Keeps the feed open until nobody listens.
pub(super) async fn follow(core: Arc<Core>, mut info: CellInfo, heard: mpsc::Sender<Heard>) {
    let mut pause = FIRST_PAUSE;
    let mut failures: u32 = 0;
    loop {
        let stacks = core.stacks.clone();
        if let Ok(names) = blocking(move || stacks.names()).await {
            info.stacks = names;
        }
        let failure = match connect(&core.client, &info, &heard).await {
            Ok(failure) => {
                (pause, failures) = (FIRST_PAUSE, 0);
                failure
            }
            Err(failure) => failure,
        };
        if heard.is_closed() {
            return;
        }
        // Whatever ended it, another controller may know more.
        core.client.elsewhere();
        if failures.is_multiple_of(TELL_EVERY) {
            tracing::warn!(error = %chain(&failure), failures, "the feed of the controller broke, opening it again");
        }
        failures = failures.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = heard.closed() => return,
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Registers, opens the feed and hands on what comes. `Ok` with why it ended, where it was open.
async fn connect(client: &Client, info: &CellInfo, heard: &mpsc::Sender<Heard>) -> Result<Failure, Failure> {
    let registered = client.register(info).await?;
    let feed = client.feed().await?;
    tokio::pin!(feed);
    if heard.send(Heard::Connected(registered)).await.is_err() {
        return Ok(Failure::Ended);
    }
    while let Some(message) = feed.next().await {
        match message {
            Ok(Down::Ping) => {}
            Ok(message) => {
                if heard.send(Heard::Down(message)).await.is_err() {
                    break;
                }
            }
            Err(failure) => return Ok(failure),
        }
    }
    Ok(Failure::Ended)
}
