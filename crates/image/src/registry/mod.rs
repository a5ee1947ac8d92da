//! A client for registries, as the distribution specification has them. Blocking; whoever calls it has a thread for it.
//!
//! Credentials go to the registry that they are for, and to the token server that it names over HTTPS; never to where
//! it redirects. HTTP without TLS is spoken to this machine, and to the registries that the caller says it is for.

mod auth;
mod pull;
mod push;
mod tokens;

pub use push::Sent;

use crate::Error;
use auth::Challenge;
use model::Secret;
use std::io::{self, Read};
use tokens::Tokens;
use ureq::http::{self, Method, Request, Response, StatusCode, header};
use ureq::{Agent, Body, SendBody};

/// Longest answer that is shown of a registry that refuses.
const DETAIL_BYTES: u64 = 64 * 1024;
/// What is asked for to read, and to write.
const PULL: &str = "pull";
const PUSH: &str = "pull,push";

/// Who somebody is at a registry.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Name.
    pub username: String,
    /// Password or token.
    pub password: Secret,
}

/// One registry, as one user sees it.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    registry: String,
    base: String,
    credentials: Option<Credentials>,
    /// `Authorization` by scope.
    tokens: Tokens,
}

impl Client {
    /// A client for the registry at `address` (host, with port where it has one). `insecure` are registries that are
    /// spoken to without TLS.
    #[must_use]
    pub fn new(agent: Agent, address: &str, credentials: Option<Credentials>, insecure: &[String]) -> Self {
        let scheme = if is_local(address) || insecure.iter().any(|one| one == address) {
            "http"
        } else {
            "https"
        };
        Self {
            agent,
            registry: address.to_owned(),
            base: format!("{scheme}://{address}"),
            credentials,
            tokens: Tokens::default(),
        }
    }

    /// Asks for `url`, authorised for `actions` on `repository`; asks again once the registry has said what it wants.
    fn ask(&self, ask: &Ask<'_>, body: impl Fn() -> io::Result<SendBody<'static>>) -> Result<Response<Body>, Error> {
        let scope = format!("repository:{}:{}", ask.repository, ask.actions);
        let known = self.tokens.get(&scope);
        let response = self.send(ask, known.as_ref(), body().map_err(|source| self.unreachable(source))?)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenge = challenges
            .iter()
            .find_map(|value| Challenge::parse(value.to_str().ok()?));
        drop(response);
        let refused = || self.unauthorized(ask.repository);
        let authorization = match (challenge, &self.credentials) {
            (Some(Challenge::Basic), Some(credentials)) => auth::basic(credentials),
            (Some(Challenge::Bearer { realm, service }), credentials) => {
                self.token(&realm, service.as_deref(), &scope, credentials.as_ref(), ask.repository)?
            }
            _ => return Err(refused()),
        };
        let response = self.send(
            ask,
            Some(&authorization),
            body().map_err(|source| self.unreachable(source))?,
        )?;
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(refused());
        }
        self.tokens.set(&scope, authorization);
        Ok(response)
    }

    fn send(
        &self,
        ask: &Ask<'_>,
        authorization: Option<&Secret>,
        body: SendBody<'static>,
    ) -> Result<Response<Body>, Error> {
        let mut request = Request::builder().method(ask.method.clone()).uri(&ask.url);
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        // Elsewhere, where an upload may be sent to, the address itself is what authorises.
        if let Some(authorization) = authorization.filter(|_| self.is_own(&ask.url)) {
            request = request.header(header::AUTHORIZATION, authorization.expose());
        }
        let failed = |source: io::Error| self.unreachable(source);
        let request = request.body(body).map_err(|error| failed(io::Error::other(error)))?;
        let request = self
            .agent
            .configure_request(request)
            .http_status_as_error(false)
            .build();
        self.agent.run(request).map_err(|error| failed(error.into_io()))
    }

    /// A token of the server that the registry names.
    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        credentials: Option<&Credentials>,
        repository: &str,
    ) -> Result<Secret, Error> {
        let refused = || self.unauthorized(repository);
        let in_the_clear = realm.starts_with("http://") && self.base.starts_with("http://");
        if !realm.starts_with("https://") && !in_the_clear {
            return Err(refused());
        }
        let mut request = self.agent.get(realm).query("scope", scope);
        if let Some(service) = service {
            request = request.query("service", service);
        }
        if let Some(credentials) = credentials {
            request = request.header(header::AUTHORIZATION, auth::basic(credentials).expose());
        }
        let answer = request.config().http_status_as_error(false).build().call();
        let mut response = answer.map_err(|error| self.unreachable(error.into_io()))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => return Err(refused()),
            _ => return Err(self.answer(response)),
        }
        let text = response
            .body_mut()
            .with_config()
            .limit(crate::DOCUMENT_BYTES)
            .read_to_vec();
        let text = text.map_err(|error| self.unreachable(error.into_io()))?;
        auth::token(&text).ok_or_else(refused)
    }

    fn is_own(&self, url: &str) -> bool {
        url.strip_prefix(&self.base).is_some_and(|rest| rest.starts_with('/'))
    }

    fn unauthorized(&self, repository: &str) -> Error {
        Error::Unauthorized {
            registry: self.registry.clone(),
            repository: repository.to_owned(),
            given: self.credentials.is_some(),
        }
    }

    fn unreachable(&self, source: io::Error) -> Error {
        Error::Unreachable {
            registry: self.registry.clone(),
            source,
        }
    }

    /// An answer that was not expected, in the registry's words.
    fn answer(&self, response: Response<Body>) -> Error {
        let status = response.status().as_u16();
        let mut text = Vec::new();
        let body = response.into_body().into_with_config().limit(DETAIL_BYTES).reader();
        // What it says beside the status is good to have, no more.
        let _ = body.take(DETAIL_BYTES).read_to_end(&mut text);
        Error::Answer {
            registry: self.registry.clone(),
            status,
            detail: auth::detail(&text),
        }
    }
}

/// A request before it is authorised.
struct Ask<'a> {
    method: Method,
    url: String,
    repository: &'a str,
    actions: &'static str,
    headers: Vec<(http::HeaderName, String)>,
}

/// Whether it is this machine, to which nothing else can listen.
fn is_local(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let loopback = host
        .parse::<std::net::Ipv4Addr>()
        .is_ok_and(|address| address.is_loopback());
    host == "localhost" || loopback
}

fn nothing() -> io::Result<SendBody<'static>> {
    Ok(SendBody::none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear_unless_somebody_says_so() {
        let base =
            |address: &str, insecure: &[String]| Client::new(Agent::new_with_defaults(), address, None, insecure).base;
        assert_eq!(base("localhost:5000", &[]), "http://localhost:5000");
        assert_eq!(base("127.0.0.1:5000", &[]), "http://127.0.0.1:5000");
        assert_eq!(base("10.0.0.1:5000", &[]), "https://10.0.0.1:5000");
        assert_eq!(
            base("10.0.0.1:5000", &["10.0.0.1:5000".to_owned()]),
            "http://10.0.0.1:5000"
        );
        assert_eq!(base("localhost.example", &[]), "https://localhost.example");
    }

    #[test]
    fn credentials_stay_with_the_registry() {
        let client = Client::new(Agent::new_with_defaults(), "r.example", None, &[]);
        assert!(client.is_own("https://r.example/v2/"));
        for url in [
            "http://r.example/v2/",
            "https://r.example.evil/v2/",
            "https://r.example:1/v2/",
        ] {
            assert!(!client.is_own(url), "{url}");
        }
    }
}
