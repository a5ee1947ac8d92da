//! The cell's side of its contract with controllers: typed requests with deadlines. When to make them is the agent's.

use api::Controllers;
use api::cell::{self, Down, LogBatch, Registered, Report, Reported};
use futures_util::{Stream, StreamExt as _};
use identity::Proof;
use model::id::CellId;
use model::resource::CellInfo;
use reqwest::header::{self, HeaderMap, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use uuid::Uuid;

/// Time to reach a controller.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for one answer.
const ANSWER: Duration = Duration::from_secs(15);
/// Silence after which the feed counts as lost: two pings and some.
const SILENCE: Duration = Duration::from_secs(25);
/// Bytes of an answer or of an error that are read.
const MAX_ANSWER: usize = 1 << 20;

/// Speaks to a controller. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    controllers: Controllers,
    proof: Proof,
    cell: CellId,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// TLS can't be set up with the cell's certificate.
    #[error("the cell's certificate can't be used")]
    Identity(#[source] identity::Error),
    /// The controller was not reached, or the connection broke.
    #[error("the controller was not reached")]
    Transport(#[source] reqwest::Error),
    /// It answered with an error.
    #[error("the controller answered {status}: {body}")]
    Status {
        /// HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// It answered something that is not understood.
    #[error("the controller's answer can't be read")]
    Answer(#[source] serde_json::Error),
    /// A line of the feed is longer than allowed.
    #[error("a line of the feed is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The feed ended or went silent.
    #[error("the feed ended")]
    Ended,
}

impl Failure {
    /// Whether the same request will never be taken.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Status {
                status: 400 | 413 | 415 | 422,
                ..
            }
        )
    }

    /// Whether the controller does not know this cell (any more).
    pub(crate) const fn is_unknown_cell(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }
}

impl Client {
    pub(crate) fn new(controllers: Controllers, proof: Proof, cell: CellId) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        let http = proof.client(http).map_err(Failure::Identity)?;
        let http = http.build().map_err(Failure::Transport)?;
        Ok(Self {
            http,
            controllers,
            proof,
            cell,
        })
    }

    pub(crate) async fn register(&self, info: &CellInfo) -> Result<Registered, Failure> {
        self.post(cell::REGISTER, info).await
    }

    pub(crate) async fn report(&self, report: &Report) -> Result<Reported, Failure> {
        self.post(cell::REPORT, report).await
    }

    pub(crate) async fn logs(&self, batch: &LogBatch) -> Result<(), Failure> {
        let (number, request) = self.request(reqwest::Method::POST, cell::LOGS);
        let sent = request.json(batch).timeout(ANSWER).send().await;
        self.accept(number, sent).await.map(drop)
    }

    /// Opens the feed. It yields messages until it fails; then it is over.
    pub(crate) async fn feed(&self) -> Result<impl Stream<Item = Result<Down, Failure>> + Send + use<>, Failure> {
        let (number, request) = self.request(reqwest::Method::GET, cell::FEED);
        let sent = tokio::time::timeout(ANSWER, request.send())
            .await
            .map_err(|_| Failure::Ended)?;
        let answer = self.accept(number, sent).await?;
        let lines = Lines {
            bytes: answer.bytes_stream().boxed(),
            buffer: Vec::new(),
            searched: 0,
        };
        Ok(futures_util::stream::unfold(Some(lines), |lines| async move {
            let mut lines = lines?;
            match lines.next().await {
                Ok(message) => Some((Ok(message), Some(lines))),
                Err(failure) => Some((Err(failure), None)),
            }
        }))
    }

    /// Opens the cell's end of an exec session: the bytes of a connection that speaks WebSocket from here on.
    pub(crate) async fn session(&self, session: Uuid) -> Result<reqwest::Upgraded, Failure> {
        let path = cell::SESSION.path.replace("{session}", &session.to_string());
        let (_, base) = self.controllers.current();
        let request = self.http.get(format!("{base}{path}")).headers(upgrade());
        let sent = self.proof.request(request).send().await.map_err(Failure::Transport)?;
        if sent.status() != reqwest::StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(sent).await);
        }
        sent.upgrade().await.map_err(Failure::Transport)
    }

    async fn post<T: DeserializeOwned>(&self, route: api::Route, body: &impl Serialize) -> Result<T, Failure> {
        let (number, request) = self.request(reqwest::Method::POST, route);
        let sent = request.json(body).timeout(ANSWER).send().await;
        let answer = self.accept(number, sent).await?;
        let bytes = answer.bytes().await.map_err(Failure::Transport)?;
        serde_json::from_slice(&bytes[..bytes.len().min(MAX_ANSWER)]).map_err(Failure::Answer)
    }

    /// A request to the controller of this number.
    fn request(&self, method: reqwest::Method, route: api::Route) -> (usize, reqwest::RequestBuilder) {
        let (number, base) = self.controllers.current();
        let url = format!("{base}{}", cell::path_for(route, self.cell));
        (number, self.proof.request(self.http.request(method, url)))
    }

    /// The answer, where it is one; a controller that has none is left for the next.
    async fn accept(
        &self,
        number: usize,
        sent: reqwest::Result<reqwest::Response>,
    ) -> Result<reqwest::Response, Failure> {
        let answered = match sent {
            Ok(answer) => accept(answer).await,
            Err(error) => Err(Failure::Transport(error)),
        };
        if let Err(Failure::Transport(_) | Failure::Status { status: 500.., .. }) = answered {
            self.controllers.failed(number);
        }
        answered
    }

    /// Talks to another controller from now on, where there is one.
    pub(crate) fn elsewhere(&self) {
        let (number, _) = self.controllers.current();
        self.controllers.failed(number);
    }
}

async fn accept(answer: reqwest::Response) -> Result<reqwest::Response, Failure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    Err(refusal(answer).await)
}

/// What makes a request one for WebSocket.
fn upgrade() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    let key = tokio_tungstenite::tungstenite::handshake::client::generate_key();
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    headers
}

/// What the controller said instead.
async fn refusal(answer: reqwest::Response) -> Failure {
    let status = answer.status();
    let mut stream = answer.bytes_stream();
    let mut body = Vec::new();
    while body.len() < 2048
        && let Ok(Some(Ok(bytes))) = tokio::time::timeout(ANSWER, stream.next()).await
    {
        body.extend_from_slice(&bytes);
    }
    Failure::Status {
        status: status.as_u16(),
        body: String::from_utf8_lossy(&body).chars().take(500).collect(),
    }
}

/// Cuts a stream of bytes into the messages of its lines.
struct Lines {
    bytes: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold no line end.
    searched: usize,
}

impl Lines {
    async fn next(&mut self) -> Result<Down, Failure> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line).map_err(Failure::Answer);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > cell::MAX_FEED_LINE {
                return Err(Failure::TooLong {
                    limit: cell::MAX_FEED_LINE,
                });
            }
            match tokio::time::timeout(SILENCE, self.bytes.next()).await {
                Ok(Some(Ok(bytes))) => self.buffer.extend_from_slice(&bytes),
                Ok(Some(Err(error))) => return Err(Failure::Transport(error)),
                Ok(None) | Err(_) => return Err(Failure::Ended),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&'static str]) -> Lines {
        let chunks: Vec<_> = chunks
            .iter()
            .map(|text| Ok(bytes::Bytes::from_static(text.as_bytes())))
            .collect();
        Lines {
            bytes: futures_util::stream::iter(chunks).boxed(),
            buffer: Vec::new(),
            searched: 0,
        }
    }

    #[tokio::test]
    async fn messages_are_cut_however_they_arrive() {
        let mut lines = lines(&[
            "{\"type\":\"pi",
            "ng\"}\n\n{\"type\":\"assignments\",\"revision\":4,",
            "\"assignments\":[]}\n{\"type\":\"ping\"}\n",
            "{\"type\"",
        ]);
        assert!(matches!(lines.next().await, Ok(Down::Ping)));
        assert!(matches!(lines.next().await, Ok(Down::Assignments { revision: 4, .. })));
        assert!(matches!(lines.next().await, Ok(Down::Ping)));
        assert!(matches!(lines.next().await, Err(Failure::Ended)));
    }

    #[tokio::test]
    async fn what_is_not_understood_ends_the_feed() {
        assert!(matches!(lines(&["nonsense\n"]).next().await, Err(Failure::Answer(_))));
    }

    #[tokio::test]
    async fn a_session_that_is_refused_says_why() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free");
        let address = listener.local_addr().expect("bound");
        let (seen, was_seen) = tokio::sync::oneshot::channel();
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Some(seen)));
        let handler = axum::routing::any(async move |request: axum::extract::Request| {
            let told = format!("{} {:?}", request.uri(), request.headers().get("upgrade"));
            let sender = seen.lock().expect("unbroken").take().expect("once");
            sender.send(told).expect("somebody listens");
            (axum::http::StatusCode::NOT_FOUND, "no such session")
        });
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handler)).await });
        let controllers = api::Controllers::new([format!("http://{address}/")]).expect("an address");
        let proof = Proof::from(model::Secret::new("t"));
        let client = Client::new(controllers, proof, CellId(Uuid::nil())).expect("a client");
        let session = Uuid::from_u128(5);
        let Err(refused) = client.session(session).await else {
            panic!("not refused");
        };
        assert!(matches!(&refused, Failure::Status { status: 404, body } if body == "no such session"));
        let told = was_seen.await.expect("asked");
        assert_eq!(told, format!("/cell/v1/sessions/{session} Some(\"websocket\")"));
    }
}
