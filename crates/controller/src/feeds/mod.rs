//! What cells and routers talk to, and operators ask about them: `/cell/v1`, `/edge/v1`.
//!
//! Every request carries the machine token. Bodies, counts and waits have limits; nothing that a peer sends may stop
//! the controller.

mod cell;
mod cells;
mod edge;
mod observe;
mod operators;
mod report;
mod router;

pub(crate) use cells::Cells;
pub(crate) use edge::Edge;
pub(crate) use observe::{Line, rfc3339};
pub use operators::{cordon, list_cells};

use crate::Control;
use crate::error::Failure;
use api::error::Code;
use api::{cell as cell_api, edge as edge_api};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::header;
use sha2::{Digest as _, Sha256};
use std::convert::Infallible;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

/// Largest body of a machine's request. A cell with 1,000 pieces of work, all with build results, stays below.
const BODY_BYTES: usize = 32 << 20;
/// Messages of a feed that wait for a slow reader.
const FEED_QUEUE: usize = 8;

/// The routes for machines.
pub fn routes(control: Control) -> Router {
    Router::new()
        .route(cell_api::REGISTER.path, post(cell::register))
        .route(cell_api::FEED.path, get(cell::feed))
        .route(cell_api::REPORT.path, post(report::report))
        .route(cell_api::LOGS.path, post(crate::logs::ingest))
        .route(cell_api::SESSION.path, get(crate::exec::dial))
        .route(edge_api::FEED.path, get(router::feed))
        .route(edge_api::ACK.path, post(router::ack))
        .route(edge_api::LOGS.path, post(crate::logs::ingest))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(control.clone(), crate::lead::elected))
        .layer(middleware::from_fn_with_state(control.clone(), authenticate))
        .with_state(control)
}

async fn authenticate(State(control): State<Control>, request: Request, next: Next) -> Result<Response, Failure> {
    let header = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|value| value.split_once(' '))
        .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    let expected = control.context.config.machine_token.expose();
    match token {
        Some((_, token)) if same(token.trim(), expected) => Ok(next.run(request).await),
        _ => Err(Failure::new(Code::InvalidAuthToken, "Invalid Auth Token")),
    }
}

/// Compares in a time that says nothing about where the texts differ.
fn same(left: &str, right: &str) -> bool {
    let (left, right) = (Sha256::digest(left), Sha256::digest(right));
    left.iter()
        .zip(right.iter())
        .fold(0_u8, |differs, (a, b)| differs | (a ^ b))
        == 0
}

/// An endless answer of JSON lines; its task ends when the reader goes.
fn lines() -> (mpsc::Sender<Bytes>, Response) {
    let (sender, receiver) = mpsc::channel::<Bytes>(FEED_QUEUE);
    let body = Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, Infallible>));
    let mut response = Response::new(body);
    let kind = header::HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    (sender, response)
}

/// A message as a line of a feed; `None` if it can't be written as JSON.
fn line(message: &impl serde::Serialize) -> Option<Bytes> {
    let mut bytes = serde_json::to_vec(message)
        .inspect_err(|error| tracing::error!(%error, "a message of a feed can't be written"))
        .ok()?;
    bytes.push(b'\n');
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same("secret", "secret"));
        assert!(!same("secret", "secre"));
        assert!(!same("", "secret"));
    }
}
