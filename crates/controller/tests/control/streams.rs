//! Log lines in, events and log lines out: none missing, none twice.

use crate::cell::FakeCell;
use crate::platform::{Controller, Folders, PATIENCE, until};
use crate::seed;
use api::cell::{LogBatch, LogLine};
use controller::events::{StreamQuery, stream};
use futures_util::StreamExt as _;
use model::id::{AppId, WorkId};
use store::on_both_engines;
use store::testing::TestStore;
use uuid::Uuid;

fn line(app: AppId, work: WorkId, ts_ns: i64, text: &str) -> LogLine {
    LogLine {
        work,
        app,
        ts_ns,
        source_type: "APP/PROC/WEB".to_owned(),
        instance: "0".to_owned(),
        err: false,
        text: text.to_owned(),
    }
}

fn stored(controller: &Controller, app: AppId) -> Vec<String> {
    let query = telemetry::applog::Query::newest(1000);
    let mut page = controller
        .control
        .context
        .logs
        .read(&app.to_string(), &query)
        .expect("read");
    page.envelopes.reverse();
    page.envelopes
        .iter()
        .map(|envelope| String::from_utf8_lossy(&envelope.payload).into_owned())
        .collect()
}

async fn lines_sent_twice_are_stored_once(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let (app, work) = (AppId(Uuid::now_v7()), WorkId(Uuid::now_v7()));
    let other = WorkId(Uuid::now_v7());
    let first = LogBatch {
        lines: vec![
            line(app, work, 10, "a"),
            line(app, work, 20, "b"),
            line(app, other, 15, "x"),
        ],
    };
    assert_eq!(cell.ship(&first).await, 204);
    assert_eq!(cell.ship(&first).await, 204);
    let second = LogBatch {
        lines: vec![line(app, work, 20, "b"), line(app, work, 30, "c")],
    };
    assert_eq!(cell.ship(&second).await, 204);
    assert_eq!(stored(&controller, app), ["a", "x", "b", "c"]);
    // A new controller has forgotten what it saw; the lines have not.
    cell.leave();
    let address = controller.kill().await;
    let again = Controller::start(store.again().await, &folders, Some(address)).await;
    let third = LogBatch {
        lines: vec![line(app, work, 30, "c"), line(app, work, 40, "d")],
    };
    assert_eq!(cell.ship(&third).await, 204);
    assert_eq!(stored(&again, app), ["a", "x", "b", "c", "d"]);
}

/// Reads a stream until it has `count` messages of the kinds.
async fn read(response: axum::response::Response, kinds: &[&str], count: usize) -> Vec<(String, serde_json::Value)> {
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    let mut messages = Vec::new();
    while messages.len() < count {
        let chunk = tokio::time::timeout(PATIENCE, body.next())
            .await
            .expect("in time")
            .expect("goes on")
            .expect("read");
        text.push_str(std::str::from_utf8(&chunk).expect("text"));
        while let Some(end) = text.find("\n\n") {
            let message: String = text.drain(..end + 2).collect();
            let field = |name: &str| {
                message
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_default()
            };
            let (kind, data) = (field("event: ").to_owned(), field("data: "));
            if kinds.contains(&kind.as_str()) {
                messages.push((kind, serde_json::from_str(data).expect("JSON")));
            }
        }
    }
    messages
}

async fn a_stream_has_every_event_once(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.join();
    let mut seed = seed::app(store, 4).await;
    let app = seed.app.id;
    let query = StreamQuery {
        since: Some(0),
        ..StreamQuery::default()
    };
    let early = stream(&controller.control, app, query.clone()).await.expect("opens");
    let early = tokio::spawn(read(early, &["event"], 9));
    seed.deploy(store, "good").await;
    let early: Vec<i64> = early
        .await
        .expect("read")
        .iter()
        .map(|(_, data)| data["sequence"].as_i64().expect("a number"))
        .collect();
    let all: Vec<i64> = until(store, "all events", || async {
        let events = store.events_since(Some(&app.to_string()), 0, 1000).await.expect("read");
        (events.iter().any(|event| event.kind == "deployment.finished"))
            .then(|| events.iter().map(|event| event.sequence).collect())
    })
    .await;
    assert_eq!(early, all[..9]);
    // From the middle on, as a client that was cut off asks.
    let query = StreamQuery {
        since: Some(all[4]),
        ..query
    };
    let late = stream(&controller.control, app, query).await.expect("opens");
    let late = read(late, &["hello", "event"], all.len() - 4).await;
    assert_eq!(late[0].0, "hello");
    let late: Vec<i64> = late[1..]
        .iter()
        .map(|(_, data)| data["sequence"].as_i64().expect("a number"))
        .collect();
    assert_eq!(late, all[5..]);
}

async fn a_stream_has_the_log_from_where_it_was_left(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let cell = FakeCell::new(&controller.url(), "a", 4096);
    let (app, work) = (AppId(Uuid::now_v7()), WorkId(Uuid::now_v7()));
    cell.ship(&LogBatch {
        lines: vec![line(app, work, 10, "a"), line(app, work, 20, "b")],
    })
    .await;
    let query = StreamQuery {
        logs: true,
        log_since_ns: Some(10),
        ..StreamQuery::default()
    };
    let response = stream(&controller.control, app, query).await.expect("opens");
    let reading = tokio::spawn(read(response, &["log"], 3));
    cell.ship(&LogBatch {
        lines: vec![line(app, work, 30, "c"), line(app, work, 40, "d")],
    })
    .await;
    let texts: Vec<String> = reading
        .await
        .expect("read")
        .iter()
        .map(|(_, data)| data["text"].as_str().expect("a text").to_owned())
        .collect();
    assert_eq!(texts, ["b", "c", "d"]);
}

async fn what_builds_said_stays_when_the_app_s_log_is_gone(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 4096);
    cell.inside.lock().hold_builds = true;
    cell.join();
    let seed = seed::app(store, 0).await;
    let build = seed.build(store).await;
    let work = until(store, "the build's work", || async { cell.builds().first().copied() }).await;
    let now = i64::try_from(crate::platform::now().unix_timestamp_nanos()).expect("this century");
    let staging = LogLine {
        source_type: "STG".to_owned(),
        ..line(seed.app.id, work, now, "-----> building")
    };
    let lines = vec![
        staging,
        line(seed.app.id, WorkId(Uuid::now_v7()), now + 1, "an instance"),
    ];
    assert_eq!(cell.ship(&LogBatch { lines }).await, 204);
    cell.end(work, model::work::Cause::Exited { code: 0 }, Some(crate::cell::built()));
    crate::platform::event(store, seed.app.id, "build.staged", 0).await;
    let logs = &controller.control.context.logs;
    logs.remove(&seed.app.id.to_string()).expect("removed");
    let ended = store.build_fetch(build.id).await.expect("read").expect("there");
    let history = controller::events::history(&controller.control, &ended)
        .await
        .expect("read");
    let texts: Vec<&str> = history.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["-----> building"]);
    let last = history.phases.last().expect("phases");
    assert_eq!((last.name.as_str(), last.duration_ms), ("detect", 3));
    assert!(history.waiting.is_none());
}

async fn a_build_that_no_cell_takes_says_what_it_waits_for(store: &TestStore) {
    let folders = Folders::new();
    let controller = Controller::start(store.store.clone(), &folders, None).await;
    let mut cell = FakeCell::new(&controller.url(), "a", 64);
    cell.join();
    let seed = seed::app(store, 0).await;
    let build = seed.build(store).await;
    crate::platform::event(store, seed.app.id, "build.unplaced", 0).await;
    let history = until(store, "the reason", || async {
        let history = controller::events::history(&controller.control, &build).await;
        history.ok().filter(|history| history.waiting.is_some())
    })
    .await;
    let waiting = history.waiting.expect("just seen");
    assert!(waiting.reason.contains("memory"), "{}", waiting.reason);
}

on_both_engines!(
    what_builds_said_stays_when_the_app_s_log_is_gone,
    a_build_that_no_cell_takes_says_what_it_waits_for,
    lines_sent_twice_are_stored_once,
    a_stream_has_every_event_once,
    a_stream_has_the_log_from_where_it_was_left,
);
