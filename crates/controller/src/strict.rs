//! What every request of people passes, whatever its route: limits that no handler has to think of, and one shape of
//! errors, also of those that the framework answers before a handler is reached.

use crate::auth::{RateSlot, exceeded_by_address};
use crate::context::Context;
use crate::error::Failure;
use crate::lead::was_passed_on;
use api::error::Code;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Longest path with its query, in bytes: lists of ids to filter by are long.
const MAX_TARGET_BYTES: usize = 256 * 1024;
/// As much of the framework's own words is passed on, in bytes.
const MAX_REASON_BYTES: usize = 1024;

/// How long a whole body that is no upload may take, and each part of an upload.
#[derive(Clone, Copy)]
pub(crate) struct BodyWait(pub Duration);

/// Refuses what no route takes, and puts errors into CF's envelope.
pub(crate) async fn check(State(context): State<Context>, mut request: Request, next: Next) -> Response {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    if target.len() > MAX_TARGET_BYTES {
        let detail = format!("The path and its query are longer than {MAX_TARGET_BYTES} bytes");
        return Failure::new(Code::BadRequest, detail).into_response();
    }
    // No database keeps it in a text.
    if target.contains("%00") {
        return Failure::new(Code::BadRequest, "The path or its query has a null character").into_response();
    }
    request
        .extensions_mut()
        .insert(BodyWait(context.config.limits.body_wait));
    let slot = RateSlot::default();
    request.extensions_mut().insert(slot.clone());
    let mut response = match counted(&context, &request, &slot) {
        Ok(()) => shaped(next.run(request).await).await,
        Err(failure) => failure.into_response(),
    };
    slot.write(response.headers_mut(), context.now());
    response
}

/// Counts a request of nobody in particular by its address. Who comes with a token is counted once it is known whose.
fn counted(context: &Context, request: &Request, slot: &RateSlot) -> Result<(), Failure> {
    let limits = &context.config.limits.rate;
    let path = request.uri().path();
    // Where everything is, and whether the platform is there at all.
    let free = ["/", "/v3", "/healthz"].contains(&path) || request.headers().contains_key(AUTHORIZATION);
    if limits.unauthenticated == 0 || free || was_passed_on(request, context.config.machine_token.as_ref()) {
        return Ok(());
    }
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let address = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    let who = format!("address {address}");
    let standing = (context.rates).take(&who, limits.unauthenticated, limits.window, context.now());
    slot.set(standing);
    if standing.exceeded {
        return Err(exceeded_by_address());
    }
    Ok(())
}

/// An error as CF writes it. The framework's are plain text, which none of ours is.
async fn shaped(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE);
    let plain = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !plain || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let code = match status.as_u16() {
        413 => Code::PayloadTooLarge,
        404 | 405 => Code::NotFound,
        400..500 => Code::BadRequest,
        _ => Code::UnknownError,
    };
    let reason = axum::body::to_bytes(response.into_body(), MAX_REASON_BYTES).await;
    let reason = reason.unwrap_or_default();
    let reason = String::from_utf8_lossy(&reason).trim().to_owned();
    let detail = match (code, reason.is_empty()) {
        (Code::NotFound, _) => "Unknown request".to_owned(),
        (Code::UnknownError, _) => "An unknown error occurred.".to_owned(),
        (_, true) => "The request is invalid".to_owned(),
        (_, false) => format!("The request is invalid: {reason}"),
    };
    Failure::new(code, detail).into_response()
}
