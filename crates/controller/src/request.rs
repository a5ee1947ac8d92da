//! Around every request: an id, one line in the log, bodies as JSON, ids in paths. Query parameters are `query`'s.

use crate::context::Context;
use crate::error::{Answer, Cause, Failure};
use crate::json;
pub(crate) use crate::query::{Facts, Query};
use crate::strict::BodyWait;
use api::error::Code;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderValue, Method};
use serde::de::DeserializeOwned;
use std::str::FromStr;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Longest body of a request that is no upload.
pub const MAX_BODY_BYTES: usize = 15 * 1024 * 1024;
/// Longest wait of a request that holds on for a change.
pub const LONG_POLL: Duration = Duration::from_secs(3);
/// Changes that come within this time are looked at together.
const COALESCE: Duration = Duration::from_millis(10);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 128;

/// Who the request was by, for its line. Put into the response by [`crate::auth`].
#[derive(Clone)]
pub(crate) struct ActorName(pub String);

/// Gives the request an id, and writes its line once it is answered.
pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let given =
        given.filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(|b| b.is_ascii_graphic()));
    let id = given.map_or_else(|| Uuid::new_v4().to_string(), ToOwned::to_owned);
    let value = HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("-"));
    request.headers_mut().insert(REQUEST_ID, value.clone());
    let method = request.method().clone();
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let actor = std::sync::Arc::new(parking_lot::Mutex::new(None::<ActorName>));
    request.extensions_mut().insert(ActorSlot(actor.clone()));
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, value);
    let actor = actor.lock().take().map(|actor| actor.0).unwrap_or_default();
    let cause = response.extensions().get::<Cause>().map(|cause| cause.0.clone());
    // Streams have no length before they end.
    let length = http_body::Body::size_hint(response.body()).exact();
    telemetry::RequestLine {
        method: method.as_str(),
        path: path.as_deref().unwrap_or("unknown"),
        status: response.status().as_u16(),
        duration: begun.elapsed(),
        bytes: length.unwrap_or(0),
        request_id: &id,
        actor: &actor,
        error: cause.as_deref().unwrap_or_default(),
        routine: path
            .as_deref()
            .is_some_and(|path| path.starts_with("/cell/") || path.starts_with("/edge/")),
    }
    .emit();
    response
}

/// Where the name of the caller is put for the request's line.
#[derive(Clone)]
pub(crate) struct ActorSlot(std::sync::Arc<parking_lot::Mutex<Option<ActorName>>>);

impl ActorSlot {
    pub(crate) fn set(&self, name: &str) {
        *self.0.lock() = Some(ActorName(name.to_owned()));
    }
}

/// A body of JSON. What can't be read is CF's `MessageParseError`; what does not fit, `UnprocessableEntity`.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let bytes = body_bytes(request, MAX_BODY_BYTES).await?;
        // Actions without arguments come with no body at all.
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        json::from_slice(bytes).map(Self).map_err(|error| match error {
            json::Error::Unreadable(_) => Failure::new(
                Code::MessageParseError,
                "Request invalid due to parse error: invalid request body",
            )
            .caused_by(error),
            json::Error::Unfit(error) => Failure::refused(format!("The request body is invalid: {error}")),
            json::Error::Null => Failure::refused(format!("The request body is invalid: {error}")),
        })
    }
}

/// The whole body, if it is not longer than `limit` bytes and comes in time. One that says that it is longer is not
/// read at all.
pub(crate) async fn body_bytes(request: Request, limit: usize) -> Answer<bytes::Bytes> {
    let too_large = || {
        Failure::new(
            Code::PayloadTooLarge,
            format!("The request body is larger than {limit} bytes"),
        )
    };
    let declared = request.headers().get(http::header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let wait = request.extensions().get::<BodyWait>();
    let wait = wait.map_or_else(|| crate::config::Limits::default().body_wait, |wait| wait.0);
    let read = axum::body::to_bytes(request.into_body(), limit);
    let read = tokio::time::timeout(wait, read).await;
    let read = read.map_err(|_| Failure::new(Code::BadRequest, "The request body did not come in time"))?;
    read.map_err(|error| {
        // That the client went away, or broke off, is not about size.
        let broken = std::iter::successors(std::error::Error::source(&error), |error| error.source());
        let too_long = broken
            .into_iter()
            .any(|error| error.is::<http_body_util::LengthLimitError>());
        let failure = if too_long {
            too_large()
        } else {
            Failure::new(Code::BadRequest, "The request body could not be read")
        };
        failure.caused_by(error)
    })
}

/// An id from a path; what is no id is not found.
pub(crate) fn id<T: FromStr>(text: &str, what: &str) -> Answer<T> {
    text.parse().map_err(|_| Failure::not_found(what))
}

/// Whether the client polls, so that holding the request until something changes is a service to it. Ours follows events.
pub struct Polls(pub bool);

impl<S: Send + Sync> FromRequestParts<S> for Polls {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let agent = parts
            .headers
            .get(http::header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok());
        Ok(Self(
            parts.method == Method::GET && agent.is_some_and(|agent| agent.starts_with("cf/")),
        ))
    }
}

/// Reads with `fetch` until `done` says so or, for a client that polls, [`LONG_POLL`] has passed.
pub(crate) async fn settle<T, F>(
    context: &Context,
    polls: &Polls,
    done: impl Fn(&T) -> bool,
    fetch: impl Fn() -> F,
) -> Answer<T>
where
    F: Future<Output = Answer<T>>,
{
    // Before the first read, so that no change is missed between the two.
    let mut changes = context.store.subscribe();
    let until = tokio::time::Instant::now() + LONG_POLL;
    loop {
        let value = fetch().await?;
        if !polls.0 || done(&value) {
            return Ok(value);
        }
        match tokio::time::timeout_at(until, changes.next()).await {
            Ok(Some(_)) => tokio::time::sleep(COALESCE).await,
            Ok(None) | Err(_) => return Ok(value),
        }
    }
}
