//! Access tokens: JSON web tokens signed with Ed25519. The key is made once and kept, encrypted, in the store.

use crate::context::Clock;
use crate::error::Failure;
use api::v3::oauth::Claims;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use model::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use store::Store;

/// Seconds that an access token is valid.
pub const ACCESS_SECONDS: i64 = 1200;
/// Seconds that a refresh token is valid.
pub const REFRESH_SECONDS: i64 = 30 * 24 * 3600;
const SETTING: &str = "token_signing_key";
/// Clocks of hosts differ.
const LEEWAY_SECONDS: i64 = 30;

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The store failed, or does not decrypt: it was written with another encryption key.
    #[error("the stored signing key could not be read or written")]
    Store(#[from] store::StoreError),
    /// It is no key, or none could be made.
    #[error("the signing key is damaged")]
    Unusable,
}

/// The signing key, ready to use.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    signing: EncodingKey,
    verifying: DecodingKey,
    public: Vec<u8>,
    id: String,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    pkcs8: Secret,
}

impl Keys {
    /// Loads the key, making it where there is none yet.
    ///
    /// # Errors
    /// Where the store fails or holds something else.
    pub async fn load(store: &Store, now: Timestamp) -> Result<Self, KeyError> {
        if let Some(stored) = store.setting_fetch::<Stored>(SETTING).await? {
            return Self::of(&stored);
        }
        let fresh =
            Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).map_err(|_| KeyError::Unusable)?;
        let stored = Stored {
            pkcs8: Secret::new(STANDARD.encode(fresh.as_ref())),
        };
        let tx = store.begin().await?;
        // Another controller may have been faster.
        if let Some(theirs) = tx.setting_fetch::<Stored>(SETTING).await? {
            return Self::of(&theirs);
        }
        tx.setting_set(SETTING, &stored, now).await?;
        tx.commit().await?;
        Self::of(&stored)
    }

    fn of(stored: &Stored) -> Result<Self, KeyError> {
        let pkcs8 = STANDARD.decode(stored.pkcs8.expose()).map_err(|_| KeyError::Unusable)?;
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| KeyError::Unusable)?;
        let public = pair.public_key().as_ref().to_vec();
        Ok(Self(Arc::new(Inner {
            signing: EncodingKey::from_ed_der(&pkcs8),
            verifying: DecodingKey::from_ed_der(&public),
            id: hex::encode(&Sha256::digest(&public)[..8]),
            public,
        })))
    }

    /// A signed token.
    ///
    /// # Errors
    /// Where signing fails.
    pub fn sign(&self, claims: &Claims) -> Result<Secret, Failure> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.0.id.clone());
        jsonwebtoken::encode(&header, claims, &self.0.signing)
            .map(Secret::new)
            .map_err(Failure::internal)
    }

    /// What a token says, if it is one of ours and not over.
    #[must_use]
    pub fn verify(&self, token: &str, clock: &Clock) -> Option<Claims> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&["cloud_controller"]);
        // By the platform's clock, below.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.0.verifying, &validation)
            .ok()?
            .claims;
        (claims.exp + LEEWAY_SECONDS > clock().unix_timestamp()).then_some(claims)
    }

    /// The public key as `/token_keys` tells it.
    #[must_use]
    pub fn public(&self) -> serde_json::Value {
        serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
            "kid": self.0.id, "x": URL_SAFE_NO_PAD.encode(&self.0.public),
        })
    }
}
