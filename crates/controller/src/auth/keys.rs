//! Access tokens: JSON web tokens signed with Ed25519. Keys are made here and kept, encrypted, in the store, which all
//! controllers share. The newest signs; those before it verify until the last token that they signed is over.

use crate::context::Clock;
use crate::error::Failure;
use crate::setup::take_turn;
use api::v3::oauth::Claims;
use arc_swap::ArcSwap;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use model::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use store::{Db, Store};

/// Seconds that an access token is valid.
pub const ACCESS_SECONDS: i64 = 1200;
/// Seconds that a refresh token is valid.
pub const REFRESH_SECONDS: i64 = 30 * 24 * 3600;
/// All keys that still verify, oldest first.
const SETTING: &str = "token_signing_keys";
/// Where the one key was before there could be several.
const FIRST_SETTING: &str = "token_signing_key";
/// Clocks of hosts differ.
const LEEWAY_SECONDS: i64 = 30;
/// For so long after a key was replaced its tokens may be under way: other controllers notice within ten minutes.
const VERIFIES: Duration = Duration::from_secs(3600);
/// Between two looks into the store because of a token whose key is not known, in seconds: anyone can send one.
const LOOK_SECONDS: i64 = 1;
/// Most keys that are kept: who replaces them faster ends the oldest ones' tokens.
const MOST: usize = 16;

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The store failed, or does not decrypt: it was written with another encryption key.
    #[error("the stored signing keys could not be read or written")]
    Store(#[from] store::StoreError),
    /// It is no key, or none could be made.
    #[error("a signing key is damaged")]
    Unusable,
}

/// The keys, ready to use. Clones share them.
#[derive(Clone)]
pub struct Keys(Arc<Shared>);

struct Shared {
    ring: ArcSwap<Vec<Key>>,
    /// When the store was last asked for keys that are not known here, in seconds since 1970.
    looked: AtomicI64,
}

struct Key {
    signing: EncodingKey,
    verifying: DecodingKey,
    public: Vec<u8>,
    id: String,
    made: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    pkcs8: Secret,
    /// Absent from the first one of an old platform.
    #[serde(default, with = "time::serde::rfc3339::option")]
    made: Option<Timestamp>,
}

impl Stored {
    fn fresh(now: Timestamp) -> Result<Self, KeyError> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let fresh = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| KeyError::Unusable)?;
        Ok(Self {
            pkcs8: Secret::new(STANDARD.encode(fresh.as_ref())),
            made: Some(now),
        })
    }
}

impl Key {
    fn of(stored: &Stored) -> Result<Self, KeyError> {
        let pkcs8 = STANDARD.decode(stored.pkcs8.expose()).map_err(|_| KeyError::Unusable)?;
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| KeyError::Unusable)?;
        let public = pair.public_key().as_ref().to_vec();
        Ok(Self {
            signing: EncodingKey::from_ed_der(&pkcs8),
            verifying: DecodingKey::from_ed_der(&public),
            id: hex::encode(&Sha256::digest(&public)[..8]),
            public,
            made: stored.made,
        })
    }
}

/// The keys of the store, oldest first; empty where there are none yet.
async fn stored(db: &Db) -> Result<Vec<Stored>, KeyError> {
    if let Some(keys) = db.setting_fetch::<Vec<Stored>>(SETTING).await? {
        return Ok(keys);
    }
    let first = db.setting_fetch::<Stored>(FIRST_SETTING).await?;
    Ok(first.into_iter().collect())
}

fn ring(stored: &[Stored]) -> Result<Vec<Key>, KeyError> {
    stored.iter().map(Key::of).collect()
}

impl Keys {
    /// Loads the keys, making one where there is none yet.
    ///
    /// # Errors
    /// Where the store fails or holds something else.
    pub async fn load(store: &Store, now: Timestamp) -> Result<Self, KeyError> {
        let mut keys = stored(store).await?;
        if keys.is_empty() {
            let fresh = Stored::fresh(now)?;
            let tx = store.begin().await?;
            take_turn(&tx, now).await?;
            // Another controller may have been faster.
            keys = stored(&tx).await?;
            if keys.is_empty() {
                keys.push(fresh);
                tx.setting_set(SETTING, &keys, now).await?;
                tx.commit().await?;
            }
        }
        Ok(Self(Arc::new(Shared {
            ring: ArcSwap::from_pointee(ring(&keys)?),
            looked: AtomicI64::new(0),
        })))
    }

    /// Takes over what other controllers did.
    ///
    /// # Errors
    /// Where the store fails or holds something else.
    pub async fn reload(&self, store: &Store) -> Result<(), KeyError> {
        let keys = stored(store).await?;
        if !keys.is_empty() {
            self.0.ring.store(Arc::new(ring(&keys)?));
        }
        Ok(())
    }

    /// A new key signs from now on. Those before it verify for as long as their tokens are valid; with `forget` not a
    /// moment longer, so that everybody has to get a new token.
    ///
    /// # Errors
    /// Where no key can be made, or the store fails.
    pub async fn rotate(&self, store: &Store, now: Timestamp, forget: bool) -> Result<(), KeyError> {
        let fresh = Stored::fresh(now)?;
        let tx = store.begin().await?;
        take_turn(&tx, now).await?;
        let mut keys = stored(&tx).await?;
        if forget {
            keys.clear();
        }
        keys.push(fresh);
        keys.drain(..superseded(&keys, now).max(keys.len().saturating_sub(MOST)));
        tx.setting_set(SETTING, &keys, now).await?;
        tx.commit().await?;
        self.0.ring.store(Arc::new(ring(&keys)?));
        Ok(())
    }

    /// Replaces a key that is older than `age`, and removes those whose tokens are over. Whether there is a new one.
    ///
    /// # Errors
    /// Where no key can be made, or the store fails.
    pub async fn age(&self, store: &Store, now: Timestamp, age: Duration) -> Result<bool, KeyError> {
        self.reload(store).await?;
        let old = |key: &Key| key.made.is_none_or(|made| made + age < now);
        if self.0.ring.load().last().is_some_and(old) {
            self.rotate(store, now, false).await?;
            return Ok(true);
        }
        if superseded(&stored(store).await?, now) == 0 {
            return Ok(false);
        }
        let tx = store.begin().await?;
        take_turn(&tx, now).await?;
        let mut keys = stored(&tx).await?;
        let over = superseded(&keys, now);
        if over > 0 {
            keys.drain(..over);
            tx.setting_set(SETTING, &keys, now).await?;
            tx.commit().await?;
            self.0.ring.store(Arc::new(ring(&keys)?));
        }
        Ok(false)
    }

    /// A signed token.
    ///
    /// # Errors
    /// Where signing fails.
    pub fn sign(&self, claims: &Claims) -> Result<Secret, Failure> {
        let ring = self.0.ring.load();
        let key = ring
            .last()
            .ok_or_else(|| Failure::internal("there is no signing key"))?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.id.clone());
        jsonwebtoken::encode(&header, claims, &key.signing)
            .map(Secret::new)
            .map_err(Failure::internal)
    }

    /// What a token says, if it is one of ours and not over.
    #[must_use]
    pub fn verify(&self, token: &str, clock: &Clock) -> Option<Claims> {
        let id = jsonwebtoken::decode_header(token).ok()?.kid?;
        let ring = self.0.ring.load();
        let key = ring.iter().find(|key| key.id == id)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&["cloud_controller"]);
        // By the platform's clock, below.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.verifying, &validation)
            .ok()?
            .claims;
        (claims.exp + LEEWAY_SECONDS > clock().unix_timestamp()).then_some(claims)
    }

    /// The same, looking into the store where the token names a key that another controller may have made.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn verify_shared(&self, store: &Store, token: &str, clock: &Clock) -> Result<Option<Claims>, KeyError> {
        let claims = self.verify(token, clock);
        if claims.is_some() || self.knows(token) {
            return Ok(claims);
        }
        let now = clock().unix_timestamp();
        let before = self.0.looked.load(Ordering::Relaxed);
        let turn = now - before >= LOOK_SECONDS
            && (self.0.looked)
                .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !turn {
            return Ok(None);
        }
        self.reload(store).await?;
        Ok(self.verify(token, clock))
    }

    /// Whether a token is none at all, or by a key that is here.
    fn knows(&self, token: &str) -> bool {
        let header = jsonwebtoken::decode_header(token);
        let id = header
            .ok()
            .filter(|header| header.alg == Algorithm::EdDSA)
            .and_then(|header| header.kid);
        id.is_none_or(|id| self.0.ring.load().iter().any(|key| key.id == id))
    }

    /// The public keys as `/token_keys` tells them, the one that signs first.
    #[must_use]
    pub fn public(&self) -> Vec<serde_json::Value> {
        let ring = self.0.ring.load();
        let keys = ring.iter().rev().map(|key| {
            serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
                "kid": key.id, "x": URL_SAFE_NO_PAD.encode(&key.public),
            })
        });
        keys.collect()
    }
}

/// How many keys were replaced so long ago that all their tokens are over.
fn superseded(keys: &[Stored], now: Timestamp) -> usize {
    let replaced = keys.iter().skip(1).map(|next| next.made);
    replaced
        .take_while(|at| at.is_some_and(|at| at + VERIFIES < now))
        .count()
}
