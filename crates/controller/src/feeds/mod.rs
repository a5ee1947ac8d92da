//! What cells and routers talk to, and operators ask about them: `/cell/v1`, `/edge/v1`.
//!
//! Every request is a machine's that proved itself (`machines`). Bodies, counts and waits have limits; nothing that a peer sends may stop
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
pub use operators::{cordon, drain, list_cells, remove, show_cell};

use crate::{Control, machines};
use api::{cell as cell_api, edge as edge_api};
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::header;
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
        .route(crate::sessions::PATH, get(crate::sessions::carried))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(control.clone(), crate::lead::elected))
        .layer(middleware::from_fn_with_state(control.clone(), machines::authenticate))
        .with_state(control)
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
