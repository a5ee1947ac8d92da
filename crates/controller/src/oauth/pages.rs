//! The few pages that people see in a browser: plain forms, without scripts. What every one of them has is here: headers
//! that keep it out of frames, caches and other sites, text that is escaped, and forms that only they can have sent.

use super::{Refusal, codes};
use crate::context::Context;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Holds what the form has to repeat: another site can send our form, but neither read nor set this.
const COOKIE: &str = "paas_form";
/// The field that repeats it.
const FIELD: &str = "csrf";
const LENGTH: usize = 32;
/// How long a form can be sent, in seconds.
const COOKIE_SECONDS: u32 = 900;
const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:26em;margin:4em auto;padding:0 1em}\
                     label{display:block;margin:1em 0}input{display:block;width:100%;padding:.4em;font:inherit;box-sizing:border-box}\
                     button{padding:.5em 1.5em;margin:0 1em 0 0;font:inherit}.code{font:1.5em monospace;user-select:all}\
                     .wrong{color:#a00}";

/// A text as it may stand in a page.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// A page of `body`, which is HTML.
pub(super) fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let title = escape(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><h1>{title}</h1>{body}</body></html>"
    );
    let mut response = (status, Html(html)).into_response();
    let style = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A page with a form of `fields`, which are HTML, that is sent to `action`.
pub(super) fn form(context: &Context, status: StatusCode, title: &str, action: &str, fields: &str) -> Response {
    let token = codes::random(LENGTH);
    let body = format!(
        "<form method=\"post\" action=\"{action}\"><input type=\"hidden\" name=\"{FIELD}\" value=\"{token}\">{fields}</form>"
    );
    let mut response = page(status, title, &body);
    let secure = if context.config.public_url.starts_with("https:") {
        "; Secure"
    } else {
        ""
    };
    let cookie =
        format!("{COOKIE}={token}; Path={action}; HttpOnly; SameSite=Strict; Max-Age={COOKIE_SECONDS}{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// The two fields of a log-in.
pub(super) const CREDENTIALS: &str = "<label>User <input name=\"username\" autocomplete=\"username\" required autofocus></label>\
     <label>Password <input name=\"password\" type=\"password\" autocomplete=\"current-password\" required></label>";

/// Refuses a form that another site may have sent.
pub(super) fn check(context: &Context, headers: &HeaderMap, form: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    let elsewhere = site.is_some_and(|site| !["same-origin", "none"].contains(&site));
    let foreign = text(header::ORIGIN).is_some_and(|origin| {
        let host = origin.split_once("://").map_or(origin, |(_, host)| host);
        origin != context.config.public_url && Some(host) != text(header::HOST)
    });
    let cookies = text(header::COOKIE).unwrap_or_default();
    let kept = cookies
        .split(';')
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value));
    let given = form.get(FIELD).map(String::as_str);
    let same = kept.is_some_and(|kept| kept.len() == LENGTH)
        && kept.map(Sha256::digest) == given.map(|given| Sha256::digest(given.as_bytes()));
    if elsewhere || foreign || !same {
        return Err(Refusal::Forbidden);
    }
    Ok(())
}

/// Why a log-in on a page failed, in words; anything else is no matter of the form.
pub(super) fn wrong(refusal: Refusal) -> Result<&'static str, Refusal> {
    match refusal {
        Refusal::Unauthorized(_) => Ok("User or password is wrong."),
        Refusal::Locked => Ok("Too many wrong passwords: try again in 5 minutes."),
        Refusal::TooMany => Ok("Too many codes are open: use one, or wait until they are over."),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_are_only_text() {
        assert_eq!(escape("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
        let page = page(StatusCode::OK, "<b>", "body");
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("style-src 'sha256-"));
    }
}
