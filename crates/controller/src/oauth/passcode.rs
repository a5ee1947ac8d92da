//! `/passcode`: a one-time code for a log-in at the command line (`cf login --sso`), for who logs in in a browser.

use super::{Refusal, codes, oidc, pages, sign_in, with_refresh};
use crate::context::Context;
use api::v3::oauth::Token;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use model::Secret;
use store::CodeKind;

const TITLE: &str = "One-time code";
const PATH: &str = "/passcode";

pub(super) fn routes() -> Router<Context> {
    Router::new().route(PATH, get(ask).post(answer))
}

async fn ask(State(context): State<Context>) -> Response {
    shown(&context, StatusCode::OK, "")
}

fn shown(context: &Context, status: StatusCode, wrong: &str) -> Response {
    let fields = format!(
        "<p>Log in to get a code that a command line asks for.</p>{}<p class=\"wrong\">{}</p>{}<button>Get a code</button>",
        oidc::link(context),
        pages::escape(wrong),
        pages::CREDENTIALS
    );
    pages::form(context, status, TITLE, PATH, &fields)
}

async fn answer(State(context): State<Context>, request: Request) -> Result<Response, Refusal> {
    let headers = request.headers().clone();
    let mut form = super::form_of(request).await?;
    pages::check(&context, &headers, &form)?;
    let mut field = |name: &str| form.remove(name).unwrap_or_default();
    let (name, password) = (field("username"), Secret::new(field("password")));
    let made = match sign_in(&context, &name, password).await {
        Ok(user) => codes::make(&context, CodeKind::Passcode, user.id).await,
        Err(refusal) => Err(refusal),
    };
    let code = match made {
        Ok(code) => code,
        Err(refusal) => return Ok(shown(&context, StatusCode::UNAUTHORIZED, pages::wrong(refusal)?)),
    };
    let body = format!(
        "<p>It is good for one log-in within five minutes:</p><p class=\"code\" id=\"passcode\">{}</p>",
        code.expose()
    );
    Ok(pages::page(StatusCode::OK, TITLE, &body))
}

/// The grant: tokens for a code.
pub(super) async fn redeem(context: &Context, code: &Secret, client: &str) -> Result<Token, Refusal> {
    let tx = context.store.begin().await?;
    let digest = codes::digest_of(code.expose());
    let user = tx.code_take(&digest, CodeKind::Passcode, context.now()).await?;
    tx.commit().await?;
    let wrong = || Refusal::Unauthorized("unauthorized");
    let user = context.store.user_fetch(user.ok_or_else(wrong)?).await?;
    with_refresh(context, &user.ok_or_else(wrong)?, client, "password").await
}
