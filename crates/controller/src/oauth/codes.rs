//! One-time codes: texts that stand for a user once, for some minutes. The store knows their digests alone, so that every
//! controller takes a code that any of them gave out. Here also is how a logged-in client asks for one to open a
//! connection to an instance with.

use super::Refusal;
use crate::auth::Caller;
use crate::context::Context;
use crate::error::Failure;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use model::Secret;
use model::id::UserId;
use rand::RngCore as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use store::{CodeKind, OneTimeCode};

/// The client that connections to instances are opened for; clients read its name from the root document.
pub(crate) const SSH_CLIENT: &str = "ssh-proxy";
/// How long a code can be used.
const VALID: Duration = Duration::from_secs(300);
/// Most codes of one kind that a user may have open at once.
const MOST: u64 = 20;
/// Letters of a code, of five bits each: it can't be guessed.
const LENGTH: usize = 20;
/// 32 letters that nobody mistakes for others.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

pub(super) fn routes() -> Router<Context> {
    Router::new().route("/oauth/authorize", get(authorize))
}

/// What the store knows of a code.
pub(crate) fn digest_of(text: &str) -> Vec<u8> {
    Sha256::digest(text.trim().as_bytes()).to_vec()
}

/// A text of random letters out of `letters`, whose number divides 256.
pub(super) fn random(length: usize) -> String {
    let mut bytes = vec![0; length];
    rand::rng().fill_bytes(&mut bytes);
    bytes
        .into_iter()
        .map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]))
        .collect()
}

/// A new code that stands for `user`.
pub(super) async fn make(context: &Context, kind: CodeKind, user: UserId) -> Result<Secret, Refusal> {
    let text = random(LENGTH);
    let now = context.now();
    let code = OneTimeCode {
        digest: digest_of(&text),
        kind,
        user,
        created_at: now,
        valid_until: now + VALID,
    };
    let tx = context.store.begin().await?;
    if !tx.code_create(&code, MOST).await? {
        return Err(Refusal::TooMany);
    }
    tx.commit().await?;
    Ok(Secret::new(text))
}

#[derive(Deserialize)]
struct Authorize {
    #[serde(default)]
    response_type: String,
    #[serde(default)]
    client_id: String,
    state: Option<String>,
}

/// A code for whoever has a token. The client reads it from the redirect and does not follow it; where it leads can't be
/// chosen, so that no code gets anywhere else.
async fn authorize(
    State(context): State<Context>,
    caller: Result<Caller, Failure>,
    Query(query): Query<Authorize>,
) -> Result<Response, Refusal> {
    let caller = caller.map_err(|failure| match failure.status() {
        StatusCode::UNAUTHORIZED => Refusal::Unauthorized("invalid_token"),
        _ => Refusal::Failed(failure),
    })?;
    if query.client_id != SSH_CLIENT {
        let text = format!("No client with requested id: {}", query.client_id);
        return Err(Refusal::Invalid("invalid_client", text));
    }
    if query.response_type != "code" {
        let text = format!("Unsupported response type: {}", query.response_type);
        return Err(Refusal::Invalid("unsupported_response_type", text));
    }
    let code = make(&context, CodeKind::Ssh, caller.id).await?;
    let mut fields = url::form_urlencoded::Serializer::new(String::new());
    fields.append_pair("code", code.expose());
    if let Some(state) = &query.state {
        fields.append_pair("state", state);
    }
    let location = format!("{}/login?{}", context.config.public_url, fields.finish());
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    let location = HeaderValue::from_str(&location).map_err(|error| Refusal::Failed(Failure::internal(error)))?;
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_random_and_known_by_digest_alone() {
        let (one, other) = (random(LENGTH), random(LENGTH));
        assert_ne!(one, other);
        assert!(one.len() == LENGTH && one.bytes().all(|letter| LETTERS.contains(&letter)));
        assert_eq!(digest_of(&format!("{one}\n")), digest_of(&one), "as people paste it");
        assert!(!hex::encode(digest_of(&one)).contains(&one));
    }
}
