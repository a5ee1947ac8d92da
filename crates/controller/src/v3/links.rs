//! Absolute links, as CF's resources carry them.

use crate::context::Context;
use api::v3::{Link, Links};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use model::id::JobId;

/// Links by name; each path begins with `/`.
pub(super) fn links<const N: usize>(context: &Context, links: [(&str, String); N]) -> Links {
    links
        .into_iter()
        .map(|(name, path)| {
            let href = format!("{}{path}", context.config.public_url);
            (name.to_owned(), Link { href, method: None })
        })
        .collect()
}

/// Like [`links`], for actions, which are POSTs.
pub(super) fn post(context: &Context, path: String) -> Link {
    Link {
        href: format!("{}{path}", context.config.public_url),
        method: Some("POST".to_owned()),
    }
}

/// `202 Accepted`, with where the job is.
pub(super) fn accepted(context: &Context, job: JobId) -> Response {
    let location = format!("{}/v3/jobs/{job}", context.config.public_url);
    let location = HeaderValue::from_str(&location).unwrap_or_else(|_| HeaderValue::from_static("/"));
    (StatusCode::ACCEPTED, [(header::LOCATION, location)]).into_response()
}
