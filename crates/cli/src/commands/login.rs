//! `paas login` and `paas logout`.

use crate::actor::Cx;
use crate::actor::login::{self as actor, Proof};
use crate::args::platform::Login;
use crate::config::file::UserFile;
use crate::errors::Error;
use model::Secret;
use serde_json::json;

/// Logs in and remembers it.
pub async fn login(cx: &Cx, args: Login) -> Result<(), Error> {
    let begun = actor::begin(cx, args.api.as_deref())?;
    let proof = if args.device {
        by_device(cx, &begun).await?
    } else if args.sso {
        by_code(cx, &begun).await?
    } else {
        by_password(cx, args).await?
    };
    let done = actor::login(cx, begun, &proof).await?;
    if cx.ui.json() {
        let document =
            json!({"context": done.context, "api": done.api, "user": done.user, "org": done.org, "space": done.space});
        cx.ui.document(&document);
        return Ok(());
    }
    cx.ui.out_line(&format!(
        "logged in to {} as {} (context {})",
        done.api, done.user, done.context
    ));
    match (&done.org, &done.space) {
        (Some(org), Some(space)) => cx.ui.out_line(&format!("target: org {org} / space {space}")),
        (Some(org), None) => cx.ui.tip(&format!(
            "target: org {org}; choose a space with `paas target -s SPACE`"
        )),
        _ => cx.ui.tip("choose where to work with `paas target -o ORG -s SPACE`"),
    }
    Ok(())
}

async fn by_password(cx: &Cx, args: Login) -> Result<Proof, Error> {
    let user = match args.username.or_else(|| cx.env.var("PAAS_USERNAME")) {
        Some(user) => user,
        None => cx.ui.ask("User", "give it with -u").await?,
    };
    let password = match cx.env.var("PAAS_PASSWORD").filter(|_| !args.password_stdin) {
        Some(password) => Secret::new(password),
        None => {
            cx.ui
                .ask_secret("Password", "give the password on standard input")
                .await?
        }
    };
    if password.expose().is_empty() {
        return Err(Error::Usage {
            message: "no password was given".into(),
            hint: Some("type it, or give it on standard input: `paas login -u USER < FILE`".into()),
        });
    }
    cx.ui.doing(&format!("Logging in as {user}"));
    Ok(Proof::Password(user, password))
}

async fn by_code(cx: &Cx, begun: &actor::Begun) -> Result<Proof, Error> {
    let page = begun.client.passcode_page().await?;
    cx.ui.tip(&format!("get a one-time code at {page}"));
    let code = cx
        .ui
        .ask_secret("One-time code", "give the code on standard input")
        .await?;
    if code.expose().trim().is_empty() {
        return Err(Error::Usage {
            message: "no code was given".into(),
            hint: Some(format!("get one at {page}")),
        });
    }
    Ok(Proof::Passcode(Secret::new(code.expose().trim())))
}

async fn by_device(cx: &Cx, begun: &actor::Begun) -> Result<Proof, Error> {
    let device = begun.client.device_begin().await?;
    cx.ui.say(&format!(
        "open {} on any device and allow the log-in with the code {}",
        device.verification_uri, device.user_code
    ));
    if let Some(complete) = &device.verification_uri_complete {
        cx.ui.tip(&format!("or open {complete}"));
    }
    cx.ui.doing("Waiting for somebody to allow it");
    Ok(Proof::Device(device))
}

/// Forgets the tokens of the context in use.
pub fn logout(cx: &Cx) -> Result<(), Error> {
    let config = cx.config()?;
    let name = config.context_name.clone();
    UserFile::update(&config.user_path, |file| {
        if let Some(context) = file.contexts.get_mut(&name) {
            context.access_token = None;
            context.refresh_token = None;
            context.dev_login = None;
        }
    })?;
    if cx.ui.json() {
        cx.ui.document(&json!({"context": name}));
    } else {
        cx.ui.out_line(&format!("logged out of context {name}"));
    }
    Ok(())
}
