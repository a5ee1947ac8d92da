//! Watches one push through the app's event stream, until the true outcome of each step is known.
//!
//! Events drive it. Only where a connection was lost, or nothing was heard for a while, the state is asked for once.

use super::super::Cx;
use super::track::Track;
use crate::client::Client;
use crate::client::stream::{EventStream, Item};
use crate::client::v3::guid_of;
use crate::client::wire::{App, Build, Deployment, Package, StreamEvent};
use crate::errors::{Deploy, Error, Staging};
use crate::ui::{HEARTBEAT, LogLines, Phase, format};
use api::cell::LogLine;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Last lines of an app that are shown where its deployment fails.
const TAIL: usize = 12;
/// After a failure, lines that are still on their way are waited for, until none came for this long.
const QUIET: Duration = Duration::from_millis(200);
/// Without any news of a step for this long its state is asked for, in case an event was never sent.
const SAFETY_NET: Duration = Duration::from_secs(20);

/// A droplet that was made, or found.
pub struct Staged {
    pub droplet: String,
    pub reused: bool,
}

/// What ends a wait: an event that says so, or that the state should be looked at.
enum News {
    Event(StreamEvent),
    Look,
}

/// Watches one app.
pub struct Follow {
    cx: Cx,
    client: Client,
    app: App,
    stream: EventStream,
    track: Track,
    deadline: Instant,
    timeout: Duration,
    tail: VecDeque<String>,
    last_crash: Option<String>,
    last_news: Instant,
}

impl Follow {
    /// Watches `app` by `stream` until `timeout` after `started`.
    pub fn new(
        cx: Cx,
        client: Client,
        app: App,
        stream: EventStream,
        track: Track,
        started: Instant,
        timeout: Duration,
    ) -> Self {
        Self {
            cx,
            client,
            app,
            stream,
            track,
            deadline: started + timeout,
            timeout,
            tail: VecDeque::new(),
            last_crash: None,
            last_news: Instant::now(),
        }
    }

    /// Time since the push began.
    pub fn elapsed(&self) -> Duration {
        self.track.elapsed()
    }

    /// The phases so far.
    pub fn track_mut(&mut self) -> &mut Track {
        &mut self.track
    }

    /// The phases.
    pub fn into_track(self) -> Track {
        self.track
    }

    /// Waits until a package can be staged.
    ///
    /// # Errors
    /// Where it can't be used.
    pub async fn package_ready(&mut self, package: &Package) -> Result<(), Error> {
        let mut package = package.clone();
        let since = Instant::now();
        loop {
            match package.state.as_str() {
                "READY" => return Ok(()),
                "FAILED" | "EXPIRED" => {
                    let detail = package
                        .data
                        .get("error")
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned();
                    return Err(Error::PackageFailed {
                        app: self.app.name.clone(),
                        detail,
                    });
                }
                _ => {}
            }
            match self.news("the package to be put together", since, None).await? {
                News::Event(event) if event.kind.starts_with("package.") => {}
                News::Event(_) => continue,
                News::Look => {}
            }
            package = self.client.package(&package.guid).await?;
        }
    }

    /// Waits for the end of a build.
    ///
    /// # Errors
    /// Where it failed, with what the builder said of it.
    pub async fn staged(&mut self, build: &Build) -> Result<Staged, Error> {
        let since = self.elapsed();
        let phase = self.cx.ui.phase("stage", "waiting for a place to build");
        let begun = Instant::now();
        let outcome = self.build_outcome(build, begun, &phase).await;
        if outcome.is_err() {
            self.drain().await;
        }
        let staged = outcome?;
        let text = if staged.reused {
            "an equal earlier build is used"
        } else {
            "built"
        };
        let took = phase.done(text);
        self.track.local("stage", since, took);
        Ok(staged)
    }

    async fn build_outcome(&mut self, build: &Build, begun: Instant, phase: &Phase) -> Result<Staged, Error> {
        if let Some(outcome) = self.build_state(build) {
            return outcome;
        }
        loop {
            match self.news("the build", begun, Some(phase)).await? {
                News::Event(event) if event.text("build").is_some_and(|guid| guid != build.guid) => {}
                News::Event(event) => match event.kind.as_str() {
                    "build.staged" => {
                        let reused = event.data.get("reused").and_then(Value::as_bool).unwrap_or(false);
                        if let Some(droplet) = event.text("droplet") {
                            return Ok(Staged {
                                droplet: droplet.to_owned(),
                                reused,
                            });
                        }
                        let build = self.client.build(&build.guid).await?;
                        if let Some(outcome) = self.build_state(&build) {
                            return outcome;
                        }
                    }
                    "build.failed" => {
                        return Err(staging_error(
                            &self.app.name,
                            event.data.get("error").unwrap_or(&Value::Null),
                        ));
                    }
                    _ => {}
                },
                News::Look => {
                    let build = self.client.build(&build.guid).await?;
                    if let Some(outcome) = self.build_state(&build) {
                        return outcome;
                    }
                }
            }
        }
    }

    fn build_state(&self, build: &Build) -> Option<Result<Staged, Error>> {
        match build.state.as_str() {
            "STAGED" => guid_of(build.droplet.as_ref()).map(|droplet| {
                let reused = build.rest.get("reused").and_then(Value::as_bool).unwrap_or(false);
                Ok(Staged {
                    droplet: droplet.to_owned(),
                    reused,
                })
            }),
            "FAILED" => {
                let ours = build.rest.get("failure").filter(|failure| failure.is_object());
                let error = ours.or(build.error.as_ref()).unwrap_or(&Value::Null);
                Some(Err(staging_error(&self.app.name, error)))
            }
            _ => None,
        }
    }

    /// Waits for the end of a rollout, or the pause of a canary. `served_before` says whether the app ran when it began.
    ///
    /// # Errors
    /// Where it was cancelled or another took over.
    pub async fn deployed(&mut self, deployment: &Deployment, served_before: bool) -> Result<Deployment, Error> {
        let phase = self.cx.ui.phase("deploy", "waiting for new instances");
        let outcome = self.deployment_end(deployment, &phase).await;
        let ended = outcome?;
        match ended.status.reason.as_str() {
            "DEPLOYED" => {
                phase.done("the new version serves");
                Ok(ended)
            }
            "PAUSED" => {
                phase.done("the canary serves beside the version before, and waits");
                Ok(ended)
            }
            "SUPERSEDED" => Err(Error::Superseded {
                app: self.app.name.clone(),
            }),
            _ => {
                self.drain().await;
                let previous = ended
                    .rest
                    .get("previous_droplet")
                    .is_some_and(|droplet| !droplet.is_null());
                let cause = ended
                    .status
                    .error()
                    .or_else(|| self.last_crash.clone())
                    .unwrap_or_else(|| "it was cancelled".into());
                Err(Error::DeployFailed(Box::new(Deploy {
                    app: self.app.name.clone(),
                    cause,
                    previous_serves: served_before && previous,
                    log_tail: self.tail.iter().cloned().collect(),
                })))
            }
        }
    }

    /// The rollout in its last state, as the server has it.
    async fn deployment_end(&mut self, deployment: &Deployment, phase: &Phase) -> Result<Deployment, Error> {
        let begun = Instant::now();
        let mut deployment = deployment.clone();
        while !deployment.status.is_final() && !deployment.status.is_paused() {
            match self.news("the new instances", begun, Some(phase)).await? {
                News::Event(event)
                    if matches!(event.kind.as_str(), "deployment.finished" | "deployment.paused")
                        && event.text("deployment").is_none_or(|guid| guid == deployment.guid) => {}
                News::Event(_) => continue,
                News::Look => {}
            }
            deployment = self.client.deployment(&deployment.guid).await?;
        }
        Ok(deployment)
    }

    /// The next event, with its line of progress shown; or the advice to look at the state.
    async fn news(&mut self, awaited: &str, begun: Instant, phase: Option<&Phase>) -> Result<News, Error> {
        loop {
            let tick = tokio::time::sleep(HEARTBEAT);
            let deadline = tokio::time::sleep_until(self.deadline.into());
            tokio::select! {
                biased;
                () = deadline => return Err(self.timed_out(awaited)),
                item = self.stream.next() => match item? {
                    Item::Event(event) => {
                        self.last_news = Instant::now();
                        self.show(&event, phase);
                        return Ok(News::Event(event));
                    }
                    Item::Log(line) => self.line(line),
                    Item::Resumed => {
                        self.cx.ui.say("the connection is back");
                        return Ok(News::Look);
                    }
                },
                () = tick => {
                    let limit = self.deadline.saturating_duration_since(begun);
                    self.cx.ui.heartbeat(awaited, begun, Some(limit));
                    if self.last_news.elapsed() > SAFETY_NET {
                        self.last_news = Instant::now();
                        return Ok(News::Look);
                    }
                }
            }
        }
    }

    fn timed_out(&self, awaited: &str) -> Error {
        Error::TimedOut {
            what: format!("waiting for {awaited}"),
            seconds: self.timeout.as_secs(),
            resume: Some(format!("paas deploy attach {}", self.app.name)),
        }
    }

    fn show(&mut self, event: &StreamEvent, phase: Option<&Phase>) {
        self.track.event(event);
        let Some(text) = describe(event) else { return };
        if event.kind == "build.unplaced" {
            // Whoever waits should know for what.
            self.cx.ui.warn(&format::harmless(&text));
        } else if event.kind == "app.crash" {
            self.last_crash = event.text("cause").map(str::to_owned).or_else(|| Some(text.clone()));
            self.cx.ui.warn(&format::harmless(&text));
        } else {
            self.cx.ui.detail(&text);
            if let Some(phase) = phase {
                phase.status(&text);
            }
        }
    }

    fn line(&mut self, line: LogLine) {
        let line = LogLines::from(line);
        if line.source_type == "STG" {
            self.cx.ui.build_line(&line);
            return;
        }
        if line.source_type.starts_with("APP") {
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            self.tail.push_back(line.text.clone());
        }
        self.cx.ui.detail(&format!(
            "[{}/{}] {}",
            line.source_type,
            line.instance,
            format::harmless(&line.text)
        ));
    }

    /// Shows lines that were on their way when the end came.
    async fn drain(&mut self) {
        let end = Instant::now() + 5 * QUIET;
        while Instant::now() < end {
            match tokio::time::timeout(QUIET, self.stream.next()).await {
                Ok(Ok(Item::Log(line))) => self.line(line),
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

/// An event in words; `None` where it means nothing to a person.
pub fn describe(event: &StreamEvent) -> Option<String> {
    let number = |name: &str| event.data.get(name).and_then(Value::as_u64);
    let instance = || format!("instance {}", number("index").unwrap_or(0));
    let cell = event
        .text("cell")
        .map_or_else(String::new, |cell| format!(" on cell {cell}"));
    Some(match event.kind.as_str() {
        "build.placed" => format!("building{cell}"),
        "build.unplaced" => {
            let change = event.text("smallest_change").filter(|change| !change.is_empty());
            let change = change.map_or_else(String::new, |change| format!("; {change}"));
            format!(
                "the build waits: {}{change}",
                event.text("reason").unwrap_or("no cell takes it")
            )
        }
        "build.phase" => {
            let took = Duration::from_millis(number("duration_ms").unwrap_or(0));
            format!(
                "{} took {}",
                event.text("name").unwrap_or("a phase"),
                format::duration(took)
            )
        }
        "instance.placed" => format!("{} placed{cell}", instance()),
        "instance.preparing" => format!("{} gets its files", instance()),
        "instance.starting" => format!("{} started, waiting for its health check", instance()),
        "instance.running" => format!("{} is healthy", instance()),
        "instance.routed" => format!("{} gets requests", instance()),
        "instance.draining" => format!("{} of the old version finishes its requests", instance()),
        "instance.drained" => format!("{} of the old version has none left", instance()),
        "instance.lost" => format!("{} was lost with its cell; it starts elsewhere", instance()),
        "instance.stopped" => format!("{} stopped", instance()),
        "deployment.paused" => format!(
            "step {} of {} of the canary is reached",
            number("step").unwrap_or(1),
            number("steps").unwrap_or(1)
        ),
        "app.crash" => {
            let cause = event
                .text("cause")
                .or_else(|| event.text("exit_description"))
                .unwrap_or("it ended");
            let count = number("crash_count").map_or_else(String::new, |count| format!(" (crash {count})"));
            format!("{} crashed: {cause}{count}", instance())
        }
        _ => return None,
    })
}

/// A staging failure as the server words it: our own form, or CF's `Class - text`.
fn staging_error(app: &str, error: &Value) -> Error {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let staging = match error {
        Value::String(flat) => {
            let (class, title) = flat.split_once(" - ").unwrap_or(("StagingError", flat));
            Staging {
                app: app.to_owned(),
                class: class.to_owned(),
                title: title.to_owned(),
                cause: String::new(),
                remedy: String::new(),
            }
        }
        _ => Staging {
            app: app.to_owned(),
            class: Some(text("class"))
                .filter(|class| !class.is_empty())
                .unwrap_or_else(|| "StagingError".into()),
            title: text("title"),
            cause: text("cause"),
            remedy: text("remedy"),
        },
    };
    Error::StagingFailed(Box::new(staging))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_of_a_staging_failure_are_understood() {
        let ours = json!({"class": "BuildpackCompileFailed", "title": "npm ci failed", "cause": "c", "remedy": "r"});
        let theirs = json!("NoAppDetectedError - no buildpack matched");
        let report = staging_error("shop", &ours).report();
        assert_eq!(
            (report.code.as_str(), report.cause.as_deref(), report.hint.as_deref()),
            ("BuildpackCompileFailed", Some("c"), Some("r"))
        );
        let report = staging_error("shop", &theirs).report();
        assert_eq!(report.code, "NoAppDetectedError");
        assert!(report.message.contains("no buildpack matched") && report.hint.is_some());
        assert_eq!(staging_error("shop", &Value::Null).report().code, "StagingError");
    }

    #[test]
    fn a_crash_is_told_with_its_cause() {
        let event = StreamEvent {
            sequence: 1,
            kind: "app.crash".into(),
            data: json!({"index": 2, "cause": "Exited with status 1", "crash_count": 3}),
            created_at: String::new(),
        };
        assert_eq!(
            describe(&event).as_deref(),
            Some("instance 2 crashed: Exited with status 1 (crash 3)")
        );
    }
}
