//! Sign-in at an identity provider outside (OpenID Connect): a browser goes there from `/login/oidc`, comes back to
//! `/login/oidc/callback`, and is shown a one-time code, as after a log-in here (`cf login --sso`, `paas login --sso`).
//! What is asked of the provider, and how its word is checked, is `provider.rs`'s.

mod provider;
mod user;

pub(crate) use provider::Provider;

use super::{Refusal, codes, pages};
use crate::context::Context;
use crate::error::Failure;
use api::error::Code;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use provider::{Attempt, Error};
use serde::Deserialize;
use store::CodeKind;

/// Where a sign-in begins.
const PATH: &str = "/login/oidc";
const CALLBACK: &str = "/login/oidc/callback";
const TITLE: &str = "One-time code";
/// Holds the attempt between the two halves, in the browser that makes it.
const COOKIE: &str = "paas_oidc";
/// How long people may take over a sign-in at the provider, in seconds.
const COOKIE_SECONDS: u32 = 900;
/// Letters of each part of an attempt, of five bits each.
const LENGTH: usize = 43;
/// As much of the provider's own words is shown, in letters.
const MAX_REASON: usize = 100;

pub(super) fn routes() -> Router<Context> {
    Router::new().route(PATH, get(begin)).route(CALLBACK, get(end))
}

/// A link to the sign-in for a page, where there is a provider.
pub(super) fn link(context: &Context) -> String {
    context.oidc.as_ref().map_or_else(String::new, |provider| {
        let label = pages::escape(&provider.config().label);
        format!("<p><a href=\"{PATH}\">{label}</a></p>")
    })
}

fn provider(context: &Context) -> Result<&Provider, Refusal> {
    let none = || Refusal::Failed(Failure::new(Code::NotFound, "Unknown request"));
    context.oidc.as_ref().ok_or_else(none)
}

fn callback(context: &Context) -> String {
    format!("{}{CALLBACK}", context.config.public_url)
}

/// A page that says why nobody is logged in.
fn wrong(status: StatusCode, text: &str) -> Response {
    let text = pages::escape(text);
    let body = format!("<p class=\"wrong\">{text}</p><p><a href=\"{PATH}\">Try again</a></p>");
    pages::page(status, "You are not logged in", &body)
}

/// The same where the provider is why; operators find the cause in the log.
fn failed(error: &Error) -> Response {
    let cause = telemetry::chain(error);
    if let Error::Token { .. } = error {
        tracing::warn!(cause, "a sign-in at the identity provider was refused");
        return wrong(
            StatusCode::UNAUTHORIZED,
            "What the identity provider says of you is not valid here.",
        );
    }
    tracing::error!(cause, "the identity provider does not answer as it should");
    wrong(
        StatusCode::SERVICE_UNAVAILABLE,
        "The identity provider does not answer as it should. Try again later.",
    )
}

fn cookie(context: &Context, value: &str, seconds: u32) -> Option<HeaderValue> {
    let secure = if context.config.public_url.starts_with("https:") {
        "; Secure"
    } else {
        ""
    };
    // It comes along when the provider sends the browser back, which a strict one would not.
    let text = format!("{COOKIE}={value}; Path={PATH}; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    HeaderValue::from_str(&text).ok()
}

async fn begin(State(context): State<Context>) -> Result<Response, Refusal> {
    let provider = provider(&context)?;
    let attempt = Attempt {
        state: codes::random(LENGTH),
        nonce: codes::random(LENGTH),
        verifier: codes::random(LENGTH),
    };
    let url = match provider.begin(&attempt, &callback(&context)).await {
        Ok(url) => url,
        Err(error) => return Ok(failed(&error)),
    };
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    let location = HeaderValue::from_str(&url).map_err(Failure::internal)?;
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let held = format!("{}.{}.{}", attempt.state, attempt.nonce, attempt.verifier);
    if let Some(cookie) = cookie(&context, &held, COOKIE_SECONDS) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The attempt that this browser began.
fn begun(headers: &HeaderMap) -> Option<Attempt> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    let mut named = cookies.split(';').filter_map(|cookie| cookie.trim().split_once('='));
    let (_, held) = named.find(|(name, _)| *name == COOKIE)?;
    let mut parts = held
        .split('.')
        .filter(|part| part.len() == LENGTH)
        .map(ToOwned::to_owned);
    Some(Attempt {
        state: parts.next()?,
        nonce: parts.next()?,
        verifier: parts.next()?,
    })
}

#[derive(Deserialize)]
struct Came {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
    /// Why the provider says no.
    #[serde(default)]
    error: Option<String>,
}

async fn end(
    State(context): State<Context>,
    headers: HeaderMap,
    Query(came): Query<Came>,
) -> Result<Response, Refusal> {
    let provider = provider(&context)?;
    let Some(attempt) = begun(&headers).filter(|attempt| attempt.state == came.state) else {
        let text = "This sign-in was not begun in this browser, or took too long.";
        return Ok(wrong(StatusCode::BAD_REQUEST, text));
    };
    if let Some(error) = came.error {
        let error: String = error.chars().take(MAX_REASON).collect();
        let text = format!("The identity provider refuses: {error}");
        return Ok(wrong(StatusCode::FORBIDDEN, &text));
    }
    let settled = match provider.end(&came.code, &attempt, &callback(&context)).await {
        Ok(identity) => user::settle(&context, &provider.config().origin, &identity).await?,
        Err(error) => Err(error),
    };
    let user = match settled {
        Ok(user) => user,
        Err(error) => return Ok(failed(&error)),
    };
    let code = match codes::make(&context, CodeKind::Passcode, user.id).await {
        Ok(code) => code,
        Err(refusal) => return Ok(wrong(StatusCode::TOO_MANY_REQUESTS, pages::wrong(refusal)?)),
    };
    let body = format!(
        "<p>You are {}. The code is good for one log-in within five minutes:</p>\
         <p class=\"code\" id=\"passcode\">{}</p>",
        pages::escape(&user.name),
        code.expose()
    );
    let mut page = pages::page(StatusCode::OK, TITLE, &body);
    if let Some(cookie) = cookie(&context, "", 0) {
        page.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(page)
}
