//! Tokens that are none of ours, or not valid any more, on every route.

use super::*;
use crate::world::world;
use api::v3::oauth::Claims;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use controller::Keys;
use store::testing::{Engine, TestStore};

store::on_both_engines!(tokens_that_are_not_ours_open_nothing);

/// A token of these parts, signed with a secret.
fn signed(header: &Value, claims: &Claims, sign: impl Fn(&str) -> String) -> String {
    let part = |value: String| URL_SAFE_NO_PAD.encode(value);
    let claims = serde_json::to_string(claims).expect("JSON");
    let text = format!("{}.{}", part(header.to_string()), part(claims));
    format!("{text}.{}", sign(&text))
}

/// Tokens that are none of ours, or not valid any more, by what is wrong with them.
async fn bad_tokens(platform: &Platform, good: &str) -> Vec<(&'static str, String)> {
    let parts: Vec<&str> = good.split('.').collect();
    let claims = URL_SAFE_NO_PAD.decode(parts[1]).expect("encoded");
    let claims: Claims = serde_json::from_slice(&claims).expect("claims");
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[0]).expect("encoded")).expect("JSON");
    let ours = |claims: &Claims| {
        let token = platform
            .context
            .tokens
            .sign(claims)
            .unwrap_or_else(|_| panic!("signed"));
        token.expose().to_owned()
    };
    let other = TestStore::open(Engine::Sqlite).await;
    let stranger = Keys::load(&other.store, platform.context.now()).await.expect("made");
    let stranger = stranger.sign(&claims).unwrap_or_else(|_| panic!("signed"));
    let stranger = stranger.expose().to_owned();
    other.remove().await;
    let altered = |sub: &str| Claims {
        sub: sub.to_owned(),
        ..claims.clone()
    };
    let public = platform.plain(Method::GET, "/token_keys").await.expect(200).body["keys"][0].clone();
    let public = URL_SAFE_NO_PAD
        .decode(public["x"].as_str().expect("a key"))
        .expect("encoded");
    let by_public = |text: &str| {
        let key = jsonwebtoken::EncodingKey::from_secret(&public);
        jsonwebtoken::crypto::sign(text.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).expect("signed")
    };
    let hour = 3600;
    vec![
        (
            "expired",
            ours(&Claims {
                exp: claims.iat - hour,
                iat: claims.iat - 2 * hour,
                ..claims.clone()
            }),
        ),
        (
            "for another audience",
            ours(&Claims {
                aud: vec!["openid".to_owned()],
                ..claims.clone()
            }),
        ),
        (
            "for no audience",
            ours(&Claims {
                aud: Vec::new(),
                ..claims.clone()
            }),
        ),
        ("of a deleted user", ours(&altered(NOBODY))),
        ("of no user", ours(&altered("admin"))),
        ("by another key", stranger.clone()),
        ("by another key under our name", {
            let theirs: Vec<&str> = stranger.split('.').collect();
            format!("{}.{}.{}", parts[0], theirs[1], theirs[2])
        }),
        (
            "without signature",
            signed(&json!({"alg": "none", "typ": "JWT"}), &claims, |_| String::new()),
        ),
        (
            "by none, with a signature",
            signed(&json!({"alg": "none"}), &claims, |_| parts[2].to_owned()),
        ),
        ("by our public key as a secret", {
            let id = &header["kid"];
            signed(&json!({"alg": "HS256", "kid": id, "typ": "JWT"}), &claims, by_public)
        }),
        (
            "with altered claims",
            signed(&header, &altered(NOBODY), |_| parts[2].to_owned()),
        ),
        (
            "with a changed algorithm",
            signed(&json!({"alg": "ES256"}), &claims, |_| parts[2].to_owned()),
        ),
        ("without its signature", format!("{}.{}.", parts[0], parts[1])),
        ("without end", "a".repeat(20_000)),
        ("of odd parts", "a.b.c.d".to_owned()),
    ]
}

async fn tokens_that_are_not_ours_open_nothing(store: &TestStore) {
    let mut wrong = Wrong::default();
    let platform = platform(store).await;
    let admin = platform.admin().await;
    let world = world(&admin, "good").await;
    let (before, bad) = (state(&admin).await, bad_tokens(&platform, &admin.token).await);
    for route in guarded() {
        for (what, token) in &bad {
            let body = whole(route, &world).to_string();
            let path = roles::path(route.path, &world);
            let asked = request(token, route.method, &path, "application/json", body);
            let answer = platform.send(asked).await;
            let case = format!("{} {path} with a token {what}", route.method);
            wrong.unless_refused(&answer, &[401], &case);
            let error = &answer.body["errors"][0];
            wrong.unless(error["code"] == 1000 && error["title"] == "CF-InvalidAuthToken", || {
                case
            });
        }
    }
    wrong.none();
    assert!(before == state(&admin).await, "something changed");
    let _ = store;
}
