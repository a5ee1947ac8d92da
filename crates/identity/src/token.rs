//! Tokens that hosts join with: one text that has all a new host needs to know. And TLS towards controllers that nothing
//! but the fingerprint of their authority is known of.

use crate::authority::fingerprint;
use crate::{Error, provider};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::Secret;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

/// Beginning of every token, so that people and scanners of secrets know one when they see it.
const PREFIX: &str = "paasjoin_";
/// Longest token.
const MAX: usize = 8 * 1024;

/// A token. Its text is a secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinToken {
    /// Which.
    pub id: Uuid,
    /// Proves that somebody was given it: 32 random bytes in hexadecimal.
    pub secret: Secret,
    /// SHA-256 of the authority's certificate, in hexadecimal.
    authority: String,
    /// Where controllers are.
    pub controllers: Vec<String>,
}

/// A text that is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a whole token: one begins with {PREFIX:?}, and is printed by `paas admin token create`")]
pub struct InvalidToken;

impl JoinToken {
    /// A new one.
    #[must_use]
    pub fn create(id: Uuid, authority: [u8; 32], controllers: Vec<String>) -> Self {
        Self {
            id,
            secret: Secret::new(hex::encode(rand::random::<[u8; 32]>())),
            authority: hex::encode(authority),
            controllers,
        }
    }

    /// What is stored of a secret: its SHA-256.
    #[must_use]
    pub fn digest(secret: &Secret) -> [u8; 32] {
        Sha256::digest(secret.expose()).into()
    }

    /// As it is given to an operator.
    #[must_use]
    pub fn text(&self) -> Secret {
        // Of texts and a list of them: it can always be written.
        let json = serde_json::to_vec(self).unwrap_or_default();
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json)))
    }

    /// TLS towards controllers of the authority with the fingerprint in the token.
    ///
    /// # Errors
    /// Where it can't be set up.
    pub fn client(&self) -> Result<ClientConfig, Error> {
        let mut authority = [0; 32];
        hex::decode_to_slice(&self.authority, &mut authority)
            .map_err(|error| Error::read("the token's fingerprint", error))?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Error::Tls)?;
        let mut config = config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { authority }))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        let encoded = text
            .strip_prefix(PREFIX)
            .filter(|_| text.len() <= MAX)
            .ok_or(InvalidToken)?;
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidToken)?;
        serde_json::from_slice(&json).map_err(|_| InvalidToken)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Accepts servers whose chain leads to the one authority, and by nothing but its fingerprint.
#[derive(Debug)]
struct Pinned {
    authority: [u8; 32],
}

impl Pinned {
    /// The usual checks, with the authority as the only root.
    fn verifier(&self, shown: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = shown.iter().find(|shown| fingerprint(shown) == self.authority);
        let mut roots = RootCertStore::empty();
        roots.add(authority.ok_or(unknown.clone())?.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|_| unknown)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = self.verifier(intermediates)?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
