//! An app's events and log lines as they happen, by server-sent events. A dropped connection is made anew from the last
//! event seen; lines that come twice are dropped. What the stream means is not known here.

use super::http::{Client, refusal};
use super::session::reason;
use super::wire::StreamEvent;
use super::{AWAY, CONNECT};
use crate::errors::Error;
use ::http::StatusCode;
use api::cell::LogLine;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The server sends something at least every 5 s; a connection that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(15);
/// Time for the first message of a connection.
const OPEN: Duration = Duration::from_secs(10);
/// Longest message, in bytes.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// After a break, log lines are asked for from this long before the newest seen: works' clocks differ a little.
const OVERLAP_NS: i64 = 2_000_000_000;

/// Lines that are remembered to know those that come twice: more than the overlap has at the highest log rate.
const SEEN: usize = 50_000;

/// What the stream brings.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Event(StreamEvent),
    Log(LogLine),
    /// The connection was made anew: what is known of the state should be checked once.
    Resumed,
}

/// An app's stream. [`EventStream::next`] is safe to abandon: nothing is lost.
pub struct EventStream {
    client: Client,
    app: String,
    logs: bool,
    /// Newest event seen; `None` before the first connection said where it begins.
    since: Option<i64>,
    log_since: Option<i64>,
    /// When the stream was opened, by our clock: where lines are asked for from if it breaks before any line came.
    opened_ns: i64,
    /// Lines seen lately, by their hash: after a break some come again. Lines of several instances are not in the
    /// order of their times.
    seen: HashSet<u64>,
    /// The same in the order in which they came.
    order: VecDeque<u64>,
    connection: Option<BoxStream<'static, reqwest::Result<Bytes>>>,
    parser: Parser,
    ready: VecDeque<Item>,
    away_since: Option<Instant>,
    pause: Duration,
    connected_before: bool,
}

impl Client {
    /// Opens the stream of an app at its present end.
    ///
    /// # Errors
    /// Where it can't be opened.
    pub async fn stream(&self, app: &str, logs: bool, log_since: Option<i64>) -> Result<EventStream, Error> {
        let mut stream = EventStream {
            client: self.clone(),
            app: app.to_owned(),
            logs,
            since: None,
            log_since,
            opened_ns: now_ns(),
            seen: HashSet::new(),
            order: VecDeque::new(),
            connection: None,
            parser: Parser::default(),
            ready: VecDeque::new(),
            away_since: None,
            pause: Duration::from_millis(50),
            connected_before: false,
        };
        stream.connect().await?;
        let hello = async {
            while stream.since.is_none() {
                stream.read().await?;
            }
            Ok(())
        };
        match tokio::time::timeout(OPEN, hello).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(Error::TimedOut {
                    what: "opening the event stream".into(),
                    seconds: OPEN.as_secs(),
                    resume: None,
                });
            }
        }
        Ok(stream)
    }
}

impl EventStream {
    /// The next item. Connects anew as often as it takes, while the server is away for less than [`AWAY`].
    ///
    /// # Errors
    /// A refusal, or the server's absence for too long.
    pub async fn next(&mut self) -> Result<Item, Error> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            let outcome = if self.connection.is_some() {
                self.read().await
            } else {
                self.reconnect().await
            };
            match outcome {
                Ok(()) => {}
                Err(error) if error.is_away() => {
                    self.connection = None;
                    let since = *self.away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > AWAY {
                        return Err(error);
                    }
                    self.client
                        .ui()
                        .heartbeat(&format!("{} to come back", self.client.api()), since, Some(AWAY));
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn reconnect(&mut self) -> Result<(), Error> {
        if self.away_since.is_some() {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(Duration::from_secs(2));
        }
        self.connect().await
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let client = self.client.clone();
        let name = format!("GET /paas/v1/apps/{}/stream", self.app);
        let mut renewed = false;
        loop {
            let token = client.token().await?;
            let mut request = client
                .0
                .http
                .get(client.url(&format!("/paas/v1/apps/{}/stream", self.app)))
                .header("accept", "text/event-stream")
                .query(&[("logs", self.logs)]);
            if let Some(since) = self.since {
                request = request.query(&[("since", since)]);
            }
            let log_since = self
                .log_since
                .or(self.connected_before.then(|| self.opened_ns - OVERLAP_NS));
            if let Some(since) = log_since {
                request = request.query(&[("log_since_ns", since)]);
            }
            if let Some(token) = &token {
                request = request.bearer_auth(token.expose());
            }
            client.ui().trace(&format!("> {name}?since={:?}", self.since));
            let response = tokio::time::timeout(CONNECT, request.send())
                .await
                .map_err(|_| self.away("no answer".into()))?
                .map_err(|error| client.broken(&error, &name, CONNECT, true))?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && !renewed {
                renewed = true;
                client.token_refused().await?;
                continue;
            }
            if !status.is_success() {
                let headers = response.headers().clone();
                let body = response.bytes().await.unwrap_or_default();
                return Err(refusal(&super::http::Answer {
                    status,
                    headers,
                    body,
                    request: name,
                }));
            }
            self.connection = Some(response.bytes_stream().boxed());
            self.parser = Parser::default();
            if std::mem::replace(&mut self.connected_before, true) {
                self.ready.push_back(Item::Resumed);
            }
            return Ok(());
        }
    }

    fn away(&self, detail: String) -> Error {
        Error::Unreachable {
            api: self.client.api().to_owned(),
            detail,
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let chunk = match tokio::time::timeout(SILENCE, connection.next()).await {
            Err(_) => Err(format!("silent for {} s", SILENCE.as_secs())),
            Ok(None) => Err("the connection was closed".to_owned()),
            Ok(Some(Err(error))) => Err(reason(&error)),
            Ok(Some(Ok(chunk))) => Ok(chunk),
        };
        match chunk {
            Err(detail) => {
                self.connection = None;
                Err(self.away(detail))
            }
            Ok(chunk) => {
                self.away_since = None;
                self.pause = Duration::from_millis(50);
                let messages = self.parser.feed(&chunk).map_err(|detail| Error::Protocol {
                    request: "the event stream".into(),
                    detail,
                })?;
                messages.into_iter().for_each(|message| self.take(&message));
                Ok(())
            }
        }
    }

    fn take(&mut self, message: &Message) {
        match message.event.as_str() {
            "hello" => {
                let newest = newest_of(&message.data);
                self.since.get_or_insert(newest);
            }
            "event" => match serde_json::from_str::<StreamEvent>(&message.data) {
                Ok(event) if self.since.is_some_and(|since| event.sequence <= since) => {}
                Ok(event) => {
                    self.since = Some(event.sequence);
                    self.ready.push_back(Item::Event(event));
                }
                Err(error) => self.client.ui().trace(&format!("an event that can't be read: {error}")),
            },
            "log" => match serde_json::from_str::<LogLine>(&message.data) {
                Ok(line) => self.take_line(line),
                Err(error) => self
                    .client
                    .ui()
                    .trace(&format!("a log line that can't be read: {error}")),
            },
            _ => {}
        }
    }

    fn take_line(&mut self, line: LogLine) {
        let hash = hash_of(&line);
        if !self.seen.insert(hash) {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        let from = line.ts_ns - OVERLAP_NS;
        self.log_since = Some(self.log_since.map_or(from, |since| since.max(from)));
        self.ready.push_back(Item::Log(line));
    }
}

/// Names a line: its time in nanoseconds, who wrote it, and what.
fn hash_of(line: &LogLine) -> u64 {
    let mut hasher = DefaultHasher::new();
    (line.ts_ns, &line.source_type, &line.instance, line.err, &line.text).hash(&mut hasher);
    hasher.finish()
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The newest sequence that a `hello` names: a number, or a document with `sequence`.
fn newest_of(data: &str) -> i64 {
    let value: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    value
        .as_i64()
        .or_else(|| {
            ["sequence", "newest", "since"]
                .iter()
                .find_map(|name| value.get(*name)?.as_i64())
        })
        .unwrap_or(0)
}

/// One message of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    pub event: String,
    pub data: String,
}

/// Takes a stream of server-sent events apart.
#[derive(Debug, Default)]
pub struct Parser {
    buffer: Vec<u8>,
    message: Message,
    has_data: bool,
}

impl Parser {
    /// The messages that `chunk` completes.
    ///
    /// # Errors
    /// Where a message is longer than is allowed.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<Vec<Message>, String> {
        self.buffer.extend_from_slice(chunk);
        let mut messages = Vec::new();
        let mut from = 0;
        while let Some(length) = self.buffer[from..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.buffer[from..from + length]).into_owned();
            from += length + 1;
            self.line(line.trim_end_matches('\r'), &mut messages);
        }
        self.buffer.drain(..from);
        if self.buffer.len() + self.message.data.len() > MAX_MESSAGE {
            return Err(format!("a message is longer than {MAX_MESSAGE} bytes"));
        }
        Ok(messages)
    }

    fn line(&mut self, line: &str, messages: &mut Vec<Message>) {
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            if std::mem::take(&mut self.has_data) || !message.event.is_empty() {
                messages.push(message);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.message.event),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = ": comment\nevent: hello\ndata: {\"sequence\":4}\n\nevent: event\r\ndata: a\ndata:b\nid: 7\r\n\n\nevent: ping\n\n";

    fn whole(text: &str) -> Vec<Message> {
        Parser::default().feed(text.as_bytes()).expect("short")
    }

    #[test]
    fn messages_are_taken_apart() {
        let messages = whole(TEXT);
        let pairs: Vec<_> = messages.iter().map(|m| (m.event.as_str(), m.data.as_str())).collect();
        assert_eq!(pairs, [("hello", "{\"sequence\":4}"), ("event", "a\nb"), ("ping", "")]);
    }

    #[test]
    fn a_message_has_a_limit() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; 1024 * 1024];
        let outcome = (0..6).map(|_| parser.feed(&chunk)).find(Result::is_err);
        assert!(outcome.is_some());
    }

    #[test]
    fn a_hello_names_the_newest_in_either_form() {
        assert_eq!(
            [newest_of("7"), newest_of("{\"sequence\":8}"), newest_of("")],
            [7, 8, 0]
        );
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(cuts in proptest::collection::vec(1_usize..9, 1..60)) {
            let mut parser = Parser::default();
            let mut messages = Vec::new();
            let mut rest = TEXT.as_bytes();
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                messages.extend(parser.feed(chunk).expect("short"));
                rest = tail;
            }
            prop_assert_eq!(messages, whole(TEXT));
        }
    }
}
