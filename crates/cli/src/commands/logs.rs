//! `paas logs`.

use crate::actor::Cx;
use crate::args::app::Logs;
use crate::client::Client;
use crate::client::logs::MAX_LINES;
use crate::client::stream::Item;
use crate::errors::Error;
use crate::ui::{HEARTBEAT, LogLines};
use std::time::{SystemTime, UNIX_EPOCH};

/// From this long before the newest line shown new ones are asked for, in nanoseconds.
const SEAM_NS: i64 = 1_000_000_000;
/// Lines before the new ones where nothing is said.
const CONTEXT: u32 = 20;

/// Shows the log.
pub async fn run(cx: &Cx, args: Logs) -> Result<(), Error> {
    if !cx.ui.json() {
        cx.ui
            .doing(&format!("Getting the log of {} in {}", args.app, cx.place()));
    }
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let since = args.since.map(|since| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.saturating_sub(since).as_nanos()).unwrap_or(0)
    });
    let default = if args.recent || since.is_some() {
        MAX_LINES
    } else {
        CONTEXT
    };
    let lines = target
        .client
        .recent_logs(&app.guid, args.lines.unwrap_or(default), since)
        .await?;
    lines
        .iter()
        .filter(|line| wanted(&args, line))
        .for_each(|line| cx.ui.log_line(line));
    if args.recent {
        if lines.is_empty() {
            cx.ui.tip("nothing was written yet");
        }
        return Ok(());
    }
    follow(cx, &target.client, &app.guid, &args, &lines).await
}

/// Shows new lines until the user has enough. Those that were `shown` already are not shown again.
async fn follow(cx: &Cx, client: &Client, app: &str, args: &Logs, shown: &[LogLines]) -> Result<(), Error> {
    // Instances' clocks differ a little: from the newest line on alone, one of another instance could be missed.
    let last = shown.last().map(|line| line.ts_ns - SEAM_NS);
    let mut stream = client.stream(app, true, last).await?;
    while !cx.ui.closed() {
        match tokio::time::timeout(HEARTBEAT, stream.next()).await {
            Ok(item) => match item? {
                Item::Log(line) => {
                    let line = LogLines::from(line);
                    if wanted(args, &line) && !shown.contains(&line) {
                        cx.ui.log_line(&line);
                    }
                }
                Item::Resumed => cx.ui.warn("the connection was lost and is back; no line is missing"),
                Item::Event(_) => {}
            },
            Err(_) => cx.ui.detail("no new lines"),
        }
    }
    Ok(())
}

fn wanted(args: &Logs, line: &LogLines) -> bool {
    let source = args
        .source
        .as_ref()
        .is_none_or(|source| line.source_type.to_uppercase().starts_with(&source.to_uppercase()));
    let instance = args.instance.is_none_or(|index| line.instance == index.to_string());
    source && instance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser as _;

    #[test]
    fn lines_are_chosen_by_source_and_instance() {
        let parse = |args: &[&str]| match Cli::try_parse_from(["paas", "logs", "a"].iter().chain(args))
            .expect("parses")
            .command
        {
            Command::Logs(logs) => logs,
            _ => panic!("not logs"),
        };
        let line = |source: &str, instance: &str| LogLines {
            ts_ns: 0,
            source_type: source.into(),
            instance: instance.into(),
            err: false,
            text: String::new(),
        };
        let args = parse(&["--source", "app", "--instance", "1"]);
        assert!(wanted(&args, &line("APP/PROC/WEB", "1")));
        assert!(!wanted(&args, &line("APP/PROC/WEB", "0")));
        assert!(!wanted(&args, &line("STG", "1")));
        assert!(wanted(&parse(&[]), &line("STG", "0")));
    }
}
