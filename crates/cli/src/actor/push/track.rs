//! When each phase of a push began and how long it took, from this side's own clock and from the server's events.
//!
//! Pure: events in, spans out. The server's clock is set against ours by the event that travelled fastest.

use crate::client::wire::StreamEvent;
use crate::ui::waterfall::Span;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// The phases of one push.
#[derive(Debug)]
pub struct Track {
    started: Instant,
    local: Vec<Span>,
    build: Vec<(String, u64)>,
    marks: Vec<Mark>,
}

/// An event of the server.
#[derive(Debug)]
struct Mark {
    kind: String,
    at: OffsetDateTime,
    /// Since the push began, by our clock.
    arrived: Duration,
}

impl Track {
    /// A push that began at `started`.
    pub fn new(started: Instant) -> Self {
        Self {
            started,
            local: Vec::new(),
            build: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Time since the push began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A phase on this side.
    pub fn local(&mut self, name: &str, start: Duration, took: Duration) {
        self.local.push(span(name, millis(start), millis(took)));
    }

    /// An event of the server.
    pub fn event(&mut self, event: &StreamEvent) {
        let arrived = self.elapsed();
        self.event_at(event, arrived);
    }

    fn event_at(&mut self, event: &StreamEvent, arrived: Duration) {
        if event.kind == "build.phase" {
            let ms = event
                .data
                .get("duration_ms")
                .and_then(serde_json::Value::as_u64)
                .unwrap_or(0);
            self.build.push((event.text("name").unwrap_or("build").to_owned(), ms));
        }
        if let Some(at) = event.at() {
            self.marks.push(Mark {
                kind: event.kind.clone(),
                at,
                arrived,
            });
        }
    }

    /// The phases in the order in which they began.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self.local.clone();
        spans.extend(self.server_spans());
        let stage = spans.iter().position(|span| span.name == "stage");
        let mut spans = match stage {
            Some(index) => self.with_build(spans, index),
            None => spans,
        };
        // Parts stay behind the phase that they belong to.
        let mut order = 0;
        let mut keys = Vec::new();
        for span in &spans {
            if !span.name.starts_with(' ') {
                order = span.start_ms;
            }
            keys.push(order);
        }
        let mut indexed: Vec<(u64, usize)> = keys.into_iter().zip(0..).collect();
        indexed.sort_unstable();
        let sorted = indexed.iter().map(|(_, index)| spans[*index].clone()).collect();
        spans = sorted;
        spans
    }

    /// Puts the parts of the build behind the phase `stage`, laid out one after the other from its placement on.
    fn with_build(&self, mut spans: Vec<Span>, stage: usize) -> Vec<Span> {
        let mut from = self
            .first("build.placed")
            .map_or(spans[stage].start_ms, |at| self.offset(at));
        let mut parts = Vec::new();
        for (name, ms) in &self.build {
            parts.push(span(&format!("  {name}"), from, *ms));
            from += ms;
        }
        spans.splice(stage + 1..stage + 1, parts);
        spans
    }

    fn server_spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        let created = self.first("deployment.created");
        for (name, from, until) in [
            ("place", created, self.last("instance.placed")),
            ("start", self.first("instance.placed"), self.last("instance.starting")),
            (
                "healthy",
                self.first("instance.starting"),
                self.last("instance.running"),
            ),
            ("routed", self.first("instance.running"), self.last("instance.routed")),
            (
                "drained",
                self.first("instance.draining"),
                self.last("instance.drained"),
            ),
        ] {
            if let (Some(from), Some(until)) = (from, until)
                && until >= from
            {
                spans.push(span(
                    name,
                    self.offset(from),
                    u64::try_from((until - from).whole_milliseconds()).unwrap_or(0),
                ));
            }
        }
        spans
    }

    fn first(&self, kind: &str) -> Option<OffsetDateTime> {
        self.marks
            .iter()
            .filter(|mark| mark.kind == kind)
            .map(|mark| mark.at)
            .min()
    }

    fn last(&self, kind: &str) -> Option<OffsetDateTime> {
        self.marks
            .iter()
            .filter(|mark| mark.kind == kind)
            .map(|mark| mark.at)
            .max()
    }

    /// Since the push began, in milliseconds, for an instant by the server's clock.
    fn offset(&self, at: OffsetDateTime) -> u64 {
        let base = self
            .marks
            .iter()
            .map(|mark| mark.at - time::Duration::try_from(mark.arrived).unwrap_or_default())
            .max();
        base.map_or(0, |base| u64::try_from((at - base).whole_milliseconds()).unwrap_or(0))
    }
}

fn span(name: &str, start_ms: u64, duration_ms: u64) -> Span {
    Span {
        name: name.to_owned(),
        start_ms,
        duration_ms,
        usual_ms: None,
    }
}

fn millis(duration: Duration) -> u64 {
    super::millis(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(kind: &str, ms: u32, data: serde_json::Value) -> StreamEvent {
        StreamEvent {
            sequence: i64::from(ms),
            kind: kind.into(),
            data,
            created_at: format!("2026-03-01T12:00:{:02}.{:03}Z", ms / 1000, ms % 1000),
        }
    }

    #[test]
    fn events_become_phases_by_our_clock() {
        let mut track = Track::new(Instant::now());
        let ms = Duration::from_millis;
        track.local("hash", ms(0), ms(20));
        track.local("upload", ms(20), ms(80));
        track.local("stage", ms(100), ms(1_000));
        // The server's clock is 5 s ahead; events take 3 ms to us, the fastest 1 ms.
        for (kind, at, delay, data) in [
            ("build.placed", 150, 3, json!({})),
            ("build.phase", 1_100, 3, json!({"name": "detect", "duration_ms": 100})),
            (
                "build.phase",
                1_100,
                3,
                json!({"name": "build node", "duration_ms": 700}),
            ),
            ("deployment.created", 1_110, 1, json!({})),
            ("instance.placed", 1_115, 3, json!({"index": 0})),
            ("instance.placed", 1_120, 3, json!({"index": 1})),
            ("instance.starting", 1_200, 3, json!({"index": 0})),
            ("instance.running", 1_500, 3, json!({"index": 0})),
            ("instance.routed", 1_510, 3, json!({"index": 0})),
        ] {
            track.event_at(&event(kind, at + 5_000, data), ms(u64::from(at) + delay));
        }
        let shown: Vec<_> = track
            .spans()
            .iter()
            .map(|s| format!("{} {}+{}", s.name, s.start_ms, s.duration_ms))
            .collect();
        assert_eq!(
            shown,
            [
                "hash 0+20",
                "upload 20+80",
                "stage 100+1000",
                "  detect 151+100",
                "  build node 251+700",
                "place 1111+10",
                "start 1116+85",
                "healthy 1201+300",
                "routed 1501+10",
            ]
        );
    }

    #[test]
    fn no_events_no_phases() {
        assert!(Track::new(Instant::now()).spans().is_empty());
    }
}
