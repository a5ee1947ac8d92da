//! Log-ins of programs that have no browser at hand (RFC 8628): the program gets two codes, shows the short one, and asks
//! for tokens with the long one until somebody has allowed that at `/device`.

use super::{Refusal, basic, client_check, codes, form_of, pages, sign_in, with_refresh};
use crate::context::Context;
use api::v3::oauth::{DeviceAuthorization, Token};
use axum::extract::{Query, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use model::Secret;
use rand::Rng as _;
use serde::Deserialize;
use std::time::Duration;
use store::DeviceLogin;

/// How long somebody may take to allow a log-in, in seconds.
const VALID_SECONDS: u64 = 600;
/// How long a log-in that is over is still known, to say so.
const KEEP: Duration = Duration::from_secs(600);
/// Least time between two questions of a program, in seconds, and by how much more it has to wait that asks too often.
const INTERVAL_SECONDS: u32 = 5;
/// Clocks and networks don't keep time to the millisecond.
const LEEWAY: Duration = Duration::from_millis(500);
/// Most log-ins that wait at once: anybody can begin one.
const MOST: u64 = 10_000;
const DEVICE_LETTERS: usize = 32;
/// Letters of what people type: no vowels, so that no words come of it.
const USER_LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const USER_LENGTH: usize = 8;
const PATH: &str = "/device";
const TITLE: &str = "Log in on another device";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/oauth/device_authorization", post(begin))
        .route(PATH, get(ask).post(answer))
}

/// A code for people, in two halves.
fn user_code() -> String {
    let mut random = rand::rng();
    let mut letters: String = (0..USER_LENGTH)
        .map(|_| char::from(USER_LETTERS[random.random_range(0..USER_LETTERS.len())]))
        .collect();
    letters.insert(USER_LENGTH / 2, '-');
    letters
}

/// The digest of a code as people type it: with or without the line, in any case.
fn digest_typed(text: &str) -> Vec<u8> {
    let letters = text.chars().filter(char::is_ascii_alphanumeric);
    codes::digest_of(&letters.collect::<String>().to_uppercase())
}

async fn begin(State(context): State<Context>, request: Request) -> Result<Json<DeviceAuthorization>, Refusal> {
    let basic = basic(request.headers());
    let mut form = form_of(request).await?;
    let (client, secret) = basic.unwrap_or_else(|| {
        let secret = form.remove("client_secret").unwrap_or_default();
        (form.remove("client_id").unwrap_or_default(), Secret::new(secret))
    });
    client_check(&context, &client, &secret).await?;
    let (device_code, user_code) = (codes::random(DEVICE_LETTERS), user_code());
    let now = context.now();
    let login = DeviceLogin {
        digest: codes::digest_of(&device_code),
        user_code_digest: digest_typed(&user_code),
        client,
        user: None,
        denied: false,
        interval_seconds: INTERVAL_SECONDS,
        // The first question may come at once.
        polled_at: now - Duration::from_secs(INTERVAL_SECONDS.into()),
        valid_until: now + Duration::from_secs(VALID_SECONDS),
    };
    let tx = context.store.begin().await?;
    if !tx.device_login_create(&login, now - KEEP, MOST).await? {
        return Err(Refusal::TooMany);
    }
    tx.commit().await?;
    let url = format!("{}{PATH}", context.config.public_url);
    Ok(Json(DeviceAuthorization {
        device_code: Secret::new(device_code),
        verification_uri_complete: Some(format!("{url}?user_code={user_code}")),
        verification_uri: url,
        user_code,
        expires_in: VALID_SECONDS,
        interval: Some(INTERVAL_SECONDS.into()),
    }))
}

#[derive(Deserialize)]
struct Ask {
    #[serde(default)]
    user_code: String,
}

async fn ask(State(context): State<Context>, Query(query): Query<Ask>) -> Response {
    shown(&context, StatusCode::OK, &query.user_code, "")
}

fn shown(context: &Context, status: StatusCode, code: &str, wrong: &str) -> Response {
    let code: String = code.chars().take(2 * USER_LENGTH).collect();
    let fields = format!(
        "<p>A program on another device wants to act in your name. Go on only if you have just started it yourself and it \
         shows this code.</p><p class=\"wrong\">{}</p>\
         <label>Code <input name=\"user_code\" value=\"{}\" autocomplete=\"off\" required></label>{}\
         <button name=\"decision\" value=\"allow\">Allow</button><button name=\"decision\" value=\"deny\">Refuse</button>",
        pages::escape(wrong),
        pages::escape(&code),
        pages::CREDENTIALS
    );
    pages::form(context, status, TITLE, PATH, &fields)
}

async fn answer(State(context): State<Context>, request: Request) -> Result<Response, Refusal> {
    let headers = request.headers().clone();
    let mut form = form_of(request).await?;
    pages::check(&context, &headers, &form)?;
    let mut field = |name: &str| form.remove(name).unwrap_or_default();
    let (name, password, code) = (field("username"), Secret::new(field("password")), field("user_code"));
    let allowed = match field("decision").as_str() {
        "allow" => true,
        "deny" => false,
        _ => return Err(Refusal::Invalid("invalid_request", "Allow or refuse it".to_owned())),
    };
    let user = match sign_in(&context, &name, password).await {
        Ok(user) => user,
        Err(refusal) => {
            return Ok(shown(&context, StatusCode::UNAUTHORIZED, &code, pages::wrong(refusal)?));
        }
    };
    // Codes are short: who is logged in must not guess those of others either.
    let guesses = format!("{PATH} {name}");
    if context.lockout.is_locked(&guesses, context.now()) {
        let text = "Too many wrong codes: try again in 5 minutes.";
        return Ok(shown(&context, StatusCode::TOO_MANY_REQUESTS, "", text));
    }
    let tx = context.store.begin().await?;
    let found = tx
        .device_login_answer(&digest_typed(&code), allowed.then_some(user.id), context.now())
        .await?;
    tx.commit().await?;
    if !found {
        context.lockout.failed(&guesses, context.now());
        let text = "There is no such code, or its time is over.";
        return Ok(shown(&context, StatusCode::BAD_REQUEST, &code, text));
    }
    context.lockout.succeeded(&guesses);
    let text = if allowed {
        "<p>The program is logged in. You can close this page.</p>"
    } else {
        "<p>The program was refused. You can close this page.</p>"
    };
    Ok(pages::page(StatusCode::OK, TITLE, text))
}

/// The grant: tokens once somebody has allowed it, and until then how to go on.
pub(super) async fn redeem(context: &Context, code: &Secret, client: &str) -> Result<Token, Refusal> {
    let (digest, now) = (codes::digest_of(code.expose()), context.now());
    let refused = |error: &'static str, text: &str| Err(Refusal::Invalid(error, text.to_owned()));
    let tx = context.store.begin().await?;
    let found = tx.device_login_fetch(&digest).await?;
    let Some(login) = found.filter(|login| login.client == client) else {
        return refused("invalid_grant", "There is no such log-in");
    };
    if login.valid_until <= now {
        return refused("expired_token", "Nobody allowed the log-in in time");
    }
    if login.denied {
        tx.device_login_delete(&digest).await?;
        tx.commit().await?;
        return refused("access_denied", "The log-in was refused");
    }
    let Some(user) = login.user else {
        let due = login.polled_at + Duration::from_secs(login.interval_seconds.into());
        let early = now + LEEWAY < due;
        let interval = login.interval_seconds + if early { INTERVAL_SECONDS } else { 0 };
        tx.device_login_polled(&digest, interval, now).await?;
        tx.commit().await?;
        return if early {
            refused("slow_down", "Ask less often: wait five seconds more each time")
        } else {
            refused("authorization_pending", "Nobody has allowed the log-in yet")
        };
    };
    let first = tx.device_login_delete(&digest).await?;
    tx.commit().await?;
    let user = context.store.user_fetch(user).await?;
    match user.filter(|_| first) {
        Some(user) => with_refresh(context, &user, client, "device_code").await,
        None => refused("invalid_grant", "There is no such log-in"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_for_people_are_read_as_they_are_typed() {
        let code = user_code();
        assert_eq!((code.len(), code.find('-')), (USER_LENGTH + 1, Some(USER_LENGTH / 2)));
        let typed = format!(" {} ", code.to_lowercase().replace('-', " "));
        assert_eq!(digest_typed(&typed), digest_typed(&code));
    }
}
