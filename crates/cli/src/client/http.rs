//! One HTTP exchange: token, deadline, retry of what is safe to repeat, errors in our own terms.

use super::session::Session;
use super::{CONNECT, MAX_ANSWER, REQUEST, trace};
use crate::config::Config;
use crate::errors::{Error, Refusal};
use crate::ui::{HEARTBEAT, Ui};
use ::http::{HeaderMap, Method, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use reqwest::{RequestBuilder, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Times that a request is repeated where that is safe, with the pause before each.
const RETRIES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

/// A client of one platform for one user. Cheap to clone.
#[derive(Clone)]
pub struct Client(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub http: reqwest::Client,
    /// Without a trailing slash.
    pub api: String,
    pub ui: Ui,
    pub session: tokio::sync::Mutex<Session>,
    pub links: tokio::sync::OnceCell<super::wire::Links>,
    pub platform: tokio::sync::OnceCell<super::wire::Platform>,
}

/// What a request carries.
#[derive(Clone)]
pub enum Body {
    None,
    Json(Value),
    /// JSON that is too large to be made twice.
    Written(Bytes),
    Yaml(String),
}

/// A request that can be sent more than once.
#[derive(Clone)]
pub struct Call {
    pub method: Method,
    /// Below the API's address, or a whole URL that the server gave.
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub body: Body,
    pub deadline: Duration,
}

impl Call {
    /// A request without body and query.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            body: Body::None,
            deadline: REQUEST,
        }
    }

    /// Adds a query parameter.
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Sets a JSON body.
    pub fn json(mut self, body: Value) -> Self {
        self.body = Body::Json(body);
        self
    }

    /// For messages.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// An answer that was no error.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub request: String,
}

impl Answer {
    /// The body as JSON of this shape.
    ///
    /// # Errors
    /// Where it has another.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Protocol {
            request: self.request.clone(),
            detail: error.to_string(),
        })
    }

    /// Where the server says that a job is.
    pub fn location(&self) -> Option<String> {
        self.headers.get(header::LOCATION)?.to_str().ok().map(str::to_owned)
    }
}

impl Client {
    /// A client for the context of `config`.
    ///
    /// # Errors
    /// Where no context is configured, or its address is none.
    pub fn new(config: &Config, ui: Ui) -> Result<Self, Error> {
        let context = config.context()?;
        Ok(Self(Arc::new(Inner {
            http: http_client(&context.api, false)?,
            api: context.api.clone(),
            session: tokio::sync::Mutex::new(Session::new(config)),
            ui,
            links: tokio::sync::OnceCell::new(),
            platform: tokio::sync::OnceCell::new(),
        })))
    }

    /// The API's address.
    pub fn api(&self) -> &str {
        &self.0.api
    }

    pub(super) fn ui(&self) -> &Ui {
        &self.0.ui
    }

    /// The URL of a path, or of a whole URL that the server gave.
    ///
    /// A whole URL is used only where it leads to the same API: tokens go nowhere else.
    pub(super) fn url(&self, path: &str) -> String {
        if path.starts_with('/') {
            return format!("{}{path}", self.0.api);
        }
        match url::Url::parse(path) {
            Ok(url) => {
                let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
                format!("{}{}{query}", self.0.api, url.path())
            }
            Err(_) => format!("{}/{path}", self.0.api),
        }
    }

    /// Sends `call` with the user's token and returns an answer of status 2xx.
    ///
    /// # Errors
    /// A refusal of the server, or why there is no answer.
    pub async fn send(&self, call: Call) -> Result<Answer, Error> {
        let safe = call.method != Method::POST;
        let mut pauses = RETRIES.iter();
        let mut renewed = false;
        loop {
            let token = self.token().await?;
            let outcome = self.exchange(&call, token.as_ref()).await;
            match outcome {
                Err(Error::Refused(refusal)) if refusal.status == 401 && !renewed => {
                    renewed = true;
                    self.token_refused().await.map_err(|error| match error {
                        Error::SessionEnded { .. } if refusal.code == 10_002 => Error::Refused(refusal),
                        other => other,
                    })?;
                }
                Err(error) if safe && error.is_away() => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(error),
                },
                other => return other,
            }
        }
    }

    /// As [`Self::send`], going on while the server is away, at most for [`super::AWAY`].
    ///
    /// # Errors
    /// As [`Self::send`]. Only for requests that may be repeated.
    pub async fn send_patiently(&self, call: Call) -> Result<Answer, Error> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            match self.send(call.clone()).await {
                Err(error) if error.is_away() && started.elapsed() < super::AWAY => {
                    self.ui()
                        .heartbeat(&format!("{} to come back", self.api()), started, Some(super::AWAY));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                other => return other,
            }
        }
    }

    async fn exchange(&self, call: &Call, token: Option<&model::Secret>) -> Result<Answer, Error> {
        let mut request = self
            .0
            .http
            .request(call.method.clone(), self.url(&call.path))
            .timeout(call.deadline);
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        request = match &call.body {
            Body::None => request,
            Body::Json(value) => request.json(value),
            Body::Written(json) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(json.clone()),
            Body::Yaml(text) => request
                .header(header::CONTENT_TYPE, "application/x-yaml")
                .body(text.clone()),
        };
        trace::request(self.ui(), call);
        let idempotent = call.method != Method::POST;
        self.finish(request, call.name(), call.deadline, idempotent).await
    }

    /// Sends a request, mentions a long wait, and reads the answer.
    pub(super) async fn finish(
        &self,
        request: RequestBuilder,
        name: String,
        deadline: Duration,
        idempotent: bool,
    ) -> Result<Answer, Error> {
        let started = Instant::now();
        let exchange = async {
            let response = request
                .send()
                .await
                .map_err(|error| self.broken(&error, &name, deadline, idempotent))?;
            self.read(response, &name, deadline, idempotent).await
        };
        tokio::pin!(exchange);
        let mut tick = tokio::time::interval(HEARTBEAT);
        tick.tick().await;
        loop {
            tokio::select! {
                answer = &mut exchange => {
                    if let Ok(answer) = &answer {
                        trace::answer(self.ui(), answer, started.elapsed());
                    }
                    return answer;
                }
                _ = tick.tick() => self.ui().heartbeat(&format!("the answer to {name}"), started, Some(deadline)),
            }
        }
    }

    async fn read(
        &self,
        response: Response,
        name: &str,
        deadline: Duration,
        idempotent: bool,
    ) -> Result<Answer, Error> {
        let status = response.status();
        let headers = response.headers().clone();
        let mut body = BytesMut::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.broken(&error, name, deadline, idempotent))?;
            if body.len() + chunk.len() > MAX_ANSWER {
                let detail = format!("it is larger than {MAX_ANSWER} bytes");
                return Err(Error::Protocol {
                    request: name.to_owned(),
                    detail,
                });
            }
            body.extend_from_slice(&chunk);
        }
        let answer = Answer {
            status,
            headers,
            body: body.freeze(),
            request: name.to_owned(),
        };
        if status.is_success() {
            Ok(answer)
        } else {
            Err(refusal(&answer))
        }
    }

    /// What an answer says that is no success.
    pub(super) async fn refused(&self, response: Response, name: &str) -> Error {
        match self.read(response, name, REQUEST, true).await {
            Ok(answer) => refusal(&answer),
            Err(error) => error,
        }
    }

    /// An exchange that came to nothing, in our own terms.
    pub(super) fn broken(&self, error: &reqwest::Error, name: &str, deadline: Duration, idempotent: bool) -> Error {
        let detail = innermost(error);
        if error.is_connect() {
            Error::Unreachable {
                api: self.0.api.clone(),
                detail,
            }
        } else if error.is_timeout() {
            Error::TimedOut {
                what: name.to_owned(),
                seconds: deadline.as_secs(),
                resume: None,
            }
        } else if idempotent {
            Error::Unreachable {
                api: self.0.api.clone(),
                detail: format!("{name}: {detail}"),
            }
        } else {
            Error::OutcomeUnknown {
                request: name.to_owned(),
                detail,
            }
        }
    }
}

/// A connection pool fit for `api`. Where `upgrade` is set it speaks HTTP/1.1 only, as WebSockets need.
pub(super) fn http_client(api: &str, upgrade: bool) -> Result<reqwest::Client, Error> {
    let url = url::Url::parse(api)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
        .ok_or_else(|| Error::Usage {
            message: format!("{api} is not the address of an API"),
            hint: Some("write for example https://api.example.com".into()),
        })?;
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("paas/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none());
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if loopback {
        builder = builder.no_proxy();
    }
    if upgrade {
        builder = builder.http1_only();
    }
    builder.build().map_err(|error| Error::Unreachable {
        api: api.to_owned(),
        detail: innermost(&error),
    })
}

/// An answer of another status than 2xx, as an error.
pub(super) fn refusal(answer: &Answer) -> Error {
    let request_id = ["x-vcap-request-id", "x-request-id"]
        .iter()
        .find_map(|name| answer.headers.get(*name)?.to_str().ok())
        .map(|id| id.split("::").next().unwrap_or(id).to_owned());
    let first = serde_json::from_slice::<api::error::Envelope>(&answer.body)
        .ok()
        .filter(|envelope| !envelope.errors.is_empty());
    let (code, title, detail, hint) = match first {
        Some(envelope) => {
            let first = envelope.errors[0].clone();
            let (detail, hint) = match envelope.errors.as_slice() {
                [only] => (only.detail.clone(), only.hint.clone()),
                several => (several.iter().map(with_hint).collect::<Vec<_>>().join("\n"), None),
            };
            (first.code, first.title, detail, hint)
        }
        None => (0, String::new(), plain_detail(&answer.body), None),
    };
    Error::Refused(Box::new(Refusal {
        status: answer.status.as_u16(),
        code,
        title,
        detail,
        hint,
        request_id,
        request: answer.request.clone(),
    }))
}

/// One of several errors on a line of its own.
fn with_hint(error: &api::error::ApiError) -> String {
    match &error.hint {
        Some(hint) => format!("{} ({hint})", error.detail),
        None => error.detail.clone(),
    }
}

/// What an answer outside CF's form says: the token server's description, or the beginning of its text.
fn plain_detail(body: &[u8]) -> String {
    let oauth = serde_json::from_slice::<Value>(body).ok().and_then(|value| {
        value
            .get("error_description")
            .and_then(Value::as_str)
            .map(str::to_owned)
    });
    oauth.unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(300).collect())
}

/// The innermost reason of an error: "connection refused" rather than the layers around it.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("x-vcap-request-id", "abc::def".parse().expect("header"));
        Answer {
            status: StatusCode::from_u16(status).expect("status"),
            headers,
            body: Bytes::from(body.to_owned()),
            request: "GET /v3/apps".into(),
        }
    }

    #[test]
    fn cf_envelopes_and_other_answers_become_refusals() {
        let body = r#"{"errors":[{"code":10010,"title":"CF-ResourceNotFound","detail":"App not found"}]}"#;
        let Error::Refused(refused) = refusal(&answer(404, body)) else {
            panic!("not a refusal")
        };
        assert_eq!((refused.code, refused.detail.as_str()), (10_010, "App not found"));
        assert_eq!(refused.request_id.as_deref(), Some("abc"));
        let Error::Refused(refused) = refusal(&answer(502, "<html>bad gateway</html>")) else {
            panic!("not a refusal")
        };
        assert_eq!((refused.code, refused.detail.as_str()), (0, "<html>bad gateway</html>"));
    }

    #[test]
    fn only_addresses_are_accepted() {
        for bad in ["", "api", "ftp://x", "http://"] {
            assert!(matches!(http_client(bad, false), Err(Error::Usage { .. })), "{bad}");
        }
        assert!(http_client("http://127.0.0.1:1", false).is_ok());
    }
}
