//! What is asked of the identity provider: where its endpoints are, who somebody is for a code, and whether a token is
//! its own. What comes of it here is `user.rs`'s.
//!
//! Tokens are checked with the same library as our own.

use crate::config::Oidc;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use model::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::RwLock;

/// Longest wait for an answer of the provider.
const WAIT: Duration = Duration::from_secs(10);
/// Longest answer of the provider, in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// How long its endpoints and keys are taken for known.
const FRESH: Duration = Duration::from_secs(600);
/// A token by an unknown key makes us look no more often than this.
const LOOK: Duration = Duration::from_secs(30);
/// Clocks of hosts differ, in seconds.
const LEEWAY: u64 = 60;
/// Signatures that are taken: none that somebody can make who knows a public key or our secret.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Why the provider was of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It can't be reached, or answers with an error.
    #[error("the identity provider was asked for {what} in vain")]
    Ask {
        what: &'static str,
        #[source]
        source: reqwest::Error,
    },
    /// It says something that can't be read, or too much.
    #[error("the identity provider's {what} can't be read")]
    Read { what: &'static str },
    /// Others wait for it already, and got nothing so far.
    #[error("the identity provider takes too long to answer")]
    Busy,
    /// It calls itself otherwise.
    #[error("the identity provider says that its issuer is {found:?}")]
    Issuer { found: String },
    /// A token is not its own, not for us, or over.
    #[error("the identity token is not valid: {reason}")]
    Token { reason: String },
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The provider's id, which stays.
    pub subject: String,
    /// What people call them; may change.
    pub name: String,
}

/// The provider that is configured. Clones share what is known of it.
#[derive(Clone)]
pub(crate) struct Provider(Arc<Inner>);

struct Inner {
    config: Oidc,
    http: reqwest::Client,
    known: RwLock<Option<Known>>,
}

#[derive(Clone)]
struct Known {
    at: Instant,
    endpoints: Endpoints,
    keys: Arc<Vec<Jwk>>,
}

#[derive(Clone, Deserialize)]
struct Endpoints {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    userinfo_endpoint: Option<String>,
}

impl Endpoints {
    /// Whether all that secrets and keys pass is as safe as the issuer.
    fn are_safe(&self) -> bool {
        let all = [&self.token_endpoint, &self.jwks_uri, &self.authorization_endpoint];
        let mut all = all.into_iter().chain(&self.userinfo_endpoint);
        !self.issuer.starts_with("https:") || all.all(|endpoint| endpoint.starts_with("https:"))
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl KeySet {
    /// Keys that sign; others, and those of kinds that are not known here, are left out.
    fn usable(self) -> Vec<Jwk> {
        let keys = self.keys.into_iter();
        keys.filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
            .filter(|key| matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature)))
            .filter(|key| {
                use AlgorithmParameters::{EllipticCurve, OctetKeyPair, RSA};
                matches!(key.algorithm, EllipticCurve(_) | OctetKeyPair(_) | RSA(_))
            })
            .collect()
    }
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    #[serde(default)]
    access_token: Option<Secret>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Value,
    #[serde(default)]
    azp: Option<String>,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// What is kept between the two halves of a sign-in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub state: String,
    pub nonce: String,
    /// Proves at the end that who began is who ends (RFC 7636).
    pub verifier: String,
}

impl Provider {
    /// The provider of a configuration that was checked.
    ///
    /// # Errors
    /// Where no client for it can be made.
    pub fn new(config: Oidc) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(WAIT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self(Arc::new(Inner {
            config,
            http,
            known: RwLock::new(None),
        })))
    }

    /// What was configured.
    #[must_use]
    pub fn config(&self) -> &Oidc {
        &self.0.config
    }

    /// Where a browser goes to sign in.
    ///
    /// # Errors
    /// Where the provider does not say.
    pub async fn begin(&self, attempt: &Attempt, callback: &str) -> Result<String, Error> {
        let known = self.known(FRESH).await?;
        let read = |_| Error::Read {
            what: "authorization endpoint",
        };
        let mut url = url::Url::parse(&known.endpoints.authorization_endpoint).map_err(read)?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&attempt.verifier));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.0.config.client_id)
            .append_pair("redirect_uri", callback)
            .append_pair("scope", &self.0.config.scopes.join(" "))
            .append_pair("state", &attempt.state)
            .append_pair("nonce", &attempt.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url.into())
    }

    /// Who came back with a code.
    ///
    /// # Errors
    /// Where the provider does not answer, or its word is not valid.
    pub async fn end(&self, code: &str, attempt: &Attempt, callback: &str) -> Result<Identity, Error> {
        let known = self.known(FRESH).await?;
        let tokens = self.tokens(&known, code, attempt, callback).await?;
        let claims = self.verified(&tokens.id_token).await?;
        if claims.nonce.as_deref() != Some(&attempt.nonce) {
            return Err(refused("it is of another sign-in"));
        }
        let name_claim = &self.0.config.name_claim;
        let mut name = claims.more.get(name_claim).cloned();
        if let (None, Some(url), Some(token)) = (&name, &known.endpoints.userinfo_endpoint, &tokens.access_token) {
            let request = self.0.http.get(url).bearer_auth(token.expose());
            let mut info: Map<String, Value> = ask("user's claims", request).await?;
            if info.get("sub").and_then(Value::as_str) != Some(&claims.sub) {
                return Err(refused("the user's claims are of somebody else"));
            }
            name = info.remove(name_claim);
        }
        let name = name.as_ref().and_then(Value::as_str).unwrap_or_default().trim();
        if name.is_empty() || claims.sub.is_empty() {
            return Err(refused(&format!("it has no {name_claim:?}")));
        }
        Ok(Identity {
            name: name.to_owned(),
            subject: claims.sub,
        })
    }

    /// What the provider gives for a code.
    async fn tokens(&self, known: &Known, code: &str, attempt: &Attempt, callback: &str) -> Result<Tokens, Error> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", callback),
            ("code_verifier", &attempt.verifier),
        ];
        let request = self.0.http.post(&known.endpoints.token_endpoint).form(&form);
        let config = &self.0.config;
        // The form of a client's name and secret in that header is that of a form's fields.
        let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let (id, secret) = (encoded(&config.client_id), encoded(config.client_secret.expose()));
        match ask("tokens", request.basic_auth(id, Some(secret))).await {
            // A code that was used, is over, or is none.
            Err(Error::Ask { source, .. }) if source.status() == Some(reqwest::StatusCode::BAD_REQUEST) => {
                Err(refused("the provider does not take the code"))
            }
            other => other,
        }
    }

    /// The claims of a token of the provider's, for us and not over.
    async fn verified(&self, token: &str) -> Result<Claims, Error> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| refused(&error.to_string()))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(refused(&format!("it is signed by {:?}", header.alg)));
        }
        let find = |known: &Known| match &header.kid {
            Some(_) => (known.keys.iter()).find(|key| key.common.key_id == header.kid).cloned(),
            None if known.keys.len() == 1 => known.keys.first().cloned(),
            None => None,
        };
        let mut known = self.known(FRESH).await?;
        let mut key = find(&known);
        if key.is_none() {
            // It may be a new one.
            known = self.known(LOOK).await?;
            key = find(&known);
        }
        let key = key.ok_or_else(|| refused("its key is not the provider's"))?;
        let key = DecodingKey::from_jwk(&key).map_err(|error| refused(&error.to_string()))?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&known.endpoints.issuer]);
        validation.set_audience(&[&self.0.config.client_id]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.leeway = LEEWAY;
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation);
        let claims = claims.map_err(|error| refused(&error.to_string()))?.claims;
        let several = claims.aud.as_array().is_some_and(|all| all.len() > 1);
        let ours = |azp: &String| *azp == self.0.config.client_id;
        if !claims.azp.as_ref().map_or(!several, ours) {
            return Err(refused("it was made for another client"));
        }
        Ok(claims)
    }

    /// Endpoints and keys, not older than `age`.
    async fn known(&self, age: Duration) -> Result<Known, Error> {
        let recent = |known: &Option<Known>| known.clone().filter(|known| known.at.elapsed() < age);
        if let Some(known) = recent(&*self.0.known.read().await) {
            return Ok(known);
        }
        // One asks, the others wait for it.
        let held = tokio::time::timeout(WAIT, self.0.known.write()).await;
        let mut held = held.map_err(|_| Error::Busy)?;
        if let Some(known) = recent(&held) {
            return Ok(known);
        }
        let issuer = self.0.config.issuer.trim_end_matches('/');
        let request = self.0.http.get(format!("{issuer}/.well-known/openid-configuration"));
        let endpoints: Endpoints = ask("endpoints", request).await?;
        if endpoints.issuer.trim_end_matches('/') != issuer {
            return Err(Error::Issuer {
                found: endpoints.issuer,
            });
        }
        if !endpoints.are_safe() {
            return Err(Error::Read { what: "endpoints" });
        }
        let keys: KeySet = ask("keys", self.0.http.get(&endpoints.jwks_uri)).await?;
        let known = Known {
            at: Instant::now(),
            endpoints,
            keys: Arc::new(keys.usable()),
        };
        *held = Some(known.clone());
        Ok(known)
    }
}

/// The provider's word does not do.
pub(super) fn refused(reason: &str) -> Error {
    Error::Token {
        reason: reason.to_owned(),
    }
}

async fn ask<T: DeserializeOwned>(what: &'static str, request: reqwest::RequestBuilder) -> Result<T, Error> {
    let failed = |source: reqwest::Error| Error::Ask {
        what,
        source: source.without_url(),
    };
    let answer = request.send().await.map_err(failed)?;
    let answer = answer.error_for_status().map_err(failed)?;
    let (mut bytes, mut stream) = (Vec::new(), answer.bytes_stream());
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(failed)?);
        if bytes.len() > MAX_BYTES {
            return Err(Error::Read { what });
        }
    }
    serde_json::from_slice(&bytes).map_err(|_| Error::Read { what })
}
