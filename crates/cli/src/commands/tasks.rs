//! `paas run` and `paas tasks`: one-off runs of an app's droplet.

use super::show_list;
use crate::actor::{Cx, InFlight, Target};
use crate::args::app::{Run, Tasks, TasksCommand};
use crate::client::stream::{EventStream, Item};
use crate::client::wire::{App, Task, parse_time};
use crate::errors::Error;
use crate::ui::table::Table;
use crate::ui::{HEARTBEAT, LogLines, format};
use serde_json::json;
use std::time::{Duration, Instant};

/// The last lines of a task come within this time after its end.
const LAST_LINES: Duration = Duration::from_millis(700);

/// Starts a task and stays with it to its end.
pub async fn run(cx: &Cx, args: Run) -> Result<(), Error> {
    cx.ui
        .doing(&format!("Running a task of {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let mut body = json!({"command": args.command.join(" ")});
    if let Some(name) = &args.name {
        body["name"] = json!(name);
    }
    if let Some(memory) = args.memory.as_deref().map(model::limits::parse_megabytes) {
        body["memory_in_mb"] = json!(memory.map_err(Error::usage)?);
    }
    // Opened before the task is made: nothing of it can be missed.
    let mut stream = target.client.stream(&app.guid, true, None).await?;
    let task = target.client.create_task(&app.guid, body).await?;
    cx.ui
        .say_plain(&format!("task {} ({}) is begun", task.sequence_id, task.name));
    if args.detach {
        shown(cx, &task);
        cx.ui.tip(&format!("look after it with `paas tasks {}`", app.name));
        return Ok(());
    }
    cx.set_in_flight(Some(InFlight {
        client: target.client.clone(),
        what: format!("task {} of {}", task.sequence_id, app.name),
        resume: format!("paas tasks {}", app.name),
        deployment: None,
    }));
    let ended = follow(cx, &target, &app, &task, &mut stream, args.timeout).await?;
    cx.set_in_flight(None);
    shown(cx, &ended);
    if ended.state == "SUCCEEDED" {
        Ok(())
    } else {
        Err(Error::TaskFailed {
            app: app.name,
            sequence: ended.sequence_id,
            reason: ended.reason().unwrap_or("no reason is known").to_owned(),
        })
    }
}

/// Shows what the task logs until it ends.
async fn follow(
    cx: &Cx,
    target: &Target,
    app: &App,
    task: &Task,
    stream: &mut EventStream,
    timeout: Duration,
) -> Result<Task, Error> {
    let begun = Instant::now();
    let deadline = begun + timeout;
    let source = format!("APP/TASK/{}", task.name);
    let mut over = false;
    loop {
        let wait = if over { LAST_LINES } else { HEARTBEAT };
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(deadline.into()) => return Err(Error::TimedOut {
                what: format!("waiting for task {}", task.sequence_id),
                seconds: timeout.as_secs(),
                resume: Some(format!("paas tasks {}", app.name)),
            }),
            item = stream.next() => match item? {
                Item::Log(line) if line.source_type == source => cx.ui.log_line(&LogLines::from(line)),
                Item::Event(event) if event.kind == "task.finished" && event.data["task"] == task.guid.as_str() => over = true,
                Item::Resumed => over = target.client.task(&task.guid).await?.is_over(),
                Item::Log(_) | Item::Event(_) => {}
            },
            () = tokio::time::sleep(wait) => {
                let now = target.client.task(&task.guid).await?;
                if over || now.is_over() {
                    return Ok(now);
                }
                cx.ui.heartbeat(&format!("task {}", task.sequence_id), begun, Some(timeout));
            }
        }
    }
}

fn shown(cx: &Cx, task: &Task) {
    if cx.ui.json() {
        cx.ui.document(&json!({"task": task}));
    } else if task.is_over() {
        cx.ui
            .say_plain(&format!("task {} {}", task.sequence_id, task.state.to_lowercase()));
    } else {
        cx.ui.out_line(&task.sequence_id.to_string());
    }
}

/// Lists the tasks of an app, or cancels one.
pub async fn tasks(cx: &Cx, args: Tasks) -> Result<(), Error> {
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    if let Some(TasksCommand::Cancel { number }) = args.command {
        return cancel(cx, &target, &app, number).await;
    }
    cx.ui
        .doing(&format!("Getting tasks of {} in {}", app.name, target.place()));
    let tasks = target.client.tasks(&app.guid).await?;
    show_list(
        &cx.ui,
        &args.listing,
        &tasks,
        |task| task.name.clone(),
        |_| table(&tasks),
        "no task yet: begin one with `paas run`",
    );
    Ok(())
}

async fn cancel(cx: &Cx, target: &Target, app: &App, number: u32) -> Result<(), Error> {
    cx.ui.doing(&format!(
        "Cancelling task {number} of {} in {}",
        app.name,
        target.place()
    ));
    let tasks = target.client.tasks(&app.guid).await?;
    let task = tasks.iter().find(|task| task.sequence_id == number);
    let numbers: Vec<String> = tasks.iter().map(|task| task.sequence_id.to_string()).collect();
    let task = task.ok_or_else(|| crate::actor::missing("task", &number.to_string(), &app.name, &numbers))?;
    let task = target.client.cancel_task(&task.guid).await?;
    if cx.ui.json() {
        cx.ui.document(&json!({"task": task}));
    } else {
        cx.ui.out_line(&format!("task {number} is being cancelled"));
    }
    Ok(())
}

fn table(tasks: &[Task]) -> Table {
    let mut table = Table::new(&["number", "name", "state", "started", "command", "reason"]).right(0);
    for task in tasks {
        let at = parse_time(&task.created_at).map_or_else(|| task.created_at.clone(), format::instant);
        table.row([
            task.sequence_id.to_string(),
            format::harmless(&task.name),
            task.state.to_lowercase(),
            at,
            format::harmless(task.command.as_deref().unwrap_or_default()),
            format::harmless(task.reason().unwrap_or_default()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_show_how_they_ended() {
        let task = |number: u32, state: &str, reason: Option<&str>| -> Task {
            serde_json::from_value(json!({
                "guid": "g", "sequence_id": number, "name": "migrate", "state": state, "command": "rake db:migrate",
                "created_at": "2026-11-23T10:00:00Z", "result": {"failure_reason": reason},
            }))
            .expect("reads")
        };
        let tasks = [
            task(2, "RUNNING", None),
            task(1, "FAILED", Some("Exited with status 3")),
        ];
        assert!(!tasks[0].is_over() && tasks[1].is_over());
        let text = table(&tasks).render(true, None);
        assert!(
            text.contains("failed") && text.contains("Exited with status 3"),
            "{text}"
        );
    }
}
