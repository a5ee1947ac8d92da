//! The token server that `cf` expects: passwords, one-time codes, refresh tokens and client credentials for short-lived
//! access tokens. Here are the grants; the others have what people and programs do around them.

mod clients;
mod codes;
mod device;
mod keys;
mod oidc;
mod pages;
mod passcode;
mod users;

pub(crate) use codes::{SSH_CLIENT, digest_of};
pub(crate) use oidc::Provider;

use crate::auth::{ACCESS_SECONDS, REFRESH_SECONDS, verify};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::body_bytes;
use api::v3::oauth::{Claims, DEVICE_GRANT, Login, Token, TokenError, TokenRequest};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use model::resource::User;
use model::{Secret, Timestamp};
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;
use store::{RefreshToken, UserKind};
use uuid::Uuid;

const MAX_FORM_BYTES: usize = 64 * 1024;
/// Clients that need no secret: programs on people's own machines can't keep one.
const PUBLIC_CLIENTS: [&str; 2] = ["cf", "paas"];

/// Routes of the token server.
pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .route("/oauth/token", post(token))
        .route("/login", get(login))
        .merge(keys::routes())
        .merge(codes::routes())
        .merge(oidc::routes())
        .merge(passcode::routes())
        .merge(device::routes())
        .merge(clients::routes())
        .merge(users::routes())
}

async fn login(State(context): State<Context>) -> Json<Login> {
    let url = context.config.public_url.clone();
    let prompt = |kind: &str, label: &str| [kind.to_owned(), label.to_owned()];
    Json(Login {
        app: BTreeMap::from([("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        links: BTreeMap::from([("uaa".to_owned(), url.clone()), ("login".to_owned(), url.clone())]),
        prompts: BTreeMap::from([
            ("username".to_owned(), prompt("text", "Email")),
            ("password".to_owned(), prompt("password", "Password")),
            (
                "passcode".to_owned(),
                prompt(
                    "password",
                    &format!("Temporary Authentication Code ( Get one at {url}/passcode )"),
                ),
            ),
        ]),
    })
}

/// OAuth2's own errors, which are not CF's envelope.
enum Refusal {
    /// Wrong user, password, client or token.
    Unauthorized(&'static str),
    /// The caller's token does not reach that far.
    Forbidden,
    /// Too many wrong passwords.
    Locked,
    /// Too many codes that nobody has used.
    TooMany,
    /// About users and groups.
    Scim(StatusCode, &'static str, String),
    /// The request makes no sense.
    Invalid(&'static str, String),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error, description) = match self {
            Self::Unauthorized(error) => (StatusCode::UNAUTHORIZED, error, "Bad credentials".to_owned()),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "insufficient_scope",
                "Insufficient scope for this resource".to_owned(),
            ),
            Self::Locked => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "Your account has been locked because of too many failed attempts to login. Try again in 5 minutes"
                    .to_owned(),
            ),
            Self::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "Too many codes are open: use one, or wait until they are over".to_owned(),
            ),
            Self::Scim(status, error, description) => {
                // Clients read one or the other.
                let body = serde_json::json!({
                    "error": error, "error_description": description, "message": description,
                });
                return (status, Json(body)).into_response();
            }
            Self::Invalid(error, description) => (StatusCode::BAD_REQUEST, error, description),
            Self::Failed(failure) => return failure.into_response(),
        };
        let body = TokenError {
            error: error.to_owned(),
            error_description: description,
        };
        (status, Json(body)).into_response()
    }
}

async fn token(State(context): State<Context>, request: Request) -> Result<Json<Token>, Refusal> {
    let basic = basic(request.headers());
    let form: TokenRequest = serde_json::to_value(form_of(request).await?)
        .and_then(serde_json::from_value)
        .map_err(|_| Refusal::Invalid("invalid_request", "Missing grant type".to_owned()))?;
    let (client, client_secret) = basic.unwrap_or_else(|| {
        let client = form.client_id.clone().unwrap_or_else(|| "cf".to_owned());
        (client, form.client_secret.clone().unwrap_or_default())
    });
    match form.grant_type.as_str() {
        "password" => {
            client_check(&context, &client, &client_secret).await?;
            match &form.passcode {
                Some(code) => passcode::redeem(&context, code, &client).await,
                None => by_password(&context, form, &client).await,
            }
        }
        DEVICE_GRANT => {
            client_check(&context, &client, &client_secret).await?;
            device::redeem(&context, &form.device_code.unwrap_or_default(), &client).await
        }
        "refresh_token" => {
            client_check(&context, &client, &client_secret).await?;
            by_refresh(&context, form, &client).await
        }
        "client_credentials" => by_client(&context, &client, client_secret).await,
        other => Err(Refusal::Invalid(
            "unsupported_grant_type",
            format!("Unsupported grant type: {other}"),
        )),
    }
    .map(Json)
}

/// The fields of a form.
async fn form_of(request: Request) -> Result<BTreeMap<String, String>, Refusal> {
    let bytes = body_bytes(request, MAX_FORM_BYTES).await?;
    Ok(url::form_urlencoded::parse(&bytes).into_owned().collect())
}

fn basic(headers: &http::HeaderMap) -> Option<(String, Secret)> {
    let text = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (kind, value) = text.split_once(' ')?;
    if !kind.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (client, secret) = decoded.split_once(':')?;
    Some((client.to_owned(), Secret::new(secret)))
}

async fn client_check(context: &Context, client: &str, secret: &Secret) -> Result<(), Refusal> {
    if PUBLIC_CLIENTS.contains(&client) && secret.expose().is_empty() {
        return Ok(());
    }
    let known = context.store.user_by_name(UserKind::Client, client).await?;
    if verify(secret.clone(), known.and_then(|known| known.password_hash)).await {
        Ok(())
    } else {
        Err(Refusal::Unauthorized("invalid_client"))
    }
}

async fn by_password(context: &Context, form: TokenRequest, client: &str) -> Result<Token, Refusal> {
    let (Some(name), Some(password)) = (form.username, form.password) else {
        return Err(Refusal::Unauthorized("unauthorized"));
    };
    let user = sign_in(context, &name, password).await?;
    with_refresh(context, &user, client, "password").await
}

/// The user with this name and password. Who guesses too often waits.
async fn sign_in(context: &Context, name: &str, password: Secret) -> Result<User, Refusal> {
    if context.lockout.is_locked(name, context.now()) {
        return Err(Refusal::Locked);
    }
    let known = context.store.user_by_name(UserKind::User, name).await?;
    let hash = known.as_ref().and_then(|known| known.password_hash.clone());
    match (verify(password, hash).await, known) {
        (true, Some(known)) => {
            context.lockout.succeeded(name);
            Ok(known.user)
        }
        _ => {
            context.lockout.failed(name, context.now());
            Err(Refusal::Unauthorized("unauthorized"))
        }
    }
}

async fn by_refresh(context: &Context, form: TokenRequest, client: &str) -> Result<Token, Refusal> {
    let text = form.refresh_token.unwrap_or_default();
    let digest = Sha256::digest(text.expose().as_bytes());
    let found = context.store.refresh_token_fetch(&digest, context.now()).await?;
    let Some(found) = found.filter(|found| found.client == client) else {
        return Err(Refusal::Unauthorized("invalid_token"));
    };
    let user = context.store.user_fetch(found.user).await?;
    let user = user.ok_or(Refusal::Unauthorized("invalid_token"))?;
    // The same refresh token goes on: two invocations of a client may refresh at once.
    let mut token = access(context, &user, client, "refresh_token", UserKind::User)?;
    token.refresh_token = Some(text);
    Ok(token)
}

async fn by_client(context: &Context, client: &str, secret: Secret) -> Result<Token, Refusal> {
    let known = context.store.user_by_name(UserKind::Client, client).await?;
    let hash = known.as_ref().and_then(|known| known.password_hash.clone());
    match (verify(secret, hash).await, known) {
        (true, Some(known)) => Ok(access(
            context,
            &known.user,
            client,
            "client_credentials",
            UserKind::Client,
        )?),
        _ => Err(Refusal::Unauthorized("invalid_client")),
    }
}

async fn with_refresh(context: &Context, user: &User, client: &str, grant: &str) -> Result<Token, Refusal> {
    let mut token = access(context, user, client, grant, UserKind::User)?;
    let mut random = [0; 32];
    rand::rng().fill_bytes(&mut random);
    let text = format!("{}-r", URL_SAFE_NO_PAD.encode(random));
    let now = context.now();
    let tx = context.store.begin().await?;
    tx.refresh_token_create(&RefreshToken {
        digest: Sha256::digest(text.as_bytes()).to_vec(),
        user: user.id,
        client: client.to_owned(),
        created_at: now,
        valid_until: now + Duration::from_secs(REFRESH_SECONDS.unsigned_abs()),
    })
    .await?;
    tx.commit().await?;
    token.refresh_token = Some(Secret::new(text));
    Ok(token)
}

fn access(context: &Context, user: &User, client: &str, grant: &str, kind: UserKind) -> Answer<Token> {
    let now: Timestamp = context.now();
    let mut scope = vec![
        "openid".to_owned(),
        "cloud_controller.read".to_owned(),
        "cloud_controller.write".to_owned(),
    ];
    if user.admin {
        scope.push("cloud_controller.admin".to_owned());
    }
    let person = kind == UserKind::User;
    let claims = Claims {
        jti: Uuid::new_v4().to_string(),
        sub: user.id.to_string(),
        iss: format!("{}/oauth/token", context.config.public_url),
        aud: vec!["cloud_controller".to_owned(), "openid".to_owned()],
        scope: scope.clone(),
        client_id: client.to_owned(),
        cid: client.to_owned(),
        user_id: person.then(|| user.id.to_string()),
        user_name: person.then(|| user.name.clone()),
        email: person.then(|| user.name.clone()),
        origin: person.then(|| user.origin.clone()),
        grant_type: grant.to_owned(),
        iat: now.unix_timestamp(),
        exp: now.unix_timestamp() + ACCESS_SECONDS,
    };
    Ok(Token {
        access_token: context.tokens.sign(&claims)?,
        refresh_token: None,
        token_type: "bearer".to_owned(),
        expires_in: ACCESS_SECONDS.unsigned_abs(),
        scope: scope.join(" "),
        jti: claims.jti,
    })
}
