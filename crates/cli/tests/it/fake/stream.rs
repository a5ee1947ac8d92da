//! The fake's event stream, which can be cut.

use super::{FakeController, Params};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

/// Where a reader of the stream is.
struct Reader {
    fake: FakeController,
    grown: watch::Receiver<usize>,
    next: usize,
    since: i64,
    log_since: Option<i64>,
    from_start: usize,
    left: Option<usize>,
}

pub(super) async fn stream(State(fake): State<FakeController>, Query(query): Params, _headers: HeaderMap) -> Response {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<i64>().ok());
    let (newest, length, cut) = fake.world(|world| {
        let newest = world
            .feed
            .iter()
            .filter(|(kind, ..)| *kind == "event")
            .map(|(_, sequence, _)| *sequence)
            .max();
        (
            newest.unwrap_or(0),
            world.feed.len(),
            world.plan.cut_stream_after.take(),
        )
    });
    let reader = Reader {
        grown: fake.grown.subscribe(),
        since: number("since").unwrap_or(newest),
        log_since: number("log_since_ns"),
        next: 0,
        from_start: length,
        left: cut,
        fake,
    };
    let hello = format!("event: hello\ndata: {{\"sequence\":{newest}}}\n\n");
    let rest = futures_util::stream::unfold(reader, |mut reader| async move {
        reader.read().await.map(|text| (text, reader))
    });
    let all = futures_util::StreamExt::chain(futures_util::stream::iter([hello]), rest);
    let all = futures_util::StreamExt::map(all, Ok::<_, std::io::Error>);
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(all)).into_response()
}

impl Reader {
    async fn read(&mut self) -> Option<String> {
        loop {
            if self.left == Some(0) {
                return None;
            }
            let item = self.fake.world(|world| world.feed.get(self.next).cloned());
            let Some((kind, number, data)) = item else {
                self.grown.changed().await.ok()?;
                continue;
            };
            self.next += 1;
            let wanted = match kind {
                "event" => number > self.since,
                "log" => self
                    .log_since
                    .map_or(self.next > self.from_start, |since| number > since),
                _ => false,
            };
            if !wanted {
                continue;
            }
            if let Some(left) = &mut self.left {
                *left -= 1;
            }
            return Some(format!("event: {kind}\ndata: {data}\n\n"));
        }
    }
}
