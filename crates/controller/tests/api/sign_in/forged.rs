//! What a provider may not say: tokens that are not its own, not for us, over, or of another sign-in.

use super::{Browser, CLIENT, SECRET, code, signed_up};
use crate::client::URL;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::testing::{Engine, TestStore};

/// A provider that says whatever it is told to.
#[derive(Clone)]
struct Liar {
    issuer: String,
    /// What it gives for the next code.
    token: Arc<Mutex<String>>,
    public: Arc<Value>,
}

/// A key that signs, and how a provider publishes it.
struct Key {
    signing: EncodingKey,
    public: Value,
}

fn key() -> Key {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    Key {
        signing: EncodingKey::from_ed_der(pkcs8.as_ref()),
        public: json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "one", "x": x}),
    }
}

async fn liar(public: &Value) -> Liar {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let liar = Liar {
        issuer: format!("http://{}", listener.local_addr().expect("bound")),
        token: Arc::default(),
        public: Arc::new(public.clone()),
    };
    let described = async |State(liar): State<Liar>| {
        let at = |path: &str| format!("{}/{path}", liar.issuer);
        Json(
            json!({"issuer": liar.issuer, "authorization_endpoint": at("auth"), "token_endpoint": at("token"),
            "jwks_uri": at("keys")}),
        )
    };
    // Keys of other kinds and for other uses are passed over.
    let keys = async |State(liar): State<Liar>| {
        Json(
            json!({"keys": [{"kty": "later", "kid": "one"}, {"kty": "oct", "k": "AAAA", "use": "enc", "kid": "one"},
            *liar.public]}),
        )
    };
    let token = async |State(liar): State<Liar>| Json(json!({"id_token": *liar.token.lock()}));
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(described))
        .route("/keys", get(keys))
        .route("/token", post(token))
        .with_state(liar.clone());
    tokio::spawn(axum::serve(listener, router).into_future());
    liar
}

/// What there is to say: the claims, and how they are signed.
type Word = (Value, Header, EncodingKey);

/// Everything that a token can have wrong, by name.
fn wrongs(good: impl Fn() -> Word) -> BTreeMap<&'static str, Word> {
    let mut wrongs = BTreeMap::new();
    let mut claim = |what: &'static str, name: &str, value: Value| {
        let (mut claims, header, key) = good();
        claims[name] = value;
        wrongs.insert(what, (claims, header, key));
    };
    claim("another issuer", "iss", json!("http://127.0.0.1:1"));
    claim("another audience", "aud", json!("somebody"));
    claim("several audiences", "aud", json!([CLIENT, "somebody"]));
    claim("made for another client", "azp", json!("somebody"));
    claim(
        "over",
        "exp",
        json!(time::OffsetDateTime::now_utc().unix_timestamp() - 3600),
    );
    claim("never over", "exp", Value::Null);
    claim("another sign-in", "nonce", json!("another"));
    claim("of no sign-in", "nonce", Value::Null);
    claim("nobody", "sub", json!(""));
    claim("without a name", "preferred_username", Value::Null);
    claim("a name of control characters", "preferred_username", json!("a\u{7}b"));
    claim("an endless name", "preferred_username", json!("x".repeat(300)));
    let (claims, header, _) = good();
    wrongs.insert("another key", (claims, header, key().signing));
    let (claims, mut header, key) = good();
    header.kid = Some("two".to_owned());
    wrongs.insert("an unknown key", (claims, header, key));
    let (claims, mut header, _) = good();
    header.alg = Algorithm::HS256;
    wrongs.insert(
        "signed by our secret",
        (claims, header, EncodingKey::from_secret(SECRET.as_bytes())),
    );
    wrongs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_not_the_providers_or_not_for_us_are_refused() {
    let (store, key) = (TestStore::open(Engine::Sqlite).await, key());
    let liar = liar(&key.public).await;
    let platform = signed_up(&store, &liar.issuer).await;
    let mut browser = Browser::new(&platform);
    let (status, there, _) = browser.one(&format!("{URL}/login/oidc"), None).await;
    assert_eq!(status, 303);
    let there = reqwest::Url::parse(&there.expect("it leads there")).expect("an address");
    let asked: BTreeMap<_, _> = there.query_pairs().into_owned().collect();
    assert_eq!(asked["code_challenge_method"], "S256");
    let good = || {
        let claims = json!({"iss": liar.issuer, "aud": CLIENT, "sub": "1", "nonce": asked["nonce"],
            "exp": time::OffsetDateTime::now_utc().unix_timestamp() + 60, "preferred_username": "ann"});
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("one".to_owned());
        (claims, header, key.signing.clone())
    };
    let callback = format!("{URL}/login/oidc/callback?code=any&state={}", asked["state"]);
    for (what, (claims, header, key)) in wrongs(good) {
        *liar.token.lock() = jsonwebtoken::encode(&header, &claims, &key).expect("signed");
        let page = browser.open(&callback, None).await;
        assert_eq!(page.status, 401, "{what}: {}", page.text);
        assert!(!page.text.contains("passcode"), "{what}");
    }
    let (claims, header, key) = good();
    let unsigned = [json!({"alg": "none"}), claims.clone()].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    for nonsense in [format!("{}.", unsigned.join(".")), String::new(), "a.b.c".to_owned()] {
        *liar.token.lock() = nonsense;
        assert_eq!(browser.open(&callback, None).await.status, 401);
    }
    let users = platform
        .admin()
        .await
        .get("/v3/users?origins=corporate")
        .await
        .expect(200);
    assert_eq!(users.body["resources"], json!([]), "nobody came of it");
    *liar.token.lock() = jsonwebtoken::encode(&header, &claims, &key).expect("signed");
    let page = browser.open(&callback, None).await;
    assert_eq!(page.status, 200, "{}", page.text);
    code(&page);
    store.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_another_or_gone_is_said_to_be() {
    let store = TestStore::open(Engine::Sqlite).await;
    let liar = liar(&key().public).await;
    // It calls itself otherwise, or nobody is there.
    for issuer in [
        liar.issuer.replace("127.0.0.1", "localhost"),
        "http://127.0.0.1:1".to_owned(),
    ] {
        let platform = signed_up(&store, &issuer).await;
        let page = Browser::new(&platform).open(&format!("{URL}/login/oidc"), None).await;
        assert_eq!(page.status, 503, "{}", page.text);
        assert!(page.text.contains("Try again later"), "{}", page.text);
    }
    store.remove().await;
}
