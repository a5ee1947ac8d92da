//! Tokens: which one a request carries, when it is renewed, and where the new one is kept.

use super::http::{Client, innermost};
use super::wire::{Links, Platform, Tokens};
use super::{REQUEST, http};
use crate::config::file::{Context, UserFile};
use crate::config::{Config, DEV_CONTEXT};
use crate::errors::Error;
use ::http::Method;
use base64::Engine as _;
use model::Secret;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// A token is renewed this long before it ends, in seconds.
const MARGIN: u64 = 60;

/// The state of the login.
pub struct Session {
    access: Option<Secret>,
    refresh: Option<Secret>,
    credentials: Option<(String, Secret)>,
    /// Given by the user; used as it is and never renewed.
    fixed: bool,
    keep: Option<Keep>,
}

/// Where renewed tokens go.
struct Keep {
    path: PathBuf,
    name: String,
    context: Context,
}

/// The client that logs in; it has no secret.
pub(super) const CLIENT: &str = "cf";

/// How to ask for tokens.
pub enum Grant<'a> {
    Password(&'a str, &'a Secret),
    /// A one-time code.
    Passcode(&'a Secret),
    Refresh(&'a Secret),
}

impl Session {
    /// Of the context in force.
    pub fn new(config: &Config) -> Self {
        let context = config.context.as_ref();
        let from_env = config.credentials.is_some() && context.is_some_and(|context| context.dev_login.is_none());
        let keep = context
            .filter(|_| config.persistent && !from_env && !config.context_name.is_empty())
            .map(|context| Keep {
                path: config.user_path.clone(),
                name: config.context_name.clone(),
                context: context.clone(),
            });
        // Credentials of the environment stand above a stored login, which may be another user's.
        let stored = context.filter(|_| !from_env);
        Self {
            access: config
                .token
                .clone()
                .or_else(|| stored.and_then(|context| context.access_token.clone())),
            refresh: stored.and_then(|context| context.refresh_token.clone()),
            credentials: config.credentials.clone(),
            fixed: config.token.is_some(),
            keep,
        }
    }

    fn is_anonymous(&self) -> bool {
        self.access.is_none() && self.refresh.is_none() && self.credentials.is_none()
    }
}

impl Client {
    /// A token that is good for a while; `None` where there is no login.
    pub(super) async fn token(&self) -> Result<Option<Secret>, Error> {
        let mut session = self.0.session.lock().await;
        if session.fixed || session.is_anonymous() {
            return Ok(session.access.clone());
        }
        match &session.access {
            Some(token) if expires(token).is_none_or(|at| at > now() + MARGIN) => Ok(Some(token.clone())),
            _ => {
                self.renew(&mut session).await?;
                Ok(session.access.clone())
            }
        }
    }

    /// The server refused the token: get another.
    pub(super) async fn token_refused(&self) -> Result<(), Error> {
        let mut session = self.0.session.lock().await;
        if session.fixed {
            return Err(Error::LoginRefused {
                api: self.api().to_owned(),
                detail: "PAAS_TOKEN is not accepted".into(),
            });
        }
        if session.is_anonymous() {
            return Err(Error::SessionEnded {
                api: self.api().to_owned(),
            });
        }
        session.access = None;
        self.renew(&mut session).await
    }

    async fn renew(&self, session: &mut Session) -> Result<(), Error> {
        let mut refused = None;
        if let Some(refresh) = session.refresh.clone() {
            match self.grant(&Grant::Refresh(&refresh)).await {
                Ok(tokens) => return self.keep(session, tokens),
                Err(error @ Error::LoginRefused { .. }) => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        match (session.credentials.clone(), refused) {
            (Some((user, password)), _) => {
                let tokens = self.grant(&Grant::Password(&user, &password)).await?;
                self.keep(session, tokens)
            }
            (None, _) => Err(Error::SessionEnded {
                api: self.api().to_owned(),
            }),
        }
    }

    fn keep(&self, session: &mut Session, tokens: Tokens) -> Result<(), Error> {
        session.access = Some(tokens.access_token.clone());
        if tokens.refresh_token.is_some() {
            session.refresh.clone_from(&tokens.refresh_token);
        }
        let refresh = session.refresh.clone();
        if let Some(keep) = &session.keep {
            UserFile::update(&keep.path, |user| {
                let context = user
                    .contexts
                    .entry(keep.name.clone())
                    .or_insert_with(|| keep.context.clone());
                if context.api != keep.context.api {
                    context.clone_from(&keep.context);
                }
                context.access_token = Some(tokens.access_token);
                context.refresh_token = refresh;
                if keep.name == DEV_CONTEXT && user.current.is_none() {
                    user.current = Some(keep.name.clone());
                }
            })?;
        }
        Ok(())
    }

    /// Asks the token server for tokens.
    ///
    /// # Errors
    /// Where it refuses or can't be reached.
    pub async fn grant(&self, grant: &Grant<'_>) -> Result<Tokens, Error> {
        let url = format!("{}/oauth/token", self.token_server().await?);
        let form = match grant {
            Grant::Password(user, password) => {
                vec![
                    ("grant_type", "password"),
                    ("username", *user),
                    ("password", password.expose()),
                ]
            }
            Grant::Passcode(code) => vec![("grant_type", "password"), ("passcode", code.expose())],
            Grant::Refresh(token) => vec![("grant_type", "refresh_token"), ("refresh_token", token.expose())],
        };
        let request = self
            .0
            .http
            .post(url)
            .basic_auth(CLIENT, Some(""))
            .timeout(REQUEST)
            .form(&form);
        self.ui().trace("> POST /oauth/token [credentials masked]");
        // Asking for a token twice does no harm.
        let answer = self.finish(request, "POST /oauth/token".into(), REQUEST, true).await;
        match answer {
            Ok(answer) => answer.json(),
            Err(Error::Refused(refusal)) if matches!(refusal.status, 400 | 401 | 403) => Err(Error::LoginRefused {
                api: self.api().to_owned(),
                detail: refusal.detail,
            }),
            Err(error) => Err(error),
        }
    }

    /// Address of the token server, without a slash at the end.
    ///
    /// # Errors
    /// As [`Self::links`].
    pub(super) async fn token_server(&self) -> Result<String, Error> {
        let links = self.links().await?;
        let base = links.uaa.as_ref().or(links.login.as_ref());
        let base = base.map_or_else(|| self.api().to_owned(), |link| link.href.clone());
        Ok(base.trim_end_matches('/').to_owned())
    }

    /// What the API says of itself and of its companions; asked once.
    ///
    /// # Errors
    /// Where it can't be reached or is no such API.
    pub async fn links(&self) -> Result<&Links, Error> {
        self.0
            .links
            .get_or_try_init(|| async {
                let call = http::Call::new(Method::GET, "/");
                let request = self.0.http.get(format!("{}/", self.api())).timeout(REQUEST);
                let answer = self.finish(request, call.name(), REQUEST, true).await?;
                Ok(answer.json::<super::wire::Root>()?.links)
            })
            .await
    }

    /// What the platform says of itself; asked once. Another implementation of the API may say nothing.
    ///
    /// # Errors
    /// Where it can't be reached.
    pub async fn platform(&self) -> Result<&Platform, Error> {
        self.0
            .platform
            .get_or_try_init(|| async {
                match self.send(http::Call::new(Method::GET, "/v3/info")).await {
                    Ok(answer) => Ok(answer.json().unwrap_or_default()),
                    Err(Error::Refused(_)) => Ok(Platform::default()),
                    Err(error) => Err(error),
                }
            })
            .await
    }

    /// The tokens of a log-in are those of this client from now on; nothing is kept elsewhere.
    pub async fn logged_in(&self, tokens: &Tokens) {
        let mut session = self.0.session.lock().await;
        session.access = Some(tokens.access_token.clone());
        session.refresh.clone_from(&tokens.refresh_token);
        session.fixed = false;
        session.keep = None;
    }

    /// Where people get one-time codes.
    ///
    /// # Errors
    /// As [`Self::links`].
    pub async fn passcode_page(&self) -> Result<String, Error> {
        let links = self.links().await?;
        let base = links.login.as_ref().or(links.uaa.as_ref());
        let base = base.map_or_else(|| self.api().to_owned(), |link| link.href.clone());
        Ok(format!("{}/passcode", base.trim_end_matches('/')))
    }

    /// Name of the user that the token says, for messages.
    pub async fn user_name(&self) -> Option<String> {
        let token = self.token().await.ok().flatten()?;
        let claims = claims(&token)?;
        ["user_name", "client_id"]
            .iter()
            .find_map(|name| claims.get(*name)?.as_str().map(str::to_owned))
    }
}

fn claims(token: &Secret) -> Option<serde_json::Value> {
    let payload = token.expose().split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload.trim_end_matches('='))
        .ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// When a token ends, in seconds since 1970, where it says so.
fn expires(token: &Secret) -> Option<u64> {
    claims(token)?.get("exp")?.as_u64()
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The innermost reason, for other parts of the client.
pub(super) fn reason(error: &dyn std::error::Error) -> String {
    innermost(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_when_it_ends_and_whose_it_is() {
        let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let token = Secret::new(format!("h.{}.s", encode(r#"{"exp":1700000000,"user_name":"ann"}"#)));
        assert_eq!(expires(&token), Some(1_700_000_000));
        assert_eq!(expires(&Secret::new("opaque")), None);
    }
}
